//! Any bytes of a peer are what it said or a named error, and what is said is heard as it was said.

use crate::fault::Fault;
use crate::frame::*;
use crate::message::{Call, Hello, LONGEST_WORD, Opened, SPOKEN, Welcome};
use crate::told::Told;
use allocation_counter::measure;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use site_recovery::{
    Capability, ChangeSet, Epoch, Error, ErrorKind, Extent, Fill, Head, Ingest, Landed, Op, PointId, Record,
    Run, Seed, Settings, Timestamp,
};
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, manifest, mutated, records, write_corpus};

/// What `parse` makes of these bytes, at the price of some times their length.
fn parsed<T>(bytes: &[u8], parse: impl FnOnce(&[u8]) -> T) -> T {
    let mut made = None;
    let cost = measure(|| made = Some(parse(bytes))).bytes_max;
    assert!(cost < 16_384 + 64 * bytes.len() as u64, "{cost} bytes of memory for {}", bytes.len());
    made.expect("it was called")
}

fn op() -> Op {
    Op { key: "copy/1".into(), epoch: Epoch { number: 3, owner: "engine".into() } }
}

fn ingest() -> Ingest {
    Ingest { op: op(), machine: "web".into(), session: 7, resume: Landed::from([("root".into(), 4096)]) }
}

/// The head behind its length, and the payloads.
fn said(records: &[Record]) -> (Bytes, Bytes) {
    let head = WriteHead::encode(&ingest(), 9, records).slice(4..);
    let payloads: Vec<u8> = records.iter().filter_map(payload).flat_map(|bytes| bytes.to_vec()).collect();
    (head, payloads.into())
}

fn heard(head: &[u8], payloads: &Bytes) -> Result<Vec<Record>, Malformed> {
    let write = WriteHead::parse(head, (4 + head.len() + payloads.len()) as u32)?;
    assert_eq!(write.payload, payloads.len());
    Ok(write.records(payloads))
}

#[test]
fn any_bytes_are_the_head_of_a_write_or_a_named_error() {
    let (right, payloads) = said(&records(&mut Choices(&(0..=90).collect::<Vec<u8>>())));
    let property = |choices: &[u8]| {
        for head in [choices, &mutated(&right, choices)] {
            for payloads in [&payloads, &Bytes::new()] {
                let Ok(records) = parsed(head, |head| heard(head, payloads)) else { continue };
                assert!(records.iter().all(|record| has_end(record.run)));
                let (again, payloads) = said(&records);
                assert_eq!(heard(&again, &payloads), Ok(records));
            }
        }
        let records = records(&mut Choices(choices));
        let (head, payloads) = said(&records);
        assert_eq!(heard(&head, &payloads), Ok(records));
    };
    fixed(property);
    bolero::check!(name = "write").with_test_time(SPELL).for_each(property);
}

#[test]
fn any_bytes_are_a_header_a_place_extents_or_a_named_error() {
    let header = Header::new(Kind::Write, 7, 1 << 20).to_bytes();
    let place = Place { handle: 1, disk: 2, run: Run::new(4096, 65_536) }.encode();
    let run = Run::new(4096, 12_288);
    let extent = |start, len, fill| Extent { run: Run::new(start, len), fill };
    let extents = encode_extents(&[extent(4096, 4096, Fill::Zero), extent(8192, 8192, Fill::Data)]);
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&header, choices)] {
            if let Some(Ok(header)) = bytes.first_chunk().map(|bytes| Header::parse(*bytes)) {
                assert_eq!(header.to_bytes(), bytes[..Header::SIZE]);
            }
        }
        for bytes in [choices, &mutated(&place, choices)] {
            if let Ok(place) = parsed(bytes, Place::parse) {
                assert!(has_end(place.run));
                assert_eq!(place.encode(), bytes);
            }
        }
        let number = Choices(choices).number();
        for run in [run, Run::new(number.min(u64::MAX - 12_288), 12_288), Run::new(4096, number >> 1)] {
            for bytes in [choices, &mutated(&extents, choices)] {
                let Ok(extents) = parsed(bytes, |bytes| parse_extents(bytes, run)) else { continue };
                assert_eq!(extents.iter().map(|extent| extent.run.len).sum::<u64>(), run.len);
                assert_eq!(parse_extents(&encode_extents(&extents), run), Ok(extents));
            }
        }
        if let Ok(hashes) = parsed(choices, parse_hashes) {
            assert_eq!(encode_hashes(&hashes), choices);
        }
    };
    fixed(property);
    bolero::check!(name = "places").with_test_time(SPELL).for_each(property);
}

fn plan() -> ChangeSet {
    [("root".into(), Run::new(0, 4096)), ("root".into(), Run::new(1 << 20, 4096))].into_iter().collect()
}

fn calls() -> Vec<Call> {
    let (op, manifest, machine) = (op(), manifest(), manifest().machine);
    let web = machine.id().clone();
    vec![
        Call::Begin { op: op.clone(), machine: machine.clone(), cut: "cut-7".into(), plan: plan() },
        Call::Seal { ingest: ingest(), manifest: manifest.clone(), records: 3, digest: u64::MAX },
        Call::Prepare {
            op: op.clone(),
            machine: machine.clone(),
            seed: Seed::Known {
                at: None,
                landing: None,
                cursor: manifest.cursor.expect("it has one"),
                differs: plan(),
            },
            settings: Settings::default(),
        },
        Call::Hashes { machine: web.clone(), disk: "root".into(), run: Run::new(4096, 4096) },
        Call::Lock { op, machine: web, point: PointId(7), until: Timestamp(9) },
        Call::Machines,
    ]
}

/// JSON of a peer: said again, it is the same.
fn word<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let word: T = parsed(bytes, |bytes| json("a word", bytes)).ok()?;
    let again = json_of(&word);
    assert_eq!(serde_json::from_slice::<T>(&again).expect("JSON"), word);
    Some(word)
}

fn is_sound(set: &ChangeSet) {
    for (_, runs) in set.disks() {
        assert!(runs.iter().all(|run| run.len > 0 && has_end(*run)), "{runs:?}");
        assert!(runs.is_sorted_by(|last, next| last.end() < next.start), "{runs:?}");
    }
}

#[test]
fn any_bytes_are_a_call_or_a_named_error() {
    let right: Vec<Vec<u8>> = calls().iter().map(json_of).collect();
    let heads = [plan(), ChangeSet::new()]
        .map(|touched| json_of(&Head::Unsettled { point: None, cursor: None, touched }));
    let property = |choices: &[u8]| {
        let right = &right[Choices(choices).below(right.len())];
        for bytes in [choices, &mutated(right, choices)] {
            match word::<Call>(bytes).map(Call::checked) {
                Some(Ok(Call::Begin { plan, .. })) => is_sound(&plan),
                Some(Ok(Call::Prepare { seed: Seed::Known { differs, .. }, .. })) => is_sound(&differs),
                Some(Ok(Call::Hashes { run, .. })) => assert!(has_end(run)),
                _ => {}
            }
        }
        for head in &heads {
            if let Some(Head::Unsettled { touched, .. }) = word::<Head>(&mutated(head, choices)) {
                is_sound(&touched);
            }
        }
    };
    fixed(property);
    bolero::check!(name = "call").with_test_time(SPELL).for_each(property);
}

fn words() -> [Vec<u8>; 4] {
    let hello = Hello {
        versions: SPOKEN,
        kind: "replica".into(),
        role: "points".into(),
        client: "a".into(),
        connection: 2,
        silence: 9000,
        longest: 1 << 26,
    };
    let welcome = Welcome {
        version: 1,
        capability: Capability::default(),
        credit: 1 << 26,
        requests: 64,
        silence: 9000,
    };
    let opened = Opened { cut: Some("cut-7".into()), disks: vec![("root".into(), 1 << 20)] };
    [json_of(&hello), json_of(&welcome), json_of(&opened), Told::from(&error()).to_json()]
}

fn json_of(word: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(word).expect("JSON")
}

fn error() -> Error {
    let error = Error::invalid("plan", "odd", "it is even", "round it").with("disk", "root");
    error.at(&"points".into(), "begin").caused_by(std::io::Error::other("gone"))
}

#[test]
fn any_bytes_are_a_word_or_a_named_error() {
    let [hello, welcome, opened, told] = words();
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&hello, choices)] {
            if let Some(hello) = word::<Hello>(bytes) {
                let common = hello.versions.common(SPOKEN);
                assert!(common.is_none_or(|version| SPOKEN.contains(version)));
            }
        }
        for bytes in [choices, &mutated(&welcome, choices)] {
            let _ = word::<Welcome>(bytes).map(|welcome| crate::message::beat(welcome.silence));
        }
        for bytes in [choices, &mutated(&opened, choices)] {
            let _ = word::<Opened>(bytes);
        }
        for bytes in [choices, &mutated(&told, choices)] {
            let Some(told) = word::<Told>(bytes) else { continue };
            let error = Error::from(told);
            let again = Told::from(&error).to_json();
            assert!(again.len() <= LONGEST_WORD as usize);
            let back = Error::from(serde_json::from_slice::<Told>(&again).expect("JSON"));
            assert_eq!((back.kind(), back.to_string()), (error.kind(), error.to_string()));
            assert_eq!(Fault::Unwelcome(back).told().kind(), error.kind());
        }
        // Of any length.
        let long = String::from_utf8_lossy(choices).repeat(1 + Choices(choices).below(1000));
        let error = Error::new(ErrorKind::Corrupt, long.clone())
            .with("disk", &long)
            .at(&long.as_str().into(), "read");
        assert!(Told::from(&error).to_json().len() <= LONGEST_WORD as usize, "{} bytes", long.len());
    };
    fixed(property);
    bolero::check!(name = "word").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let write = |target, bytes: &[Vec<u8>]| write_corpus(env!("CARGO_MANIFEST_DIR"), "src", target, bytes);
    let (head, _) = said(&records(&mut Choices(&(0..=90).collect::<Vec<u8>>())));
    write("write", &[head.to_vec()]);
    let header = Header::new(Kind::Write, 7, 1 << 20).to_bytes().to_vec();
    write("places", &[header, Place { handle: 1, disk: 2, run: Run::new(4096, 65_536) }.encode().to_vec()]);
    let calls: Vec<Vec<u8>> = calls().iter().map(json_of).collect();
    write("call", &calls);
    write("word", &words());
}
