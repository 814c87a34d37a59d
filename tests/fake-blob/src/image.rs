//! The bytes of a disk: only what was written takes memory, and a clone shares it.

use crate::vhd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is written or cleared is a multiple of this many bytes, and starts at one.
pub const SECTOR: u64 = 512;
pub(crate) const PAGE: u64 = 64 << 10;
const SECTORS: usize = (PAGE / SECTOR) as usize;

/// Of every write of this process, so that equal stamps are equal bytes whatever image they are in.
static STAMP: AtomicU64 = AtomicU64::new(1);

/// A disk that starts with nothing written. A clone costs little and is never changed by writes to the other.
///
/// Offsets and lengths of writes are multiples of [`SECTOR`]; those of reads are any. What lies past the end panics: it
/// is a mistake of the test.
#[derive(Clone)]
pub struct Image {
    pub(crate) size: u64,
    pub(crate) pages: Arc<BTreeMap<u64, Arc<Page>>>,
    keeps: bool,
}

#[derive(Clone)]
pub(crate) struct Page {
    /// The write that each sector was last touched by; 0 is none.
    pub(crate) stamps: Box<[u64; SECTORS]>,
    pub(crate) written: u128,
    data: Option<Box<[u8]>>,
}

impl Page {
    fn new() -> Self {
        Self { stamps: Box::new([0; SECTORS]), written: 0, data: None }
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("size", &self.size)
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}

impl Image {
    /// # Panics
    /// When `size` is no multiple of [`SECTOR`].
    #[must_use]
    pub fn new(size: u64) -> Self {
        assert!(size.is_multiple_of(SECTOR), "{size} bytes are no whole sectors");
        Self { size, pages: Arc::default(), keeps: true }
    }

    /// One that knows what was written and not with which bytes.
    pub(crate) fn sink(size: u64) -> Self {
        Self { keeps: false, ..Self::new(size) }
    }

    /// What is not zero in a file; its length is rounded up to whole sectors.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut image = Self::new(len.next_multiple_of(SECTOR));
        let mut at = 0;
        let mut buffer = vec![0; PAGE as usize];
        while let Some(data) = next_data(&file, at)?.filter(|data| *data < len) {
            at = data / PAGE * PAGE;
            let piece = (len - at).min(PAGE) as usize;
            buffer.fill(0);
            file.read_exact_at(&mut buffer[..piece], at)?;
            for (i, sector) in buffer.chunks(SECTOR as usize).enumerate() {
                if sector.iter().any(|byte| *byte != 0) {
                    image.write(at + i as u64 * SECTOR, sector);
                }
            }
            at += PAGE;
        }
        Ok(image)
    }

    /// Makes a sparse file with these bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn to_file(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.size)?;
        for range in self.ranges() {
            for at in (range.start..range.end).step_by(PAGE as usize) {
                file.write_all_at(&self.read(at, (range.end - at).min(PAGE)), at)?;
            }
        }
        Ok(())
    }

    /// In bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// # Panics
    /// When the range lies past the end, or when the bytes were dropped as those of a sink are.
    #[must_use]
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.size),
            "{offset}+{len} is past {}",
            self.size
        );
        assert!(self.kept(&(offset..offset + len)), "the bytes at {offset} were dropped");
        let mut bytes = vec![0; len as usize];
        let end = offset + len;
        for (start, page) in self.pages.range(offset / PAGE * PAGE..end.max(offset / PAGE * PAGE)) {
            let (from, to) = (offset.max(*start), end.min(start + PAGE));
            if let (Some(data), true) = (&page.data, from < to) {
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&data[(from - start) as usize..(to - start) as usize]);
            }
        }
        bytes
    }

    /// Whether a read of this range tells what was written.
    pub(crate) fn kept(&self, range: &Range<u64>) -> bool {
        self.keeps || self.ranges_in(range.clone()).is_empty()
    }

    /// # Panics
    /// When it is not whole sectors inside the image.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let keeps = self.keeps;
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        self.check(offset, bytes.len() as u64);
        let pages = Arc::make_mut(&mut self.pages);
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = at / PAGE * PAGE;
            let (piece, after) = rest.split_at(rest.len().min((start + PAGE - at) as usize));
            let page = Arc::make_mut(pages.entry(start).or_insert_with(|| Arc::new(Page::new())));
            page.touch(at - start, piece.len() as u64, stamp, true);
            if keeps {
                let data = page.data.get_or_insert_with(|| vec![0; PAGE as usize].into_boxed_slice());
                data[(at - start) as usize..][..piece.len()].copy_from_slice(piece);
            }
            at += piece.len() as u64;
            rest = after;
        }
    }

    /// Takes back what was written: it reads as zeros and is in no range.
    ///
    /// # Panics
    /// When it is not whole sectors inside the image.
    pub fn clear(&mut self, offset: u64, len: u64) {
        self.check(offset, len);
        self.wipe(offset, offset + len);
    }

    fn wipe(&mut self, offset: u64, end: u64) {
        let stamp = STAMP.fetch_add(1, Ordering::Relaxed);
        let pages = Arc::make_mut(&mut self.pages);
        for (start, page) in pages.range_mut(offset / PAGE * PAGE..end.max(offset / PAGE * PAGE)) {
            let (from, to) = (offset.max(*start), end.min(start + PAGE));
            if from < to {
                let page = Arc::make_mut(page);
                page.touch(from - start, to - from, stamp, false);
                if page.written == 0 {
                    page.data = None;
                } else if let Some(data) = &mut page.data {
                    data[(from - start) as usize..(to - start) as usize].fill(0);
                }
            }
        }
    }

    /// What is cut off is gone: it reads as zeros when the image grows again.
    ///
    /// # Panics
    /// When `size` is no multiple of [`SECTOR`].
    pub fn resize(&mut self, size: u64) {
        assert!(size.is_multiple_of(SECTOR), "{size} bytes are no whole sectors");
        if size < self.size {
            self.wipe(size, self.size);
        }
        self.size = size;
    }

    /// With the footer of a fixed VHD behind it.
    ///
    /// # Panics
    /// When the disk is not whole mebibytes, which Azure does not take.
    #[must_use]
    pub fn with_footer(&self) -> Self {
        let mut image = self.clone();
        image.resize(self.size + SECTOR);
        image.write(self.size, &vhd::footer(self.size));
        image
    }

    fn check(&self, offset: u64, len: u64) {
        assert!(
            offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR),
            "{offset}+{len}: no whole sectors"
        );
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.size),
            "{offset}+{len} is past {}",
            self.size
        );
    }
}

impl Page {
    fn touch(&mut self, offset: u64, len: u64, stamp: u64, written: bool) {
        let (from, to) = ((offset / SECTOR) as usize, ((offset + len) / SECTOR) as usize);
        let mask = (u128::MAX >> (SECTORS - (to - from))) << from;
        for i in from..to {
            // What holds nothing is not changed by a clear.
            if written || self.written >> i & 1 == 1 {
                self.stamps[i] = stamp;
            }
        }
        self.written = if written { self.written | mask } else { self.written & !mask };
    }
}

/// Where there may be data next; `None` where there is none.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(e) => Err(e.into()),
    }
}
