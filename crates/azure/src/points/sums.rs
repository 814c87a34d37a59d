//! What landed: which runs, and the hash of each block that landed whole.
//!
//! A document of its own form, since there is one entry for each 64 KiB:
//! ```text
//! checksum (8) · length of the JSON (4) · JSON: the runs, and per disk how many entries follow · entries: block (4), hash (16)
//! ```

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use site_recovery::{ChangeSet, DiskId, Error, ErrorKind, HASH_BLOCK, Hash, Record, Result};
use site_recovery_record::{checksum, hash};
use std::collections::BTreeMap;

const ENTRY: usize = 20;

/// Batches that are durable.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Note {
    pub(crate) batches: Vec<Batch>,
    /// What landed as bytes.
    pub(crate) written: ChangeSet,
    /// What landed as zeros.
    pub(crate) zeroed: ChangeSet,
    /// Of each block that is in `written` whole; none of what is there in part alone.
    pub(crate) blocks: BTreeMap<DiskId, BTreeMap<u32, Hash>>,
}

/// One batch: its number in the session, its records and their digest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) records: u64,
    pub(crate) digest: u64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    batches: Vec<Batch>,
    written: ChangeSet,
    zeroed: ChangeSet,
    blocks: Vec<(DiskId, usize)>,
}

impl Note {
    /// Takes note of a run of bytes, of a disk of `size`.
    pub(crate) fn wrote(&mut self, record: &Record, bytes: &[u8], size: u64) {
        self.written.add(&record.disk, record.run);
        let blocks = self.blocks.entry(record.disk.clone()).or_default();
        for piece in record.run.pieces(HASH_BLOCK) {
            let whole = piece.aligned(HASH_BLOCK, size) == piece;
            if let (true, Ok(block)) = (whole, u32::try_from(piece.start / HASH_BLOCK)) {
                let at = (piece.start - record.run.start) as usize;
                blocks.insert(block, hash(&bytes[at..at + piece.len as usize]));
            }
        }
    }

    /// Takes note of a run of zeros.
    pub(crate) fn zeroed(&mut self, record: &Record) {
        self.zeroed.add(&record.disk, record.run);
    }

    /// This, and what another one has beside it.
    pub(crate) fn with(mut self, other: Note) -> Self {
        self.batches.extend(other.batches);
        self.written = self.written.union(&other.written);
        self.zeroed = self.zeroed.union(&other.zeroed);
        for (disk, blocks) in other.blocks {
            self.blocks.entry(disk).or_default().extend(blocks);
        }
        self
    }

    /// What came later counts; batches are none any more.
    pub(crate) fn overlay(&mut self, later: Note) {
        let touched = later.touched();
        self.forget(&touched);
        self.written = std::mem::take(&mut self.written).union(&touched);
        for (disk, blocks) in later.blocks {
            self.blocks.entry(disk).or_default().extend(blocks);
        }
    }

    /// No hash is known any more of the blocks of these runs.
    pub(crate) fn forget(&mut self, set: &ChangeSet) {
        for (disk, runs) in set.disks() {
            let Some(known) = self.blocks.get_mut(disk) else { continue };
            for run in runs {
                let (first, last) = (run.start / HASH_BLOCK, (run.end() - 1) / HASH_BLOCK);
                let range = (first as u32)..=(last as u32);
                let blocks: Vec<_> = known.range(range).map(|(block, _)| *block).collect();
                for block in blocks {
                    known.remove(&block);
                }
            }
        }
    }

    /// Everything it tells of.
    pub(crate) fn touched(&self) -> ChangeSet {
        self.written.clone().union(&self.zeroed)
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        let blocks: Vec<_> = self.blocks.iter().map(|(disk, blocks)| (disk.clone(), blocks.len())).collect();
        let head = Head {
            batches: self.batches.clone(),
            written: self.written.clone(),
            zeroed: self.zeroed.clone(),
            blocks,
        };
        let json = serde_json::to_vec(&head).map_err(|e| {
            Error::new(ErrorKind::Unsupported, "what landed cannot be written as JSON").caused_by(e)
        })?;
        let entries: usize = self.blocks.values().map(BTreeMap::len).sum();
        let mut all = Vec::with_capacity(12 + json.len() + entries * ENTRY);
        all.put_u64_le(0);
        all.put_u32_le(json.len() as u32);
        all.put_slice(&json);
        for (block, hash) in self.blocks.values().flatten() {
            all.put_u32_le(*block);
            all.put_u128_le(*hash);
        }
        let sum = checksum(&all[8..]);
        all[..8].copy_from_slice(&sum.to_le_bytes());
        Ok(all.into())
    }

    /// # Errors
    /// `Corrupt` where it is not what was written.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Note> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "what was noted of an ingest is damaged");
        let mut from = bytes;
        if from.try_get_u64_le().ok() != Some(checksum(bytes.get(8..).unwrap_or_default())) {
            return Err(corrupt());
        }
        let len = from.try_get_u32_le().map_err(|_| corrupt())? as usize;
        let json = from.get(..len).ok_or_else(corrupt)?;
        let head: Head = serde_json::from_slice(json).map_err(|e| corrupt().caused_by(e))?;
        from.advance(len);
        let mut note =
            Note { batches: head.batches, written: head.written, zeroed: head.zeroed, ..Note::default() };
        for (disk, entries) in head.blocks {
            let blocks = note.blocks.entry(disk).or_default();
            for _ in 0..entries {
                let block = from.try_get_u32_le().map_err(|_| corrupt())?;
                blocks.insert(block, from.try_get_u128_le().map_err(|_| corrupt())?);
            }
        }
        if from.is_empty() { Ok(note) } else { Err(corrupt()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::{Payload, Run};

    fn record(start: u64, len: u64) -> Record {
        Record { disk: "d".into(), run: Run::new(start, len), checksum: 0, payload: Payload::Zero }
    }

    #[test]
    fn whole_blocks_have_hashes_and_parts_have_none() {
        let (mut note, size) = (Note::default(), 4 * HASH_BLOCK + 1000);
        let bytes = vec![7; 2 * HASH_BLOCK as usize];
        note.wrote(&record(4096, 2 * HASH_BLOCK), &bytes, size);
        note.wrote(&record(4 * HASH_BLOCK, 1000), &bytes[..1000], size);
        note.zeroed(&record(3 * HASH_BLOCK, HASH_BLOCK));
        note.batches.push(Batch { number: 3, records: 3, digest: 9 });
        let whole = [(1, hash(&bytes[..HASH_BLOCK as usize])), (4, hash(&bytes[..1000]))];
        assert_eq!(note.blocks[&DiskId::from("d")], BTreeMap::from(whole));
        let touched = [(4096, 2 * HASH_BLOCK), (3 * HASH_BLOCK, HASH_BLOCK + 1000)];
        let touched = touched.map(|(start, len)| ("d".into(), Run::new(start, len)));
        assert_eq!(note.touched(), touched.into_iter().collect());
        assert_eq!(Note::decode(&note.encode().unwrap()).unwrap(), note);
    }

    #[test]
    fn d5_a_note_that_was_changed_is_corrupt() {
        let mut note = Note::default();
        note.wrote(&record(0, HASH_BLOCK), &vec![1; HASH_BLOCK as usize], HASH_BLOCK);
        let whole = note.encode().unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1;
            assert_eq!(Note::decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
            assert!(Note::decode(&whole[..at]).is_err(), "{at} bytes");
        }
    }
}
