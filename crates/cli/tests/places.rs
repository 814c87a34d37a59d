//! Points as block devices, and a journal whose disk is full.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Ground, ended, signal};

/// Whether a program is here; else the test is told as skipped, and fails where peers are required.
fn is_here(what: &str, program: &str) -> bool {
    let here = Command::new(program).arg("--version").output().is_ok();
    if !here {
        println!("SKIPPED {what}: {program} is absent");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{program} is required");
    }
    here
}

#[test]
fn a_point_is_read_by_qemu_img_until_ctrl_c() {
    if !is_here("a point over NBD", "qemu-img") {
        return;
    }
    let ground = Ground::new();
    ground.machine("web", 2);
    ground.run("protect web").with(0);
    let at_first = ground.disks("here", "web");
    ground.write("here", "web", 0, "later");
    ground.run("replicate web").with(0);
    // With a daemon, the daemon serves; without one, the command does.
    for daemon in [false, true] {
        let holder = daemon.then(|| {
            let mut holder = ground.start("run");
            let mut lines = BufReader::new(holder.stderr.take().unwrap()).lines().map_while(Result::ok);
            assert!(lines.any(|line| line.contains("running")));
            (holder, lines)
        });
        let socket = ground.path("point.sock");
        let mut export = ground.start(&format!("export web 1 --listen {}", socket.display()));
        let lines = BufReader::new(export.stderr.take().unwrap()).lines().map_while(Result::ok);
        let uris: Vec<String> = lines
            .take_while(|line| !line.starts_with("until"))
            .filter_map(|line| line.strip_prefix("serving ").map(str::to_owned))
            .collect();
        for (disk, bytes) in [("root", &at_first[0]), ("data", &at_first[1])] {
            let uri = uris.iter().find(|uri| uri.contains(&format!("web/{disk}@1")) || uri.contains(disk)).unwrap();
            let copy = ground.path("copy.raw");
            let copied = Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "raw", uri]).arg(&copy).status();
            assert!(copied.unwrap().success());
            assert!(fs::read(&copy).unwrap() == *bytes, "{disk} has other bytes");
        }
        signal(&export, Signal::INT);
        ended(export).with(0);
        assert!(!socket.exists());
        if let Some((holder, lines)) = holder {
            signal(&holder, Signal::TERM);
            assert!(lines.count() > 0);
            ended(holder).with(0);
        }
    }
}

/// A small file system in memory. Taken down when it is dropped.
struct Volume(PathBuf);

impl Volume {
    fn at(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        if !mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path) {
            println!("SKIPPED a full disk under the journal: nothing can be mounted here");
            assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "root is required");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(words: &[&str], at: &Path) -> bool {
    Command::new("mount").args(words).arg(at).status().is_ok_and(|status| status.success())
}

#[test]
fn d1_a_full_disk_under_the_journal_is_told_and_what_was_begun_goes_on() {
    let ground = Ground::new();
    fs::remove_dir_all(ground.path("state")).unwrap();
    let Some(volume) = Volume::at(ground.path("state"), "4m") else { return };
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    let filler = volume.0.join("filler");
    let mut wrote = 0;
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {
        wrote += 1;
    }
    assert!(wrote > 0);
    drop(file);
    let full = ground.run("failover web");
    assert_eq!(full.code, 10, "{}", full.err);
    assert!(full.err.contains("journal") && full.err.contains("make room"), "{}", full.err);
    fs::remove_file(filler).unwrap();
    // Whatever had begun is gone on with, or can be asked for again.
    let next = ground.run("failover web");
    assert!([0, 3].contains(&next.code), "{} {}", next.out, next.err);
    assert_eq!(ground.phase("web"), "PlannedFailoverCompleted");
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
    drop(volume);
}
