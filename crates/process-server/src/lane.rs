//! Reads one disk of a capture, in order: what is known without reading, then bytes, then records.

use crate::blocking::Driven;
use crate::desk::Desk;
use crate::halt::{Halt, Transfer};
use crate::judge::{Found, Judge, Piece};
use crate::means::Means;
use crate::plan::Find;
use crate::room::Room;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use site_recovery::{
    ALIGNMENT, Disk, DiskId, Error, ErrorKind, Extent, Fill, Form, HASH_BLOCK, Payload, Replica, Result, Run,
};
use site_recovery_record::MOST_BYTES;
use std::sync::Arc;

/// Extents and hashes are asked for so many bytes, and so many runs, at a time.
const WINDOW: u64 = 64 << 20;
const WINDOW_RUNS: usize = 1024;
/// Windows that are asked for before they are read.
const AHEAD: usize = 2;
/// A run that is shorter is read without asking what it holds.
const SHORT: u64 = 1 << 20;
/// Pieces that are read and judged together, and reads of them at once.
const LOAD_PIECES: usize = 64;
const LOAD_READS: usize = 16;

/// One disk on its way.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) means: Arc<Means>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) id: DiskId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) find: Find,
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) form: Form,
    pub(crate) bytes_read: metrics::Counter,
}

/// What some pieces came to, in their order; the room in the pool is taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) found: Found,
    pub(crate) room: Option<Room>,
}

/// Pieces that are read and judged together: up to so many bytes, in one go.
#[derive(Debug, Default)]
struct Load {
    pieces: Vec<(Piece, Fill)>,
    bytes: u64,
    room: Option<Room>,
}

/// The parcels of several disks, some at once.
pub(crate) fn parcels(
    lanes: Vec<(Lane, Vec<Run>)>,
    at_once: usize,
) -> impl Stream<Item = Transfer<Parcel>> + Send + Unpin {
    stream::iter(lanes).map(|(lane, todo)| lane.parcels(todo)).flatten_unordered(at_once)
}

impl Lane {
    /// The parcels of `todo`, which is sorted and aligned.
    fn parcels(self, todo: Vec<Run>) -> BoxStream<'static, Transfer<Parcel>> {
        let lane = Arc::new(self);
        let (surveyor, roomer, reader) = (Arc::clone(&lane), Arc::clone(&lane), Arc::clone(&lane));
        stream::iter(windows(todo))
            .map(move |window| {
                let lane = Arc::clone(&surveyor);
                // By itself: it goes on while the window before is read, and while lanes stand still because a batch
                // is sent. A replica may hold, within this call, what that one waits for.
                Driven::one(async move { lane.survey(window).await }).map(|done| done?)
            })
            .buffered(AHEAD)
            .map_ok(|loads| stream::iter(loads.into_iter().map(Ok::<_, Halt>)))
            .try_flatten()
            .and_then(move |load| {
                let lane = Arc::clone(&roomer);
                async move { Ok(lane.make_room(load).await) }
            })
            .map(move |load| {
                let lane = Arc::clone(&reader);
                async move { lane.settle(load?).await }
            })
            .buffered(lane.means.reads)
            .boxed()
    }

    /// Cuts runs into pieces of one fill each, with what the replica holds there.
    async fn survey(&self, window: Vec<Run>) -> Transfer<Vec<Load>> {
        let mut loads = vec![Load::default()];
        for run in window {
            let extents = if run.len < SHORT { vec![] } else { self.disk.extents(run).await? };
            let theirs = match self.find {
                Find::ByHash => {
                    let blocks = run.aligned(HASH_BLOCK, self.disk.size());
                    let asked = self.replica.hashes(self.desk.machine(), &self.id, blocks).await;
                    asked.map_err(Halt::Replica)?
                }
                Find::ZerosAreThere | Find::Everything => vec![],
            };
            for (part, fill) in fills(run, &extents, self.grain(), self.disk.size()) {
                let most = match (fill, self.find) {
                    (Fill::Data, _) => self.means.piece,
                    (Fill::Zero, Find::ZerosAreThere) => WINDOW,
                    (Fill::Zero, _) => MOST_BYTES,
                };
                for part in part.pieces(most) {
                    let first = (part.start / HASH_BLOCK - run.start / HASH_BLOCK) as usize;
                    let blocks = (part.end().div_ceil(HASH_BLOCK) - part.start / HASH_BLOCK) as usize;
                    let theirs = theirs.iter().skip(first).take(blocks).copied().collect();
                    let piece = Piece { run: part, theirs, plain: None };
                    let bytes = if fill == Fill::Data { part.len } else { 0 };
                    let last = loads.last_mut().expect("there is one from the beginning");
                    if last.pieces.len() < LOAD_PIECES && last.bytes + bytes <= self.means.piece {
                        last.bytes += bytes;
                        last.pieces.push((piece, fill));
                    } else {
                        loads.push(Load { pieces: vec![(piece, fill)], bytes, room: None });
                    }
                }
            }
        }
        Ok(loads)
    }

    /// What is told apart at least. Hashes are of whole blocks; and where zeros cost nothing on the way, whole blocks
    /// are sent, so that the replica has their hashes.
    fn grain(&self) -> u64 {
        match self.find {
            Find::ByHash => HASH_BLOCK,
            Find::ZerosAreThere if self.form == Form::Sealed && self.means.compresses => HASH_BLOCK,
            Find::ZerosAreThere | Find::Everything => ALIGNMENT,
        }
    }

    /// One after the other, so that room goes to the blocks that are needed first.
    async fn make_room(&self, mut load: Load) -> Load {
        if load.bytes > 0 {
            load.room = Some(self.means.rooms.take(self.desk.machine(), load.bytes).await);
        }
        load
    }

    async fn settle(self: Arc<Self>, load: Load) -> Transfer<Parcel> {
        let Load { pieces, bytes, mut room } = load;
        let this = &self;
        self.desk.progress.taken(&self.id, pieces.iter().map(|(piece, _)| piece.run.len).sum());
        let plain = |(mut piece, fill): (Piece, Fill)| async move {
            if fill == Fill::Data {
                piece.plain = Some(this.read(piece.run).await?);
            }
            Ok::<_, Error>(piece)
        };
        let pieces: Vec<Piece> = stream::iter(pieces).map(plain).buffered(LOAD_READS).try_collect().await?;
        let found = if bytes == 0 {
            self.judge(pieces)
        } else {
            let lane = Arc::clone(&self);
            self.means.compute(move || lane.judge(pieces)).await?
        };
        if let Some(room) = &mut room {
            room.shrink(self.held(&found, bytes));
        }
        Ok(Parcel { found, room })
    }

    fn judge(&self, pieces: Vec<Piece>) -> Found {
        let (means, machine, disk) = (&*self.means, self.desk.machine(), &self.id);
        Judge { means, machine, disk, find: self.find, form: self.form }.all(pieces)
    }

    /// What is still in memory of `read` bytes. Plain records are parts of what was read; of sealed ones only themselves
    /// are left.
    fn held(&self, found: &Found, read: u64) -> u64 {
        let mut data = found.records.iter().filter(|r| r.payload != Payload::Zero).peekable();
        match self.form {
            Form::Plain if data.peek().is_some() => read,
            _ => data.map(|record| record.run.len).sum(),
        }
    }

    async fn read(&self, run: Run) -> Result<Bytes> {
        let plain = self.disk.read(run, &self.means.pool).await?;
        if plain.len() as u64 != run.len {
            let said =
                format!("{} bytes at {} were asked for and {} were read", run.len, run.start, plain.len());
            return Err(Error::new(ErrorKind::Corrupt, said).with("disk", &self.id));
        }
        self.bytes_read.increment(run.len);
        Ok(plain)
    }
}

/// Runs that are asked for together.
fn windows(todo: Vec<Run>) -> impl Iterator<Item = Vec<Run>> {
    let mut runs = todo.into_iter().flat_map(|run| run.pieces(WINDOW)).peekable();
    std::iter::from_fn(move || {
        let mut window = vec![runs.next()?];
        let mut bytes = window[0].len;
        while window.len() < WINDOW_RUNS
            && let Some(run) = runs.next_if(|next| bytes + next.len <= WINDOW)
        {
            bytes += run.len;
            window.push(run);
        }
        Some(window)
    })
}

/// A run as runs of one fill. What is zero for certain shrinks to whole grains; all else is data, also where the disk
/// said nothing.
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

    #[test]
    fn windows_hold_all_runs_in_order_and_are_bounded() {
        let runs: Vec<Run> = (0..3000).map(|i| Run::new(i * 100_000, 4096)).collect();
        let long = Run::new(1 << 30, 200 << 20);
        let todo: Vec<Run> = runs.iter().copied().chain([long]).collect();
        let windows: Vec<Vec<Run>> = windows(todo).collect();
        assert!(
            windows.iter().all(|w| w.len() <= WINDOW_RUNS && w.iter().map(|r| r.len).sum::<u64>() <= WINDOW)
        );
        let all: Vec<Run> = windows.into_iter().flatten().collect();
        assert_eq!(all[..3000], runs);
        assert_eq!(all[3000..].iter().map(|r| r.len).sum::<u64>(), long.len);
    }
}
