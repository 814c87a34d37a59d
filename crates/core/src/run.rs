//! Runs of bytes, and sets of them.

use crate::{DiskId, DiskSpec, Error, ErrorKind, Result};
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

    /// Refuses what is not inside a disk of so many bytes.
    ///
    /// # Errors
    /// `Invalid`, naming the run and the size.
    pub fn must_be_inside(&self, disk: u64) -> Result<()> {
        if self.start.checked_add(self.len).is_some_and(|end| end <= disk) {
            return Ok(());
        }
        let value = format!("{} bytes from {}", self.len, self.start);
        let rule = format!("the disk has {disk} bytes");
        Err(Error::invalid("run", value, &rule, "stay inside the disk"))
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
///
/// One that is read from a journal or the wire holds to all of that, or is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<DiskId, Vec<Run>>")]
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
            Some(_) => insert(runs, run),
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

/// Takes runs as they were written once.
///
/// # Errors
/// `Corrupt`, naming the disk and the run: empty, past the last byte there can be, or not after the one before with a gap
/// between; or too many runs.
impl TryFrom<BTreeMap<DiskId, Vec<Run>>> for ChangeSet {
    type Error = Error;

    fn try_from(disks: BTreeMap<DiskId, Vec<Run>>) -> Result<Self> {
        for (disk, runs) in &disks {
            let broken = |said: String| Error::new(ErrorKind::Corrupt, said).with("disk", disk);
            if runs.len() > Self::MOST_RUNS {
                let (has, most) = (runs.len(), Self::MOST_RUNS);
                return Err(broken(format!("the set has {has} runs of disk {disk}, more than {most}")));
            }
            let mut from = 0;
            for run in runs {
                let shown = format!("{}+{}", run.start, run.len);
                let said =
                    |rule| broken(format!("the run {shown} of disk {disk} {rule}")).with("run", &shown);
                let end = run.start.checked_add(run.len).ok_or_else(|| said("ends past all bytes"))?;
                if run.len == 0 {
                    return Err(said("is empty"));
                }
                if run.start < from {
                    return Err(said("does not begin past the end of the one before"));
                }
                from = end.saturating_add(1);
            }
        }
        Ok(Self(disks))
    }
}

/// Into sorted runs that lie apart; takes in what it touches.
fn insert(runs: &mut Vec<Run>, run: Run) {
    let from = runs.partition_point(|r| r.end() < run.start);
    let to = from + runs[from..].partition_point(|r| r.start <= run.end());
    let touched = &runs[from..to];
    let start = touched.first().map_or(run.start, |first| first.start.min(run.start));
    let end = touched.last().map_or(run.end(), |last| last.end().max(run.end()));
    runs.splice(from..to, [Run::new(start, end - start)]);
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
    fn a_run_that_is_not_inside_the_disk_is_refused_with_both() {
        assert!(Run::new(8, 4).must_be_inside(12).is_ok() && Run::new(12, 0).must_be_inside(12).is_ok());
        for run in [Run::new(8, 5), Run::new(13, 0), Run::new(u64::MAX, 2)] {
            let error = run.must_be_inside(12).expect_err("outside");
            assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("run")));
            assert!(error.to_string().contains("12 bytes"), "{error}");
        }
    }

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
    fn d1_a_set_that_is_read_holds_to_its_rules_or_is_refused_by_disk_and_run() {
        let read = |runs: &[(u64, u64)]| {
            let runs: Vec<Run> = runs.iter().map(|(start, len)| Run::new(*start, *len)).collect();
            let json = serde_json::json!({"boot": [], "data": runs}).to_string();
            serde_json::from_str::<ChangeSet>(&json).map_err(|e| e.to_string())
        };
        for (runs, run, rule) in [
            (&[(8, 4), (0, 4)][..], "0+4", "begin past"),
            (&[(0, 8), (4, 8)], "4+8", "begin past"),
            (&[(0, 8), (8, 8)], "8+8", "begin past"),
            (&[(0, 8), (0, 8)], "0+8", "begin past"),
            (&[(4, 0)], "4+0", "empty"),
            (&[(0, 8), (u64::MAX, 2)], "18446744073709551615+2", "past all bytes"),
            (&[(1, u64::MAX)], "1+18446744073709551615", "past all bytes"),
            (&[(0, u64::MAX), (u64::MAX, 0)], "18446744073709551615+0", "empty"),
        ] {
            let told = read(runs).expect_err(rule);
            assert!([run, rule, "disk data"].iter().all(|part| told.contains(part)), "{told}");
        }
        let many: Vec<(u64, u64)> = (0..=ChangeSet::MOST_RUNS as u64).map(|at| (at * 2, 1)).collect();
        let told = read(&many).expect_err("one too many");
        assert!(told.contains("262145 runs of disk data"), "{told}");
        let sound = read(&many[1..]).expect("as many as there may be");
        assert_eq!(sound.runs(&"data".into()).len(), ChangeSet::MOST_RUNS);
    }

    #[test]
    fn a_set_that_was_made_is_read_as_it_was_written() {
        let mut seed = 7_u64;
        let mut below = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % end
        };
        for round in 0..200 {
            let mut set = ChangeSet::new();
            for _ in 0..below(60) {
                set.add(&DiskId::from(["a", "b"][below(2) as usize]), Run::new(below(500), below(20)));
            }
            let set = set.union(&[(DiskId::from("c"), Run::new(u64::MAX - 1, 1))].into_iter().collect());
            let json = serde_json::to_string(&set).expect("plain data serialises");
            let again: ChangeSet =
                serde_json::from_str(&json).unwrap_or_else(|e| panic!("{round}: {e}: {json}"));
            assert_eq!(again, set);
        }
    }

    #[test]
    fn runs_that_come_in_any_order_are_the_bytes_that_were_added_and_lie_apart() {
        let (disk, mut seed) = (DiskId::from("d"), 11_u64);
        let mut below = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % end
        };
        for round in 0..300 {
            let (mut set, mut bytes) = (ChangeSet::new(), vec![false; 140]);
            for _ in 0..below(40) {
                let run = Run::new(below(120), below(20));
                set.add(&disk, run);
                bytes[run.start as usize..run.end() as usize].fill(true);
            }
            let runs = set.runs(&disk);
            assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].start), "{round}: {runs:?}");
            let held = |at: u64| runs.iter().any(|run| (run.start..run.end()).contains(&at));
            assert!((0..140).all(|at| held(at) == bytes[at as usize]), "{round}: {runs:?}");
        }
    }

    #[test]
    fn pieces_and_alignment() {
        let pieces: Vec<Run> = Run::new(5, 20).pieces(8).collect();
        assert_eq!(pieces, [Run::new(5, 3), Run::new(8, 8), Run::new(16, 8), Run::new(24, 1)]);
        assert_eq!(Run::new(5, 4).aligned(8, 12), Run::new(0, 12));
        assert!(Run::new(3, 0).pieces(8).next().is_none());
    }
}
