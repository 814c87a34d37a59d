//! Trees of files as the kernel and systems show them, written after real ones of each shape.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs; a test that cannot go on fails"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const GIB: u64 = 1 << 30;
pub const KERNEL: &str = "6.1.0-18-amd64";

pub struct Tree(TempDir);

impl Tree {
    /// A server without disks: what every one has.
    pub fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.file("proc/sys/kernel/hostname", "web-1\n");
        tree.file("proc/sys/kernel/osrelease", format!("{KERNEL}\n"));
        tree.file("proc/meminfo", "MemTotal:        8000000 kB\nMemFree:          100 kB\n");
        tree.file("sys/devices/system/cpu/online", "0-2,6\n");
        tree.file("usr/lib/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        tree.dir("etc");
        tree.link("etc/os-release", "../usr/lib/os-release");
        tree.mounts("");
        tree
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn file(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn dir(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub fn link(&self, path: &str, to: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    /// What is mounted, beside what has no device.
    pub fn mounts(&self, lines: &str) {
        let fixed = "22 27 0:21 / /proc rw,relatime - proc proc rw\n23 27 0:22 / /sys rw - sysfs sysfs rw\n";
        self.file("proc/self/mountinfo", format!("{fixed}{lines}"));
    }

    /// A device at `place` below `/sys/devices`, with a link to it in `/sys/block`.
    pub fn device(&self, place: &str, number: &str, size: u64, attributes: &[(&str, &str)]) {
        let name = place.rsplit('/').next().unwrap();
        let dir = format!("sys/devices/{place}");
        self.file(&format!("{dir}/dev"), format!("{number}\n"));
        self.file(&format!("{dir}/size"), format!("{}\n", size / 512));
        for (attribute, value) in [("removable", "0"), ("ro", "0"), ("queue/logical_block_size", "512")] {
            self.file(&format!("{dir}/{attribute}"), format!("{value}\n"));
        }
        for (attribute, value) in attributes {
            self.file(&format!("{dir}/{attribute}"), format!("{value}\n"));
        }
        self.dir(&format!("{dir}/slaves"));
        self.link(&format!("sys/block/{name}"), &format!("../devices/{place}"));
    }

    /// A SATA disk.
    pub fn sata(&self, name: &str, number: &str, size: u64, wwid: &str) {
        let place = format!("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/{name}");
        self.device(&place, number, size, &[("device/type", "0"), ("device/wwid", wwid)]);
    }

    pub fn part(&self, disk: &str, name: &str, number: &str, size: u64) {
        let dir = format!("sys/block/{disk}/{name}");
        self.file(&format!("{dir}/partition"), "1\n");
        self.file(&format!("{dir}/dev"), format!("{number}\n"));
        self.file(&format!("{dir}/size"), format!("{}\n", size / 512));
    }

    /// A device that the kernel makes of others.
    pub fn made(&self, name: &str, number: &str, size: u64, on: &[&str], attributes: &[(&str, &str)]) {
        self.device(&format!("virtual/block/{name}"), number, size, attributes);
        for slave in on {
            self.file(&format!("sys/devices/virtual/block/{name}/slaves/{slave}"), "");
        }
    }

    /// What udev recognised.
    pub fn udev(&self, number: &str, properties: &str) {
        self.file(
            &format!("run/udev/data/b{number}"),
            format!("S:disk/by-x\nI:1\n{properties}\nG:systemd\n"),
        );
    }

    pub fn adapter(&self, name: &str, mac: &str, driver: &str) {
        let dir = format!("sys/class/net/{name}");
        self.file(&format!("{dir}/address"), format!("{mac}\n"));
        self.file(&format!("{dir}/type"), "1\n");
        self.link(&format!("{dir}/device/driver"), &format!("../../../../bus/pci/drivers/{driver}"));
    }

    pub fn route(&self, name: &str) {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let lines = format!(
            "eth9\t00000000\t010200C0\t0003\t0\t0\t900\t00000000\t0\t0\t0\n{name}\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        );
        self.file("proc/net/route", format!("{head}{lines}"));
    }

    /// What systemd starts.
    pub fn enabled(&self, service: &str) {
        let path = format!("etc/systemd/system/multi-user.target.wants/{service}");
        self.link(&path, &format!("/usr/lib/systemd/system/{service}"));
    }
}

/// One part of an initramfs that holds files of these names, each with some bytes.
pub fn cpio(names: &[&str]) -> Vec<u8> {
    let mut bytes = vec![];
    let all = names.iter().map(|n| (*n, format!("content of {n}"))).chain([("TRAILER!!!", String::new())]);
    for (name, content) in all {
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(b"070701");
        let numbers = [1, 0o100644, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        numbers.iter().for_each(|n| bytes.extend(format!("{n:08x}").as_bytes()));
        bytes.extend(name.as_bytes());
        bytes.push(0);
        pad(&mut bytes);
        bytes.extend(content.as_bytes());
        pad(&mut bytes);
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Whether this program is here. Says so where not, and fails where it has to be.
pub fn peer(what: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if places.into_iter().any(|dir| dir.join(program).is_file()) {
        return true;
    }
    println!("SKIPPED {what}: {program} is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{program} is required");
    false
}

/// What a program packs of these bytes.
pub fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plain");
    fs::write(&file, bytes).unwrap();
    let output = std::process::Command::new(program).arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
