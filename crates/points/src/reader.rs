//! Bytes out of segments: fetched by range, verified, laid where they belong.

use crate::Records;
use crate::extent_map::{Piece, Place};
use crate::folder::Folder;
use crate::segment::SegmentId;
use bytes::Bytes;
use site_recovery::{DiskId, Error, ErrorKind, MachineId, Payload, Record, Result, Run};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::DerefMut;
use std::sync::{Arc, Mutex};

/// Records that are kept as plain bytes, each at most 1 MiB: neighbours of a short read are often read next.
const RECENT: usize = 4;

/// A segment, and the offset of a frame in it.
type At = (SegmentId, u64);
type Found = BTreeMap<At, Bytes>;

#[derive(Debug, Clone)]
pub(crate) struct Reader {
    folder: Folder,
    machine: MachineId,
    with: Arc<Records>,
    recent: Arc<Mutex<VecDeque<(At, Bytes)>>>,
}

impl Reader {
    pub(crate) fn new(folder: Folder, machine: &MachineId, with: &Arc<Records>) -> Self {
        Self { folder, machine: machine.clone(), with: Arc::clone(with), recent: Arc::default() }
    }

    /// Fills `into`, which begins at byte `start` of the disk, with these pieces and with zeros between them.
    ///
    /// # Errors
    /// `Corrupt`, naming disk and run, where a record is not what was written.
    pub(crate) async fn fill<B>(&self, disk: &DiskId, pieces: Vec<Piece>, start: u64, into: B) -> Result<B>
    where
        B: DerefMut<Target = [u8]> + Send + 'static,
    {
        let mut plain = self.known(&pieces);
        let missing: BTreeSet<(SegmentId, u64, u32)> = pieces
            .iter()
            .filter_map(|(_, place)| *place)
            .filter(|place| !plain.contains_key(&(place.segment, place.offset)))
            .map(|place| (place.segment, place.offset, place.len))
            .collect();
        let frames = self.frames(disk, &pieces, missing).await?;
        let (reader, disk) = (self.clone(), disk.clone());
        blocking(move || {
            let mut into = into;
            into.fill(0);
            for (run, place) in pieces {
                let Some(place) = place else { continue };
                let at = (place.segment, place.offset);
                let bytes = match plain.get(&at) {
                    Some(bytes) => bytes.clone(),
                    None => {
                        let bytes = reader.verified(&disk, place, &frames[&at])?;
                        plain.insert(at, bytes.clone());
                        if place.run != run {
                            reader.keep(at, &bytes);
                        }
                        bytes
                    }
                };
                let from = (run.start - place.run.start) as usize;
                let to = (run.start - start) as usize;
                into[to..to + run.len as usize].copy_from_slice(&bytes[from..from + run.len as usize]);
            }
            Ok(into)
        })
        .await?
    }

    /// Reads one record and says whether it is what was written.
    pub(crate) async fn check(&self, disk: &DiskId, place: Place) -> Result<()> {
        let missing = BTreeSet::from([(place.segment, place.offset, place.len)]);
        let frames = self.frames(disk, &[(place.run, Some(place))], missing).await?;
        let disk = disk.clone();
        let reader = self.clone();
        blocking(move || reader.verified(&disk, place, &frames[&(place.segment, place.offset)]).map(|_| ()))
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
            let got = self.folder.get_frames(segment, &wanted).await.map_err(|error| {
                let of_it = |piece: &&Piece| piece.1.is_some_and(|p| p.segment == segment);
                match pieces.iter().find(of_it) {
                    Some((run, _)) => error.with("disk", disk).with("run", shown(*run)),
                    None => error,
                }
            })?;
            frames.extend(wanted.into_iter().zip(got).map(|((offset, _), bytes)| ((segment, offset), bytes)));
        }
        Ok(frames)
    }

    fn verified(&self, disk: &DiskId, place: Place, frame: &Bytes) -> Result<Bytes> {
        let payload = Payload::Sealed(frame.clone());
        let record = Record { disk: disk.clone(), run: place.run, checksum: place.checksum, payload };
        let plain = self.with.unpacker.unpack(&self.machine, &record)?;
        plain.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("disk {disk}: a frame without bytes")))
    }

    fn known(&self, pieces: &[Piece]) -> Found {
        let recent = self.recent.lock().expect("no panic under this lock");
        let wanted =
            |at: &At| pieces.iter().any(|(_, place)| place.is_some_and(|p| (p.segment, p.offset) == *at));
        recent.iter().filter(|(at, _)| wanted(at)).cloned().collect()
    }

    fn keep(&self, at: At, bytes: &Bytes) {
        let mut recent = self.recent.lock().expect("no panic under this lock");
        recent.truncate(RECENT - 1);
        recent.push_front((at, bytes.clone()));
    }
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
