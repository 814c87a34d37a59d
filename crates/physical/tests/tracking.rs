//! Tracking means on real disks: whatever is written is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{Ext4, Loop, peers, run};
use site_recovery::{ChangeSet, Changes, Cursor, DiskId, Fate, Generation, HASH_BLOCK, MachineId};
use site_recovery_physical::tracking::trace::Trace;
use site_recovery_physical::tracking::{CutRef, Hint, Means, Pace, Tracked, Tracking, Written};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No means keeps marks.
const NOBODY: fn(&DiskId, &str) -> Hint = |_, _| Hint::Anything("nobody is asked".into());

const MIB: u64 = 1 << 20;
const BLOCK: u64 = HASH_BLOCK;
const PROGRAMS: [&str; 3] = ["losetup", "blockdev", "blkdiscard"];

/// The next number of a sequence that looks like none.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// The blocks in which two contents of a disk differ.
fn differing(before: &[u8], after: &[u8]) -> Vec<u64> {
    let pairs = before.chunks(BLOCK as usize).zip(after.chunks(BLOCK as usize)).enumerate();
    pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at as u64).collect()
}

/// Tracking of one disk, whose captures are copies.
struct World {
    tracking: Tracking,
    pace: Pace,
    dir: tempfile::TempDir,
    size: u64,
    cuts: u64,
}

impl World {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pace = Pace::default();
        Self { tracking: Tracking::at(dir.path().join("tracking"), pace.clone()), pace, dir, size, cuts: 0 }
    }

    fn again(&mut self) {
        self.tracking = Tracking::at(self.dir.path().join("tracking"), self.pace.clone());
    }

    fn begin(&self) -> CutRef {
        let disk = Tracked { id: "d".into(), hardware: "wwn".into(), size: self.size };
        self.tracking.begin(&"m".into(), Generation(0), vec![disk]).unwrap()
    }

    fn scan(&mut self, cut: &CutRef, content: &[u8]) {
        self.cuts += 1;
        let path = self.dir.path().join(format!("copy-{}", self.cuts));
        let file = File::create(&path).unwrap();
        file.set_len(content.len() as u64).unwrap();
        for (at, block) in content.chunks(BLOCK as usize).enumerate() {
            if block.iter().any(|b| *b != 0) {
                file.write_all_at(block, at as u64 * BLOCK).unwrap();
            }
        }
        self.tracking.scan(cut, &BTreeMap::from([(DiskId::from("d"), path)]), &NOBODY).unwrap();
    }

    /// A cut of a disk whose content is known, scanned.
    fn cut(&mut self, content: &[u8], hint: Option<Hint>) -> CutRef {
        let cut = self.begin();
        let hints = hint.map(|h| (DiskId::from("d"), Written::Told(h)));
        self.tracking.cut(&cut, hints.into_iter().collect(), true);
        self.scan(&cut, content);
        cut
    }

    fn changes(&self, since: &CutRef, until: &CutRef) -> Changes {
        self.tracking.changes(&since.cursor(Generation(0)), until, Generation(0))
    }

    fn known(&self, since: &CutRef, until: &CutRef) -> ChangeSet {
        match self.changes(since, until) {
            Changes::Known(set) => set,
            Changes::Lost { reason } => panic!("lost: {reason}"),
        }
    }
}

fn blocks(set: &ChangeSet) -> Vec<u64> {
    let runs = set.runs(&"d".into());
    runs.iter().flat_map(|r| r.start / BLOCK..r.end().div_ceil(BLOCK)).collect()
}

#[test]
fn d4_hashes_tell_exactly_what_differs_from_cut_to_cut_and_over_several() {
    let mut world = World::new(40 * MIB + 512);
    let mut numbers = Numbers(5);
    let mut content = vec![0; world.size as usize];
    let mut all = vec![(world.cut(&content, None), content.clone())];
    for round in 0..6 {
        for _ in 0..numbers.below(40) {
            let at = numbers.below(world.size - 4096) as usize;
            content[at..at + 4096].fill(numbers.below(256) as u8);
        }
        if round == 3 {
            world.again();
        }
        all.push((world.cut(&content, None), content.clone()));
        let (last, now) = all.last().unwrap();
        for (cut, then) in &all {
            let told = blocks(&world.known(cut, last));
            let differs = differing(then, now);
            assert!(
                differs.iter().all(|b| told.contains(b)),
                "round {round}: {told:?} lack some of {differs:?}"
            );
        }
        let (before, then) = &all[all.len() - 2];
        assert_eq!(
            blocks(&world.known(before, last)),
            differing(then, now),
            "round {round}: from cut to cut"
        );
    }
}

#[test]
fn d4_a_hint_makes_the_scan_short_and_none_makes_it_whole() {
    let mut world = World::new(64 * MIB);
    let mut content = vec![7; world.size as usize];
    let first = world.cut(&content, None);
    let whole = world.pace.bytes_read();
    assert_eq!(whole, world.size);
    content[5 * BLOCK as usize] = 8;
    let hint = |which: &[u64]| {
        let mut set = site_recovery_physical::tracking::Blocks::none(64 * MIB);
        which.iter().for_each(|b| set.add(*b));
        Some(Hint::Blocks(set))
    };
    let second = world.cut(&content, hint(&[5, 900]));
    assert_eq!(world.pace.bytes_read() - whole, 2 * BLOCK);
    assert_eq!(blocks(&world.known(&first, &second)), [5]);
    // A cut that was never scanned: its hint counts for the one after it.
    content[9 * BLOCK as usize] = 9;
    let skipped = world.begin();
    world.tracking.cut(&skipped, BTreeMap::from([("d".into(), Written::Told(hint(&[9]).unwrap()))]), true);
    content[10 * BLOCK as usize] = 9;
    let third = world.cut(&content, hint(&[10]));
    assert_eq!(blocks(&world.known(&second, &third)), [9, 10]);
    assert!(matches!(world.changes(&skipped, &third), Changes::Lost { .. }));
    // After a restart nothing is known.
    world.again();
    content[20 * BLOCK as usize] = 9;
    let fourth = world.cut(&content, hint(&[]));
    assert_eq!(blocks(&world.known(&third, &fourth)), [20]);
}

#[test]
fn d4_what_a_means_does_not_see_stays_unseen_for_so_many_scans_alone() {
    let mut world = World::new(4 * MIB);
    world.tracking = Tracking::at(world.dir.path().join("tracking"), world.pace.clone()).whole_every(3);
    let mut content = vec![1; world.size as usize];
    let nothing = || Some(Hint::Blocks(site_recovery_physical::tracking::Blocks::none(4 * MIB)));
    let first = world.cut(&content, None);
    world.cut(&content, nothing());
    content[3 * BLOCK as usize] = 2;
    world.cut(&content, nothing());
    let last = world.cut(&content, nothing());
    assert_eq!(blocks(&world.known(&first, &last)), [3]);
}

#[test]
fn src_8_cuts_that_never_seal_do_not_pile_up_and_the_sealed_ones_stay() {
    let mut world = World::new(4 * MIB);
    let mut content = vec![0; world.size as usize];
    let sealed = world.cut(&content, None);
    world.tracking.note(&sealed, Fate::Sealed, &[]).unwrap();
    let mut spooled = None;
    for round in 0..20 {
        content[(round % 64) * BLOCK as usize] = 1 + round as u8;
        let cut = world.cut(&content, None);
        let fate = if round == 2 { Fate::Spooled } else { Fate::Abandoned };
        world.tracking.note(&cut, fate, &[]).unwrap();
        spooled = spooled.or((round == 2).then_some(cut.clone()));
        assert_eq!(blocks(&world.known(&sealed, &cut)), (0..=round as u64).collect::<Vec<_>>());
    }
    let last = world.begin();
    world.scan(&last, &content);
    assert_eq!(blocks(&world.known(&spooled.unwrap(), &last)), (3..20).collect::<Vec<_>>());
    let line = fs::read_dir(world.dir.path().join("tracking")).unwrap().find_map(|e| {
        let path = e.unwrap().path();
        path.is_dir().then_some(path)
    });
    let kept = fs::read_dir(line.unwrap().join("cuts")).unwrap().count();
    assert!(kept <= 16, "{kept} files of cuts");
    world.tracking.note(&last, Fate::Sealed, &[]).unwrap();
    assert!(matches!(world.changes(&sealed, &last), Changes::Lost { .. }), "older than the sealed one");
}

#[test]
fn d4_a_table_or_map_that_is_damaged_is_lost_and_never_less() {
    for damage in ["0.hashes", "map", "line.json", "next.json", "state.json"] {
        let mut world = World::new(4 * MIB);
        let mut content = vec![3; world.size as usize];
        let first = world.cut(&content, None);
        content[BLOCK as usize] = 4;
        let second = world.cut(&content, None);
        let found = run(
            "find",
            &[world.dir.path().join("tracking").to_str().unwrap(), "-name", &format!("*{damage}")],
        );
        let path = found.lines().last().unwrap();
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        let at = if damage == "0.hashes" { 4096 + 40 } else { 0 };
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
        if damage == "map" {
            assert!(matches!(world.changes(&first, &second), Changes::Lost { .. }), "{damage}");
            continue;
        }
        content[2 * BLOCK as usize] = 5;
        let third = world.begin();
        let copy = world.dir.path().join("copy");
        fs::write(&copy, &content).unwrap();
        let scanned = world.tracking.scan(&third, &BTreeMap::from([("d".into(), copy)]), &NOBODY);
        let told = world.changes(&second, &third);
        assert!(matches!(told, Changes::Lost { .. }), "{damage}: {scanned:?} {told:?}");
    }
}

#[test]
fn d4_a_cursor_from_before_the_agent_was_set_back_is_lost() {
    let mut world = World::new(4 * MIB);
    let mut content = vec![1; world.size as usize];
    world.cut(&content, None);
    let (here, kept) = (world.dir.path().join("tracking"), world.dir.path().join("kept"));
    run("cp", &["-a", here.to_str().unwrap(), kept.to_str().unwrap()]);
    content[BLOCK as usize] = 2;
    let sealed = world.cut(&content, None);
    // The server is set back to what it was before, with the agent on it.
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&kept, &here).unwrap();
    world.again();
    content[BLOCK as usize] = 1;
    let again = world.cut(&content, None);
    content[2 * BLOCK as usize] = 3;
    let last = world.cut(&content, None);
    for until in [&again, &last] {
        let told = world.changes(&sealed, until);
        assert!(matches!(told, Changes::Lost { .. }), "block 1 is not as it was sealed: {told:?}");
    }
    assert_eq!(blocks(&world.known(&again, &last)), [2]);
}

#[test]
fn src_7_cursors_of_others_are_lost() {
    let mut world = World::new(4 * MIB);
    let content = vec![0; world.size as usize];
    let cut = world.cut(&content, None);
    let lost = |changes: Changes| assert!(matches!(changes, Changes::Lost { .. }), "{changes:?}");
    lost(world.tracking.changes(&cut.cursor(Generation(1)), &cut, Generation(0)));
    let alien = Cursor { generation: Generation(0), token: b"something else".to_vec() };
    lost(world.tracking.changes(&alien, &cut, Generation(0)));
    let later = world.cut(&content, None);
    lost(world.tracking.changes(&later.cursor(Generation(0)), &cut, Generation(0)));
    let machine = MachineId::from("another");
    let disk = Tracked { id: "d".into(), hardware: "wwn".into(), size: world.size };
    let theirs = world.tracking.begin(&machine, Generation(0), vec![disk.clone()]).unwrap();
    lost(world.tracking.changes(&later.cursor(Generation(0)), &theirs, Generation(0)));
    let replaced = Tracked { hardware: "wwn-2".into(), ..disk };
    let other = world.tracking.begin(&machine, Generation(0), vec![replaced]).unwrap();
    assert_ne!(other.cursor(Generation(0)).token, theirs.cursor(Generation(0)).token);
    lost(world.tracking.changes(&theirs.cursor(Generation(0)), &other, Generation(0)));
}

/// Whether the kernel traces here. Says so where not.
fn traced(what: &str, disk: &Path, name: &str, kib: u32) -> Option<Trace> {
    match Trace::with_buffer(disk, name, kib) {
        Ok(trace) => Some(trace),
        Err(e) => {
            println!("SKIPPED {what}: the kernel does not trace here: {e}");
            assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{e}");
            None
        }
    }
}

fn told(written: Written) -> Vec<u64> {
    match hint(written) {
        Hint::Blocks(set) => (0..set.of_disk()).filter(|b| set.has(*b)).collect(),
        Hint::Anything(why) => panic!("nothing is known: {why}"),
    }
}

fn hint(written: Written) -> Hint {
    match written {
        Written::Told(hint) => hint,
        Written::Marked(mark) => panic!("a mark: {mark}"),
    }
}

fn unique(what: &str) -> String {
    format!("sr-test-{}-{what}", std::process::id())
}

#[test]
fn d4_a_trace_tells_every_write_past_partitions_discards_and_zeros() {
    let what = "a traced disk";
    if !peers(what, &[&PROGRAMS[..], &["partx"]].concat()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Loop::over(&dir.path().join("d.raw"), 64 * MIB);
    let device = disk.device.to_str().unwrap();
    let mut table = vec![0; 512];
    table[446 + 4] = 0x83;
    table[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&65536_u32.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write(0, &table);
    run("partx", &["-a", device]);
    let partition = format!("{device}p1");
    let Some(mut trace) = traced(what, &disk.device, &unique("all"), 1024) else { return };
    assert!(matches!(hint(trace.cut()), Hint::Anything(_)), "nothing is known of what was before");
    disk.write(700 * BLOCK + 4096, &[1; 4096]);
    let file = OpenOptions::new().write(true).open(&partition).unwrap();
    file.write_all_at(&[2; 3 * 65536], MIB + 512).unwrap();
    file.sync_all().unwrap();
    run("blkdiscard", &["-o", "8388608", "-l", "65536", &partition]);
    run("blkdiscard", &["-z", "-o", "16777216", "-l", "131072", &partition]);
    let seen = told(trace.cut());
    for block in [700, 32, 33, 34, 35, 144, 272, 273] {
        assert!(seen.contains(&block), "block {block} was written, and {seen:?} are told");
    }
    assert!(seen.len() < 20, "far more than was written: {seen:?}");
    drop(fs::read(&disk.device).unwrap());
    assert_eq!(told(trace.cut()), Vec::<u64>::new(), "reads are no writes");
    drop(file);
    run("partx", &["-d", device]);
}

#[test]
fn d4_random_writes_through_a_file_system_are_never_more_than_a_trace_tells() {
    let what = "a traced file system";
    if !peers(what, &[&PROGRAMS[..], &["mke2fs", "mount", "fsfreeze"]].concat()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Loop::over(&dir.path().join("d.raw"), 48 * MIB));
    let mounted = Ext4::on(&disk, &dir.path().join("at"));
    let Some(mut trace) = traced(what, &disk.device, &unique("fs"), 1024) else { return };
    let at = mounted.at.to_str().unwrap();
    let mut numbers = Numbers(11);
    let mut cut = || {
        run("fsfreeze", &["-f", at]);
        let hint = trace.cut();
        // The device's own cache may hold what the file system changed and never wrote.
        let content = fs::read(&disk.file).unwrap();
        run("fsfreeze", &["-u", at]);
        (hint, content)
    };
    let mut then = cut().1;
    for round in 0..8 {
        for _ in 0..numbers.below(30) {
            let path = mounted.at.join(format!("f{}", numbers.below(8)));
            if numbers.below(6) == 0 {
                let _there_or_not = fs::remove_file(&path);
                continue;
            }
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
            let bytes = vec![numbers.below(256) as u8; numbers.below(200_000) as usize];
            file.write_all_at(&bytes, numbers.below(600_000)).unwrap();
        }
        let (hint, now) = cut();
        let (seen, differs) = (told(hint), differing(&then, &now));
        assert!(differs.iter().all(|b| seen.contains(b)), "round {round}: {seen:?} lack some of {differs:?}");
        then = now;
    }
}

/// Another program writes so much to a disk while this one is stopped, with all that reads in it.
fn written_while_nobody_reads(disk: &Path, at: u64, bytes: u64) {
    let write = format!(
        "kill -STOP $PPID; timeout 60 dd if=/dev/urandom of={} bs=4k seek={} count={} oflag=direct conv=notrunc; \
         code=$?; kill -CONT $PPID; exit $code",
        disk.display(),
        at / 4096,
        bytes / 4096,
    );
    run("sh", &["-c", &write]);
}

#[test]
fn d4_events_that_are_lost_make_a_scan_of_everything_and_never_a_smaller_set() {
    let what = "a trace that loses events";
    if !peers(what, &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Loop::over(&dir.path().join("d.raw"), 64 * MIB);
    // The smallest buffer there can be: two pages of some seventy writes each, for each processor.
    let Some(mut trace) = traced(what, &disk.device, &unique("lost"), 1) else { return };
    trace.cut();
    let mut world = World::new(64 * MIB);
    let mut last = world.cut(&disk.content(), None);
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    for at in [3 * BLOCK, 17 * BLOCK] {
        let before = disk.content();
        written_while_nobody_reads(&disk.device, at, (processors * 4 * MIB).min(40 * MIB));
        let hint = hint(trace.cut());
        assert!(matches!(&hint, Hint::Anything(why) if why.contains("lost")), "{hint:?}");
        let after = disk.content();
        let cut = world.cut(&after, Some(hint));
        assert_eq!(blocks(&world.known(&last, &cut)), differing(&before, &after));
        last = cut;
    }
    disk.write(5 * BLOCK, &[9; 4096]);
    assert_eq!(told(trace.cut()), [5], "after a loss it goes on");
}

#[test]
fn what_a_dead_agent_traced_goes_with_the_next_start_and_nothing_else() {
    let what = "traces that are left over";
    if !peers(what, &[&PROGRAMS[..], &["mount"]].concat()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (one, two) =
        (Loop::over(&dir.path().join("1.raw"), 8 * MIB), Loop::over(&dir.path().join("2.raw"), 8 * MIB));
    let number = std::process::id();
    let agents = |kind: u8| format!("sr-{kind:08x}{number:08x}");
    let Some(mut living) = traced(what, &one.device, &agents(1), 64) else { return };
    living.cut();
    let files = agent_support::Mount::of(Path::new("nodev"), &dir.path().join("tracing"), &["-t", "tracefs"]);
    let of = |name: &str| files.0.join("instances").join(name);
    let others = format!("sr-{number}-of-somebody");
    for name in [&agents(2), &others] {
        fs::create_dir(of(name)).unwrap();
    }
    drop(Trace::start(&two.device, &unique("next")).unwrap());
    assert!(!of(&agents(2)).exists(), "it is left behind");
    assert!(of(&others).exists(), "it is not an agent's");
    fs::remove_dir(of(&others)).unwrap();
    one.write(2 * BLOCK, &[1; 4096]);
    assert_eq!(told(living.cut()), [2], "one that lives goes on");
}

#[test]
fn agents_that_start_side_by_side_leave_each_other_alone() {
    let what = "traces that begin side by side";
    if !peers(what, &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Loop::over(&dir.path().join("d.raw"), 8 * MIB);
    let Some(_traces) = traced(what, &disk.device, &unique("beside"), 1) else { return };
    std::thread::scope(|scope| {
        for agent in 0..4 {
            let disk = &disk;
            scope.spawn(move || {
                let name = format!("sr-{agent:08x}{:08x}", std::process::id());
                for start in 0..25 {
                    let traced = Trace::with_buffer(&disk.device, &name, 1);
                    assert!(traced.is_ok(), "agent {agent}, start {start}: {traced:?}");
                }
            });
        }
    });
}

#[test]
fn d4_a_trace_that_somebody_switched_off_is_doubted() {
    let what = "a trace that is switched off";
    if !peers(what, &[&PROGRAMS[..], &["mount"]].concat()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Loop::over(&dir.path().join("d.raw"), 8 * MIB);
    let name = unique("off");
    let Some(mut trace) = traced(what, &disk.device, &name, 64) else { return };
    trace.cut();
    let files = agent_support::Mount::of(Path::new("nodev"), &dir.path().join("tracing"), &["-t", "tracefs"]);
    let instance = files.0.join("instances").join(&name);
    fs::write(instance.join("tracing_on"), "0").unwrap();
    disk.write(0, &[1; 4096]);
    assert!(matches!(hint(trace.cut()), Hint::Anything(_)));
    drop(trace);
    assert!(!instance.exists(), "the instance is left behind");
    let again = Trace::start(&disk.device, &name).unwrap();
    let busy = Trace::start(&disk.device, &name).unwrap_err();
    assert_eq!(busy.kind(), site_recovery::ErrorKind::Busy, "{busy}");
    drop(again);
    let none: PathBuf = dir.path().join("d.raw");
    let refused = Trace::start(&none, &unique("none")).unwrap_err();
    assert_eq!(refused.kind(), site_recovery::ErrorKind::Unsupported, "{refused}");
}
