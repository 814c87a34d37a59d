//! Which blocks of a disk: one bit for each 64 KiB.

use site_recovery::{HASH_BLOCK, Run};

/// A set of blocks of one disk; 8 MiB for one of 4 TiB.
#[derive(Clone, PartialEq, Eq)]
pub struct Blocks {
    words: Vec<u64>,
    size: u64,
}

impl Blocks {
    /// None of a disk of `size` bytes.
    pub fn none(size: u64) -> Self {
        Self { words: vec![0; size.div_ceil(HASH_BLOCK).div_ceil(64) as usize], size }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether all of `other` is in the set.
    pub fn has_all(&self, other: &Blocks) -> bool {
        self.size == other.size
            && self.words.iter().zip(&other.words).all(|(mine, theirs)| theirs & !mine == 0)
    }

    /// How many blocks the disk has.
    pub fn of_disk(&self) -> u64 {
        self.size.div_ceil(HASH_BLOCK)
    }

    /// Adds one block. One that the disk does not have is left out.
    pub fn add(&mut self, block: u64) {
        if block < self.of_disk() {
            self.words[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    /// Adds every block that `run` touches.
    pub fn add_run(&mut self, run: Run) {
        let end = run.start.saturating_add(run.len).min(self.size);
        if run.start < end {
            (run.start / HASH_BLOCK..end.div_ceil(HASH_BLOCK)).for_each(|block| self.add(block));
        }
    }

    /// Whether a block is in the set.
    pub fn has(&self, block: u64) -> bool {
        let word = self.words.get((block / 64) as usize);
        word.is_some_and(|word| word & 1 << (block % 64) != 0)
    }

    /// Adds all of `other`, which is of the same disk.
    pub fn add_all(&mut self, other: &Blocks) {
        self.words.iter_mut().zip(&other.words).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// How many blocks are in the set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// The set as runs of bytes, sorted and apart, cut at the disk's end.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at)?;
            let mut end = start + 1;
            while self.has(end) {
                end += 1;
            }
            at = end;
            let start = start * HASH_BLOCK;
            Some(Run::new(start, (end * HASH_BLOCK).min(self.size) - start))
        })
    }

    /// The first block of the set from `from` on.
    pub fn next(&self, from: u64) -> Option<u64> {
        let mut at = (from / 64) as usize;
        let mut word = self.words.get(at)? & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = *self.words.get(at)?;
        }
        Some(at as u64 * 64 + u64::from(word.trailing_zeros()))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// `None` where these are not the bytes of a set of such a disk.
    pub(crate) fn from_bytes(bytes: &[u8], size: u64) -> Option<Self> {
        let mut set = Self::none(size);
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || words.len() != set.words.len() {
            return None;
        }
        set.words = words.iter().map(|w| u64::from_le_bytes(*w)).collect();
        let past = set.next(set.of_disk()).is_some();
        (!past).then_some(set)
    }
}

// By hand: a set of millions belongs in no log.
impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({} of {})", self.count(), self.of_disk())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = HASH_BLOCK;

    #[test]
    fn d4_a_run_marks_every_block_that_it_touches_and_none_past_the_end() {
        let size = 200 * BLOCK + 512;
        let mut set = Blocks::none(size);
        set.add_run(Run::new(BLOCK - 512, 1024));
        set.add_run(Run::new(63 * BLOCK, 2 * BLOCK));
        set.add_run(Run::new(200 * BLOCK, 4 * BLOCK));
        set.add_run(Run::new(300 * BLOCK, BLOCK));
        set.add_run(Run::new(5 * BLOCK, 0));
        let runs: Vec<Run> = set.runs().collect();
        assert_eq!(
            runs,
            [Run::new(0, 2 * BLOCK), Run::new(63 * BLOCK, 2 * BLOCK), Run::new(200 * BLOCK, 512)]
        );
        assert_eq!(set.count(), 5);
        assert_eq!(Blocks::from_bytes(&set.to_bytes(), size), Some(set));
    }

    #[test]
    fn bytes_of_another_disk_are_no_set() {
        let bytes = Blocks::none(200 * BLOCK).to_bytes();
        assert_eq!(Blocks::from_bytes(&bytes, 300 * BLOCK), None);
        assert_eq!(Blocks::from_bytes(&bytes[1..], 200 * BLOCK), None);
        assert_eq!(Blocks::from_bytes(&[0xff; 8], 10 * BLOCK), None);
    }
}
