//! The machine that the tests run on, beside what its own programs say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod inventory_tree;

use inventory_tree::peer;
use serde_json::Value;
use site_recovery_physical::inventory::{Inventory, WhyLeftOut};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device over a file of its own, for as long as it is kept.
struct Loop {
    device: String,
    file: PathBuf,
    mounted: Option<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Loop {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk.img");
        std::fs::File::create(&file).unwrap().set_len(size).unwrap();
        let device = run("losetup", &["--find", "--show", "--partscan", file.to_str().unwrap()]);
        Self { device, file, mounted: None, _dir: dir }
    }

    fn mount(&mut self, at: &Path) {
        run("mkfs.ext4", &["-q", &self.device]);
        std::fs::create_dir(at).unwrap();
        run("mount", &[&self.device, at.to_str().unwrap()]);
        self.mounted = Some(at.to_owned());
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Some(at) = &self.mounted {
            let _ = Command::new("umount").arg(at).status();
        }
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

#[test]
fn its_disks_are_those_that_lsblk_tells() {
    if !peer("the oracle of disks", "lsblk") {
        return;
    }
    let columns = "NAME,TYPE,SIZE,LOG-SEC,RO,RM";
    let told: Value =
        serde_json::from_str(&run("lsblk", &["--json", "--bytes", "--nodeps", "-o", columns])).unwrap();
    let is = |v: &Value| v == &Value::Bool(true) || v == "1";
    let mut told: Vec<(String, u64, u64)> = told["blockdevices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["type"] == "disk" && !is(&d["ro"]) && !is(&d["rm"]))
        // lsblk takes memory for disks.
        .filter(|d| !["zram", "ram", "nbd"].iter().any(|m| d["name"].as_str().unwrap().starts_with(m)))
        .map(|d| {
            let name = format!("/dev/{}", d["name"].as_str().unwrap());
            (name, d["size"].as_u64().unwrap(), d["log-sec"].as_u64().unwrap())
        })
        .filter(|(_, size, _)| *size > 0)
        .collect();
    told.sort();
    let server = Inventory::here().unwrap().read().unwrap();
    let mut ours: Vec<_> =
        server.disks.iter().map(|d| (d.device.display().to_string(), d.size, u64::from(d.sector))).collect();
    ours.sort();
    assert_eq!(ours, told);
    assert!(server.memory > 64 * MIB);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    assert_eq!(server.cpus as usize, cpus.lines().filter(|l| l.starts_with("processor")).count());
}

#[test]
fn its_addresses_are_those_that_ip_tells() {
    if !peer("the oracle of addresses", "ip") {
        return;
    }
    let told: Value = serde_json::from_str(&run("ip", &["-j", "addr"])).unwrap();
    let server = Inventory::here().unwrap().read().unwrap();
    for adapter in &server.adapters {
        let link = told.as_array().unwrap().iter().find(|l| l["ifname"] == adapter.name.as_str()).unwrap();
        assert_eq!(link["address"].as_str(), adapter.mac.as_deref());
        let global = link["addr_info"].as_array().unwrap().iter().filter(|a| a["scope"] == "global");
        let mut global: Vec<_> = global.map(|a| a["local"].as_str().unwrap()).collect();
        let mut ours = adapter.addresses.clone();
        global.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, global, "{}", adapter.name);
    }
}

#[test]
fn a_named_loop_device_and_what_is_mounted_from_it() {
    if !peer("loop devices", "losetup") {
        return;
    }
    let mut named = Loop::new(64 * MIB);
    let unnamed = Loop::new(8 * MIB);
    let at = named.file.with_file_name("mnt with space");
    named.mount(&at);
    let server = Inventory::here().unwrap().only([&named.file]).read().unwrap();
    assert_eq!(server.disks.len(), 1);
    let disk = &server.disks[0];
    assert_eq!(disk.id, format!("loop:{}", named.file.display()));
    assert_eq!((disk.device.to_str().unwrap(), disk.size), (named.device.as_str(), 64 * MIB));
    assert!(disk.layout.stable);
    assert_eq!(disk.file_systems.len(), 1);
    let found = &disk.file_systems[0];
    assert_eq!((found.mounted.as_path(), found.kind.as_str()), (at.as_path(), "ext4"));
    assert_eq!(found.device.to_str().unwrap(), named.device);
    let left = server.left_out.iter().find(|l| l.device.to_str() == Some(&unnamed.device)).unwrap();
    assert_eq!(left.why, WhyLeftOut::NotNamed);
    let server = Inventory::here().unwrap().read().unwrap();
    assert!(server.disks.iter().all(|d| d.device.to_str() != Some(&named.device)));
}
