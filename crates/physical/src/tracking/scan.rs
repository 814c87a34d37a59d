//! Reads of a captured disk that make or renew its table of hashes.

use super::blocks::Blocks;
use super::pace::Pace;
use super::table::{HASHES, Page, Table, hash};
use rustix::fs::Advice;
use site_recovery::{Error, ErrorKind, Extent, Fill, HASH_BLOCK, Hash, Result, Run};
use site_recovery_register::Told;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What may have been written to a disk since the cut before.
#[derive(Debug, Clone)]
pub enum Hint {
    /// Nobody knows: every block is read.
    Anything(String),
    /// These blocks at most.
    Blocks(Blocks),
}

impl Hint {
    /// What may have been written in either time.
    #[must_use]
    pub fn and(self, other: &Hint) -> Hint {
        match (self, other) {
            (Self::Blocks(mut mine), Self::Blocks(theirs)) => {
                if mine.size() != theirs.size() {
                    return Self::Anything("the disk was resized".into());
                }
                mine.add_all(theirs);
                Self::Blocks(mine)
            }
            (why @ Self::Anything(_), _) => why,
            (_, why) => why.clone(),
        }
    }
}

/// A disk that nobody writes, as it is scanned.
#[derive(Debug)]
pub(crate) struct Still<'a> {
    file: File,
    path: PathBuf,
    size: u64,
    pace: &'a Pace,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) changed: Blocks,
    /// The sum of all pages as they are to be.
    pub(crate) sum: u64,
}

/// Hashes of a page that changed, and which page it is.
pub(crate) type Changed<'a> = &'a mut dyn FnMut(u64, &Page) -> Result<()>;

impl<'a> Still<'a> {
    pub(crate) fn open(path: &Path, size: u64, pace: &'a Pace) -> Result<Self> {
        let file = File::open(path).told("open", path)?;
        let found = site_recovery_sparse::size_of(&file).told("look at", path)?;
        if found < size {
            let message = format!("{} has {found} bytes, {size} are expected", path.display());
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Self { file, path: path.to_owned(), size, pace })
    }

    /// Compares with the table what may have changed. Pages that differ are handed over, and nothing is written.
    pub(crate) fn compare(
        &self,
        table: &Table,
        sum: u64,
        hint: &Hint,
        changed: Changed<'_>,
    ) -> Result<Found> {
        let mut found = Found { changed: Blocks::none(self.size), sum };
        let mut seen = 0_u64;
        let mut next = self.next_page(table, hint, 0)?;
        while let Some(number) = next {
            let (mut page, checksum) = table.page(number)?;
            seen = seen.wrapping_add(checksum);
            let mut differs = false;
            self.each(number, checksum == 0, hint, &mut |at, hash| {
                let kept = &mut page.0[(at % HASHES) as usize];
                if *kept != hash {
                    *kept = hash;
                    found.changed.add(at);
                    differs = true;
                }
            })?;
            if differs {
                changed(number, &page)?;
                found.sum = found.sum.wrapping_sub(checksum).wrapping_add(page.checksum(number));
            }
            next = self.next_page(table, hint, number + 1)?;
        }
        if matches!(hint, Hint::Anything(_)) {
            table.must_sum_to(seen, sum)?;
        }
        Ok(found)
    }

    /// The next page that has to be looked at. Where everything has, those are passed in which disk and table both have
    /// nothing but holes.
    fn next_page(&self, table: &Table, hint: &Hint, from: u64) -> Result<Option<u64>> {
        let page = match hint {
            Hint::Blocks(blocks) => blocks.next(from * HASHES).map(|block| block / HASHES),
            Hint::Anything(_) => {
                let data = site_recovery_sparse::next_data(&self.file, from * HASHES * HASH_BLOCK)
                    .told("map", &self.path)?;
                let of_disk = data.map(|at| at / HASH_BLOCK / HASHES);
                [of_disk, table.next_page(from)?].into_iter().flatten().min()
            }
        };
        Ok(page.filter(|page| *page < table.pages()))
    }

    /// The hash of every block of one page that may have changed. Holes are not read; where the table has nothing but
    /// holes either, nothing is told.
    fn each(&self, page: u64, is_empty: bool, hint: &Hint, told: &mut dyn FnMut(u64, Hash)) -> Result<()> {
        let start = page * HASHES * HASH_BLOCK;
        let of_page = Run::new(start, (HASHES * HASH_BLOCK).min(self.size - start));
        let extents =
            site_recovery_sparse::extents(&self.file, of_page, self.size).told("map", &self.path)?;
        let mut data = data_of(&extents).peekable();
        if data.peek().is_none() && is_empty {
            return self.pace.took(0);
        }
        let mut buffer = vec![0; HASH_BLOCK as usize];
        let mut read = 0;
        for block in of_page.pieces(HASH_BLOCK) {
            let number = block.start / HASH_BLOCK;
            if let Hint::Blocks(blocks) = hint
                && !blocks.has(number)
            {
                continue;
            }
            while data.next_if(|d| d.end() <= block.start).is_some() {}
            if data.peek().is_none_or(|d| d.start >= block.end()) {
                told(number, hash(&[]));
                continue;
            }
            let bytes = &mut buffer[..block.len as usize];
            self.file.read_exact_at(bytes, block.start).told("read", &self.path)?;
            read += block.len;
            told(number, hash(bytes));
        }
        if read > 0 {
            // What is read here is not what the server works with: its cache is left to it.
            let len = std::num::NonZeroU64::new(of_page.len);
            let _a_hint = rustix::fs::fadvise(&self.file, of_page.start, len, Advice::DontNeed);
        }
        self.pace.took(read)
    }
}

fn data_of(extents: &[Extent]) -> impl Iterator<Item = Run> {
    extents.iter().filter(|e| e.fill == Fill::Data).map(|e| e.run)
}
