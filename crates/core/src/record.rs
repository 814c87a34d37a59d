//! What crosses between a process server and a replica.

use crate::{ChangeSet, DiskId, Error, ErrorKind, MachineId, Op, Result, Run};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The hash by which runs of a disk are compared: xxh3-128 of each [`HASH_BLOCK`] bytes, the last one shorter.
/// For trusted data: it finds differences, not forgeries.
pub type Hash = u128;

/// Bytes under one [`type@Hash`].
pub const HASH_BLOCK: u64 = 64 * 1024;

/// What a record carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// The run reads as zeros; no bytes.
    Zero,
    /// The plain bytes of the run.
    Plain(Bytes),
    /// A frame of `site-recovery-record`: compressed and perhaps encrypted. A replica that takes
    /// [`Form::Sealed`](crate::Form::Sealed) keeps it as it came.
    Sealed(Bytes),
}

/// One run of one disk on its way, with the checksum of its plain bytes, computed where they were first read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which disk.
    pub disk: DiskId,
    /// Which run; at most 1 MiB, aligned to 4 KiB but for the end of the disk.
    pub run: Run,
    /// [`Hash`](type@Hash) of the plain bytes, 0 for [`Payload::Zero`]; made where they were first read, verified wherever
    /// they are needed again. Of a whole [`HASH_BLOCK`] it is what blocks are compared by.
    pub checksum: Hash,
    /// What the run holds.
    pub payload: Payload,
}

/// Per disk: everything of the change set below this offset is durable.
pub type Landed = BTreeMap<DiskId, u64>;

/// An open ingest of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingest {
    /// The operation that opened it.
    pub op: Op,
    /// Whose disks.
    pub machine: MachineId,
    /// New at every `begin`; a write of an earlier session can land no more.
    pub session: u64,
    /// From where each disk may go on; empty for a new ingest.
    pub resume: Landed,
}

/// Counts what was acknowledged against a change set. The only maker of [`Complete`], so that a partial point is
/// impossible by type.
#[derive(Debug)]
pub struct Tally {
    missing: BTreeMap<DiskId, u64>,
    records: u64,
    digest: u64,
}

/// Every run of every disk of a change set was acknowledged by the replica, or found equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    records: u64,
    digest: u64,
}

impl Complete {
    /// Records of this session, counted from the last `begin`.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Digest over them, in any order: see [`fold`].
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl Complete {
    /// Makes a `Complete` again of what a peer's tally counted. For the transport alone.
    pub fn admit(records: u64, digest: u64) -> Self {
        Self { records, digest }
    }
}

/// Adds one record to a digest that does not depend on their order. Both sides of an ingest keep one.
pub fn fold(digest: u64, record: &Record) -> u64 {
    let place = record.run.start ^ record.run.len.rotate_left(40);
    let name = record
        .disk
        .0
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let checksum = record.checksum as u64 ^ (record.checksum >> 64) as u64;
    let mixed =
        (checksum ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name).wrapping_mul(0xd6e8_feb8_6659_fd93);
    digest.wrapping_add(mixed ^ (mixed >> 32))
}

impl Tally {
    /// Opens the count on what must land.
    pub fn new(set: &ChangeSet) -> Self {
        let missing = set.disks().map(|(d, runs)| (d.clone(), runs.iter().map(|r| r.len).sum()));
        Self { missing: missing.collect(), records: 0, digest: 0 }
    }

    /// A run of the set that the replica holds already: found equal by hashes, or landed before `begin` resumed.
    pub fn equal(&mut self, disk: &DiskId, run: Run) {
        if let Some(missing) = self.missing.get_mut(disk) {
            *missing = missing.saturating_sub(run.len);
        }
    }

    /// A record that the replica has acknowledged as durable.
    pub fn landed(&mut self, record: &Record) {
        self.equal(&record.disk, record.run);
        self.records += 1;
        self.digest = fold(self.digest, record);
    }

    /// Closes the count.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused), naming the first disk of which something is missing.
    pub fn finish(self) -> Result<Complete> {
        match self.missing.iter().find(|(_, missing)| **missing != 0) {
            Some((disk, missing)) => {
                Err(Error::new(ErrorKind::Refused, format!("{missing} bytes of disk {disk} have not landed")))
            }
            None => Ok(Complete { records: self.records, digest: self.digest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d2_a_partial_point_is_impossible() {
        let disk = DiskId::from("d");
        let set: ChangeSet = [(disk.clone(), Run::new(0, 8192))].into_iter().collect();
        let record = Record { disk, run: Run::new(0, 4096), checksum: 7, payload: Payload::Zero };
        let mut tally = Tally::new(&set);
        tally.landed(&record);
        assert_eq!(tally.finish().expect_err("half is missing").kind(), ErrorKind::Refused);
        let mut tally = Tally::new(&set);
        tally.landed(&record);
        tally.equal(&record.disk, Run::new(4096, 4096));
        let complete = tally.finish().expect("all there");
        assert_eq!((complete.records(), complete.digest()), (1, fold(0, &record)));
    }
}
