//! Records as requests: neighbours become one write of up to 4 MiB, neighbouring zeros one clear.

use bytes::{Bytes, BytesMut};
use site_recovery::{DiskId, Payload, Record, Run};

/// The most bytes of one Put Page (Azure REST reference, Put Page).
const MOST: u64 = 4 << 20;
/// Page blobs are written by pages of so many bytes.
const PAGE: u64 = 512;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Write(DiskId, u64, Bytes),
    Clear(DiskId, Run),
}

/// The requests that land these records, in order of disk and place. The end of a disk is filled up to a whole page with zeros,
/// which lie behind it.
pub(crate) fn changes(records: &[Record]) -> Vec<Change> {
    let mut sorted: Vec<_> = records.iter().collect();
    sorted.sort_by_key(|record| (&record.disk, record.run.start));
    let mut changes = vec![];
    let mut rest = sorted.as_slice();
    while let [first, ..] = rest {
        let (mut run, mut count) = (first.run, 1);
        let is_zero = |record: &Record| record.payload == Payload::Zero;
        while let Some(next) = rest.get(count)
            && next.disk == first.disk
            && next.run.start == run.end()
            && is_zero(next) == is_zero(first)
            && (is_zero(first) || run.len + next.run.len <= MOST)
        {
            run.len += next.run.len;
            count += 1;
        }
        let len = run.len.next_multiple_of(PAGE);
        changes.push(match is_zero(first) {
            true => Change::Clear(first.disk.clone(), Run::new(run.start, len)),
            false => Change::Write(first.disk.clone(), run.start, joined(&rest[..count], len as usize)),
        });
        rest = &rest[count..];
    }
    changes
}

fn joined(records: &[&Record], len: usize) -> Bytes {
    if let [Record { payload: Payload::Plain(bytes), .. }] = records
        && bytes.len() == len
    {
        return bytes.clone();
    }
    let mut all = BytesMut::with_capacity(len);
    for record in records {
        if let Payload::Plain(bytes) = &record.payload {
            all.extend_from_slice(bytes);
        }
    }
    all.resize(len, 0);
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(disk: &str, start: u64, len: u64, byte: Option<u8>) -> Record {
        let payload = byte.map_or(Payload::Zero, |b| Payload::Plain(vec![b; len as usize].into()));
        Record { disk: disk.into(), run: Run::new(start, len), checksum: 0, payload }
    }

    #[test]
    fn neighbours_are_one_request_up_to_four_mebibytes() {
        let mib = 1 << 20;
        let mut records: Vec<_> = (0..6).map(|n| record("a", n * mib, mib, Some(n as u8))).collect();
        records.push(record("a", 6 * mib, mib, None));
        records.push(record("a", 7 * mib, 2 * mib, None));
        records.push(record("a", 20 * mib, 1000, Some(9)));
        records.push(record("b", 0, 512, Some(8)));
        records.reverse();
        let told: Vec<_> = changes(&records)
            .into_iter()
            .map(|change| match change {
                Change::Write(disk, at, bytes) => (disk.0, at, bytes.len() as u64, Some(bytes[0])),
                Change::Clear(disk, run) => (disk.0, run.start, run.len, None),
            })
            .collect();
        let expected = [
            ("a", 0, 4 * mib, Some(0)),
            ("a", 4 * mib, 2 * mib, Some(4)),
            ("a", 6 * mib, 3 * mib, None),
            ("a", 20 * mib, 1024, Some(9)),
            ("b", 0, 512, Some(8)),
        ];
        assert_eq!(told, expected.map(|(disk, at, len, byte)| (disk.to_owned(), at, len, byte)));
    }

    #[test]
    fn d5_joined_bytes_are_in_order_and_the_last_page_is_filled_with_zeros() {
        let records = [record("a", 0, 4096, Some(1)), record("a", 4096, 700, Some(2))];
        let [Change::Write(_, 0, bytes)] = &changes(&records)[..] else { panic!("one write") };
        assert_eq!(bytes.len(), 5120);
        assert!(bytes[..4096].iter().all(|b| *b == 1) && bytes[4096..4796].iter().all(|b| *b == 2));
        assert!(bytes[4796..].iter().all(|b| *b == 0));
    }
}
