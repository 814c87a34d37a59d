//! A streamOptimized VMDK, read as it comes: the form in which VMware's servers send disks.
//!
//! A header, a descriptor, then *markers*, each at a sector: a grain of the disk, deflated; tables and a directory that say where
//! grains lie, which nobody needs who reads them all; the header once more; and the end. What no grain covers reads as zeros.
//!
//! The stream comes from outside. It is kept to what is needed to read it without doubt: grains in order and each once, of the
//! whole size, with a right checksum, and an end that is marked. What is held of it is one grain.

use flate2::{Decompress, FlushDecompress, Status};
use site_recovery::{Error, ErrorKind, Result};

const SECTOR: u64 = 512;
const MAGIC: &[u8; 4] = b"KDMV";
/// Grains are compressed, and there are markers.
const FLAGS: u32 = 0x3_0000;
const DEFLATE: u16 = 1;
/// Grains of VMware's have 128 sectors; these are all that the format can mean.
const GRAINS: std::ops::RangeInclusive<u64> = 8..=2048;
/// A descriptor's sectors; VMware's have 20.
const DESCRIPTOR: u64 = 128;
/// What precedes the data of a grain.
const HEAD: usize = 12;

/// Reads one stream, piece by piece.
#[derive(Debug)]
pub(crate) struct StreamVmdk {
    /// Bytes of the disk.
    capacity: u64,
    /// Bytes of a grain, once the header was read.
    grain: u64,
    step: Step,
    /// What has come of what is wanted next.
    held: Vec<u8>,
    wanted: usize,
    /// Bytes that nobody needs.
    skip: u64,
    /// How many bytes were taken.
    at: u64,
    /// Where on the disk the next grain may begin.
    next: u64,
    inflate: Decompress,
    plain: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Header,
    /// The text, and where the data begins.
    Descriptor(u64),
    Marker,
    /// The rest of one that begins here on the disk.
    Grain(u64),
    Footer,
    Over,
}

impl StreamVmdk {
    /// Of a disk of so many bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            grain: 0,
            step: Step::Header,
            held: vec![],
            wanted: SECTOR as usize,
            skip: 0,
            at: 0,
            next: 0,
            inflate: Decompress::new(true),
            plain: vec![],
        }
    }

    /// Takes what came. `write` is given where on the disk bytes belong, in order, and never what is all zeros.
    ///
    /// # Errors
    /// `Corrupt`, with what is wrong and where in the stream; those of `write`. After one, nothing more is to be taken.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        write: &mut impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let len = match (self.skip, self.step) {
                (0, Step::Over) if bytes.iter().any(|b| *b != 0) => {
                    return Err(self.corrupt("it goes on after its end"));
                }
                (0, Step::Over) => bytes.len(),
                (0, _) => {
                    let len = bytes.len().min(self.wanted - self.held.len());
                    self.held.extend_from_slice(&bytes[..len]);
                    len
                }
                (skip, _) => {
                    let len = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                    self.skip -= len as u64;
                    len
                }
            };
            bytes = &bytes[len..];
            self.at += len as u64;
            if self.step != Step::Over && self.held.len() == self.wanted {
                self.step = self.take(write)?;
            }
        }
        Ok(())
    }

    /// Whether all has come.
    ///
    /// # Errors
    /// `Corrupt` where it has not.
    pub(crate) fn finish(self) -> Result<()> {
        match self.step {
            Step::Over => Ok(()),
            _ => Err(self.corrupt("it ends before its end is marked")),
        }
    }

    /// Reads what was wanted, and says what is next.
    fn take(&mut self, write: &mut impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Step> {
        let next = match self.step {
            Step::Header => self.header()?,
            Step::Descriptor(data) => {
                self.descriptor()?;
                self.skip = data - self.at;
                Step::Marker
            }
            Step::Marker => match self.marker()? {
                // It keeps what is held: the grain has begun in it.
                Step::Grain(start) if self.held.len() < self.wanted => return Ok(Step::Grain(start)),
                Step::Grain(start) => self.inflate(start, write)?,
                other => other,
            },
            Step::Grain(start) => self.inflate(start, write)?,
            Step::Footer if self.held.starts_with(MAGIC) => Step::Marker,
            Step::Footer => return Err(self.corrupt("its footer is no header")),
            Step::Over => Step::Over,
        };
        self.held.clear();
        if !matches!(next, Step::Descriptor(_)) {
            self.wanted = SECTOR as usize;
        }
        Ok(next)
    }

    fn header(&mut self) -> Result<Step> {
        let (magic, version, flags) = (&self.held[..4], self.u32(4), self.u32(8));
        let (capacity, grain, descriptor) = (self.u64(12), self.u64(20), (self.u64(28), self.u64(36)));
        let (data, compression) = (self.u64(64), u16::from_le_bytes([self.held[77], self.held[78]]));
        if magic != MAGIC || !(1..=3).contains(&version) {
            return Err(self.corrupt("it is no VMDK"));
        }
        if flags & FLAGS != FLAGS || compression != DEFLATE {
            return Err(self.corrupt("it is no streamOptimized VMDK"));
        }
        if !grain.is_power_of_two() || !GRAINS.contains(&grain) {
            return Err(self.corrupt(&format!("its grains have {grain} sectors")));
        }
        self.grain = grain * SECTOR;
        // Some round the capacity up to whole grains.
        let most = self.capacity.saturating_add(self.grain - 1);
        if !capacity.checked_mul(SECTOR).is_some_and(|bytes| (self.capacity..=most).contains(&bytes)) {
            let what = format!("its disk has {capacity} sectors, and ours {} bytes", self.capacity);
            return Err(self.corrupt(&what));
        }
        let (start, len) = descriptor;
        let inside = start.checked_add(len).is_some_and(|end| end <= data.max(1));
        let data = data.checked_mul(SECTOR).filter(|data| *data >= SECTOR && inside && len <= DESCRIPTOR);
        let data = data.ok_or_else(|| self.corrupt("its header leads nowhere"))?;
        if start == 0 || len == 0 {
            self.skip = data - SECTOR;
            return Ok(Step::Marker);
        }
        self.skip = start * SECTOR - SECTOR;
        self.wanted = (len * SECTOR) as usize;
        Ok(Step::Descriptor(data))
    }

    /// One of a disk that rests on another does not hold the disk.
    fn descriptor(&self) -> Result<()> {
        let text = String::from_utf8_lossy(&self.held);
        let parent = text.lines().find_map(|line| line.trim().strip_prefix("parentCID="));
        match parent.map(str::trim) {
            None => Ok(()),
            Some(none) if none.eq_ignore_ascii_case("ffffffff") => Ok(()),
            Some(_) => Err(self.corrupt("it holds only what differs from another disk")),
        }
    }

    fn marker(&mut self) -> Result<Step> {
        let (value, size, kind) = (self.u64(0), self.u32(8) as usize, self.u32(12));
        if size == 0 {
            return match kind {
                0 if value == 0 => Ok(Step::Over),
                1 | 2 => {
                    let bytes = value.checked_mul(SECTOR);
                    self.skip = bytes.ok_or_else(|| self.corrupt("a table in it has no end"))?;
                    Ok(Step::Marker)
                }
                3 if value == 1 => Ok(Step::Footer),
                _ => Err(self.corrupt("a marker in it is of no kind that is known")),
            };
        }
        let start = value.checked_mul(SECTOR).filter(|start| *start < self.capacity);
        let start = start.ok_or_else(|| self.corrupt("a grain in it lies beyond the disk"))?;
        if start % self.grain != 0 || start < self.next {
            return Err(self.corrupt("its grains are not in order"));
        }
        if size as u64 > 2 * self.grain {
            return Err(self.corrupt(&format!("a grain in it has {size} bytes")));
        }
        self.next = start.saturating_add(self.grain);
        self.wanted = (HEAD + size).next_multiple_of(SECTOR as usize);
        Ok(Step::Grain(start))
    }

    fn inflate(&mut self, start: u64, write: &mut impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Step> {
        let size = self.u32(8) as usize;
        let len = self.grain.min(self.capacity - start) as usize;
        self.plain.resize(self.grain as usize, 0);
        self.inflate.reset(true);
        let packed = &self.held[HEAD..HEAD + size];
        let done = self.inflate.decompress(packed, &mut self.plain, FlushDecompress::Finish);
        let made = self.inflate.total_out() as usize;
        if done.ok() != Some(Status::StreamEnd) || made < len {
            return Err(self.corrupt("a grain in it cannot be inflated to its size"));
        }
        let plain = &self.plain[..len];
        if plain.iter().any(|b| *b != 0) {
            write(start, plain)?;
        }
        Ok(Step::Marker)
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|n| self.held[at + n]))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|n| self.held[at + n]))
    }

    fn corrupt(&self, what: &str) -> Error {
        let message = format!("a disk is sent as a stream that cannot be read: {what}, by byte {}", self.at);
        Error::new(ErrorKind::Corrupt, message)
    }
}
