//! Bytes of disks, and what differs between them.

use super::case::must;
use bytes::Bytes;
use site_recovery::{
    ALIGNMENT, ChangeSet, Disk, DiskId, DiskSpec, Disks, Hash, Machine, Payload, Pool, Record, Result, Run,
};
use std::sync::Arc;

const SECTOR: usize = 512;
const READ: u64 = 256 * 1024;
const RECORD: u64 = 32 * 1024;

/// The bytes of every disk of a machine, in the machine's order.
pub(super) type Image = Vec<Vec<u8>>;

/// xxh3-128 of plain bytes, 0 of zeros: as a [`Record`] carries it.
pub fn checksum(bytes: &[u8]) -> Hash {
    if bytes.iter().all(|b| *b == 0) { 0 } else { hash(bytes) }
}

/// `len` bytes that no other seed gives, none of them zero.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&(state | 0x0101_0101_0101_0101).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// xxh3-128, the hash of [`Hash`].
pub(super) fn hash(bytes: &[u8]) -> Hash {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

/// Memory for the suite's own reads.
pub(super) fn pool() -> Pool {
    Pool::new(4 << 20)
}

/// A whole disk.
pub(super) async fn read(disk: &Arc<dyn Disk>) -> Result<Vec<u8>> {
    let (pool, mut bytes) = (pool(), vec![]);
    for piece in Run::new(0, disk.size()).pieces(READ) {
        bytes.extend_from_slice(&disk.read(piece, &pool).await?);
    }
    Ok(bytes)
}

/// All disks of a machine.
///
/// # Panics
/// When one is missing.
pub(super) async fn image(rule: &str, machine: &Machine, disks: &Disks) -> Result<Image> {
    let mut image = vec![];
    for spec in machine.included() {
        let disk = disks.get(&spec.id).unwrap_or_else(|| panic!("{rule}: disk {} is missing", spec.id));
        image.push(read(disk).await?);
    }
    Ok(image)
}

/// All zeros.
pub(super) fn blank(machine: &Machine) -> Image {
    machine.included().map(|d| vec![0; d.size as usize]).collect()
}

/// Compares without printing disks.
#[track_caller]
pub(super) fn same(rule: &str, what: &str, machine: &Machine, found: &Image, expected: &Image) {
    for (spec, (found, expected)) in machine.included().zip(found.iter().zip(expected)) {
        same_bytes(rule, &format!("{what}: disk {}", spec.id), found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{rule}: {what}: number of disks");
}

/// Compares without printing bytes.
#[track_caller]
pub(super) fn same_bytes(rule: &str, what: &str, found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "{rule}: {what}: length");
    if found == expected {
        return;
    }
    if let Some(at) = found.iter().zip(expected).position(|(f, e)| f != e) {
        panic!("{rule}: {what}: byte {at} is {:#04x}, not {:#04x}", found[at], expected[at]);
    }
}

/// Everything that differs, in sectors.
pub(super) fn differing(machine: &Machine, before: &Image, after: &Image) -> ChangeSet {
    let mut set = ChangeSet::new();
    for (spec, (before, after)) in machine.included().zip(before.iter().zip(after)) {
        for start in (0..after.len()).step_by(SECTOR) {
            let end = (start + SECTOR).min(after.len());
            if before.get(start..end) != Some(&after[start..end]) {
                set.add(&spec.id, Run::new(start as u64, (end - start) as u64));
            }
        }
    }
    set
}

/// Asserts that nothing of `needed` is left out.
#[track_caller]
pub(super) fn covers(rule: &str, what: &str, told: &ChangeSet, needed: &ChangeSet) {
    for (disk, runs) in needed.disks() {
        for run in runs {
            assert!(told.contains(disk, *run), "{rule}: {what}: {run:?} of disk {disk} is not told");
        }
    }
}

/// The records of a change set, as a process server would make them.
pub(super) fn records(machine: &Machine, image: &Image, set: &ChangeSet) -> Vec<Record> {
    let disks: Vec<(&DiskSpec, &Vec<u8>)> = machine.included().zip(image).collect();
    let aligned = set.aligned(ALIGNMENT, &machine.disks);
    let mut records = vec![];
    for (disk, bytes) in disks {
        for run in aligned.runs(&disk.id).iter().flat_map(|r| r.pieces(RECORD)) {
            records.push(record(&disk.id, run, &bytes[run.start as usize..run.end() as usize]));
        }
    }
    records
}

/// One record.
pub(super) fn record(disk: &DiskId, run: Run, bytes: &[u8]) -> Record {
    let zero = bytes.iter().all(|b| *b == 0);
    let payload = if zero { Payload::Zero } else { Payload::Plain(Bytes::copy_from_slice(bytes)) };
    Record { disk: disk.clone(), run, checksum: checksum(bytes), payload }
}

/// The bytes of a record that nobody has dressed.
pub(super) fn plain(record: &Record) -> Vec<u8> {
    match &record.payload {
        Payload::Zero => vec![0; record.run.len as usize],
        Payload::Plain(bytes) => bytes.to_vec(),
        Payload::Sealed(_) => panic!("PRS-1: a sealed record for a replica that takes plain ones"),
    }
}

/// All disks of an opened point or a capture, which has to succeed.
pub(super) async fn whole(rule: &str, what: &str, machine: &Machine, disks: &Disks) -> Image {
    must(rule, what, image(rule, machine, disks).await)
}
