//! Any file is a spooled capture or a named error, and what was spooled is read again.

use super::*;
use allocation_counter::measure;
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, manifest, mutated, records, write_corpus};

/// What readers have always, however small the file: their buffer.
const READER: u64 = (1 << 20) + (64 << 10);

fn header() -> Header {
    let manifest = manifest();
    let since = manifest.cursor.clone();
    Header { key: "copy/1".into(), on: Some(PointId(3)), since, follows: vec!["cut-6".into()], manifest }
}

fn set() -> ChangeSet {
    [("root".into(), Run::new(0, 4096)), ("data".into(), Run::new(8192, 100))].into_iter().collect()
}

/// In memory where that can be had, so that nobody waits for a disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// The bodies of all frames of a spool file.
fn bodies(records: &[Record]) -> Vec<Vec<u8>> {
    let mut bodies = vec![json(&header()).expect("JSON"), json(&set()).expect("JSON")];
    bodies.extend(records.iter().map(encode));
    let digest = records.iter().fold(0, fold);
    bodies.push([&[0][..], &(records.len() as u64).to_le_bytes(), &digest.to_le_bytes()].concat());
    bodies
}

fn file(bodies: &[Vec<u8>]) -> Vec<u8> {
    let frame = |body: &Vec<u8>| {
        [&(body.len() as u32).to_le_bytes()[..], &checksum(body).to_le_bytes(), body].concat()
    };
    [MAGIC.to_vec()].into_iter().chain(bodies.iter().map(frame)).collect::<Vec<_>>().concat()
}

/// All of the file of these bytes, as it is drained.
fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    std::fs::write(path, bytes).expect("a file");
    let mut outcome = Ok(vec![]);
    let cost = measure(|| {
        outcome = Reader::open(path).and_then(|(mut reader, _)| {
            reader.set()?;
            std::iter::from_fn(|| reader.next().transpose()).collect()
        });
    });
    let most = READER + 64 * bytes.len() as u64;
    assert!(cost.bytes_max < most, "{} bytes of memory for {}", cost.bytes_max, bytes.len());
    if let Err(error) = &outcome {
        assert!([ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind()), "{error}");
        assert_eq!(error.fact("file"), path.to_str());
    }
    outcome
}

#[test]
fn any_file_is_a_spooled_capture_or_a_named_error() {
    let folder = folder();
    let path = folder.path().join("1.capture");
    let some = records(&mut Choices(&(0..=70).collect::<Vec<u8>>()));
    let (whole, right) = (bodies(&some), file(&bodies(&some)));
    assert_eq!(read(&path, &right).expect("whole"), some);
    let property = |choices: &[u8]| {
        let _ = read(&path, choices);
        if let Ok(records) = read(&path, &mutated(&right, choices)) {
            assert_eq!(records, some, "what is read is what was written");
        }
        // With checksums that are right.
        let mut edited = whole.clone();
        let at = Choices(choices).below(edited.len());
        edited[at] = mutated(&whole[at], choices.get(1..).unwrap_or_default());
        let _ = read(&path, &file(&edited));
        for bytes in [choices, &mutated(&encode(&some[at % some.len()]), choices)] {
            let Some(record) = decode(Bytes::copy_from_slice(bytes)) else { continue };
            assert!(record.run.start.checked_add(record.run.len).is_some(), "{:?}", record.run);
            assert_eq!(encode(&record), bytes);
        }
    };
    fixed(property);
    bolero::check!(name = "spool").with_test_time(SPELL).for_each(property);
}

#[test]
fn any_records_are_read_as_they_were_spooled() {
    let folder = folder();
    let path = folder.path().join("1.capture");
    let property = |choices: &[u8]| {
        let records = records(&mut Choices(choices));
        let mut writer = Writer::create(&path, &header(), &set()).expect("a file");
        records.iter().for_each(|record| writer.append(record).expect("room"));
        writer.publish().expect("room");
        let bytes = std::fs::read(&path).expect("it is there");
        assert_eq!(bytes, file(&bodies(&records)));
        assert_eq!(read(&path, &bytes).expect("whole"), records);
    };
    fixed(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let records = records(&mut Choices(&(0..=70).collect::<Vec<u8>>()));
    let whole = [file(&bodies(&records)), encode(&records[0])];
    write_corpus(env!("CARGO_MANIFEST_DIR"), "src/spool/capture_file", "spool", &whole);
}
