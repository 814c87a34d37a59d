//! Which run of a disk lies where.

use crate::segment::SegmentId;
use bytes::{Buf, BufMut};
use site_recovery::{ChangeSet, DiskId, Hash, Run};
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: &[u8; 8] = b"SRMAP\0\0\x01";
const ZEROS: u32 = u32::MAX;

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

/// A run that was written: a part of a record, or zeros.
pub(crate) type Piece = (Run, Option<Place>);

/// What was written, per disk, sorted and apart. What is not in it was not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExtentMap(BTreeMap<DiskId, BTreeMap<u64, (u64, Option<Place>)>>);

impl ExtentMap {
    /// Writes a run over whatever was there.
    pub(crate) fn insert(&mut self, disk: &DiskId, run: Run, place: Option<Place>) {
        let runs = match self.0.get_mut(disk) {
            Some(runs) => runs,
            None => self.0.entry(disk.clone()).or_default(),
        };
        if let Some((&start, piece)) = runs.range_mut(..run.start).next_back()
            && start + piece.0 > run.start
        {
            let (len, place) = *piece;
            piece.0 = run.start - start;
            if start + len > run.end() {
                runs.insert(run.end(), (start + len - run.end(), place));
            }
        }
        while let Some((&start, &(len, place))) = runs.range(run.start..run.end()).next() {
            runs.remove(&start);
            if start + len > run.end() {
                runs.insert(run.end(), (start + len - run.end(), place));
            }
        }
        runs.insert(run.start, (run.len, place));
    }

    /// Writes all of `newer` over this.
    pub(crate) fn apply(&mut self, newer: &ExtentMap) {
        for (disk, run, place) in newer.all() {
            self.insert(disk, run, place);
        }
    }

    /// The pieces inside `run`, cut to it, in order.
    pub(crate) fn pieces(&self, disk: &DiskId, run: Run) -> Vec<Piece> {
        let Some(runs) = self.0.get(disk) else { return vec![] };
        let first = runs.range(..=run.start).next_back().map_or(run.start, |(start, _)| *start);
        let inside = runs.range(first..run.end());
        inside
            .filter_map(|(start, (len, place))| Some((Run::new(*start, *len).intersection(run)?, *place)))
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

    pub(crate) fn all(&self) -> impl Iterator<Item = (&DiskId, Run, Option<Place>)> {
        self.0.iter().flat_map(|(disk, runs)| {
            runs.iter().map(move |(start, (len, place))| (disk, Run::new(*start, *len), *place))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn touched(&self) -> ChangeSet {
        self.all().map(|(disk, run, _)| (disk.clone(), run)).collect()
    }

    pub(crate) fn segments(&self) -> BTreeSet<SegmentId> {
        self.all().filter_map(|(_, _, place)| place.map(|p| p.segment)).collect()
    }

    /// The map as bytes, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let segments = self.segments();
        let numbers: BTreeMap<&SegmentId, u32> = segments.iter().zip(0..).collect();
        let mut out = MAGIC.to_vec();
        out.put_u32_le(segments.len() as u32);
        for segment in &segments {
            out.put_u64_le(segment.session);
            out.put_u64_le(segment.batch);
        }
        out.put_u32_le(self.0.len() as u32);
        for (disk, runs) in &self.0 {
            put_name(&mut out, disk);
            out.put_u64_le(runs.len() as u64);
            for (start, (len, place)) in runs {
                out.put_u64_le(*start);
                out.put_u64_le(*len);
                out.put_u32_le(place.map_or(ZEROS, |p| numbers[&p.segment]));
                if let Some(place) = place {
                    out.put_u64_le(place.offset);
                    out.put_u32_le(place.len);
                    out.put_u64_le(place.run.start);
                    out.put_u64_le(place.run.len);
                    out.put_u128_le(place.checksum);
                }
            }
        }
        out
    }

    /// The map that these bytes are; none where they are none.
    pub(crate) fn decode(mut from: &[u8]) -> Option<Self> {
        from = from.strip_prefix(MAGIC)?;
        let count = from.try_get_u32_le().ok()?;
        let mut segments = vec![];
        for _ in 0..count {
            let (session, batch) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
            segments.push(SegmentId { session, batch });
        }
        let mut map = Self::default();
        for _ in 0..from.try_get_u32_le().ok()? {
            let disk = get_name(&mut from)?;
            let runs = map.0.entry(disk).or_default();
            for _ in 0..from.try_get_u64_le().ok()? {
                let (start, len) = (from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
                let place = match from.try_get_u32_le().ok()? {
                    ZEROS => None,
                    number => Some(Place {
                        segment: *segments.get(number as usize)?,
                        offset: from.try_get_u64_le().ok()?,
                        len: from.try_get_u32_le().ok()?,
                        run: Run::new(from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?),
                        checksum: from.try_get_u128_le().ok()?,
                    }),
                };
                start.checked_add(len)?;
                runs.insert(start, (len, place));
            }
        }
        from.is_empty().then_some(map)
    }
}

/// What `run` holds under several maps, the newest first. Without gap; what nobody wrote is zeros.
pub(crate) fn resolve(layers: &[&ExtentMap], disk: &DiskId, run: Run) -> Vec<Piece> {
    let Some((top, below)) = layers.split_first() else { return vec![(run, None)] };
    let (mut found, mut at) = (vec![], run.start);
    for (piece, place) in top.pieces(disk, run) {
        if piece.start > at {
            found.extend(resolve(below, disk, Run::new(at, piece.start - at)));
        }
        found.push((piece, place));
        at = piece.end();
    }
    if at < run.end() {
        found.extend(resolve(below, disk, Run::new(at, run.end() - at)));
    }
    found
}

pub(crate) fn put_name(out: &mut Vec<u8>, disk: &DiskId) {
    out.put_u32_le(disk.as_str().len() as u32);
    out.extend_from_slice(disk.as_str().as_bytes());
}

pub(crate) fn get_name(from: &mut &[u8]) -> Option<DiskId> {
    let len = from.try_get_u32_le().ok()? as usize;
    let (name, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(DiskId::from(std::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(batch: u64, run: Run) -> Option<Place> {
        let segment = SegmentId { session: 1, batch };
        Some(Place { segment, offset: 28, len: 40, run, checksum: batch.into() })
    }

    #[test]
    fn the_newest_write_counts_and_the_rest_of_the_older_stays() {
        let (disk, mut map) = (DiskId::from("d"), ExtentMap::default());
        let (old, new) = (Run::new(0, 100), Run::new(40, 20));
        map.insert(&disk, old, place(0, old));
        map.insert(&disk, new, place(1, new));
        map.insert(&disk, Run::new(90, 30), None);
        let all: Vec<Piece> = map.all().map(|(_, run, place)| (run, place)).collect();
        let expected = [
            (Run::new(0, 40), place(0, old)),
            (new, place(1, new)),
            (Run::new(60, 30), place(0, old)),
            (Run::new(90, 30), None),
        ];
        assert_eq!(all, expected);
        assert_eq!(
            map.pieces(&disk, Run::new(50, 20)),
            [(Run::new(50, 10), place(1, new)), (Run::new(60, 10), place(0, old))]
        );
        assert_eq!(map.first_gap(&disk, Run::new(10, 200)), Some(120));
        assert_eq!(map.first_gap(&disk, Run::new(10, 110)), None);
        assert_eq!(ExtentMap::decode(&map.encode()).as_ref(), Some(&map));
    }

    #[test]
    fn bytes_that_are_no_map_are_refused() {
        let (disk, mut map) = (DiskId::from("d"), ExtentMap::default());
        map.insert(&disk, Run::new(0, 100), place(0, Run::new(0, 100)));
        let bytes = map.encode();
        for len in 0..bytes.len() {
            assert_eq!(ExtentMap::decode(&bytes[..len]), None);
        }
    }

    #[test]
    fn layers_shine_through_where_nothing_was_written_above() {
        let (disk, mut above, mut below) = (DiskId::from("d"), ExtentMap::default(), ExtentMap::default());
        below.insert(&disk, Run::new(0, 50), place(0, Run::new(0, 50)));
        above.insert(&disk, Run::new(10, 10), None);
        let found = resolve(&[&above, &below], &disk, Run::new(5, 60));
        let runs: Vec<Run> = found.iter().map(|(run, _)| *run).collect();
        assert_eq!(runs, [Run::new(5, 5), Run::new(10, 10), Run::new(20, 30), Run::new(50, 15)]);
        assert!(found[0].1.is_some() && found[1].1.is_none() && found[3].1.is_none());
    }
}
