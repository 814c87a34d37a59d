//! Reads one disk of a capture, in order: what is known without reading, then bytes, then records.

use crate::blocking::driven;
use crate::halt::{Halt, Transfer};
use crate::means::{Means, Room};
use crate::plan::Find;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use site_recovery::{
    ALIGNMENT, Disk, DiskId, Error, ErrorKind, Extent, Fill, Form, HASH_BLOCK, Hash, MachineId, Payload,
    Record, Replica, Result, Run,
};
use site_recovery_record::{MOST_BYTES, hash, is_zero};
use std::sync::{Arc, LazyLock};

/// Extents and hashes are asked for this many bytes at a time.
const WINDOW: u64 = 64 << 20;
/// Reads under way per disk.
const READS: usize = 4;

/// One disk on its way.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) means: Arc<Means>,
    pub(crate) machine: MachineId,
    pub(crate) id: DiskId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) find: Find,
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) form: Form,
}

/// What was found out about one piece, in the order of the disk; its room in the pool is taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) found: Vec<Found>,
    pub(crate) room: Option<Room>,
}

/// One run, settled or to be settled.
#[derive(Debug)]
pub(crate) enum Found {
    Equal(DiskId, Run),
    Differs(Record),
}

#[derive(Debug)]
struct Piece {
    run: Run,
    fill: Fill,
    /// What the replica holds, one per block; empty where it was not asked. A block that begins half-way, where an
    /// ingest goes on, matches none.
    theirs: Vec<Hash>,
    room: Option<Room>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Equal,
    Zero,
    Data,
}

impl Lane {
    /// The parcels of `todo`, which is sorted and aligned.
    pub(crate) fn parcels(self, todo: Vec<Run>) -> BoxStream<'static, Transfer<Parcel>> {
        let surveyor = Arc::new(self);
        let (roomer, reader) = (Arc::clone(&surveyor), Arc::clone(&surveyor));
        stream::iter(todo.into_iter().flat_map(|run| run.pieces(WINDOW)))
            .then(move |window| {
                let lane = Arc::clone(&surveyor);
                async move { lane.survey(window).await }
            })
            .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok::<_, Halt>)))
            .try_flatten()
            .and_then(move |piece| {
                let lane = Arc::clone(&roomer);
                async move { lane.make_room(piece).await }
            })
            .map(move |piece| {
                let lane = Arc::clone(&reader);
                async move { lane.settle(piece?).await }
            })
            .buffered(READS)
            .boxed()
    }

    /// Cuts a window into pieces of one fill each, with what the replica holds there.
    async fn survey(&self, window: Run) -> Transfer<Vec<Piece>> {
        let extents = self.disk.extents(window).await?;
        let theirs = match self.find {
            Find::ByHash => {
                let blocks = window.aligned(HASH_BLOCK, self.disk.size());
                let (replica, machine, id) =
                    (Arc::clone(&self.replica), self.machine.clone(), self.id.clone());
                // Lanes stand still while a batch is sent. A replica may hold, within this call, what that one waits for.
                let asked = driven(async move { replica.hashes(&machine, &id, blocks).await }).await;
                asked.map_err(Halt::Replica)?
            }
            Find::ZerosAreThere | Find::Everything => vec![],
        };
        let mut pieces = vec![];
        for (run, fill) in fills(window, &extents, grain(self.find), self.disk.size()) {
            let most = match (fill, self.find) {
                (Fill::Data, _) => self.means.piece,
                (Fill::Zero, Find::ZerosAreThere) => WINDOW,
                (Fill::Zero, _) => MOST_BYTES,
            };
            for run in run.pieces(most) {
                let first = (run.start / HASH_BLOCK - window.start / HASH_BLOCK) as usize;
                let blocks = (run.end().div_ceil(HASH_BLOCK) - run.start / HASH_BLOCK) as usize;
                let theirs = theirs.iter().skip(first).take(blocks).copied().collect();
                pieces.push(Piece { run, fill, theirs, room: None });
            }
        }
        Ok(pieces)
    }

    /// One after the other, so that room goes to the blocks that are needed first.
    async fn make_room(&self, mut piece: Piece) -> Transfer<Piece> {
        if piece.fill == Fill::Data {
            piece.room = Some(self.means.room(piece.run.len).await?);
        }
        Ok(piece)
    }

    async fn settle(&self, piece: Piece) -> Transfer<Parcel> {
        let (id, form, find) = (self.id.clone(), self.form, self.find);
        let Piece { run, fill, theirs, room } = piece;
        let found = match fill {
            Fill::Zero => sort(&id, run, None, &theirs, find, |_, _| unreachable!("zeros are not packed")),
            Fill::Data => {
                let plain = self.read(run).await?;
                let (means, machine) = (Arc::clone(&self.means), self.machine.clone());
                let work = move || {
                    let seal = |run: Run, plain| means.packer.pack(&machine, &id, run, plain, form);
                    sort(&id, run, Some(&plain), &theirs, find, seal)
                };
                self.means.compute(work).await?
            }
        };
        Ok(Parcel { found, room })
    }

    async fn read(&self, run: Run) -> Result<Bytes> {
        let plain = self.disk.read(run, &self.means.pool).await?;
        if plain.len() as u64 != run.len {
            let said =
                format!("{} bytes at {} were asked for and {} were read", run.len, run.start, plain.len());
            return Err(Error::new(ErrorKind::Corrupt, said).with("disk", &self.id));
        }
        metrics::counter!("site_recovery_read_bytes_total", "machine" => self.machine.0.clone())
            .increment(run.len);
        Ok(plain)
    }
}

/// What is told apart at least: hashes are of whole blocks.
fn grain(find: Find) -> u64 {
    match find {
        Find::ByHash => HASH_BLOCK,
        Find::ZerosAreThere | Find::Everything => ALIGNMENT,
    }
}

/// The window as runs of one fill. What is zero for certain shrinks to whole grains; all else is data, also where the
/// disk said nothing.
fn fills(window: Run, extents: &[Extent], grain: u64, disk: u64) -> Vec<(Run, Fill)> {
    let mut fills: Vec<(Run, Fill)> = vec![];
    let mut at = window.start;
    for zero in extents.iter().filter(|e| e.fill == Fill::Zero).filter_map(|e| e.run.intersection(window)) {
        let start = zero.start.next_multiple_of(grain).max(at);
        let end = if zero.end() == disk { disk } else { zero.end() / grain * grain };
        if start >= end {
            continue;
        }
        if at < start {
            fills.push((Run::new(at, start - at), Fill::Data));
        }
        fills.push((Run::new(start, end - start), Fill::Zero));
        at = end;
    }
    if at < window.end() {
        fills.push((Run::new(at, window.end() - at), Fill::Data));
    }
    fills
}

/// Sorts the blocks of a piece into equal, zero and data, neighbours together.
fn sort(
    id: &DiskId,
    piece: Run,
    plain: Option<&Bytes>,
    theirs: &[Hash],
    find: Find,
    seal: impl Fn(Run, Bytes) -> Record,
) -> Vec<Found> {
    let mut groups: Vec<(Run, Verdict)> = vec![];
    let zeros_here_are_one = plain.is_none() && find != Find::ByHash;
    let step = if zeros_here_are_one { u64::MAX } else { HASH_BLOCK };
    for (number, block) in piece.pieces(step).enumerate() {
        let bytes =
            plain.map(|p| &p[(block.start - piece.start) as usize..(block.end() - piece.start) as usize]);
        let verdict = judge(block, bytes, theirs.get(number), find);
        match groups.last_mut() {
            Some((run, last)) if *last == verdict => run.len += block.len,
            _ => groups.push((block, verdict)),
        }
    }
    let found = groups.into_iter().map(|(run, verdict)| match (verdict, plain) {
        (Verdict::Equal, _) => Found::Equal(id.clone(), run),
        (Verdict::Data, Some(plain)) => {
            let start = (run.start - piece.start) as usize;
            Found::Differs(seal(run, plain.slice(start..start + run.len as usize)))
        }
        (Verdict::Zero, _) | (Verdict::Data, None) => {
            Found::Differs(Record { disk: id.clone(), run, checksum: 0, payload: Payload::Zero })
        }
    });
    found.collect()
}

fn judge(block: Run, bytes: Option<&[u8]>, theirs: Option<&Hash>, find: Find) -> Verdict {
    if find == Find::ByHash && theirs == Some(&bytes.map_or_else(|| hash_of_zeros(block.len), hash)) {
        return Verdict::Equal;
    }
    match (bytes.is_none_or(is_zero), find) {
        (true, Find::ZerosAreThere) => Verdict::Equal,
        (true, _) => Verdict::Zero,
        (false, _) => Verdict::Data,
    }
}

fn hash_of_zeros(len: u64) -> Hash {
    static BLOCK: LazyLock<Hash> = LazyLock::new(|| hash(&[0; HASH_BLOCK as usize]));
    if len == HASH_BLOCK { *BLOCK } else { hash(&vec![0; len as usize]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_shrink_to_whole_grains_and_silence_is_data() {
        let zero = |start, len| Extent { run: Run::new(start, len), fill: Fill::Zero };
        let window = Run::new(0, 50_000);
        let found = fills(window, &[zero(512, 10_000), zero(20_480, 29_520)], ALIGNMENT, 50_000);
        let expected = [
            (Run::new(0, 4096), Fill::Data),
            (Run::new(4096, 4096), Fill::Zero),
            (Run::new(8192, 12_288), Fill::Data),
            (Run::new(20_480, 29_520), Fill::Zero),
        ];
        assert_eq!(found, expected);
        assert_eq!(fills(window, &[], ALIGNMENT, 50_000), [(window, Fill::Data)]);
    }
}
