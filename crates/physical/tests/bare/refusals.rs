use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, BareServer, Slot, Switched};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A server of two devices, one for a system, one for data.
struct Hardware {
    dir: TempDir,
    server: Arc<FakeServer>,
    loops: Vec<Loop>,
    files: Vec<PathBuf>,
}

impl Hardware {
    fn new(sizes: &[u64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |(at, size): (usize, &u64)| {
            let path = dir.path().join(format!("disk-{at}"));
            std::fs::File::create(&path).unwrap().set_len(*size).unwrap();
            path
        };
        let files: Vec<PathBuf> = sizes.iter().enumerate().map(file).collect();
        let loops = files.iter().map(|f| Loop::over(f)).collect();
        Self { server: FakeServer::new(TELLS, false), dir, loops, files }
    }

    fn site(&self) -> BareDisks {
        let slot =
            |(at, device): (usize, &Loop)| Slot { id: format!("serial-{at}"), path: device.path.clone() };
        let server = BareServer {
            name: "web-1".into(),
            slots: self.loops.iter().enumerate().map(slot).collect(),
            firmware: Some(Firmware::Bios),
            starter: Arc::new(Switched(self.server.clone())),
        };
        let state = self.dir.path().join("state");
        BareDisks::builder("hall-1".into(), state, Arc::new(SystemClock)).server(server).open().unwrap()
    }
}

fn web(disks: &[(&str, u64)]) -> Machine {
    machine("m-web", "hall-1", "web-1", disks)
}

fn by_size() -> Settings {
    let mut settings = Settings::default();
    settings.site.insert("match".into(), "size".into());
    settings
}

fn with(mut settings: Settings, key: &str, value: &str) -> Settings {
    settings.site.insert(key.into(), value.into());
    settings
}

fn codes(survey: &Survey) -> Vec<String> {
    survey.findings.iter().filter(|f| f.severity > Severity::Info).map(|f| f.code.clone()).collect()
}

/// A file system on a device, mounted; unmounted when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &Path, at: &Path) -> Self {
        let done = |program: &str, arguments: &[&Path]| {
            let ran = Command::new(program).args(arguments).output().unwrap();
            assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
        };
        done("mke2fs", &[Path::new("-q"), device]);
        std::fs::create_dir_all(at).unwrap();
        done("mount", &[device, at]);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_in_use_is_refused_by_name_and_nothing_is_written() {
    if !is_here("mke2fs", "what is mounted, and what is found on a disk") {
        return;
    }
    let hardware = Hardware::new(&[4 * MIB, 2 * MIB]);
    let (site, web) = (hardware.site(), web(&[("root", 4 * MIB), ("data", MIB)]));
    let mounted = Mounted::new(&hardware.loops[1].path, &hardware.dir.path().join("mnt"));
    let survey = site.survey(&web, &by_size()).await.unwrap();
    assert!(codes(&survey).contains(&"landing.busy".to_owned()), "{survey:?}");
    let attach = async || site.attach(&op("a"), &web, Some(web.instance.clone()), &by_size()).await;
    let error = attach().await.unwrap_err();
    assert_eq!((error.kind(), error.fact("disk")), (ErrorKind::Busy, Some("serial-1")), "{error}");
    assert!(!hardware.dir.path().join("state/servers/web-1/landing.json").exists());
    drop(mounted);
    attach().await.unwrap();
    // While something lands on it nobody mounts it, and no second process lands there.
    let at = hardware.dir.path().join("mnt");
    let refused = Command::new("mount").arg(&hardware.loops[1].path).arg(&at).output().unwrap();
    assert!(!refused.status.success(), "it was mounted while something lands on it");
    let second = hardware.site();
    let busy = second.attach(&op("b"), &web, Some(web.instance.clone()), &by_size()).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
    site.detach(&op("d"), &web.instance).await.unwrap();
    second.attach(&op("b"), &web, Some(web.instance.clone()), &by_size()).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_somebody_has_for_a_moment_is_waited_for() {
    use std::os::unix::fs::OpenOptionsExt;
    let hardware = Hardware::new(&[2 * MIB]);
    let (site, web) = (hardware.site(), web(&[("root", 2 * MIB)]));
    let alone = rustix::fs::OFlags::EXCL.bits() as i32;
    let holder =
        std::fs::OpenOptions::new().read(true).custom_flags(alone).open(&hardware.loops[0].path).unwrap();
    let goes = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        drop(holder);
    });
    site.attach(&op("a"), &web, Some(web.instance.clone()), &by_size()).await.unwrap();
    goes.join().unwrap();
}

#[tokio::test]
async fn a_survey_tells_what_is_in_the_way_and_what_lands_where() {
    if !is_here("mke2fs", "what is mounted, and what is found on a disk") {
        return;
    }
    let hardware = Hardware::new(&[4 * MIB, 2 * MIB, 8 * MIB]);
    let site = hardware.site();
    let small = web(&[("root", 4 * MIB), ("data", MIB)]);
    assert!(codes(&site.survey(&small, &by_size()).await.unwrap()).is_empty());
    let told = site.survey(&small, &by_size()).await.unwrap().findings;
    let says = |part: &str| told.iter().any(|f| f.cause.contains(part));
    assert!(says("disk root lands on serial-0") && says("disk data lands on serial-1"), "{told:?}");
    assert!(says("slot serial-2 (8388608 bytes) is free"), "{told:?}");

    let uefi = Machine { firmware: Firmware::Uefi { secure_boot: true }, ..small.clone() };
    assert_eq!(codes(&site.survey(&uefi, &by_size()).await.unwrap()), ["landing.firmware"]);
    let unmatched = site.survey(&small, &Settings::default()).await.unwrap();
    assert_eq!(codes(&unmatched), ["landing.disk"], "{unmatched:?}");
    let large = web(&[("root", 16 * MIB)]);
    assert_eq!(codes(&site.survey(&large, &by_size()).await.unwrap()), ["landing.disk"]);
    let stranger = machine("m-db", "hall-1", "db-1", &[("root", MIB)]);
    assert_eq!(codes(&site.survey(&stranger, &by_size()).await.unwrap()), ["landing.server"]);
    let odd = site.survey(&small, &with(by_size(), "colour", "red")).await.unwrap();
    assert_eq!(codes(&odd), ["setting.site.colour"]);
    let sector = site.survey(&small, &with(by_size(), "sector", "4096")).await.unwrap();
    assert_eq!(codes(&sector), ["landing.sector", "landing.sector"]);

    // What a RAID controller left at the end, and a file system.
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(&hardware.loops[0].path).unwrap();
    file.write_all_at(&[0xde, 0x11, 0xde, 0x11], 4 * MIB - 512).unwrap();
    file.sync_all().unwrap();
    drop(Mounted::new(&hardware.loops[1].path, &hardware.dir.path().join("mnt")));
    let survey = site.survey(&small, &by_size()).await.unwrap();
    assert_eq!(codes(&survey), ["landing.foreign", "landing.foreign"]);
    let causes: String = survey.findings.iter().map(|f| f.cause.as_str()).collect();
    assert!(causes.contains("RAID controller (DDF)") && causes.contains("an ext file system"), "{causes}");
}

#[tokio::test]
async fn s4_a_server_that_is_named_for_a_new_machine_loses_nothing_unasked() {
    let hardware = Hardware::new(&[2 * MIB]);
    disk_file(&hardware.files[0], 2 * MIB);
    let site = hardware.site();
    let db = machine("m-db", "elsewhere", "db-1", &[("root", MIB)]);
    let attach = async |key: &str, settings: &Settings| site.attach(&op(key), &db, None, settings).await;
    // The room is not there, and hardware is not made.
    assert_eq!(attach("a", &by_size()).await.unwrap_err().kind(), ErrorKind::Refused);
    let named = with(by_size(), "server", "web-1");
    let error = attach("a", &named).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Refused, Some("site.erase")), "{error}");
    let before = std::fs::read(&hardware.loops[0].path).unwrap();
    assert_eq!(&before[5000..5016], b"what stood there");
    let landed = attach("a", &with(named.clone(), "erase", "yes")).await.unwrap();
    assert_eq!((landed.name.as_str(), landed.site.as_str()), ("web-1", "hall-1"));
    assert_eq!(attach("a", &with(named.clone(), "erase", "yes")).await.unwrap(), landed, "the same key");
    assert!(std::fs::read(&hardware.loops[0].path).unwrap().iter().all(|b| *b == 0));
    // It is hardware all the same: never removed; and taken for everybody else.
    assert_eq!(site.remove(&op("r"), &landed).await.unwrap_err().kind(), ErrorKind::Refused);
    let other = machine("m-x", "elsewhere", "x", &[("root", MIB)]);
    let taken = site.attach(&op("b"), &other, None, &with(named, "erase", "yes")).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    let disk = site.disk(&landed, &"root".into()).await.unwrap();
    disk.write(0, Bytes::from_static(b"landed")).await.unwrap();
    disk.flush().await.unwrap();
    assert!(std::fs::read(&hardware.loops[0].path).unwrap().starts_with(b"landed"));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused_by_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let slot = |id: &str, path: &str| Slot { id: id.into(), path: path.into() };
    let server = |name: &str, slots: Vec<Slot>| BareServer {
        name: name.into(),
        slots,
        firmware: None,
        starter: Arc::new(Switched(FakeServer::new(TELLS, false))),
    };
    let state = dir.path().join("state");
    let builder = || BareDisks::builder("hall-1".into(), &state, Arc::new(SystemClock));
    assert_eq!(builder().open().unwrap_err().fact("field"), Some("servers"));
    for (servers, field) in [
        (vec![server("web-1", vec![])], "slots"),
        (vec![server("../web", vec![slot("a", "/dev/a")])], "server"),
        (vec![server("web-1", vec![slot("a", "/dev/a"), slot("a", "/dev/b")])], "slot.id"),
        (
            vec![server("web-1", vec![slot("a", "/dev/a")]), server("db-1", vec![slot("b", "/dev/a")])],
            "slot.path",
        ),
        (
            vec![server("web-1", vec![slot("a", "/dev/a")]), server("web-1", vec![slot("b", "/dev/b")])],
            "server",
        ),
    ] {
        let error = servers.into_iter().fold(builder(), |b, s| b.server(s)).open().unwrap_err();
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some(field)), "{error}");
    }
    assert!(!state.exists(), "refused before anything was made");
}

#[tokio::test]
async fn s2_a_server_that_nobody_keeps_off_takes_no_landing() {
    let dir = tempfile::tempdir().unwrap();
    disk_file(&dir.path().join("root.img"), MIB);
    let neither = site_recovery_physical::power::Keeps::default();
    let server = BareServer {
        name: "web-1".into(),
        slots: vec![Slot { id: "root".into(), path: dir.path().join("root.img") }],
        firmware: None,
        starter: Arc::new(Switched(FakeServer::new(neither, false))),
    };
    let builder = BareDisks::builder("hall-1".into(), dir.path().join("state"), Arc::new(SystemClock));
    let site = builder.server(server).open().unwrap();
    let web = web(&[("root", MIB)]);
    let error =
        site.attach(&op("a"), &web, Some(web.instance.clone()), &Settings::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(site.disk(&web.instance, &"root".into()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let free = std::fs::File::open(dir.path().join("root.img")).unwrap();
    assert!(free.try_lock().is_ok(), "refused, and its disk is held all the same");
}
