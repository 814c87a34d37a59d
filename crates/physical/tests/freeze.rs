//! File systems that are frozen, and never stay so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{Ext4, Loop, Probe, peers, within};
use site_recovery::DiskRole;
use site_recovery_physical::freeze::Freezer;
use site_recovery_physical::inventory::{FileSystem, ServerDisk};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = agent_support::LONG;
const PROGRAMS: [&str; 4] = ["mke2fs", "losetup", "mount", "fsfreeze"];

/// Two small file systems.
struct World {
    one: Ext4,
    other: Ext4,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let disk = Arc::new(Loop::over(&dir.path().join(format!("{name}.img")), 16 << 20));
            Ext4::on(&disk, &dir.path().join(name))
        };
        Self { one: make("one"), other: make("other"), dir }
    }

    fn disks(&self) -> [ServerDisk; 2] {
        [&self.one, &self.other].map(|fs| disk(&fs.disk.device, &fs.at))
    }
}

fn disk(device: &Path, mounted: &Path) -> ServerDisk {
    let on = FileSystem { device: device.into(), mounted: mounted.into(), kind: "ext4".into() };
    ServerDisk {
        id: "d".into(),
        device: device.into(),
        size: 16 << 20,
        sector: 512,
        role: DiskRole::Data,
        layout: Default::default(),
        file_systems: vec![on],
    }
}

#[test]
fn d3_all_are_frozen_at_once_and_go_on_when_they_are_let_go() {
    if !peers("a freeze", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let frozen = Freezer::new(LONG).freeze(&world.disks()).unwrap();
    let (one, other) = (Probe::of(&world.one.at), Probe::of(&world.other.at));
    assert!(one.waits() && other.waits(), "a write went through");
    assert_eq!(frozen.count(), 2);
    assert!(frozen.thaw(), "it was frozen until now");
    one.ends();
    other.ends();
}

#[test]
fn src_5_at_the_limit_all_goes_on_while_we_still_hold_it_and_that_is_told() {
    if !peers("a freeze that lasts too long", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let frozen = Freezer::new(Duration::from_secs(1)).freeze(&world.disks()).unwrap();
    let (one, other) = (Probe::of(&world.one.at), Probe::of(&world.other.at));
    one.ends();
    other.ends();
    assert!(!frozen.thaw(), "the limit was over, and the freeze is told as whole");
}

#[test]
fn src_5_when_one_cannot_be_frozen_none_stays_so() {
    if !peers("a freeze that fails", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let missing = world.dir.path().join("missing");
    let mut disks = world.disks();
    disks[1] = disk(Path::new("/dev/null"), &missing);
    let error = Freezer::new(LONG).freeze(&disks).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    Probe::of(&world.one.at).ends();
    Freezer::new(LONG).freeze(&world.disks()).map(|f| assert!(f.thaw())).unwrap();
}

#[test]
fn src_5_dropped_without_a_word_all_goes_on() {
    if !peers("a freeze that is dropped", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let frozen = Freezer::new(LONG).freeze(&world.disks()).unwrap();
    let probe = Probe::of(&world.one.at);
    assert!(probe.waits());
    drop(frozen);
    probe.ends();
}

/// What the killed process is asked to do, by its environment.
const FREEZE: &str = "SITE_RECOVERY_TEST_FREEZE";

/// Not a test of its own: the process that is killed.
#[test]
fn a_process_that_freezes_and_hangs() {
    let Ok(asked) = std::env::var(FREEZE) else { return };
    let paths: Vec<&Path> = asked.split(':').map(Path::new).collect();
    let disks = [disk(paths[0], paths[1]), disk(paths[2], paths[3])];
    let _frozen = Freezer::new(LONG * 10).freeze(&disks).unwrap();
    fs::write(paths[4], "").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn src_5_nothing_stays_frozen_when_the_agent_is_killed() {
    if !peers("a killed agent", &PROGRAMS) {
        return;
    }
    let world = World::new();
    let signal = world.dir.path().join("frozen");
    let paths = [&world.one.disk.device, &world.one.at, &world.other.disk.device, &world.other.at, &signal];
    let asked = paths.map(|p| p.to_str().unwrap()).join(":");
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_freezes_and_hangs"])
        .env(FREEZE, asked)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    within(LONG, "frozen by another process", || {
        assert_eq!(agent.try_wait().unwrap(), None, "it ended before it froze");
        signal.exists()
    });
    let (one, other) = (Probe::of(&world.one.at), Probe::of(&world.other.at));
    assert!(one.waits() && other.waits(), "a write went through");
    agent.kill().unwrap();
    agent.wait().unwrap();
    one.ends();
    other.ends();
}
