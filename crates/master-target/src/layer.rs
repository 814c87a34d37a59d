//! Which runs of which disks a log holds, and where.

use serde::{Deserialize, Serialize};
use site_recovery::{ChangeSet, DiskId, Run};
use std::collections::BTreeMap;

/// What is known of a run that was overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kept {
    /// It read as zeros.
    Zero,
    /// Its bytes are in the log.
    Data {
        /// CRC-64/NVME of them.
        checksum: u64,
    },
    /// It was overwritten, and no point needs what was there.
    Lost,
}

/// One piece of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// All of it.
    pub(crate) run: Run,
    pub(crate) kept: Kept,
    /// Where its bytes start in the file.
    pub(crate) at: u64,
}

/// Pieces of one or several logs, of which the first one added counts.
#[derive(Debug, Clone)]
pub(crate) struct Layer<P>(BTreeMap<DiskId, BTreeMap<u64, (u64, P)>>);

impl<P> Default for Layer<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<P: Clone> Layer<P> {
    /// Adds a piece where there is none yet.
    pub(crate) fn add(&mut self, disk: &DiskId, run: Run, piece: &P) {
        let gaps: Vec<Run> =
            self.over(disk, run).filter(|(_, held)| held.is_none()).map(|(gap, _)| gap).collect();
        let held = self.0.entry(disk.clone()).or_default();
        for gap in gaps {
            held.insert(gap.start, (gap.len, piece.clone()));
        }
    }

    /// `run`, cut into what a piece covers and what none does, in order.
    pub(crate) fn over(&self, disk: &DiskId, run: Run) -> impl Iterator<Item = (Run, Option<&P>)> {
        let held = self.0.get(disk);
        let mut at = run.start;
        std::iter::from_fn(move || {
            if at >= run.end() {
                return None;
            }
            let before = held.and_then(|h| h.range(..=at).next_back());
            let (end, piece) = match before {
                Some((start, (len, piece))) if start + len > at => (start + len, Some(piece)),
                _ => {
                    let next = held.and_then(|h| h.range(at..).next());
                    (next.map_or(run.end(), |(start, _)| *start), None)
                }
            };
            let part = Run::new(at, end.min(run.end()) - at);
            at = part.end();
            Some((part, piece))
        })
    }

    /// Everything, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (&DiskId, Run, &P)> {
        let runs = |(disk, held)| {
            BTreeMap::iter(held).map(move |(start, (len, piece))| (disk, Run::new(*start, *len), piece))
        };
        self.0.iter().flat_map(runs)
    }

    /// Everything, without what it holds.
    pub(crate) fn runs(&self) -> ChangeSet {
        self.pieces().map(|(disk, run, _)| (disk.clone(), run)).collect()
    }
}

/// Bytes of one disk that have arrived, exactly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans(BTreeMap<u64, u64>);

impl Spans {
    pub(crate) fn add(&mut self, run: Run) {
        let (mut start, mut end) = (run.start, run.end());
        while let Some((s, e)) =
            self.0.range(..=end).next_back().map(|(s, e)| (*s, *e)).filter(|(_, e)| *e >= start)
        {
            self.0.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        self.0.insert(start, end);
    }

    /// The offset below which everything of `plan` has arrived, looking from `from` on.
    pub(crate) fn landed(&self, plan: &[Run], from: u64) -> u64 {
        let first = plan.partition_point(|r| r.end() <= from);
        for run in &plan[first..] {
            let covered = self.0.range(..=run.start).next_back().map_or(0, |(_, end)| *end);
            if covered < run.end() {
                return covered.max(run.start).max(from);
            }
        }
        plan.last().map_or(from, |r| r.end().max(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_of_a_run_counts() {
        let (disk, mut layer) = (DiskId::from("d"), Layer::default());
        layer.add(&disk, Run::new(4, 4), &'a');
        layer.add(&disk, Run::new(0, 12), &'b');
        layer.add(&disk, Run::new(10, 4), &'c');
        let seen: Vec<_> =
            layer.over(&disk, Run::new(2, 20)).map(|(r, p)| (r.start, r.len, p.copied())).collect();
        let want =
            [(2, 2, Some('b')), (4, 4, Some('a')), (8, 4, Some('b')), (12, 2, Some('c')), (14, 8, None)];
        assert_eq!(seen, want);
    }

    #[test]
    fn landed_stops_at_the_first_gap_of_the_plan() {
        let plan = [Run::new(0, 4), Run::new(8, 8), Run::new(32, 4)];
        let mut spans = Spans::default();
        assert_eq!(spans.landed(&plan, 0), 0);
        spans.add(Run::new(8, 4));
        assert_eq!(spans.landed(&plan, 0), 0);
        spans.add(Run::new(0, 4));
        assert_eq!(spans.landed(&plan, 0), 12);
        spans.add(Run::new(12, 4));
        assert_eq!(spans.landed(&plan, 12), 32);
        spans.add(Run::new(32, 4));
        assert_eq!(spans.landed(&plan, 0), 36);
    }
}
