//! Snapshots by device-mapper: what is asked of it, and in which order. It is stood in for: a kernel with it is
//! asked by `tests/live_physical`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use site_recovery::{DiskRole, ErrorKind, Result};
use site_recovery_physical::freeze::{Held, Programs};
use site_recovery_physical::inventory::ServerDisk;
use site_recovery_physical::snapshot::{DeviceMapper, Handle, Means, Stack};
use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod agent_support;

use agent_support::{Loop, Mount, peers, run};

const MIB: u64 = 1 << 20;
/// Scratch space is a loop device.
const NEEDED: [&str; 4] = ["losetup", "blockdev", "mke2fs", "mount"];

/// Scratch space of five MiB, one of which is the label's; everything else is stood in for.
fn scratch(dir: &tempfile::TempDir) -> Loop {
    Loop::over(&dir.path().join("scratch.raw"), 5 * MIB)
}

/// A device-mapper with tables and nothing behind them.
#[derive(Debug)]
struct Mapper {
    tables: Mutex<BTreeMap<String, String>>,
    said: Mutex<Vec<String>>,
    status: Mutex<&'static str>,
    _dir: tempfile::TempDir,
    scratch: Loop,
}

impl Mapper {
    fn scratch(&self) -> &str {
        self.scratch.device.to_str().unwrap()
    }
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
                assert!(tables.insert((*name).to_owned(), table.replace(self.scratch(), "8:32")).is_none());
                Ok(String::new())
            }
            ("dmsetup", ["status", _]) => Ok((*self.status.lock().unwrap()).to_owned()),
            ("dmsetup", ["remove", "--retry", name]) => {
                assert!(tables.remove(*name).is_some());
                Ok(String::new())
            }
            ("blockdev", ["--getsz", device]) if *device == self.scratch() => Ok("10240\n".into()),
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
    let dir = tempfile::tempdir().unwrap();
    let scratch = scratch(&dir);
    Arc::new(Mapper {
        _dir: dir,
        scratch,
        tables: Mutex::new(tables.map(|(n, t)| (n.to_owned(), t.to_owned())).into()),
        said: Mutex::default(),
        status: Mutex::new("0 131072 snapshot 16/4096 16\n"),
    })
}

fn means(mapper: &Arc<Mapper>, room: u64) -> DeviceMapper {
    let stack = Stack { disk: "wwn-1".into(), origin: "data".into(), era: Some("era".into()) };
    let linear = Stack { disk: "wwn-2".into(), origin: "root".into(), era: None };
    DeviceMapper::new(vec![stack, linear], mapper.scratch(), room, Arc::clone(mapper) as _).unwrap()
}

#[test]
fn src_4_a_snapshot_is_made_ready_taken_read_and_removed() {
    if !peers("src_4_a_snapshot_is_made_ready_taken_read_and_removed", &NEEDED) {
        return;
    }
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
            format!("dmsetup create sr-0123456789abcdef-cow --table 0 2048 linear {} 2048", mapper.scratch()),
            "blkdiscard -z -l 65536 /dev/mapper/sr-0123456789abcdef-cow".to_owned(),
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
    if !peers("src_4_a_snapshot_that_overflowed_is_not_found", &NEEDED) {
        return;
    }
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
    if !peers("src_4_scratch_space_is_shared_without_overlap_and_runs_out_aloud", &NEEDED) {
        return;
    }
    let mapper = mapper();
    let means = means(&mapper, MIB);
    let disk = disk("wwn-1", 64 * MIB);
    let ready = |name: &str| means.plan(&disk, name).and_then(|h| means.prepare(&disk, &h).map(|_| h));
    let four = ["sr-1", "sr-2", "sr-3", "sr-4"].map(|name| ready(name).unwrap());
    let place = |name: &str| mapper.tables.lock().unwrap()[name].clone();
    assert_eq!(place("sr-4-cow"), "0 2048 linear 8:32 8192");
    let error = ready("sr-5").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    means.remove(&four[1]).unwrap();
    ready("sr-5").unwrap();
    assert_eq!(place("sr-5-cow"), "0 2048 linear 8:32 4096");
}

#[test]
fn rol_3_a_stack_that_is_not_as_named_is_refused_before_anything_is_made() {
    if !peers("rol_3_a_stack_that_is_not_as_named_is_refused_before_anything_is_made", &NEEDED) {
        return;
    }
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
    let new =
        |scratch: &str, room| DeviceMapper::new(vec![], scratch, room, Arc::clone(&mapper) as _).unwrap_err();
    assert_eq!(new("/dev/sdc", 4096).fact("field"), Some("room"));
    assert_eq!(new("sdc", MIB).fact("field"), Some(SCRATCH));
}

const SCRATCH: &str = "capture.device_mapper.scratch";

/// What is refused leaves every byte of scratch space, and is refused before device-mapper is asked to make anything.
fn refused(mapper: &Arc<Mapper>, scratch: &Path, why: &str) {
    let before = std::fs::read(scratch).unwrap_or_default();
    let stack = Stack { disk: "wwn-1".into(), origin: "data".into(), era: None };
    let means = DeviceMapper::new(vec![stack], scratch, MIB, Arc::clone(mapper) as _).unwrap();
    let disk = disk("wwn-1", 64 * MIB);
    let handle = Handle { means: means.name().into(), name: "sr-1".into(), path: "/dev/mapper/sr-1".into() };
    for error in [
        means.look().unwrap_err(),
        means.plan(&disk, "sr-1").unwrap_err(),
        means.prepare(&disk, &handle).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some(SCRATCH)), "{error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    assert!(std::fs::read(scratch).unwrap_or_default() == before, "{why}: its bytes changed");
    assert_eq!(mapper.tables.lock().unwrap().len(), 3, "{why}: something was made");
}

#[test]
fn src_4_what_is_on_scratch_space_is_never_overwritten() {
    if !peers("src_4_what_is_on_scratch_space_is_never_overwritten", &NEEDED) {
        return;
    }
    let mapper = mapper();
    let scratch = &mapper.scratch;
    // A partition table, as `sfdisk` writes it: the mark at the end of the first sector.
    scratch.write(446, &[0, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    scratch.write(510, &[0x55, 0xaa]);
    refused(&mapper, &scratch.device, "a partition table");
    scratch.write(0, &vec![0; MIB as usize]);
    // The other end of a disk counts, too.
    scratch.write(5 * MIB - 512, b"EFI PART");
    refused(&mapper, &scratch.device, "the end of a GUID partition table");
    scratch.write(5 * MIB - 512, &[0; 512]);
    run("mke2fs", &["-q", "-F", "-t", "ext4", scratch.device.to_str().unwrap()]);
    refused(&mapper, &scratch.device, "an ext file system");
    let at = mapper._dir.path().join("mounted");
    let mounted = Mount::of(&scratch.device, &at, &[]);
    std::fs::write(at.join("theirs"), "their bytes").unwrap();
    refused(&mapper, &scratch.device, "an ext file system");
    assert_eq!(std::fs::read_to_string(at.join("theirs")).unwrap(), "their bytes");
    drop(mounted);
    scratch.write(0, b"whatever this is, somebody wrote it");
    scratch.write(0x438, &[0, 0]);
    refused(&mapper, &scratch.device, "not known here");
    let file = mapper._dir.path().join("file");
    std::fs::write(&file, "no device").unwrap();
    refused(&mapper, &file, "it is a block device");
}

#[test]
fn src_4_scratch_space_is_labelled_once_and_what_is_made_on_it_later_shows() {
    if !peers("src_4_scratch_space_is_labelled_once_and_what_is_made_on_it_later_shows", &NEEDED) {
        return;
    }
    let mapper = mapper();
    let means = means(&mapper, MIB);
    let disk = disk("wwn-1", 64 * MIB);
    let empty = mapper.scratch.content();
    assert!(!means.look().unwrap());
    let handle = means.plan(&disk, "sr-1").unwrap();
    assert!(mapper.scratch.content() == empty, "a look labels nothing");
    means.prepare(&disk, &handle).unwrap();
    let labelled = mapper.scratch.content();
    assert!(labelled.starts_with(b"site-recovery scratch space 1\n"));
    assert!(labelled[MIB as usize..] == empty[MIB as usize..]);
    // What snapshots keep is beyond it, whatever it looks like.
    mapper.scratch.write(MIB, b"SnAp");
    mapper.scratch.write(5 * MIB - 512, b"EFI PART");
    means.remove(&handle).unwrap();
    assert!(means.look().unwrap());
    means.prepare(&disk, &means.plan(&disk, "sr-2").unwrap()).unwrap();
    means.remove(&Handle { name: "sr-2".into(), ..handle }).unwrap();
    assert_eq!(mapper.scratch.content()[..MIB as usize], labelled[..MIB as usize]);
    run("mke2fs", &["-q", "-F", "-t", "ext4", mapper.scratch()]);
    refused(&mapper, &mapper.scratch.device, "an ext file system");
}

#[test]
fn src_4_scratch_space_that_somebody_has_is_refused_also_where_it_reads_as_empty() {
    if !peers("src_4_scratch_space_that_somebody_has_is_refused_also_where_it_reads_as_empty", &NEEDED) {
        return;
    }
    let mapper = mapper();
    // As the kernel does for a mount, a volume, an array, or swap.
    let device = &mapper.scratch.device;
    let alone = std::fs::OpenOptions::new().write(true).custom_flags(libc_excl()).open(device).unwrap();
    refused(&mapper, device, "nobody uses it");
    drop(alone);
    let opened = || DeviceMapper::new(vec![], device, MIB, Arc::clone(&mapper) as _);
    let mut fits = opened();
    // A child that another test has forked this moment has all that is open here, until it becomes a program.
    for _ in 0..1_000 {
        if fits.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        fits = opened();
    }
    assert!(!fits.unwrap().look().unwrap());
}

fn libc_excl() -> i32 {
    rustix::fs::OFlags::EXCL.bits() as i32
}

/// By the program: nothing is enrolled, and nothing is asked of device-mapper.
#[cfg(feature = "agent")]
#[test]
fn check_tells_how_scratch_space_stands_before_anything_is_written() {
    if !peers("check_tells_how_scratch_space_stands", &NEEDED) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let scratch = scratch(&dir);
    let config = dir.path().join("agent.toml");
    let text = format!(
        "[service]\nstate = {:?}\nlisten = \"127.0.0.1:0\"\naddress = \"web-1:1\"\n\
         [server]\nsite = \"hall-1\"\nname = \"web-1\"\n\
         [capture.device_mapper]\nscratch = {:?}\nroom_bytes = {MIB}\nstacks = []\n",
        dir.path().join("state"),
        scratch.device,
    );
    std::fs::write(&config, text).unwrap();
    let check = || {
        let mut agent = std::process::Command::new(env!("CARGO_BIN_EXE_site-recovery-agent"));
        let ran = agent.arg("--config").arg(&config).arg("check").output().unwrap();
        (ran.status.success(), String::from_utf8(ran.stdout).unwrap())
    };
    let device = scratch.device.to_str().unwrap();
    let before = scratch.content();
    let (_, said) = check();
    assert!(said.contains(&format!("{device} would be labelled as scratch space")), "{said}");
    assert!(said.contains(&format!("{device} is left out: scratch space of captures")), "{said}");
    run("mke2fs", &["-q", "-F", "-t", "ext4", device]);
    let theirs = scratch.content();
    let (fine, said) = check();
    assert!(!fine && said.contains("capture.scratch") && said.contains("an ext file system"), "{said}");
    assert!(before != theirs && scratch.content() == theirs, "a look changes nothing");
}
