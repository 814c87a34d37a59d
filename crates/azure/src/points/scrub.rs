//! `scrub`: a point is read, and compared with the hashes of the blocks that landed whole.
//!
//! A block that was written in parts since has no hash: of it is only proven that it can be read. Memory: some 60 bytes for each
//! block of 64 KiB with a hash, one disk at a time.

use super::sealed::documents;
use super::state::At;
use super::sums::Note;
use super::{Inner, PageBlobs, reports};
use site_recovery::{
    DiskId, Error, ErrorKind, Finding, HASH_BLOCK, Hash, MachineId, PointId, Result, Run, Severity,
};
use site_recovery_azure_blob::PageBlob;
use site_recovery_record::hash;
use std::collections::BTreeMap;

const PIECE: u64 = 4 << 20;
/// How often the hashes are read, where older points are dropped meanwhile.
const TRIES: u32 = 8;

impl PageBlobs {
    pub(super) async fn compare_with_notes(
        &self,
        machine: &MachineId,
        point: PointId,
    ) -> Result<Vec<Finding>> {
        let line = self.enter(machine).await?;
        let snapshots = line.timeline()?.point(point)?.snapshots.clone();
        let _hold = self.0.open.hold(machine, point);
        // A scrub takes hours: the turn is for others.
        drop(line);
        let mut found = vec![];
        for (disk, at) in &snapshots {
            let hashes = self.hashes_at(machine, point, disk).await?;
            let pages = self.0.container.pages(&at.blob);
            for run in damaged(&pages, at, &hashes).await? {
                let cause =
                    format!("point {point}: disk {disk} is damaged at {}, {} bytes", run.start, run.len);
                let remedy = "resynchronise, then seal a new point";
                found.push(Finding::new("point.damaged", Severity::Critical, cause, remedy));
            }
        }
        Ok(found)
    }

    /// What each block of a disk at a point is known to be. What it is read from may be folded meanwhile: then once more.
    async fn hashes_at(
        &self,
        machine: &MachineId,
        point: PointId,
        disk: &DiskId,
    ) -> Result<BTreeMap<u32, Hash>> {
        let mut documents = self.documents_to(machine, point).await?;
        for _ in 0..TRIES {
            let hashes = self.0.hashes_of(&documents, disk).await;
            let now = self.documents_to(machine, point).await?;
            if now == documents {
                return hashes;
            }
            documents = now;
        }
        let message = format!("points before {point} are dropped all the time: scrub it after that");
        Err(Error::new(ErrorKind::Busy, message))
    }

    async fn documents_to(&self, machine: &MachineId, point: PointId) -> Result<Vec<String>> {
        let line = self.enter(machine).await?;
        let timeline = line.timeline()?;
        timeline.point(point)?;
        Ok(documents(timeline.points.iter().filter(|kept| kept.point.id <= point)))
    }
}

impl Inner {
    async fn hashes_of(&self, documents: &[String], disk: &DiskId) -> Result<BTreeMap<u32, Hash>> {
        let mut known = Note::default();
        for document in documents {
            for layer in self.sealed(document).await?.layers {
                known.forget(&layer.unknown);
                for notes in layer.notes {
                    for mut note in self.notes(&notes).await? {
                        note.blocks.retain(|id, _| id == disk);
                        known.overlay(note);
                    }
                }
            }
        }
        Ok(known.blocks.remove(disk).unwrap_or_default())
    }
}

/// The blocks of a snapshot that are not what was noted.
async fn damaged(pages: &PageBlob, at: &At, hashes: &BTreeMap<u32, Hash>) -> Result<Vec<Run>> {
    let mut bad = vec![];
    let mut bytes = vec![0; PIECE as usize];
    for piece in Run::new(0, at.size).pieces(PIECE) {
        let blocks = (piece.start / HASH_BLOCK) as u32..piece.end().div_ceil(HASH_BLOCK) as u32;
        let data = pages.ranges(Some(&at.snapshot), piece).await.map_err(reports)?;
        if hashes.range(blocks).next().is_none() && data.is_empty() {
            continue;
        }
        let bytes = &mut bytes[..piece.len as usize];
        pages.read(Some(&at.snapshot), piece, bytes).await.map_err(reports)?;
        for (block, bytes) in piece.pieces(HASH_BLOCK).zip(bytes.chunks(HASH_BLOCK as usize)) {
            let expected = hashes.get(&((block.start / HASH_BLOCK) as u32));
            if expected.is_some_and(|expected| *expected != hash(bytes)) {
                bad.push(block);
            }
        }
    }
    Ok(bad)
}
