//! Runs of bytes, and sets of them.

use crate::{DiskId, DiskSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything on the way is aligned to this many bytes, but for the end of a disk.
pub const ALIGNMENT: u64 = 4096;

/// A run of bytes of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Run {
    /// `len` bytes from `start`.
    pub fn new(start: u64, len: u64) -> Self {
        Self { start, len }
    }

    /// The byte after the last one.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// What both have, if anything.
    pub fn intersection(&self, other: Run) -> Option<Run> {
        let (start, end) = (self.start.max(other.start), self.end().min(other.end()));
        (start < end).then(|| Run::new(start, end - start))
    }

    /// Cut at multiples of `size`, counted from byte 0 of the disk.
    pub fn pieces(self, size: u64) -> impl Iterator<Item = Run> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            let end = ((at / size + 1) * size).min(self.end());
            let piece = Run::new(at, end.checked_sub(at).filter(|len| *len > 0)?);
            at = end;
            Some(piece)
        })
    }

    /// The smallest run of whole blocks of `size` that holds this one, cut at `disk` bytes.
    pub fn aligned(self, size: u64, disk: u64) -> Run {
        let start = self.start / size * size;
        let end = self.end().div_ceil(size).saturating_mul(size).min(disk);
        Run::new(start, end.saturating_sub(start))
    }
}

/// What a run of a disk holds, as far as the disk knows without reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fill {
    /// May hold anything.
    Data,
    /// Reads as zeros for certain.
    Zero,
}

/// A run and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where.
    pub run: Run,
    /// What.
    pub fill: Fill,
}

/// Sorted, merged runs per disk. May be too big, never too small.
///
/// A disk has at most [`ChangeSet::MOST_RUNS`] runs: beyond that the nearest ones are merged, which only makes the
/// set bigger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeSet(BTreeMap<DiskId, Vec<Run>>);

impl ChangeSet {
    /// The bound on runs per disk.
    pub const MOST_RUNS: usize = 1 << 18;

    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of these disks.
    pub fn whole<'a>(disks: impl IntoIterator<Item = &'a DiskSpec>) -> Self {
        disks.into_iter().map(|d| (d.id.clone(), Run::new(0, d.size))).collect()
    }

    /// Adds one run.
    pub fn add(&mut self, disk: &DiskId, run: Run) {
        if run.len == 0 {
            return;
        }
        let runs = match self.0.get_mut(disk) {
            Some(runs) => runs,
            None => self.0.entry(disk.clone()).or_default(),
        };
        match runs.last_mut() {
            Some(last) if run.start > last.end() => runs.push(run),
            None => runs.push(run),
            Some(last) if run.start >= last.start => last.len = last.end().max(run.end()) - last.start,
            Some(_) => {
                runs.push(run);
                merge(runs);
            }
        }
        if runs.len() > Self::MOST_RUNS {
            close_nearest(runs, Self::MOST_RUNS / 2);
        }
    }

    /// This and `other`.
    #[must_use]
    pub fn union(mut self, other: &ChangeSet) -> Self {
        for (disk, runs) in &other.0 {
            let mine = self.0.entry(disk.clone()).or_default();
            mine.extend_from_slice(runs);
            merge(mine);
            if mine.len() > Self::MOST_RUNS {
                close_nearest(mine, Self::MOST_RUNS / 2);
            }
        }
        self
    }

    /// The runs of one disk, sorted and apart.
    pub fn runs(&self, disk: &DiskId) -> &[Run] {
        self.0.get(disk).map_or(&[], Vec::as_slice)
    }

    /// Disks with their runs.
    pub fn disks(&self) -> impl Iterator<Item = (&DiskId, &[Run])> {
        self.0.iter().map(|(d, r)| (d, r.as_slice()))
    }

    /// Whether all of `run` is in the set.
    pub fn contains(&self, disk: &DiskId, run: Run) -> bool {
        let runs = self.runs(disk);
        let at = runs.partition_point(|r| r.end() < run.end());
        run.len == 0 || runs.get(at).is_some_and(|r| r.start <= run.start && r.end() >= run.end())
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.0.values().flatten().map(|r| r.len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// Widened to whole blocks of `size`, cut at the end of each disk.
    #[must_use]
    pub fn aligned(&self, size: u64, disks: &[DiskSpec]) -> Self {
        let mut wide = Self::new();
        for (disk, runs) in &self.0 {
            let end = disks.iter().find(|d| &d.id == disk).map_or(u64::MAX, |d| d.size);
            for run in runs {
                wide.add(disk, run.aligned(size, end));
            }
        }
        wide
    }
}

impl FromIterator<(DiskId, Run)> for ChangeSet {
    fn from_iter<T: IntoIterator<Item = (DiskId, Run)>>(runs: T) -> Self {
        let mut set = Self::new();
        for (disk, run) in runs {
            set.add(&disk, run);
        }
        set
    }
}

fn merge(runs: &mut Vec<Run>) {
    runs.sort_unstable();
    runs.dedup_by(|next, last| {
        let touches = next.start <= last.end();
        if touches {
            last.len = last.end().max(next.end()) - last.start;
        }
        touches
    });
}

fn close_nearest(runs: &mut Vec<Run>, most: usize) {
    let mut gaps: Vec<u64> = runs.windows(2).map(|w| w[1].start - w[0].end()).collect();
    let closed = runs.len() - most;
    let (_, limit, _) = gaps.select_nth_unstable(closed - 1);
    let limit = *limit;
    runs.dedup_by(|next, last| {
        let near = next.start - last.end() <= limit;
        if near {
            last.len = next.end() - last.start;
        }
        near
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_sorted_merged_and_complete() {
        let (disk, mut set) = (DiskId::from("d"), ChangeSet::new());
        for run in [Run::new(8, 4), Run::new(0, 4), Run::new(4, 2), Run::new(20, 1)] {
            set.add(&disk, run);
        }
        assert_eq!(set.runs(&disk), [Run::new(0, 6), Run::new(8, 4), Run::new(20, 1)]);
        assert!(set.contains(&disk, Run::new(9, 3)) && !set.contains(&disk, Run::new(5, 2)));
        assert_eq!(set.bytes(), 11);
    }

    #[test]
    fn d4_a_bounded_set_only_grows() {
        let (disk, mut set) = (DiskId::from("d"), ChangeSet::new());
        let runs: Vec<Run> =
            (0..ChangeSet::MOST_RUNS as u64 + 10).map(|i| Run::new(i * 100 + i % 7, 3)).collect();
        for run in &runs {
            set.add(&disk, *run);
        }
        assert!(set.runs(&disk).len() <= ChangeSet::MOST_RUNS);
        assert!(runs.iter().all(|r| set.contains(&disk, *r)));
    }

    #[test]
    fn pieces_and_alignment() {
        let pieces: Vec<Run> = Run::new(5, 20).pieces(8).collect();
        assert_eq!(pieces, [Run::new(5, 3), Run::new(8, 8), Run::new(16, 8), Run::new(24, 1)]);
        assert_eq!(Run::new(5, 4).aligned(8, 12), Run::new(0, 12));
        assert!(Run::new(3, 0).pieces(8).next().is_none());
    }
}
