//! Bytes out of segments: fetched by range, verified, laid where they belong.

use crate::Records;
use crate::extent_map::{Held, Piece, Place};
use crate::folder::Folder;
use crate::line::Line;
use crate::pack::PackRef;
use crate::segment::SegmentId;
use bytes::Bytes;
use site_recovery::{DiskId, Error, ErrorKind, MachineId, Payload, Record, Result, Run};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::DerefMut;
use std::sync::{Arc, Mutex};

/// Records that are kept as plain bytes, each at most 1 MiB: neighbours of a short read are often read next.
const RECENT: usize = 4;
/// How often what moves away meanwhile is looked for where it moved to.
const TRIES: usize = 8;

/// A segment, and the offset of a frame in it.
type At = (SegmentId, u64);
type Found = BTreeMap<At, Bytes>;

#[derive(Debug, Clone)]
pub(crate) struct Reader {
    folder: Folder,
    machine: MachineId,
    with: Arc<Records>,
    recent: Arc<Mutex<VecDeque<(At, Bytes)>>>,
    /// Where frames of segments that are gone were found last.
    packs: Arc<Mutex<Vec<PackRef>>>,
}

impl Reader {
    pub(crate) fn new(folder: Folder, machine: &MachineId, with: &Arc<Records>) -> Self {
        Self {
            folder,
            machine: machine.clone(),
            with: Arc::clone(with),
            recent: Arc::default(),
            packs: Arc::default(),
        }
    }

    /// Fills `into`, which begins at byte `start` of the disk, with these pieces, between which there are no gaps.
    ///
    /// # Errors
    /// `Corrupt`, naming disk and run, where a record is not what was written.
    pub(crate) async fn fill<B>(&self, disk: &DiskId, pieces: Vec<Piece>, start: u64, into: B) -> Result<B>
    where
        B: DerefMut<Target = [u8]> + Send + 'static,
    {
        let plain = self.known(&pieces);
        let missing: BTreeSet<(SegmentId, u64, u32)> = pieces
            .iter()
            .filter_map(|(_, held)| held.as_ref()?.place())
            .filter(|place| !plain.contains_key(&(place.segment, place.offset)))
            .map(|place| (place.segment, place.offset, place.len))
            .collect();
        let filling = Filling { reader: self.clone(), disk: disk.clone(), pieces, start, plain, into };
        let (filling, missing) = if self.folder.is_here() {
            // One thread reads, opens and lays.
            let here = move || match filling.reader.folder.read_here(&missing) {
                Some(frames) => filling.lay(&frames).map(Ok),
                None => Ok(Err((filling, missing))),
            };
            match blocking(here).await?? {
                Ok(filled) => return Ok(filled),
                Err(elsewhere) => elsewhere,
            }
        } else {
            (filling, missing)
        };
        let frames = self.frames(disk, &filling.pieces, missing).await?;
        blocking(move || filling.lay(&frames)).await?
    }

    /// Reads one record and says whether it is what was written: whole where its key is here, else by its frame.
    pub(crate) async fn check(&self, disk: &DiskId, place: Place) -> Result<()> {
        let missing = BTreeSet::from([(place.segment, place.offset, place.len)]);
        let frames = self.frames(disk, &[(place.run, Some(Held::Data(place)))], missing).await?;
        let (disk, reader) = (disk.clone(), self.clone());
        blocking(move || {
            let frame = &frames[&(place.segment, place.offset)];
            let record = record(&disk, place, frame);
            reader.with.unpacker.check(&reader.machine, &record)?;
            match reader.with.unpacker.unpack(&reader.machine, &record) {
                Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await?
    }

    async fn frames(
        &self,
        disk: &DiskId,
        pieces: &[Piece],
        missing: BTreeSet<(SegmentId, u64, u32)>,
    ) -> Result<Found> {
        let mut by_segment: BTreeMap<SegmentId, Vec<(u64, u32)>> = BTreeMap::new();
        for (segment, offset, len) in missing {
            by_segment.entry(segment).or_default().push((offset, len));
        }
        let mut frames = Found::new();
        for (segment, wanted) in by_segment {
            let got = self.wherever(segment, &wanted).await.map_err(|error| {
                let of_it = |piece: &&Piece| {
                    piece.1.and_then(|held| held.place()).is_some_and(|p| p.segment == segment)
                };
                match pieces.iter().find(of_it) {
                    Some((run, _)) => error.with("disk", disk).with("run", shown(*run)),
                    None => error,
                }
            })?;
            frames.extend(wanted.into_iter().zip(got).map(|((offset, _), bytes)| ((segment, offset), bytes)));
        }
        Ok(frames)
    }

    /// Frames of a segment, or of the pack that took them in when the segment went.
    async fn wherever(&self, segment: SegmentId, frames: &[(u64, u32)]) -> Result<Vec<Bytes>> {
        if let Some(found) = self.folder.get_frames(segment, frames).await? {
            return Ok(found);
        }
        let known = self.packs.lock().expect("no panic under this lock").clone();
        if let Ok(Some(found)) = self.folder.get_packed(&known, segment, frames).await {
            return Ok(found);
        }
        let mut line = Line::new(self.folder.clone(), self.machine.clone());
        line.refresh().await?;
        for _ in 0..TRIES {
            match self.packed(&line, segment, frames).await {
                Ok(Some(found)) => return Ok(found),
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                _ => {}
            }
            let number = line.number;
            line.refresh().await?;
            // Else a prune may have written it anew meanwhile, elsewhere.
            if line.number == number {
                break;
            }
        }
        self.packed(&line, segment, frames).await?.ok_or_else(|| self.folder.is_gone(segment))
    }

    async fn packed(
        &self,
        line: &Line,
        segment: SegmentId,
        frames: &[(u64, u32)],
    ) -> Result<Option<Vec<Bytes>>> {
        let owner = line.ledger.timeline()?.catalogue.owner(&self.folder, segment.session).await?;
        let packs = owner.map(|kept| kept.gap.packs).unwrap_or_default();
        let found = self.folder.get_packed(&packs, segment, frames).await?;
        *self.packs.lock().expect("no panic under this lock") = packs;
        Ok(found)
    }

    fn verified(&self, disk: &DiskId, place: Place, frame: &Bytes) -> Result<Bytes> {
        let plain = self.with.unpacker.unpack(&self.machine, &record(disk, place, frame))?;
        plain.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("disk {disk}: a frame without bytes")))
    }

    fn known(&self, pieces: &[Piece]) -> Found {
        let recent = self.recent.lock().expect("no panic under this lock");
        let places = || pieces.iter().filter_map(|(_, held)| held.as_ref()?.place());
        let wanted = |at: &At| places().any(|p| (p.segment, p.offset) == *at);
        recent.iter().filter(|(at, _)| wanted(at)).cloned().collect()
    }

    fn keep(&self, at: At, bytes: &Bytes) {
        let mut recent = self.recent.lock().expect("no panic under this lock");
        recent.truncate(RECENT - 1);
        recent.push_front((at, bytes.clone()));
    }
}

/// What is to be read, and the memory for it.
struct Filling<B> {
    reader: Reader,
    disk: DiskId,
    pieces: Vec<Piece>,
    start: u64,
    plain: Found,
    into: B,
}

impl<B: DerefMut<Target = [u8]>> Filling<B> {
    fn lay(mut self, frames: &Found) -> Result<B> {
        for (run, held) in self.pieces {
            let to = (run.start - self.start) as usize;
            let into = &mut self.into[to..to + run.len as usize];
            let Some(Held::Data(place)) = held else {
                into.fill(0);
                continue;
            };
            let at = (place.segment, place.offset);
            if place.run == run && !self.plain.contains_key(&at) {
                let record = record(&self.disk, place, &frames[&at]);
                self.reader.with.unpacker.unpack_into(&self.reader.machine, &record, into)?;
                continue;
            }
            let bytes = match self.plain.get(&at) {
                Some(bytes) => bytes.clone(),
                None => {
                    let bytes = self.reader.verified(&self.disk, place, &frames[&at])?;
                    self.plain.insert(at, bytes.clone());
                    self.reader.keep(at, &bytes);
                    bytes
                }
            };
            let from = (run.start - place.run.start) as usize;
            into.copy_from_slice(&bytes[from..from + run.len as usize]);
        }
        Ok(self.into)
    }
}

fn record(disk: &DiskId, place: Place, frame: &Bytes) -> Record {
    let payload = Payload::Sealed(frame.clone());
    Record { disk: disk.clone(), run: place.run, checksum: place.checksum, payload }
}

pub(crate) fn shown(run: Run) -> String {
    format!("{}+{}", run.start, run.len)
}

/// CPU work off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(ErrorKind::Cancelled, "the work was broken off").caused_by(e))
}
