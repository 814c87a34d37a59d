//! A segment: the records of one batch, an index before their frames. Written once, whole, never changed.

use crate::Records;
use crate::extent_map::{ExtentMap, Held, Place};
use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use site_recovery::{DiskId, Form, Hash, MachineId, Payload, Record, Result, Run, fold};
use site_recovery_record::{checksum_of, is_sealed, raw_frame};
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"SRSEG\0\0\x01";
/// Magic, length of the index, its checksum.
pub(crate) const HEADER: u64 = 20;

/// Names a segment: the session that wrote it, and its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SegmentId {
    pub(crate) session: u64,
    pub(crate) batch: u64,
}

impl SegmentId {
    /// Of an index in its place.
    pub(crate) fn checksum_of(self, index: &[u8]) -> u64 {
        checksum_of([&self.session.to_le_bytes(), &self.batch.to_le_bytes(), index])
    }
}

/// One record of a segment, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) disk: DiskId,
    pub(crate) run: Run,
    pub(crate) checksum: Hash,
    /// Where its frame lies in the object; none for zeros.
    pub(crate) frame: Option<(u64, u32)>,
}

impl Entry {
    pub(crate) fn insert_into(&self, map: &mut ExtentMap, segment: SegmentId) {
        let Entry { run, checksum, .. } = *self;
        let held = match self.frame {
            Some((offset, len)) => Held::Data(Place { segment, offset, len, run, checksum }),
            None => Held::Zeros { session: segment.session },
        };
        map.insert(&self.disk, run, held);
    }

    pub(crate) fn fold_into(&self, digest: u64) -> u64 {
        let Entry { disk, run, checksum, .. } = self.clone();
        fold(digest, &Record { disk, run, checksum, payload: Payload::Zero })
    }

    /// Whether both are the same record, wherever its frame lies.
    pub(crate) fn is(&self, other: &Entry) -> bool {
        (&self.disk, self.run, self.checksum) == (&other.disk, other.run, other.checksum)
    }
}

/// Verifies every record and lays them out. CPU work: not for an async worker.
pub(crate) fn encode(
    id: SegmentId,
    machine: &MachineId,
    records: &[Record],
    with: &Records,
) -> Result<(Vec<Entry>, Vec<Bytes>)> {
    let mut frames: Vec<Vec<Bytes>> = vec![];
    for record in records {
        with.unpacker.check(machine, record)?;
        let seals = with.packer.seals(machine);
        frames.push(match &record.payload {
            Payload::Zero => vec![],
            Payload::Plain(plain) if !seals => raw_frame(machine, record, plain.clone()).into(),
            Payload::Sealed(frame) if is_sealed(frame) || !seals => vec![frame.clone()],
            // What comes without a seal gets it here.
            Payload::Plain(_) | Payload::Sealed(_) => {
                let plain = with.unpacker.unpack(machine, record)?.unwrap_or_default();
                let packed = with.packer.pack(machine, &record.disk, record.run, plain, Form::Sealed);
                match packed.payload {
                    Payload::Sealed(frame) => vec![frame],
                    _ => vec![],
                }
            }
        });
    }
    let mut entries: Vec<Entry> = records
        .iter()
        .zip(&frames)
        .map(|(record, frame)| Entry {
            disk: record.disk.clone(),
            run: record.run,
            checksum: record.checksum,
            frame: (!frame.is_empty()).then(|| (0, frame.iter().map(Bytes::len).sum::<usize>() as u32)),
        })
        .collect();
    let mut at = HEADER + encode_index(&entries).len() as u64;
    for (offset, len) in entries.iter_mut().filter_map(|e| e.frame.as_mut()) {
        *offset = at;
        at += u64::from(*len);
    }
    let index = encode_index(&entries);
    let mut header = MAGIC.to_vec();
    header.put_u32_le(index.len() as u32);
    header.put_u64_le(id.checksum_of(&index));
    header.extend(index);
    let parts = std::iter::once(Bytes::from(header)).chain(frames.into_iter().flatten()).collect();
    Ok((entries, parts))
}

/// Length and checksum of the index.
pub(crate) fn decode_header(mut from: &[u8]) -> Option<(u64, u64)> {
    from = from.strip_prefix(MAGIC)?;
    Some((u64::from(from.try_get_u32_le().ok()?), from.try_get_u64_le().ok()?))
}

/// The entries of an index whose checksum was found right.
pub(crate) fn decode_index(mut from: &[u8]) -> Option<Vec<Entry>> {
    let mut disks = vec![];
    for _ in 0..from.try_get_u32_le().ok()? {
        disks.push(get_name(&mut from)?);
    }
    let mut entries = vec![];
    for _ in 0..from.try_get_u32_le().ok()? {
        let disk = disks.get(from.try_get_u32_le().ok()? as usize)?.clone();
        let run = Run::new(from.try_get_u64_le().ok()?, from.try_get_u64_le().ok()?);
        run.start.checked_add(run.len).filter(|_| run.len > 0)?;
        let checksum = from.try_get_u128_le().ok()?;
        let (offset, len) = (from.try_get_u64_le().ok()?, from.try_get_u32_le().ok()?);
        offset.checked_add(len.into())?;
        entries.push(Entry { disk, run, checksum, frame: (len > 0).then_some((offset, len)) });
    }
    from.is_empty().then_some(entries)
}

pub(crate) fn encode_index(entries: &[Entry]) -> Vec<u8> {
    let names: BTreeMap<&DiskId, u32> = entries.iter().map(|e| (&e.disk, 0)).collect();
    let names: BTreeMap<&DiskId, u32> = names.into_keys().zip(0..).collect();
    let mut out = vec![];
    out.put_u32_le(names.len() as u32);
    for disk in names.keys() {
        put_name(&mut out, disk);
    }
    out.put_u32_le(entries.len() as u32);
    for entry in entries {
        let (offset, len) = entry.frame.unwrap_or_default();
        out.put_u32_le(names[&entry.disk]);
        out.put_u64_le(entry.run.start);
        out.put_u64_le(entry.run.len);
        out.put_u128_le(entry.checksum);
        out.put_u64_le(offset);
        out.put_u32_le(len);
    }
    out
}

pub(crate) fn put_name(out: &mut Vec<u8>, disk: &DiskId) {
    out.put_u32_le(disk.as_str().len() as u32);
    out.extend_from_slice(disk.as_str().as_bytes());
}

pub(crate) fn get_name(from: &mut &[u8]) -> Option<DiskId> {
    let len = from.try_get_u32_le().ok()? as usize;
    let (name, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(DiskId::from(std::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::ErrorKind;
    use site_recovery_record::{Codec, Keyring, Packer};

    fn record(start: u64, plain: &'static [u8]) -> Record {
        let run = Run::new(start, plain.len() as u64);
        Packer::new(Codec::Raw, Keyring::new()).pack(
            &"m".into(),
            &"d".into(),
            run,
            Bytes::from_static(plain),
            Form::Plain,
        )
    }

    const ID: SegmentId = SegmentId { session: 7, batch: 3 };

    fn encode(records: &[Record]) -> Result<(Vec<Entry>, Vec<Bytes>)> {
        super::encode(ID, &"m".into(), records, &Records::with(Keyring::new()))
    }

    #[test]
    fn o9_segments_of_version_1_stay_readable() {
        let (entries, parts) = encode(&[record(0, b"abcd"), record(4096, &[0; 4])]).expect("verified");
        let golden = "5352534547000001\
                      6d00000068da538fcb5db6f7\
                      010000000100000064\
                      02000000\
                      00000000000000000000000004000000000000003d35b1d1ec9ee71bc290fa3d38606b8d81000000000000001400\
                      00000000000000100000000000000400000000000000000000000000000000000000000000000000000000000000\
                      0000000001000000040000004047d3afa732a06f61626364";
        let hex: String = parts.concat().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        let byte = |at: usize| u8::from_str_radix(&golden[at..at + 2], 16).expect("hex");
        let kept: Vec<u8> = (0..golden.len()).step_by(2).map(byte).collect();
        let (len, sum) = decode_header(&kept[..HEADER as usize]).expect("a header");
        let index = &kept[HEADER as usize..][..len as usize];
        assert_eq!(ID.checksum_of(index), sum);
        let elsewhere = SegmentId { batch: ID.batch + 1, ..ID };
        assert_ne!(elsewhere.checksum_of(index), sum, "a segment is what it is in its own place alone");
        assert_eq!(decode_index(index).expect("an index"), entries);
    }

    #[test]
    fn an_index_of_runs_or_frames_that_cannot_be_is_none() {
        let entry = |len, offset| Entry {
            disk: "d".into(),
            run: Run::new(4096, len),
            checksum: 1,
            frame: Some((offset, 100)),
        };
        let whole = [entry(4096, 20)];
        assert_eq!(decode_index(&encode_index(&whole)).as_deref(), Some(&whole[..]));
        for wrong in [entry(0, 20), entry(u64::MAX, 20), entry(4096, u64::MAX - 99)] {
            assert_eq!(decode_index(&encode_index(std::slice::from_ref(&wrong))), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_record_that_is_not_what_it_says_is_corrupt() {
        let bad = Record { checksum: 1, ..record(0, b"abcd") };
        assert_eq!(encode(&[record(8, b"x"), bad]).expect_err("damaged").kind(), ErrorKind::Corrupt);
    }
}
