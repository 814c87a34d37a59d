//! Which run of a disk lies where: in memory, for what has landed and is in no point yet.

use crate::segment::SegmentId;
use site_recovery::{ChangeSet, DiskId, Hash, Run};
use std::collections::BTreeMap;

/// Where the frame of one record lies, and what the record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    /// The run of the whole record, of which a piece may be a part.
    pub(crate) run: Run,
    pub(crate) checksum: Hash,
}

/// What was written, and by which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Zeros { session: u64 },
    Data(Place),
}

impl Held {
    pub(crate) fn session(&self) -> u64 {
        match self {
            Held::Zeros { session } => *session,
            Held::Data(place) => place.segment.session,
        }
    }

    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Held::Zeros { .. } => None,
            Held::Data(place) => Some(*place),
        }
    }

    /// Whether both are one, written at once.
    pub(crate) fn joins(&self, other: &Held) -> bool {
        match (self, other) {
            (Held::Zeros { .. }, Held::Zeros { .. }) => true,
            _ => self == other,
        }
    }
}

/// A run, and what is written there; none where nothing ever was, which reads as zeros.
pub(crate) type Piece = (Run, Option<Held>);

/// What was written, per disk, sorted and apart. What is not in it was not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExtentMap(BTreeMap<DiskId, BTreeMap<u64, (u64, Held)>>);

impl ExtentMap {
    /// Writes a run over whatever was there.
    pub(crate) fn insert(&mut self, disk: &DiskId, run: Run, held: Held) {
        let runs = match self.0.get_mut(disk) {
            Some(runs) => runs,
            None => self.0.entry(disk.clone()).or_default(),
        };
        if let Some((&start, piece)) = runs.range_mut(..run.start).next_back()
            && start + piece.0 > run.start
        {
            let (len, held) = *piece;
            piece.0 = run.start - start;
            if start + len > run.end() {
                runs.insert(run.end(), (start + len - run.end(), held));
            }
        }
        while let Some((&start, &(len, held))) = runs.range(run.start..run.end()).next() {
            runs.remove(&start);
            if start + len > run.end() {
                runs.insert(run.end(), (start + len - run.end(), held));
            }
        }
        runs.insert(run.start, (run.len, held));
    }

    /// What is written inside `run`, cut to it, in order.
    pub(crate) fn pieces(&self, disk: &DiskId, run: Run) -> Vec<(Run, Held)> {
        let Some(runs) = self.0.get(disk) else { return vec![] };
        let first = runs.range(..=run.start).next_back().map_or(run.start, |(start, _)| *start);
        let inside = runs.range(first..run.end());
        inside
            .filter_map(|(start, (len, held))| Some((Run::new(*start, *len).intersection(run)?, *held)))
            .collect()
    }

    /// The first byte of `run` that was not written.
    pub(crate) fn first_gap(&self, disk: &DiskId, run: Run) -> Option<u64> {
        let mut at = run.start;
        for (piece, _) in self.pieces(disk, run) {
            if piece.start > at {
                break;
            }
            at = piece.end();
        }
        (at < run.end()).then_some(at)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&DiskId, Run, Held)> {
        self.0.iter().flat_map(|(disk, runs)| {
            runs.iter().map(move |(start, (len, held))| (disk, Run::new(*start, *len), *held))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    pub(crate) fn touched(&self) -> ChangeSet {
        self.all().map(|(disk, run, _)| (disk.clone(), run)).collect()
    }
}

/// Frame bytes that a piece of a record stands for.
pub(crate) fn share(piece: Run, place: &Place) -> u64 {
    (u128::from(place.len) * u128::from(piece.len) / u128::from(place.run.len.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(batch: u64, run: Run) -> Held {
        let segment = SegmentId { session: 1, batch };
        Held::Data(Place { segment, offset: 28, len: 40, run, checksum: batch.into() })
    }

    #[test]
    fn the_newest_write_counts_and_the_rest_of_the_older_stays() {
        let (disk, mut map) = (DiskId::from("d"), ExtentMap::default());
        let (old, new) = (Run::new(0, 100), Run::new(40, 20));
        map.insert(&disk, old, place(0, old));
        map.insert(&disk, new, place(1, new));
        map.insert(&disk, Run::new(90, 30), Held::Zeros { session: 2 });
        let all: Vec<(Run, Held)> = map.all().map(|(_, run, held)| (run, held)).collect();
        let expected = [
            (Run::new(0, 40), place(0, old)),
            (new, place(1, new)),
            (Run::new(60, 30), place(0, old)),
            (Run::new(90, 30), Held::Zeros { session: 2 }),
        ];
        assert_eq!(all, expected);
        assert_eq!(
            map.pieces(&disk, Run::new(50, 20)),
            [(Run::new(50, 10), place(1, new)), (Run::new(60, 10), place(0, old))]
        );
        assert_eq!(map.first_gap(&disk, Run::new(10, 200)), Some(120));
        assert_eq!(map.first_gap(&disk, Run::new(10, 110)), None);
    }
}
