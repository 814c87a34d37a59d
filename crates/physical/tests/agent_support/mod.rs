//! Servers of loop devices over a file system that shares blocks. Everything is taken down with its owner.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; each test uses a part"
)]

use async_trait::async_trait;
use site_recovery::{DiskRole, Error, ErrorKind, Firmware, GuestFacts, Result};
use site_recovery_physical::agent::Look;
use site_recovery_physical::inventory::{Adapter, FileSystem, Server, ServerDisk};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything that is waited for.
pub const LONG: Duration = Duration::from_secs(60);

fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Whether these programs are here. Says so where not, and fails where they have to be.
pub fn peers(what: &str, programs: &[&str]) -> bool {
    let here = |program: &&&str| std::env::split_paths(&path()).any(|dir| dir.join(program).is_file());
    let Some(absent) = programs.iter().find(|p| !here(p)) else { return true };
    println!("SKIPPED {what}: {absent} is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{absent} is required");
    false
}

/// What a program that ends well says.
pub fn run(program: &str, args: &[&str]) -> String {
    let (ok, said) = try_run(program, args);
    assert!(ok, "{program} {args:?}: {said}");
    said.trim().to_owned()
}

pub fn try_run(program: &str, args: &[&str]) -> (bool, String) {
    let out = Command::new(program).args(args).env("PATH", path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.success(), said)
}

/// Looks until it holds.
#[allow(clippy::disallowed_methods, reason = "a test waits for the world by the world's clock")]
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn of(what: &Path, at: &Path, options: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let mut args = options.to_vec();
        args.extend([what.to_str().unwrap(), at.to_str().unwrap()]);
        run("mount", &args);
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.0.to_str().unwrap();
        for _ in 0..100 {
            if try_run("umount", &[at]).0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = try_run("umount", &["-l", at]);
    }
}

/// A loop device.
#[derive(Debug)]
pub struct Loop {
    pub device: PathBuf,
    pub file: PathBuf,
}

impl Loop {
    pub fn over(file: &Path, size: u64) -> Self {
        File::create(file).unwrap().set_len(size).unwrap();
        // Somebody else may take the device between the look and the act.
        for _ in 0..50 {
            let (ok, said) = try_run("losetup", &["-f", "--show", file.to_str().unwrap()]);
            if ok {
                return Self { device: said.trim().into(), file: file.to_owned() };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no loop device is free");
    }

    pub fn size(&self) -> u64 {
        run("blockdev", &["--getsize64", self.device.to_str().unwrap()]).parse().unwrap()
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.device).unwrap();
        file.write_all_at(bytes, at).unwrap();
        file.sync_all().unwrap();
    }

    pub fn content(&self) -> Vec<u8> {
        fs::read(&self.device).unwrap()
    }

    pub fn grow(&self, size: u64) {
        OpenOptions::new().write(true).open(&self.file).unwrap().set_len(size).unwrap();
        run("losetup", &["-c", self.device.to_str().unwrap()]);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = try_run("losetup", &["-d", self.device.to_str().unwrap()]);
    }
}

/// A directory on XFS.
#[derive(Debug)]
pub struct Ground {
    pub mount: Mount,
    _dir: tempfile::TempDir,
}

/// Programs that a [`Ground`] with its disks takes.
pub const GROUND: [&str; 4] = ["mkfs.xfs", "losetup", "mount", "blockdev"];

impl Ground {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("ground.img");
        File::create(&image).unwrap().set_len(2 << 30).unwrap();
        run("mkfs.xfs", &["-q", "-m", "reflink=1", image.to_str().unwrap()]);
        let mount = Mount::of(&image, &dir.path().join("ground"), &["-o", "loop"]);
        Self { mount, _dir: dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.0.join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self._dir.path().join("state").join(name)
    }

    pub fn mounts(&self, name: &str) -> PathBuf {
        self._dir.path().join("mounts").join(name)
    }

    /// A disk of a machine: a loop device over a file in a directory of the machine's.
    pub fn disk(&self, machine: &str, name: &str, size: u64) -> Arc<Loop> {
        fs::create_dir_all(self.path(machine)).unwrap();
        Arc::new(Loop::over(&self.path(machine).join(format!("{name}.raw")), size))
    }
}

/// A server of loop devices, as it is now.
#[derive(Debug)]
pub struct Looped {
    pub name: String,
    pub disks: Mutex<Vec<(String, Arc<Loop>)>>,
    pub file_systems: Mutex<Vec<(PathBuf, PathBuf, String)>>,
    pub spoiled: Mutex<bool>,
}

impl Looped {
    pub fn new(name: &str, disks: &[(&str, Arc<Loop>)]) -> Arc<Self> {
        let disks = disks.iter().map(|(id, disk)| ((*id).to_owned(), Arc::clone(disk))).collect();
        Arc::new(Self {
            name: name.into(),
            disks: Mutex::new(disks),
            file_systems: Mutex::default(),
            spoiled: Mutex::new(false),
        })
    }

    pub fn mounted(&self, device: &Path, at: &Path, kind: &str) {
        self.file_systems.lock().unwrap().push((device.into(), at.into(), kind.into()));
    }

    pub fn disk(&self, at: usize) -> Arc<Loop> {
        Arc::clone(&self.disks.lock().unwrap()[at].1)
    }
}

#[async_trait]
impl Look for Looped {
    async fn look(&self) -> Result<Server> {
        let mounted = self.file_systems.lock().unwrap().clone();
        let spoiled = *self.spoiled.lock().unwrap();
        let disk = |(at, (id, disk)): (usize, &(String, Arc<Loop>))| {
            let on = mounted.iter().filter(|(device, ..)| *device == disk.device);
            ServerDisk {
                id: id.clone(),
                device: disk.device.clone(),
                size: if spoiled { 0 } else { disk.size() },
                sector: 512,
                layout: Default::default(),
                role: if at == 0 { DiskRole::System } else { DiskRole::Data },
                file_systems: on
                    .map(|(device, mounted, kind)| FileSystem {
                        device: device.clone(),
                        mounted: mounted.clone(),
                        kind: kind.clone(),
                    })
                    .collect(),
            }
        };
        let disks = self.disks.lock().unwrap();
        if disks.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "no disk answers"));
        }
        Ok(Server {
            name: self.name.clone(),
            disks: disks.iter().enumerate().map(disk).collect(),
            adapters: vec![Adapter {
                name: "eno1".into(),
                mac: Some("52:54:00:00:00:01".into()),
                addresses: vec![],
            }],
            cpus: 2,
            memory: 1 << 30,
            firmware: Firmware::Bios,
            guest: GuestFacts::default(),
            system: Default::default(),
            left_out: vec![],
        })
    }
}

/// A mounted ext4 on a loop device. Dropped, it is thawed first.
#[derive(Debug)]
pub struct Ext4 {
    pub at: PathBuf,
    _mount: Mount,
    pub disk: Arc<Loop>,
}

impl Ext4 {
    pub fn on(disk: &Arc<Loop>, at: &Path) -> Self {
        let device = disk.device.to_str().unwrap();
        run("mke2fs", &["-q", "-F", "-t", "ext4", device]);
        Self { at: at.to_owned(), _mount: Mount::of(&disk.device, at, &[]), disk: Arc::clone(disk) }
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = try_run("fsfreeze", &["-u", self.at.to_str().unwrap()]);
    }
}

/// A write that waits while its file system is frozen.
#[derive(Debug)]
pub struct Probe(std::sync::mpsc::Receiver<()>);

impl Probe {
    pub fn of(at: &Path) -> Self {
        let (tell, done) = std::sync::mpsc::channel();
        let path = at.join("probe");
        std::thread::spawn(move || {
            fs::write(path, "written").unwrap();
            let _ = tell.send(());
        });
        Self(done)
    }

    pub fn waits(&self) -> bool {
        self.0.recv_timeout(Duration::from_millis(300)).is_err()
    }

    pub fn ends(&self) {
        self.0.recv_timeout(LONG).expect("the file system stays frozen");
    }
}
