//! Which runs of a disk an overlay holds.

use site_recovery::Run;
use std::collections::BTreeMap;

/// Where a run is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The overlay's file, at the same offset.
    Stored,
    /// Zeros, whatever lies below.
    Zeroed,
    /// The disk below.
    Below,
}

/// Runs that are not below, by their start: disjoint, no two neighbours of one kind.
#[derive(Debug, Default)]
pub(crate) struct OverlayMap {
    runs: BTreeMap<u64, (u64, Layer)>,
    stored: u64,
}

impl OverlayMap {
    /// What the map takes in memory for each of its runs, about.
    const ENTRY: u64 = 64;

    /// Bytes of the file and of this map.
    pub(crate) fn taken(&self) -> u64 {
        self.stored + self.runs.len() as u64 * Self::ENTRY
    }

    /// What `set(run, layer)` could make of that, at most.
    pub(crate) fn taken_after(&self, run: Run, layer: Layer) -> u64 {
        let more = match layer {
            Layer::Stored => run.len - self.stored_in(run),
            _ => 0,
        };
        self.taken() + more + 2 * Self::ENTRY
    }

    /// `run` in order and without gap.
    pub(crate) fn layers(&self, run: Run) -> Vec<(Run, Layer)> {
        let (mut at, mut layers) = (run.start, vec![]);
        for (part, layer) in self.within(run) {
            if part.start > at {
                layers.push((Run::new(at, part.start - at), Layer::Below));
            }
            at = part.end();
            layers.push((part, layer));
        }
        if at < run.end() {
            layers.push((Run::new(at, run.end() - at), Layer::Below));
        }
        layers
    }

    pub(crate) fn set(&mut self, run: Run, layer: Layer) {
        self.stored -= self.stored_in(run);
        self.cut(run.start);
        self.cut(run.end());
        let inside: Vec<u64> = self.runs.range(run.start..run.end()).map(|(start, _)| *start).collect();
        for start in inside {
            self.runs.remove(&start);
        }
        if layer == Layer::Stored {
            self.stored += run.len;
        }
        let (mut start, mut end) = (run.start, run.end());
        if let Some((before, (at, same))) = self.runs.range(..start).next_back().map(|(s, e)| (*s, *e))
            && (at, same) == (start, layer)
        {
            self.runs.remove(&before);
            start = before;
        }
        if let Some((after, same)) = self.runs.get(&end).copied()
            && same == layer
        {
            self.runs.remove(&end);
            end = after;
        }
        self.runs.insert(start, (end, layer));
    }

    fn stored_in(&self, run: Run) -> u64 {
        self.within(run).filter(|(_, layer)| *layer == Layer::Stored).map(|(part, _)| part.len).sum()
    }

    /// The parts of `run` that are not below.
    fn within(&self, run: Run) -> impl Iterator<Item = (Run, Layer)> {
        let before = self.runs.range(..=run.start).next_back().map(|(start, _)| *start);
        let from = before.unwrap_or(run.start);
        let runs = self.runs.range(from..run.end().max(from));
        runs.filter_map(move |(start, (end, layer))| {
            Run::new(*start, end - start).intersection(run).map(|part| (part, *layer))
        })
    }

    /// Makes `at` the start of a run, if it is inside one.
    fn cut(&mut self, at: u64) {
        if let Some((start, (end, layer))) = self.runs.range(..at).next_back().map(|(s, e)| (*s, *e))
            && end > at
        {
            self.runs.insert(start, (at, layer));
            self.runs.insert(at, (end, layer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_map_says_of_every_byte_what_was_set_last(
            sets in prop::collection::vec((0u64..64, 1u64..20, any::<bool>()), 0..40),
        ) {
            let (mut map, mut bytes) = (OverlayMap::default(), [Layer::Below; 100]);
            for (start, len, stored) in sets {
                let layer = if stored { Layer::Stored } else { Layer::Zeroed };
                let most = map.taken_after(Run::new(start, len), layer);
                map.set(Run::new(start, len), layer);
                prop_assert!(map.taken() <= most);
                bytes[start as usize..(start + len) as usize].fill(layer);
            }
            let told: Vec<Layer> = map.layers(Run::new(0, 100)).iter()
                .flat_map(|(run, layer)| std::iter::repeat_n(*layer, run.len as usize)).collect();
            prop_assert_eq!(&told[..], &bytes[..]);
            let kept = bytes.iter().filter(|l| **l == Layer::Stored).count() as u64;
            prop_assert_eq!(map.stored, kept);
        }
    }
}
