//! Any file of the retention volume is what was written or is told to be damaged, and what was written is read again.

use super::*;
use crate::timeline::{Chain, Link, Stage, Timeline};
use allocation_counter::measure;
use site_recovery::{ChangeSet, PointId, Settings};
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, manifest, mutated, write_corpus};
use tempfile::TempDir;

const NUMBER: u64 = 3;
/// Reading back a piece, to see whether the last group is whole.
const READING: u64 = PIECE + (64 << 10);

fn groups() -> Vec<Vec<u8>> {
    let disk = DiskId::from("root");
    let mut first = Group::default();
    first.data(&disk, Run::new(4096, 300), &[7; 300]);
    first.data(&disk, Run::new(8192, 4096), &[0; 4096]);
    first.mark(&disk, Run::new(65_536, 4096), Kept::Lost);
    let mut second = Group::default();
    second.data(&"data".into(), Run::new(PIECE - 10, 30), &[9; 30]);
    let landed = Landed::from([("data".into(), PIECE + 20)]);
    second.batch(Batch { session: 1, batch: 2, records: 3, digest: u64::MAX, landed });
    let mut at = 0;
    let mut encoded = |group: Group| {
        let list = serde_json::to_vec(&group.entries).expect("JSON");
        let bytes = group_of(at, &list, &group.bytes);
        at += bytes.len() as u64;
        bytes
    };
    vec![encoded(first), encoded(second)]
}

/// A group with a head that is right for it.
fn group_of(at: u64, list: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head { number: NUMBER, at, list: list.len() as u64, body: body.len() as u64 };
    [&head.bytes(list), list, body].concat()
}

struct Volume(TempDir, Folder);

impl Volume {
    fn new() -> Self {
        // In memory where that can be had, so that nobody waits for a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let folder = Folder::new(dir.path().into());
        Self(dir, folder)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).expect("room");
    }

    /// Opens a log of these bytes as the last one, and as one that was closed with all of them.
    fn open(&self, bytes: &[u8]) -> Option<Log> {
        self.put(&Log::name(NUMBER), bytes);
        let (mut closed, mut last) = (None, None);
        let cost = measure(|| {
            closed = Some(Log::open(&self.1, NUMBER, bytes.len() as u64));
            last = Some(Log::open_last(&self.1, NUMBER));
        });
        let most = READING + 64 * bytes.len() as u64;
        assert!(cost.bytes_max < most, "{} bytes of memory for {}", cost.bytes_max, bytes.len());
        for error in [&closed, &last].into_iter().flatten().filter_map(|opened| opened.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        let (closed, last) = (closed?.ok(), last?.ok()?);
        let left = std::fs::metadata(self.0.path().join(Log::name(NUMBER))).expect("it is there").len();
        assert_eq!(left, last.end, "what was cut short is taken away");
        assert_eq!(closed.is_some(), last.end == bytes.len() as u64);
        is_sound(&last);
        Some(last)
    }
}

/// Every piece has an end, lies in the file, and is read or told to be damaged.
fn is_sound(log: &Log) {
    assert!(log.bytes() <= log.end);
    for (_, run, piece) in log.layer.pieces() {
        assert!(run.len > 0 && piece.run.start <= run.start && run.end() <= piece.run.end(), "{piece:?}");
        match (piece.kept, log.stored(run, piece).read()) {
            (Kept::Zero, read) => assert_eq!(read.expect("zeros"), None),
            (Kept::Data { .. }, Ok(bytes)) => assert_eq!(bytes.expect("bytes").len() as u64, run.len),
            (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Corrupt),
            (Kept::Lost, Ok(_)) => panic!("bytes that were not kept"),
        }
    }
}

fn pieces(log: &Log) -> Vec<(DiskId, Run, Piece)> {
    log.layer.pieces().map(|(disk, run, piece)| (disk.clone(), run, *piece)).collect()
}

/// Entries that somebody would write who knows the format, but not its rules.
fn entries(choices: &mut Choices<'_>) -> Vec<Entry> {
    let entry = |_| {
        let (start, len) = (choices.number(), choices.number());
        let kept = match choices.below(4) {
            0 => Kept::Zero,
            1 => Kept::Lost,
            _ => Kept::Data { checksum: choices.byte().into() },
        };
        Entry::Piece { disk: "root".into(), run: Run::new(start, len), kept }
    };
    (0..4).map(entry).collect()
}

#[test]
fn any_file_is_a_log_or_damaged() {
    let (volume, groups) = (Volume::new(), groups());
    let right = groups.concat();
    let whole = volume.open(&right).expect("a log");
    assert_eq!((whole.end, whole.batches.len(), pieces(&whole).len()), (right.len() as u64, 1, 5));
    let list = |group: &[u8]| {
        group[HEAD..][..u64::from_le_bytes(*group[24..].first_chunk().expect("a head")) as usize].to_vec()
    };
    let property = |choices: &[u8]| {
        let _ = volume.open(choices);
        if let Some(log) = volume.open(&mutated(&right, choices)) {
            // Bytes may be damaged; where they lie is not.
            assert!(pieces(&log).iter().all(|piece| pieces(&whole).contains(piece)));
        }
        // With a head that is right: the list edited, or the bytes.
        let first = list(&groups[0]);
        let edited = group_of(0, &mutated(&first, choices), &groups[0][HEAD + first.len()..]);
        let second = list(&groups[1]);
        for bytes in [
            &edited,
            &[&edited[..], &group_of(edited.len() as u64, &second, &groups[1][HEAD + second.len()..])]
                .concat(),
        ] {
            let _ = volume.open(bytes);
        }
        let _ = volume.open(&[&groups[0][..], &group_of(groups[0].len() as u64, &second, choices)].concat());
    };
    let property = |choices: &[u8]| {
        property(choices);
        let list = serde_json::to_vec(&entries(&mut Choices(choices))).expect("JSON");
        let odd = group_of(0, &list, choices);
        for bytes in [&odd, &[&odd[..], &group_of(odd.len() as u64, b"[]", b"")].concat()] {
            let _ = volume.open(bytes);
        }
    };
    fixed(property);
    bolero::check!(name = "log").with_test_time(SPELL).for_each(property);
}

#[test]
fn a_list_that_is_not_of_its_bytes_is_damage() {
    let volume = Volume::new();
    let list = |start, len, checksum| {
        let kept = Kept::Data { checksum };
        let entry = Entry::Piece { disk: "root".into(), run: Run::new(start, len), kept };
        serde_json::to_vec(&[entry]).expect("JSON")
    };
    let bytes = [5; 100];
    let sum = checksum(&bytes);
    assert_eq!(pieces(&volume.open(&group_of(0, &list(4096, 100, sum), &bytes)).expect("a log")).len(), 1);
    for (start, len) in [(4096, u64::MAX - 4096), (u64::MAX, 100), (4096, 99), (4096, 101), (0, 1 << 40)] {
        let log = volume.open(&group_of(0, &list(start, len, sum), &bytes)).expect("an empty log");
        assert_eq!((log.end, pieces(&log).len()), (0, 0), "{start}+{len}");
    }
}

#[test]
fn any_groups_are_read_as_they_were_written() {
    let volume = Volume::new();
    let property = |choices: &[u8]| {
        let mut choices = Choices(choices);
        let mut log = Writer::new(&volume.1, NUMBER).expect("a file").log;
        for _ in 0..(choices.0.len() / 12).min(2) {
            let (disk, start) = (DiskId::from(["root", "data"][choices.below(2)]), choices.number() >> 1);
            let (byte, len) = (choices.byte(), 1 + choices.below(300));
            let mut group = Group::default();
            group.data(&disk, Run::new(start, len as u64), &vec![byte % 3; len]);
            group.mark(
                &disk,
                Run::new(choices.number() >> 1, len as u64),
                [Kept::Zero, Kept::Lost][choices.below(2)],
            );
            group.batch(Batch {
                session: 1,
                batch: choices.number(),
                records: 1,
                digest: 2,
                landed: Landed::new(),
            });
            log.append(&volume.1, group).expect("room");
        }
        let again = Log::open(&volume.1, NUMBER, log.end).expect("whole");
        assert_eq!((pieces(&again), &again.batches), (pieces(&log), &log.batches));
        is_sound(&again);
    };
    fixed(property);
}

fn timeline() -> Timeline {
    let manifest = manifest();
    let (landing, part) = (manifest.machine.instance.clone(), Part { number: 2, end: 900 });
    let (to, set) = (PointId(2), [("root".into(), Run::new(0, 4096))].into_iter().collect());
    Timeline {
        machine: manifest.machine,
        settings: Settings::default(),
        prepared: "prepare/1".into(),
        landing,
        brought: true,
        stamp: None,
        doubted: false,
        stage: Stage::Landing,
        next_point: 3,
        next_file: 9,
        session: 4,
        points: vec![],
        chains: vec![Chain {
            first: PointId(1),
            links: vec![Link { to, parts: vec![part], bare: vec![1], sure: true }],
        }],
        pending: 8,
        seed: Some(crate::timeline::From { cursor: manifest.cursor, touched: set }),
        open: None,
        kept: vec![],
    }
}

#[test]
fn any_file_is_a_timeline_or_a_named_error() {
    let volume = Volume::new();
    let (name, folder) = ("timeline", &volume.1);
    folder.write(name, 7, &timeline()).expect("room");
    let right = std::fs::read(volume.0.path().join(name)).expect("it is there");
    let end = right.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    let property = |choices: &[u8]| {
        let body = mutated(&right[end..], choices);
        let line = format!("site-recovery-master-target 1 7 {:016x}\n", checksum(&body));
        for bytes in [
            choices,
            &mutated(&right, choices),
            &mutated(&right[..end], choices),
            &[line.as_bytes(), &body].concat(),
        ] {
            volume.put(name, bytes);
            let mut read = None;
            let cost =
                measure(|| read = Some((folder.revision(name), folder.read::<Timeline>(name)))).bytes_max;
            assert!(
                cost < (16 << 10) + 64 * bytes.len() as u64,
                "{cost} bytes of memory for {}",
                bytes.len()
            );
            match read.expect("it was read") {
                (revision, Ok(found)) => {
                    let (number, timeline) = found.expect("it is there");
                    assert_eq!(revision.expect("as above"), Some(number));
                    let set: Option<&ChangeSet> = timeline.seed.as_ref().map(|seed| &seed.touched);
                    let _ = (timeline.idle(), timeline.files(), timeline.above(PointId(0)), set);
                    folder.write(name, number, &timeline).expect("room");
                    assert_eq!(folder.read::<Timeline>(name).expect("whole"), Some((number, timeline)));
                }
                (_, Err(error)) => {
                    assert!([ErrorKind::Corrupt, ErrorKind::Unsupported].contains(&error.kind()), "{error}");
                }
            }
        }
    };
    fixed(property);
    bolero::check!(name = "timeline").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let write = |target, bytes| write_corpus(env!("CARGO_MANIFEST_DIR"), "src/log", target, &[bytes]);
    write("log", groups().concat());
    let volume = Volume::new();
    volume.1.write("timeline", 7, &timeline()).expect("room");
    write("timeline", std::fs::read(volume.0.path().join("timeline")).expect("it is there"));
}
