//! A disk that is nowhere: its bytes follow from where they are.

use crate::Outcome;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{ChangeSet, Disk, DiskId, Extent, Fill, Pool, Result, Run};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const DISK: u64 = 1 << 30;
const SPARSE: u64 = 4 << 40;
/// Pieces of 1 MiB with data in it, in equal distances.
const PIECES: u64 = 1024;

/// Bytes of this place, which is whole pages from the beginning, and other ones of each generation.
pub(crate) fn fill(at: u64, generation: u64, into: &mut [u8]) {
    for (page, bytes) in (at / PAGE..).zip(into.chunks_mut(PAGE as usize)) {
        let mut dice = Dice(page << 8 | generation);
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&dice.roll().to_le_bytes()[..word.len()]);
        }
    }
}

/// Splitmix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Noise in some runs, zeros elsewhere.
#[derive(Debug)]
pub(crate) struct Noise {
    size: u64,
    data: Vec<Run>,
    /// Runs of the second generation, sorted.
    anew: Vec<Run>,
}

impl Noise {
    /// `small` has 64 KiB of data in 1 MiB; `dense` 1 GiB; `sparse` 1 GiB in 4 TiB. `dense/65536` is `dense` with a hundredth
    /// of it written anew, in runs of so many bytes, anywhere.
    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let (name, anew) = name.split_once('/').unwrap_or((name, ""));
        let (size, data) = match name {
            "small" => (MIB, vec![Run::new(0, 64 << 10)]),
            "dense" => (DISK, vec![Run::new(0, DISK)]),
            "sparse" => (SPARSE, (0..PIECES).map(|n| Run::new(n * (SPARSE / PIECES), MIB)).collect()),
            other => return Err(format!("{other} is no disk").into()),
        };
        let anew = if anew.is_empty() { vec![] } else { anywhere(size, anew.parse()?) };
        Ok(Self { size, data, anew })
    }

    pub(crate) fn changes(&self, id: &DiskId) -> ChangeSet {
        self.anew.iter().map(|run| (id.clone(), *run)).collect()
    }

    /// The runs that hold data.
    pub(crate) fn data(&self) -> &[Run] {
        &self.data
    }

    /// What stands there, in a run of whole pages.
    pub(crate) fn expect(&self, run: Run, into: &mut [u8]) {
        into.fill(0);
        let place = |part: Run| (part.start - run.start) as usize..(part.end() - run.start) as usize;
        for part in within(&self.data, run) {
            fill(part.start, 0, &mut into[place(part)]);
        }
        for part in within(&self.anew, run) {
            fill(part.start, 1, &mut into[place(part)]);
        }
    }
}

/// A hundredth of so many bytes, rounded up, in runs of that length.
fn anywhere(size: u64, len: u64) -> Vec<Run> {
    let (mut dice, mut starts) = (Dice(42), std::collections::BTreeSet::new());
    while (starts.len() as u64) < (size / 100).div_ceil(len) {
        starts.insert(dice.roll() % (size / len) * len);
    }
    starts.into_iter().map(|start| Run::new(start, len)).collect()
}

/// The parts of sorted runs in a run.
fn within(runs: &[Run], run: Run) -> impl Iterator<Item = Run> {
    let first = runs.partition_point(|other| other.end() <= run.start);
    runs[first..].iter().map_while(move |other| other.intersection(run))
}

#[async_trait]
impl Disk for Noise {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.end().min(self.size);
        let (mut extents, mut at) = (vec![], range.start);
        for run in within(&self.data, Run::new(at, end - at)) {
            if at < run.start {
                extents.push(Extent { run: Run::new(at, run.start - at), fill: Fill::Zero });
            }
            extents.push(Extent { run, fill: Fill::Data });
            at = run.end();
        }
        if at < end {
            extents.push(Extent { run: Run::new(at, end - at), fill: Fill::Zero });
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let mut block = pool.take(run.len as usize).await?;
        self.expect(run, &mut block);
        Ok(block.freeze())
    }
}
