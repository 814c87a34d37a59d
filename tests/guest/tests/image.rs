//! The guest's image is what tests and examples take it for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use site_recovery_guest::{Inspected, Machine, Running, image, inspect, peers};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A boot is interpreted, on a machine that may have much else to do.
const BOOT: Duration = Duration::from_secs(180);

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        std::fs::copy(image(), ground.disk()).unwrap();
        ground
    }

    fn disk(&self) -> PathBuf {
        self.0.path().join("disk.raw")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn until(running: &Running, ack: &str) {
    running.console.wait_for(BOOT, |line| line == ack).unwrap();
}

#[test]
fn what_a_killed_guest_acknowledged_is_on_its_disk() {
    if !peers("a guest that is killed", &["qemu-system-x86_64", "e2fsck", "debugfs"]) {
        return;
    }
    let ground = Ground::new();
    let machine = Machine::new("A-killed", ground.path());
    let mut running = machine.start(&ground.disk(), "raw").unwrap();
    until(&running, "ACK 20");
    running.kill().unwrap();
    let acknowledged = running.console.acknowledged();
    let Inspected { needs_recovery, replay_clean, quiet, records } = inspect(&ground.disk()).unwrap();
    assert!(needs_recovery && replay_clean && quiet.is_none());
    let count = records.len() as u64;
    assert!(
        (acknowledged..=acknowledged + 1).contains(&count),
        "{count} records, {acknowledged} acknowledged"
    );
    assert!(records.iter().all(|r| r.site == 'A' && r.cause == 0));
}
