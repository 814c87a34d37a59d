//! What a guest writes for as long as it lives: numbered lines of 64 bytes.
//!
//! Of the guest's program and of the host's checks alike, so nothing but `std` is used here.

/// Bytes of a record.
pub const LEN: usize = 64;
const SUMMED: usize = 54;

/// One line of a guest's log.
///
/// ```text
/// REC 0000000012 1764352000123 A 0000000009 ............ 5f3a9c01\n
///     number     time          site cause                sum
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// From 0, without gaps.
    pub number: u64,
    /// Milliseconds since 1970, by the guest's clock.
    pub time: u64,
    /// The first letter of the SMBIOS serial number of the machine that wrote it.
    pub site: char,
    /// How many records of the peer were known to be durable before this one was written.
    pub cause: u64,
}

impl Record {
    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut line = format!("REC {:010} {:013} {} {:010} ", self.number, self.time, self.site, self.cause);
        while line.len() < SUMMED {
            line.push('.');
        }
        let line = format!("{line} {:08x}\n", sum(line.as_bytes()));
        line.into_bytes().try_into().expect("all fields have their width")
    }

    /// Nothing for bytes that are not a whole record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(bytes.get(..LEN)?).ok()?;
        let mut words = line.split(' ').skip(1);
        let mut next = || words.next();
        let number = next()?.parse().ok()?;
        let time = next()?.parse().ok()?;
        let site = next()?.chars().next()?;
        let cause = next()?.parse().ok()?;
        let record = Self { number, time, site, cause };
        (record.to_bytes() == bytes[..LEN]).then_some(record)
    }
}

/// The records of a log. The bytes of a record that was not written to its end do not count.
///
/// # Errors
/// The first record that is not whole, has another number than its place, or knows less of the peer than one before it.
pub fn read(log: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::<Record>::new();
    for bytes in log.chunks_exact(LEN) {
        let at = records.len();
        let known = records.last().map_or(0, |r| r.cause);
        match Record::parse(bytes) {
            Some(record) if record.number == at as u64 && record.cause >= known => records.push(record),
            _ => {
                return Err(format!(
                    "record {at} of {}: {:?}",
                    log.len() / LEN,
                    String::from_utf8_lossy(bytes)
                ));
            }
        }
    }
    Ok(records)
}

/// The records that stand at the start of a disk, up to the first bytes that are none.
pub fn read_start(disk: &[u8]) -> Vec<Record> {
    let whole = disk
        .chunks_exact(LEN)
        .enumerate()
        .map_while(|(at, bytes)| Record::parse(bytes).filter(|record| record.number == at as u64));
    whole.collect()
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(causes: &[u64]) -> Vec<u8> {
        let record = |(n, cause): (usize, &u64)| Record {
            number: n as u64,
            time: 1_764_352_000_123,
            site: 'A',
            cause: *cause,
        };
        causes.iter().enumerate().flat_map(|each| record(each).to_bytes()).collect()
    }

    #[test]
    fn a_record_is_a_line_of_64_bytes() {
        let record = Record { number: 12, time: 1_764_352_000_123, site: 'B', cause: 9 };
        let line = record.to_bytes();
        let text = String::from_utf8_lossy(&line);
        assert!(
            text.starts_with("REC 0000000012 1764352000123 B 0000000009 ..") && text.ends_with('\n'),
            "{text}"
        );
        assert_eq!(Record::parse(&line), Some(record));
        for at in 0..LEN {
            let mut other = line;
            other[at] ^= 1;
            assert_eq!(Record::parse(&other), None, "a bit of byte {at}");
        }
        assert_eq!(Record::parse(&line[..LEN - 1]), None);
    }

    #[test]
    fn a_log_is_whole_up_to_a_record_that_was_not_written_to_its_end() {
        let mut bytes = log(&[0, 0, 3, 3]);
        assert_eq!(read(&bytes).unwrap().len(), 4);
        bytes.truncate(3 * LEN + 10);
        assert_eq!(read(&bytes).unwrap().len(), 3);
        assert!(read(&[]).unwrap().is_empty());
        bytes[LEN..LEN + 64].fill(0);
        assert!(read(&bytes).unwrap_err().starts_with("record 1 of 3"));
        assert!(read(&log(&[0, 3, 2])).unwrap_err().starts_with("record 2 of 3"), "it forgot");
        assert!(read(&log(&[0, 0])[LEN..]).unwrap_err().starts_with("record 0 of 1"), "the first is missing");
    }

    #[test]
    fn a_disk_begins_with_records_and_goes_on_with_anything() {
        let mut disk = log(&[0, 0, 1]);
        disk.resize(4096, 0);
        assert_eq!(read_start(&disk).len(), 3);
        assert!(read_start(&[0; 4096]).is_empty());
    }
}
