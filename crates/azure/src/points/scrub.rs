//! `scrub`: a point is read, and compared with the hashes of the blocks that landed whole.
//!
//! A block that was written in parts since has no hash: of it is only proven that it can be read. Memory: some 60 bytes for each
//! block of 64 KiB with a hash, one disk at a time.

use super::line::Line;
use super::sealed::documents;
use super::sums::Note;
use super::{PageBlobs, reports};
use site_recovery::{DiskId, Finding, HASH_BLOCK, Hash, MachineId, PointId, Result, Run, Severity};
use site_recovery_azure_blob::PageBlob;
use site_recovery_record::hash;
use std::collections::BTreeMap;

const PIECE: u64 = 4 << 20;

impl PageBlobs {
    pub(super) async fn compare_with_notes(
        &self,
        machine: &MachineId,
        point: PointId,
    ) -> Result<Vec<Finding>> {
        let line = self.enter(machine).await?;
        let kept = line.timeline()?.point(point)?.clone();
        let hold = self.0.open.hold(machine, point);
        let mut found = vec![];
        for (disk, at) in &kept.snapshots {
            let hashes = line.hashes_at(point, disk).await?;
            let pages = self.0.container.pages(&at.blob);
            for run in damaged(&pages, at, &hashes).await? {
                let cause =
                    format!("point {point}: disk {disk} is damaged at {}, {} bytes", run.start, run.len);
                let remedy = "resynchronise, then seal a new point";
                found.push(Finding::new("point.damaged", Severity::Critical, cause, remedy));
            }
        }
        drop(hold);
        Ok(found)
    }
}

impl Line {
    /// What each block of a disk at a point is known to be.
    async fn hashes_at(&self, point: PointId, disk: &DiskId) -> Result<BTreeMap<u32, Hash>> {
        let mut known = Note::default();
        let points = self.timeline()?.points.iter();
        for document in documents(points.filter(|kept| kept.point.id <= point)) {
            for layer in self.sealed(&document).await?.layers {
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
async fn damaged(pages: &PageBlob, at: &super::state::At, hashes: &BTreeMap<u32, Hash>) -> Result<Vec<Run>> {
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
