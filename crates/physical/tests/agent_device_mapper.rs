//! Snapshots by device-mapper: what is asked of it, and in which order. It is stood in for: a kernel with it is
//! asked by `tests/live_physical`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use site_recovery::{DiskRole, ErrorKind, Result};
use site_recovery_physical::freeze::{Held, Programs};
use site_recovery_physical::inventory::ServerDisk;
use site_recovery_physical::snapshot::{DeviceMapper, Means, Stack};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const MIB: u64 = 1 << 20;

/// A device-mapper with tables and nothing behind them.
#[derive(Debug)]
struct Mapper {
    tables: Mutex<BTreeMap<String, String>>,
    said: Mutex<Vec<String>>,
    status: Mutex<&'static str>,
}

impl Programs for Mapper {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.said.lock().unwrap().push(format!("{program} {}", arguments.join(" ")));
        let mut tables = self.tables.lock().unwrap();
        match (program, arguments) {
            ("dmsetup", ["table"]) => Ok(tables.iter().map(|(n, t)| format!("{n}: {t}\n")).collect()),
            ("dmsetup", ["table", name]) => Ok(format!("{}\n", tables[*name])),
            (
                "dmsetup",
                ["create", name, "--table", table] | ["--noudevsync", "create", name, "--table", table],
            ) => {
                assert!(tables.insert((*name).to_owned(), table.replace("/dev/sdc", "8:32")).is_none());
                Ok(String::new())
            }
            ("dmsetup", ["status", _]) => Ok((*self.status.lock().unwrap()).to_owned()),
            ("dmsetup", ["remove", "--retry", name]) => {
                assert!(tables.remove(*name).is_some());
                Ok(String::new())
            }
            ("blockdev", ["--getsz", "/dev/sdc"]) => Ok("8192\n".into()),
            ("blkdiscard", ["-z", "-l", "65536", _]) => Ok(String::new()),
            other => panic!("{other:?} is not asked"),
        }
    }
}

fn disk(id: &str, size: u64) -> ServerDisk {
    ServerDisk {
        id: id.into(),
        device: "/dev/sda".into(),
        size,
        sector: 512,
        role: DiskRole::System,
        file_systems: vec![],
        layout: site_recovery_physical::inventory::Layout::default(),
    }
}

fn mapper() -> Arc<Mapper> {
    let tables = [
        ("data", "0 131072 snapshot-origin 253:1"),
        ("era", "0 131072 era 8:16 8:0 128"),
        ("root", "0 8 linear 8:0 0"),
    ];
    Arc::new(Mapper {
        tables: Mutex::new(tables.map(|(n, t)| (n.to_owned(), t.to_owned())).into()),
        said: Mutex::default(),
        status: Mutex::new("0 131072 snapshot 16/4096 16\n"),
    })
}

fn means(mapper: &Arc<Mapper>, room: u64) -> DeviceMapper {
    let stack = Stack { disk: "wwn-1".into(), origin: "data".into(), era: Some("era".into()) };
    let linear = Stack { disk: "wwn-2".into(), origin: "root".into(), era: None };
    DeviceMapper::new(vec![stack, linear], "/dev/sdc", room, Arc::clone(mapper) as _).unwrap()
}

#[test]
fn src_4_a_snapshot_is_made_ready_taken_read_and_removed() {
    let mapper = mapper();
    let means = means(&mapper, MIB);
    let disk = disk("wwn-1", 64 * MIB);
    assert_eq!(means.holds(&disk), [Held::Device("data".into())]);
    let handle = means.plan(&disk, "sr-0123456789abcdef").unwrap();
    mapper.said.lock().unwrap().clear();
    let mut prepared = means.prepare(&disk, &handle).unwrap();
    let before = mapper.said.lock().unwrap().split_off(0);
    assert_eq!(
        before[before.len() - 2..],
        [
            "dmsetup create sr-0123456789abcdef-cow --table 0 2048 linear /dev/sdc 0",
            "blkdiscard -z -l 65536 /dev/mapper/sr-0123456789abcdef-cow",
        ]
    );
    prepared.take().unwrap();
    // The window asks for nothing but this.
    let table = "0 131072 snapshot 253:1 /dev/mapper/sr-0123456789abcdef-cow N 128";
    assert_eq!(
        mapper.said.lock().unwrap().split_off(0),
        [format!("dmsetup --noudevsync create sr-0123456789abcdef --table {table}")]
    );
    // Another try takes another one, in space that is cleared again.
    prepared.again().unwrap();
    prepared.take().unwrap();
    assert_eq!(
        mapper.said.lock().unwrap().split_off(0),
        [
            "dmsetup remove --retry sr-0123456789abcdef".to_owned(),
            "blkdiscard -z -l 65536 /dev/mapper/sr-0123456789abcdef-cow".to_owned(),
            format!("dmsetup --noudevsync create sr-0123456789abcdef --table {table}"),
        ]
    );
    prepared.settle().unwrap();
    assert_eq!(means.open(&handle).unwrap().to_str(), Some("/dev/mapper/sr-0123456789abcdef"));
    means.remove(&handle).unwrap();
    means.remove(&handle).unwrap();
    assert_eq!(mapper.tables.lock().unwrap().len(), 3, "something of ours is left");
    assert_eq!(means.open(&handle).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn src_4_a_snapshot_that_overflowed_is_not_found() {
    let mapper = mapper();
    let means = means(&mapper, MIB);
    let disk = disk("wwn-1", 64 * MIB);
    let handle = means.plan(&disk, "sr-1").unwrap();
    means.prepare(&disk, &handle).unwrap().take().unwrap();
    for lost in ["0 131072 snapshot Invalid\n", "0 131072 snapshot Overflow\n", "\n"] {
        *mapper.status.lock().unwrap() = lost;
        let error = means.open(&handle).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{lost}: {error}");
    }
}

#[test]
fn src_4_scratch_space_is_shared_without_overlap_and_runs_out_aloud() {
    let mapper = mapper();
    let means = means(&mapper, MIB);
    let disk = disk("wwn-1", 64 * MIB);
    let ready = |name: &str| means.plan(&disk, name).and_then(|h| means.prepare(&disk, &h).map(|_| h));
    let four = ["sr-1", "sr-2", "sr-3", "sr-4"].map(|name| ready(name).unwrap());
    let place = |name: &str| mapper.tables.lock().unwrap()[name].clone();
    assert_eq!(place("sr-4-cow"), "0 2048 linear 8:32 6144");
    let error = ready("sr-5").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    means.remove(&four[1]).unwrap();
    ready("sr-5").unwrap();
    assert_eq!(place("sr-5-cow"), "0 2048 linear 8:32 2048");
}

#[test]
fn rol_3_a_stack_that_is_not_as_named_is_refused_before_anything_is_made() {
    let mapper = mapper();
    let means = means(&mapper, MIB);
    for (disk, why) in [
        (disk("wwn-1", 65 * MIB), "bytes"),
        (disk("wwn-2", 64 * MIB), "not a snapshot-origin"),
        (disk("wwn-3", 64 * MIB), "no device-mapper"),
    ] {
        let error = means.plan(&disk, "sr-1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(mapper.tables.lock().unwrap().len(), 3);
    let room = DeviceMapper::new(vec![], "/dev/sdc", 4096, mapper as _).unwrap_err();
    assert_eq!(room.fact("field"), Some("room"));
}
