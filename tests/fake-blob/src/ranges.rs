//! Which parts of an image were written, and which differ from an earlier one.

use crate::image::{Image, PAGE, SECTOR};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// A part of an image that was touched since an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written, with other bytes or with the same.
    Written(Range<u64>),
    /// It was cleared, and reads as zeros.
    Cleared(Range<u64>),
}

impl Change {
    /// In bytes.
    #[must_use]
    pub fn range(&self) -> &Range<u64> {
        match self {
            Self::Written(range) | Self::Cleared(range) => range,
        }
    }
}

impl Image {
    /// What was written, in order, touching parts joined.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges_in(0..self.size)
    }

    /// The same inside a range, cut to it; the range is taken out to whole sectors.
    #[must_use]
    pub fn ranges_in(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let within = sectors(&within, self.size);
        let mut runs = Runs::default();
        for (start, page) in self.pages.range(within.start / PAGE * PAGE..within.end.max(within.start)) {
            for (i, at) in each(*start, &within) {
                if page.written >> i & 1 == 1 {
                    runs.add(at, true);
                }
            }
        }
        runs.0.into_iter().map(|(range, _)| range).collect()
    }

    /// What was touched since `base`, in order: written and cleared parts alternate as they lie. Images that share no
    /// history differ in all that either has written.
    #[must_use]
    pub fn diff(&self, base: &Image) -> Vec<Change> {
        self.diff_in(base, 0..self.size)
    }

    /// The same inside a range, cut to it.
    #[must_use]
    pub fn diff_in(&self, base: &Image, within: Range<u64>) -> Vec<Change> {
        let within = sectors(&within, self.size);
        let span = within.start / PAGE * PAGE..within.end.max(within.start);
        let (new, old) = (self.pages.range(span.clone()), base.pages.range(span));
        let starts: BTreeSet<u64> = new.chain(old).map(|(start, _)| *start).collect();
        let mut runs = Runs::default();
        for start in starts {
            let (new, old) = (self.pages.get(&start), base.pages.get(&start));
            if let (Some(new), Some(old)) = (new, old)
                && Arc::ptr_eq(new, old)
            {
                continue;
            }
            for (i, at) in each(start, &within) {
                let (now, then) =
                    (new.map_or(0, |page| page.stamps[i]), old.map_or(0, |page| page.stamps[i]));
                if now != then {
                    runs.add(at, new.is_some_and(|page| page.written >> i & 1 == 1));
                }
            }
        }
        let change = |(range, written)| if written { Change::Written(range) } else { Change::Cleared(range) };
        runs.0.into_iter().map(change).collect()
    }
}

fn sectors(range: &Range<u64>, size: u64) -> Range<u64> {
    range.start / SECTOR * SECTOR..range.end.min(size).next_multiple_of(SECTOR)
}

/// The sectors of a page that lie in a range: number and offset.
fn each(start: u64, within: &Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let within = within.clone();
    (0..(PAGE / SECTOR) as usize)
        .map(move |i| (i, start + i as u64 * SECTOR))
        .filter(move |(_, at)| within.contains(at))
}

#[derive(Default)]
struct Runs(Vec<(Range<u64>, bool)>);

impl Runs {
    fn add(&mut self, at: u64, written: bool) {
        match self.0.last_mut() {
            Some((range, kind)) if range.end == at && *kind == written => range.end += SECTOR,
            _ => self.0.push((at..at + SECTOR, written)),
        }
    }
}
