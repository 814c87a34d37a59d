//! A guest goes to Azure and comes home. It runs in QEMU on the bytes of either side: there on the VHD of its managed disk.

use crate::circle::{commit, fail_over, reprotect};
use crate::ground::{BACK, Ground, Life, OUT, PAGE};
use crate::here::Here;
use site_recovery_guest::{Machine, inspect, peers};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROGRAMS: [&str; 3] = ["qemu-system-x86_64", "e2fsck", "debugfs"];
/// Interpreted, on a busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// Runs the guest from a disk until it has written ten records more, and cuts its power. How many it found at its start, and how
/// many it has acknowledged since.
fn runs(disk: &Path, format: &str) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Machine::new("A", dir.path()).start(disk, format).unwrap();
    let found = running.console.wait_for(BOOT, |line| line.starts_with("RESUME ")).unwrap();
    let found: u64 = found.trim_start_matches("RESUME ").parse().unwrap();
    let wanted = format!("ACK {}", found + 10);
    running.console.wait_for(BOOT, |line| line == wanted).unwrap();
    running.kill().unwrap();
    let wrong = running.console.lines().into_iter().find(|line| line.starts_with("CORRUPT"));
    assert_eq!(wrong, None);
    (found, running.console.acknowledged())
}

/// All that was acknowledged, and one record more where the power went between the two.
fn holds(count: u64, acknowledged: u64, when: &str) {
    let right = acknowledged..=acknowledged + 1;
    assert!(right.contains(&count), "{when}: {count} records, {acknowledged} acknowledged");
}

impl Life {
    fn its_disk(&self) -> PathBuf {
        match &self.here {
            Here::Directory { web, .. } => web.join("root.raw"),
            Here::Server { .. } => unreachable!("it stands in a directory"),
        }
    }

    /// Writes to the disk in the cloud what a guest has written to its VHD.
    fn takes_over(&self, vhd: &Path) -> u64 {
        let name = self.in_the_cloud().unwrap();
        let (there, mut file) = (self.cloud.content(&name, 0), File::open(vhd).unwrap());
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut written = 0;
        let mut page = vec![0; PAGE as usize];
        for (n, was) in there.chunks(PAGE as usize).enumerate() {
            file.read_exact(&mut page).unwrap();
            if page != was {
                self.cloud.write(&name, 0, n as u64 * PAGE, &page);
                written += 1;
            }
        }
        written * PAGE
    }
}

#[test]
fn d9_a_guest_runs_from_what_was_imported_and_comes_home_with_what_it_wrote() {
    if !peers("a guest that goes to Azure", &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let vhd = dir.path().join("managed.vhd");
    let ground = Ground::of_a_guest(&site_recovery_guest::image());
    let root = ground.live(async |life| life.its_disk());
    let (found, acknowledged) = runs(&root, "raw");
    assert_eq!(found, 0, "it is new");

    ground.live(async |life| {
        life.protect().await.unwrap();
        fail_over(life, OUT).await.unwrap();
        life.both_sides_are_the_same("failed over").await;
        let disk = &life.cloud.disks_of(&life.in_the_cloud().unwrap())[0];
        life.cloud.manager.disk(disk).unwrap().with_footer().to_file(&vhd).unwrap();
    });
    let (found, more) = runs(&vhd, "vpc");
    holds(found, acknowledged, "at its start in the cloud");

    ground.live(async |life| {
        commit(life, false).await.unwrap();
        let written = life.takes_over(&vhd);
        assert!(written > 0, "it wrote nothing");
        reprotect(life, BACK, false).await.unwrap();
        fail_over(life, BACK).await.unwrap();
        life.both_sides_are_the_same("failed back").await;
        println!("{acknowledged} records here, {more} there, which wrote {written} bytes");
    });
    let copy = dir.path().join("root.raw");
    fs::copy(&root, &copy).unwrap();
    let inspected = inspect(&copy).unwrap();
    holds(inspected.records.len() as u64, more, "on the disk that came home");
    let (found, _) = runs(&root, "raw");
    holds(found, more, "at its start at home");
}
