//! `SEED=<n> cargo test -p site-recovery-transport frame` replays one seed.

use super::*;
use proptest::prelude::*;
use site_recovery::{Epoch, Landed, Op};

fn ingest() -> Ingest {
    let op = Op { key: "copy/1".into(), epoch: Epoch { number: 3, owner: "engine".into() } };
    Ingest { op, machine: "web".into(), session: 7, resume: Landed::from([("root".into(), 4096)]) }
}

fn records() -> Vec<Record> {
    let record = |disk: &str, start, len, payload| Record {
        disk: disk.into(),
        run: Run::new(start, len),
        checksum: 0x0123_4567_89ab_cdef,
        payload,
    };
    vec![
        record("root", 0, 4096, Payload::Plain(Bytes::from(vec![1; 4096]))),
        record("data", 1 << 40, 65_536, Payload::Zero),
        record("root", 4096, 65_536, Payload::Sealed(Bytes::from(vec![2; 777]))),
        record("data", 0, 4096, Payload::Plain(Bytes::new())),
    ]
}

/// The body of a write: the head, as it is read, and the payloads.
fn body(records: &[Record]) -> (Vec<u8>, Bytes) {
    let head = WriteHead::encode(&ingest(), 9, records)[4..].to_vec();
    let payload: Vec<u8> = records.iter().filter_map(payload).flat_map(|b| b.to_vec()).collect();
    (head, payload.into())
}

#[test]
fn a_write_arrives_as_it_left() {
    for records in [records(), vec![]] {
        let (head, payload) = body(&records);
        let frame = (4 + head.len() + payload.len()) as u32;
        let parsed = WriteHead::parse(&head, frame).expect("a write");
        assert_eq!((&parsed.ingest, parsed.batch, parsed.payload), (&ingest(), 9, payload.len()));
        assert_eq!(parsed.records(&payload), records);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let (head, payload) = body(&records());
    let frame = (4 + head.len() + payload.len()) as u32;
    let sum = Malformed::Sum { said: payload.len() as u64, there: payload.len() as u64 + 1 };
    assert_eq!(WriteHead::parse(&head, frame + 1), Err(sum));
    for cut in 0..head.len() {
        assert!(WriteHead::parse(&head[..cut], frame).is_err(), "cut at {cut}");
    }
    let mut endless = records();
    endless[0].run = Run::new(u64::MAX, 2);
    let (head, _) = body(&endless);
    assert_eq!(WriteHead::parse(&head, frame), Err(Malformed::Run { start: u64::MAX, len: 2 }));
    let header = |at: usize, byte| {
        let mut bytes = Header::new(Kind::Write, 1, 2).to_bytes();
        bytes[at] = byte;
        Header::parse(bytes)
    };
    assert_eq!(header(0, 99), Err(Malformed::Kind(99)));
    assert_eq!(header(2, 1), Err(Malformed::Reserved));
    assert_eq!(parse_hashes(&[0; 17]), Err(Malformed::Long { what: "a list of hashes", extra: 1 }));
}

#[test]
fn a_number_that_nothing_pays_for_allocates_nothing() {
    let ingest = serde_json::to_vec(&ingest()).expect("plain data");
    let mut head = (ingest.len() as u32).to_le_bytes().to_vec();
    head.extend(ingest);
    head.extend(0_u64.to_le_bytes());
    head.extend(u32::MAX.to_le_bytes());
    assert_eq!(WriteHead::parse(&head, u32::MAX), Err(Malformed::Short { what: "the head of a write" }));
}

#[test]
fn a_long_name_of_many_records_is_not_copied_without_end() {
    let record = Record { disk: "d".repeat(60_000).as_str().into(), ..records()[1].clone() };
    let most = MOST_NAMES / 60_000;
    for (count, whole) in [(most, true), (most + 1, false), (10_000, false)] {
        let (head, _) = body(&vec![record.clone(); count]);
        let frame = 4 + head.len() as u32;
        let mut parsed = None;
        let cost = allocation_counter::measure(|| parsed = Some(WriteHead::parse(&head, frame).is_ok()));
        assert_eq!(parsed, Some(whole), "{count} records");
        assert!(cost.bytes_max < 2 * MOST_NAMES as u64, "{} bytes of memory", cost.bytes_max);
    }
}

/// A few bytes of a right head changed, dropped, doubled or cut off: a write, or an error, and never a panic.
#[test]
fn damaged_heads_are_parsed_to_the_end() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..20_000,
    };
    let (head, payload) = body(&records());
    let frame = (4 + head.len() + payload.len()) as u32;
    let mut whole = 0;
    for seed in seeds {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % most.max(1)
        };
        let mut bytes = head.clone();
        for _ in 0..1 + below(3) {
            let at = below(bytes.len());
            match below(5) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes[at] = [0, 0xff, 0x7f, 0x80][below(4)],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, below(256) as u8),
                _ => bytes.truncate(at),
            }
        }
        if let Ok(parsed) =
            WriteHead::parse(&bytes, frame.saturating_sub((head.len() - bytes.len().min(head.len())) as u32))
        {
            whole += 1;
            assert_eq!(parsed.payload, payload.len(), "seed {seed}");
            for record in parsed.records(&payload) {
                assert!(record.run.start.checked_add(record.run.len).is_some(), "seed {seed}");
            }
        }
    }
    assert!(
        whole > 0 || std::env::var("SEED").is_ok(),
        "some damage is to places that mean nothing to the frame"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), frame: u32) {
        let _ = WriteHead::parse(&bytes, frame);
        let _ = Place::parse(&bytes);
        let _ = parse_hashes(&bytes);
        let _ = parse_extents(&bytes, Run::new(frame.into(), 1 << 20));
        let _ = json::<crate::message::Call>("a call", &bytes);
        if let Some(header) = bytes.first_chunk() {
            let _ = Header::parse(*header);
        }
    }

    #[test]
    fn headers_and_places_arrive_as_they_left(kind in 0..12_usize, id: u64, len: u32, start: u64, run: u32) {
        let header = Header::new(Kind::ALL[kind], id, len);
        prop_assert_eq!(Header::parse(header.to_bytes()), Ok(header));
        let place = Place { handle: id, disk: len, run: Run::new(start.min(1 << 60), run.into()) };
        prop_assert_eq!(Place::parse(&place.encode()), Ok(place));
    }

    #[test]
    fn extents_arrive_as_they_left(lens in prop::collection::vec((1..1_u64 << 30, any::<bool>()), 0..40), start in 0..1_u64 << 40) {
        let mut at = start;
        let extents: Vec<Extent> = lens.into_iter().map(|(len, zero)| {
            let run = Run::new(at, len);
            at += len;
            Extent { run, fill: if zero { Fill::Zero } else { Fill::Data } }
        }).collect();
        let range = Run::new(start, at - start);
        prop_assert_eq!(parse_extents(&encode_extents(&extents), range), Ok(extents));
    }
}
