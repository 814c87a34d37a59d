//! What becomes of a block that was read: it is equal, zero, or packed. Each is looked at once.

use crate::means::Means;
use crate::plan::Find;
use bytes::Bytes;
use site_recovery::{DiskId, Form, HASH_BLOCK, Hash, MachineId, Payload, Record, Run};
use site_recovery_record::{Bundle, MOST_BYTES, hash, is_zero};
use std::sync::LazyLock;

/// A run of one fill, and what the replica holds there.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) run: Run,
    /// One per block; empty where the replica was not asked. A block that begins half-way, where an ingest goes on,
    /// matches none.
    pub(crate) theirs: Vec<Hash>,
    /// Its bytes; none for what is zero for certain.
    pub(crate) plain: Option<Bytes>,
}

/// What pieces came to, in their order.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Runs that the replica holds already.
    pub(crate) equal: Vec<(DiskId, Run)>,
    /// What must cross: each of one block at most, zeros of up to 1 MiB.
    pub(crate) records: Vec<Record>,
}

/// Judges pieces of one disk.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) means: &'a Means,
    pub(crate) machine: &'a MachineId,
    pub(crate) disk: &'a DiskId,
    pub(crate) find: Find,
    pub(crate) form: Form,
}

impl Judge<'_> {
    pub(crate) fn all(&self, pieces: Vec<Piece>) -> Found {
        let mut found = Found::default();
        let bytes = pieces.iter().filter(|piece| piece.plain.is_some()).map(|piece| piece.run.len).sum();
        let mut bundle = self.means.packer.bundle(self.machine, self.disk, self.form, bytes);
        for piece in pieces {
            match &piece.plain {
                Some(plain) => self.data(&piece, plain, &mut bundle, &mut found),
                None if self.find == Find::ByHash => {
                    for (number, block) in piece.run.pieces(HASH_BLOCK).enumerate() {
                        self.zero(block, piece.theirs.get(number), &mut found);
                    }
                }
                None => self.zero(piece.run, None, &mut found),
            }
        }
        found
    }

    fn data(&self, piece: &Piece, plain: &Bytes, bundle: &mut Bundle<'_>, found: &mut Found) {
        for (number, block) in piece.run.pieces(HASH_BLOCK).enumerate() {
            let start = (block.start - piece.run.start) as usize;
            let bytes = &plain[start..start + block.len as usize];
            let theirs = piece.theirs.get(number);
            if is_zero(bytes) {
                self.zero(block, theirs, found);
                continue;
            }
            let ours = hash(bytes);
            if theirs == Some(&ours) {
                found.equal(self.disk, block);
                continue;
            }
            let bytes = plain.slice(start..start + block.len as usize);
            found.records.push(bundle.pack(block, bytes, ours));
        }
    }

    fn zero(&self, run: Run, theirs: Option<&Hash>, found: &mut Found) {
        match self.find {
            Find::ZerosAreThere => found.equal(self.disk, run),
            Find::ByHash if theirs == Some(&hash_of_zeros(run.len)) => found.equal(self.disk, run),
            Find::ByHash | Find::Everything => found.zero(self.disk, run),
        }
    }
}

impl Found {
    fn equal(&mut self, disk: &DiskId, run: Run) {
        match self.equal.last_mut() {
            Some((_, last)) if last.end() == run.start => last.len += run.len,
            _ => self.equal.push((disk.clone(), run)),
        }
    }

    fn zero(&mut self, disk: &DiskId, run: Run) {
        match self.records.last_mut() {
            Some(Record { run: last, payload: Payload::Zero, .. })
                if last.end() == run.start && last.len + run.len <= MOST_BYTES =>
            {
                last.len += run.len;
            }
            _ => {
                let disk = disk.clone();
                self.records.push(Record { disk, run, checksum: 0, payload: Payload::Zero });
            }
        }
    }
}

fn hash_of_zeros(len: u64) -> Hash {
    static BLOCK: LazyLock<Hash> = LazyLock::new(|| hash(&[0; HASH_BLOCK as usize]));
    if len == HASH_BLOCK { *BLOCK } else { hash(&vec![0; len as usize]) }
}
