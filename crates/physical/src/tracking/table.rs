//! The hashes of one disk: a file of pages, each with a checksum of its own.
//!
//! A page has the hashes of [`HASHES`] blocks and their checksum; one that is all zeros speaks of blocks that read as
//! zeros, so the table of a sparse disk is as sparse. A page that was lost would read so too: the sum of all checksums,
//! which is kept beside the table, tells.

use site_recovery::{DiskId, Error, ErrorKind, HASH_BLOCK, Hash, Result};
use site_recovery_register::Told;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

const PAGE: usize = 4096;
/// Hashes in a page.
pub(crate) const HASHES: u64 = 255;
const MAGIC: &[u8; 8] = b"sr-hash1";

/// The hash of a block that reads as zeros; no other block has it, but for one chance in 2^128.
const ZEROS: Hash = 0;

/// What blocks are compared by.
pub(crate) fn hash(block: &[u8]) -> Hash {
    if block.iter().all(|b| *b == 0) { ZEROS } else { xxh3_128(block) }
}

/// The hashes of a disk's blocks, as of one instant.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    path: PathBuf,
    pages: u64,
}

/// The hashes of [`HASHES`] blocks in a row.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Page(pub(crate) [Hash; HASHES as usize]);

impl Table {
    /// An empty table: of a disk that reads as zeros.
    pub(crate) fn create(path: &Path, disk: &DiskId, size: u64) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.told("make", path)?;
        let pages = size.div_ceil(HASH_BLOCK).div_ceil(HASHES);
        file.set_len((pages + 1) * PAGE as u64).told("size", path)?;
        file.write_all_at(&header(disk, size), 0).told("write", path)?;
        Ok(Self { file, path: path.to_owned(), pages })
    }

    /// # Errors
    /// `Corrupt` where it is not the table of this disk.
    pub(crate) fn open(path: &Path, disk: &DiskId, size: u64) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|e| damaged(path, "is gone").caused_by(e))?;
        let mut found = [0; PAGE];
        file.read_exact_at(&mut found, 0).map_err(|e| damaged(path, "is cut short").caused_by(e))?;
        if found != header(disk, size) {
            return Err(damaged(path, "is of another disk, size or format"));
        }
        let pages = size.div_ceil(HASH_BLOCK).div_ceil(HASHES);
        if file.metadata().told("look at", path)?.len() != (pages + 1) * PAGE as u64 {
            return Err(damaged(path, "is cut short"));
        }
        Ok(Self { file, path: path.to_owned(), pages })
    }

    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The next page, from this one on, that may have anything but zeros.
    pub(crate) fn next_page(&self, from: u64) -> Result<Option<u64>> {
        let found =
            site_recovery_sparse::next_data(&self.file, (from + 1) * PAGE as u64).told("map", &self.path)?;
        Ok(found.map(|at| at / PAGE as u64 - 1))
    }

    /// One page and its checksum.
    pub(crate) fn page(&self, number: u64) -> Result<(Page, u64)> {
        let mut bytes = [0; PAGE];
        self.file.read_exact_at(&mut bytes, (number + 1) * PAGE as u64).told("read", &self.path)?;
        if bytes == [0; PAGE] {
            return Ok((Page::empty(), 0));
        }
        let (hashes, _) = bytes.as_chunks::<16>();
        let mut page = Page([ZEROS; HASHES as usize]);
        for (to, from) in page.0.iter_mut().zip(hashes) {
            *to = Hash::from_le_bytes(*from);
        }
        let kept = u64::from_le_bytes(bytes[PAGE - 16..PAGE - 8].try_into().expect("eight bytes"));
        if kept != page.checksum(number) {
            return Err(damaged(&self.path, "is damaged").with("page", number));
        }
        Ok((page, kept))
    }

    /// Replaces a page; says its checksum. Not durable before `sync`.
    pub(crate) fn set_page(&self, number: u64, page: &Page) -> Result<u64> {
        let checksum = page.checksum(number);
        let mut bytes = [0; PAGE];
        for (to, from) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(&page.0) {
            *to = from.to_le_bytes();
        }
        bytes[PAGE - 16..PAGE - 8].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all_at(&bytes, (number + 1) * PAGE as u64).told("write", &self.path)?;
        Ok(checksum)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().told("sync", &self.path)
    }

    /// # Errors
    /// `Corrupt` where the sum of all pages is not `sum`: one was lost.
    pub(crate) fn must_sum_to(&self, found: u64, sum: u64) -> Result<()> {
        if found == sum { Ok(()) } else { Err(damaged(&self.path, "has lost pages")) }
    }
}

impl Page {
    pub(crate) fn empty() -> Self {
        Self([ZEROS; HASHES as usize])
    }

    /// 0 for a page of zeros.
    pub(crate) fn checksum(&self, number: u64) -> u64 {
        if self.0.iter().all(|h| *h == ZEROS) {
            return 0;
        }
        let mut bytes = [0; HASHES as usize * 16];
        for (to, from) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(&self.0) {
            *to = from.to_le_bytes();
        }
        xxh3_64_with_seed(&bytes, number).max(1)
    }
}

fn header(disk: &DiskId, size: u64) -> [u8; PAGE] {
    let mut bytes = [0; PAGE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&size.to_le_bytes());
    bytes[16..24].copy_from_slice(&HASH_BLOCK.to_le_bytes());
    bytes[24..40].copy_from_slice(&xxh3_128(disk.as_str().as_bytes()).to_le_bytes());
    bytes
}

pub(crate) fn damaged(path: &Path, how: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{} {how}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_a_table_that_is_damaged_foreign_resized_or_cut_short_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let (disk, size) = (DiskId::from("d"), HASH_BLOCK * 600);
        let table = Table::create(&path, &disk, size).unwrap();
        let mut page = Page::empty();
        page.0[7] = 77;
        let checksum = table.set_page(1, &page).unwrap();
        let (read, kept) = Table::open(&path, &disk, size).unwrap().page(1).unwrap();
        assert_eq!((read.0[7], kept), (77, checksum));
        assert_eq!(table.page(0).unwrap().1, 0);
        let corrupt = |opened: Result<Table>| assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
        corrupt(Table::open(&path, &"other".into(), size));
        corrupt(Table::open(&path, &disk, size + 4096));
        table.file.write_all_at(&[78], 2 * PAGE as u64 + 7 * 16).unwrap();
        assert_eq!(table.page(1).err().unwrap().kind(), ErrorKind::Corrupt);
        table.file.set_len(2 * PAGE as u64).unwrap();
        corrupt(Table::open(&path, &disk, size));
    }
}
