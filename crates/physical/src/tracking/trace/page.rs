//! Pages of the kernel's ring buffer, as `trace_pipe_raw` gives them, and the events in them.
//!
//! Written after the kernel's own description of both: `events/header_page`, `events/header_event` and the `format` of the
//! event. What does not fit it is doubt, never skipped.

/// Bits of a page's length that say that events before it were lost, and that their number follows the events.
const MISSED: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;

/// Where the fields of `block_bio_queue` lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    id: u16,
    dev: usize,
    sector: usize,
    sectors: usize,
    rwbs: (usize, usize),
}

/// A bio as it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bio {
    pub(crate) dev: u32,
    pub(crate) sector: u64,
    pub(crate) sectors: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    /// A cache is flushed, nothing is written.
    Flush,
    /// Data, zeros, a discard, and whatever a later kernel adds.
    Write,
}

/// Why a page does not tell everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The kernel lost events.
    Lost,
    /// It is not what the kernel describes.
    Strange(&'static str),
}

impl Layout {
    /// Reads a `format` file. `None` where it is not one of this event that we can read.
    pub(crate) fn parse(format: &str) -> Option<Self> {
        let id = format.lines().find_map(|l| l.strip_prefix("ID:"))?.trim().parse().ok()?;
        let field = |name: &str, size: Option<usize>| -> Option<(usize, usize)> {
            let line = format.lines().map(str::trim).find(|line| {
                let declared = line.strip_prefix("field:").and_then(|l| l.split(';').next()).unwrap_or("");
                let last = declared.rsplit(' ').next().unwrap_or("");
                last.split('[').next() == Some(name)
            })?;
            let number = |key: &str| -> Option<usize> {
                let part = line.split(';').map(str::trim).find_map(|p| p.strip_prefix(key))?;
                part.parse().ok()
            };
            let (offset, found) = (number("offset:")?, number("size:")?);
            size.is_none_or(|size| size == found).then_some((offset, found))
        };
        Some(Self {
            id,
            dev: field("dev", Some(4))?.0,
            sector: field("sector", Some(8))?.0,
            sectors: field("nr_sector", Some(4))?.0,
            rwbs: field("rwbs", None)?,
        })
    }

    /// Every bio of one page, in order.
    ///
    /// # Errors
    /// The doubt, after the bios before it were told.
    pub(crate) fn each(&self, page: &[u8], told: &mut dyn FnMut(Bio)) -> Result<(), Doubt> {
        let commit = u64::from_ne_bytes(bytes(page, 8).ok_or(Doubt::Strange("a page without a header"))?);
        let missed = commit & (MISSED | MISSED_STORED) != 0;
        let length = (commit & 0xf_ffff) as usize;
        let data = page.get(16..16 + length).ok_or(Doubt::Strange("a page that is shorter than it says"))?;
        let mut at = 0;
        while at + 4 <= data.len() {
            let header = u32::from_ne_bytes(bytes(data, at).expect("four bytes"));
            let (kind, delta) = (header & 31, header >> 5);
            let first = || bytes(data, at + 4).map(|b| u32::from_ne_bytes(b) as usize);
            let first = || first().ok_or(Doubt::Strange("an event that ends before it begins"));
            let (from, to) = match kind {
                29 if delta == 0 => break,
                29 => (0, at + 4 + first()?),
                30 | 31 => (0, at + 8),
                0 => (at + 8, at + 4 + first()?),
                words => (at + 4, at + 4 + words as usize * 4),
            };
            if from > 0 {
                let event = data.get(from..to).ok_or(Doubt::Strange("an event that passes its page"))?;
                told(self.bio(event)?);
            }
            if to <= at {
                return Err(Doubt::Strange("an event without a length"));
            }
            at = to;
        }
        if missed { Err(Doubt::Lost) } else { Ok(()) }
    }

    fn bio(&self, event: &[u8]) -> Result<Bio, Doubt> {
        let short = Doubt::Strange("an event that is shorter than its format");
        let id = u16::from_ne_bytes(bytes(event, 0).ok_or(short.clone())?);
        if id != self.id {
            return Err(Doubt::Strange("an event of another kind"));
        }
        let (at, len) = self.rwbs;
        let rwbs = event.get(at..at + len).ok_or(short.clone())?;
        let sectors = u32::from_ne_bytes(bytes(event, self.sectors).ok_or(short.clone())?);
        Ok(Bio {
            dev: u32::from_ne_bytes(bytes(event, self.dev).ok_or(short.clone())?),
            sector: u64::from_ne_bytes(bytes(event, self.sector).ok_or(short)?),
            sectors,
            kind: kind(rwbs, sectors),
        })
    }
}

/// By the letters of `rwbs`: a leading `F` is a flush before the bio; then `R` reads, and everything else writes.
fn kind(rwbs: &[u8], sectors: u32) -> Kind {
    let (flushes, op) = match rwbs {
        [b'F', rest @ ..] => (true, rest.first()),
        _ => (false, rwbs.first()),
    };
    match op {
        Some(b'R') => Kind::Read,
        _ if flushes && sectors == 0 => Kind::Flush,
        _ => Kind::Write,
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: block_bio_queue\nID: 2097\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned int nr_sector;\toffset:24;\tsize:4;\tsigned:0;\n\
        \tfield:char rwbs[10];\toffset:28;\tsize:10;\tsigned:0;\n\
        \tfield:char comm[16];\toffset:38;\tsize:16;\tsigned:0;\n";

    fn layout() -> Layout {
        Layout::parse(FORMAT).unwrap()
    }

    fn event(sector: u64, sectors: u32, rwbs: &str) -> Vec<u8> {
        let mut event = vec![0; 56];
        event[..2].copy_from_slice(&2097_u16.to_ne_bytes());
        event[8..12].copy_from_slice(&((7_u32 << 20) | 1).to_ne_bytes());
        event[16..24].copy_from_slice(&sector.to_ne_bytes());
        event[24..28].copy_from_slice(&sectors.to_ne_bytes());
        event[28..28 + rwbs.len()].copy_from_slice(rwbs.as_bytes());
        event
    }

    /// An event behind its header, in the short form or the long one.
    fn headed(event: &[u8], long: bool) -> Vec<u8> {
        let mut all = vec![];
        if long {
            all.extend((7_u32 << 5).to_ne_bytes());
            all.extend((event.len() as u32 + 4).to_ne_bytes());
        } else {
            all.extend(((7_u32 << 5) | (event.len() as u32 / 4)).to_ne_bytes());
        }
        all.extend(event);
        all
    }

    fn page(data: &[u8], flags: u64) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[8..16].copy_from_slice(&((data.len() as u64) | flags).to_ne_bytes());
        page[16..16 + data.len()].copy_from_slice(data);
        page
    }

    type Read = (Vec<(u64, u32, Kind)>, Result<(), Doubt>);

    fn read(page: &[u8]) -> Read {
        let mut all = vec![];
        let ended = layout().each(page, &mut |bio| all.push((bio.sector, bio.sectors, bio.kind)));
        (all, ended)
    }

    #[test]
    fn d4_every_event_of_a_page_is_told_in_both_forms_past_padding_and_times() {
        let mut data = vec![];
        data.extend(30_u32.to_ne_bytes());
        data.extend(99_u32.to_ne_bytes());
        data.extend(headed(&event(8, 16, "WS"), false));
        data.extend(((1_u32 << 5) | 29).to_ne_bytes());
        data.extend(12_u32.to_ne_bytes());
        data.extend([0; 8]);
        data.extend(headed(&event(100, 8, "DS"), true));
        data.extend(31_u32.to_ne_bytes());
        data.extend(0_u32.to_ne_bytes());
        data.extend(headed(&event(6144, 2048, "NS"), false));
        data.extend(29_u32.to_ne_bytes());
        data.extend([0xff; 20]);
        let all = [(8, 16, Kind::Write), (100, 8, Kind::Write), (6144, 2048, Kind::Write)];
        assert_eq!(read(&page(&data, 0)), (all.to_vec(), Ok(())));
        assert_eq!(read(&page(&data, MISSED)), (all.to_vec(), Err(Doubt::Lost)));
        assert_eq!(read(&page(&data, MISSED | MISSED_STORED)), (all.to_vec(), Err(Doubt::Lost)));
    }

    #[test]
    fn d4_only_what_reads_is_a_read() {
        for (rwbs, sectors, expected) in [
            ("R", 8, Kind::Read),
            ("RA", 8, Kind::Read),
            ("W", 8, Kind::Write),
            ("FWFS", 8, Kind::Write),
            ("FFS", 0, Kind::Flush),
            ("F", 0, Kind::Flush),
            ("DE", 8, Kind::Write),
            ("N", 8, Kind::Write),
            ("ZA", 8, Kind::Write),
            ("?", 8, Kind::Write),
            ("", 8, Kind::Write),
            ("N", 0, Kind::Write),
        ] {
            assert_eq!(kind(rwbs.as_bytes(), sectors), expected, "{rwbs} {sectors}");
        }
    }

    #[test]
    fn d4_what_is_not_as_described_is_doubt() {
        let strange =
            |page: &[u8]| assert!(matches!(read(page).1, Err(Doubt::Strange(_))), "{:?}", read(page));
        strange(&[0; 12]);
        strange(&page(&[0; 8], 0xf_f000));
        let mut other = event(1, 1, "W");
        other[0] ^= 1;
        strange(&page(&headed(&other, false), 0));
        strange(&page(&headed(&event(1, 1, "W")[..20], false), 0));
        let mut long = headed(&event(1, 1, "W"), true);
        long[4..8].copy_from_slice(&4000_u32.to_ne_bytes());
        strange(&page(&long, 0));
        assert_eq!(Layout::parse(&FORMAT.replace("size:8", "size:4")), None);
        assert_eq!(Layout::parse(&FORMAT.replace("rwbs", "flags")), None);
    }

    #[test]
    fn no_bytes_of_a_page_make_the_reader_fall() {
        let mut seed = 3_u64;
        for _ in 0..20_000 {
            let mut page = vec![0_u8; 256];
            for byte in &mut page {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (seed >> 56) as u8;
            }
            page[9..16].fill(0);
            let _told = read(&page);
        }
    }
}
