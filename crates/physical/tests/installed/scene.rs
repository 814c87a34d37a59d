//! What a restored system is told before it starts: on real file systems, which land here byte by byte, or stood here before.

use crate::support::*;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, Described, Installed, Rescue, Shown, Slot};
use site_recovery_physical::guard;
use site_recovery_physical::power::Command as Program;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const SIZE: u64 = 24 * MIB;
pub(crate) const STATE: &str = "var/lib/site-recovery/agent";
pub(crate) const MARK: &str = "var/lib/site-recovery/agent/agent/guard-mark.json";
pub(crate) const SHOWN: &str = "var/lib/site-recovery/agent/credentials/identity.json";
pub(crate) const SECRET: &str = "the rescue system's own";

/// One scene at a time: a program that is being started has, for an instant, whatever this process has open, and devices that
/// are held alone among it.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A turn, where what it takes is here.
pub(crate) async fn turn() -> Option<MutexGuard<'static, ()>> {
    let here = ["mke2fs", "losetup", "mount", "addpart"]
        .into_iter()
        .all(|program| is_here(program, "an installed system"));
    if here { Some(ALONE.lock().await) } else { None }
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let ran = Command::new(program).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A system's file system, mounted for as long as this lives.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn of(device: &Path, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-o", options, device.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A server in its rescue system, with one disk.
pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) disk: Loop,
    pub(crate) installed: Installed,
}

impl Scene {
    /// An ext4 on the bare disk, with what `fill` puts there.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk.img");
        fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
        run("mke2fs", &["-q", "-F", "-t", "ext4", file.to_str().unwrap()]);
        let disk = Loop::over(&file);
        let scene = Self { installed: Installed::on(&disk.path), disk, dir };
        fill(&scene.look().0);
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn look(&self) -> Mounted {
        Mounted::of(&self.installed.device, &self.path("look"), "rw")
    }

    pub(crate) fn site(&self, shown: Option<Arc<dyn Shown>>) -> BareDisks {
        site(self.dir.path(), &self.disk.path, Some(self.installed.clone()), shown)
    }

    /// Lands nothing new, and starts it.
    pub(crate) async fn start(&self, shown: Option<Arc<dyn Shown>>) -> Error {
        let site = self.site(shown);
        if !self.path("state/servers/web-1/landing.json").exists() {
            landed(&site).await;
        }
        start(&site).await
    }

    /// How often the rescue system was left.
    pub(crate) fn left(&self) -> usize {
        fs::read_to_string(self.path("left")).unwrap_or_default().lines().count()
    }

    /// That nobody has it mounted, seen or unseen, and no volume lies on it.
    pub(crate) fn is_free(&self) -> bool {
        let mut options = fs::File::options();
        options.read(true).custom_flags(0o200); // O_EXCL
        options.open(&self.installed.device).is_ok()
    }
}

pub(crate) fn site(
    dir: &Path,
    disk: &Path,
    installed: Option<Installed>,
    shown: Option<Arc<dyn Shown>>,
) -> BareDisks {
    let leave = format!("echo left >> {}", dir.join("left").display());
    let leave = Program { run: vec!["/bin/sh".into(), "-c".into(), leave], seconds: 10 };
    let described = Described {
        name: "web-1".into(),
        slots: vec![Slot { id: "root".into(), path: disk.to_owned() }],
        firmware: Some(Firmware::Bios),
    };
    let builder = BareDisks::builder("hall-1".into(), dir.join("state"), Arc::new(SystemClock));
    let builder = builder.server(described.in_rescue(Rescue::leaving_by(leave)));
    let builder = match installed {
        Some(installed) => builder.installed("web-1", installed, shown),
        None => builder,
    };
    builder.open().unwrap()
}

pub(crate) fn web() -> Machine {
    machine("m-web", "hall-1", "web-1", &[("root", SIZE)])
}

/// Attaches, arms as of the second promotion, and detaches.
pub(crate) async fn landed(site: &impl LandingSite) {
    site.attach(&op("a"), &web(), Some(web().instance), &Settings::default()).await.unwrap();
    site.arm(&op("arm"), &web().instance, Generation(2)).await.unwrap();
    site.detach(&op("d"), &web().instance).await.unwrap();
}

/// What it says. That the rescue system is left is `Unavailable`: nobody has seen it run yet.
pub(crate) async fn start(site: &impl LandingSite) -> Error {
    let recovery = Recovery {
        machine: web(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: Settings::default(),
    };
    let op = op_of("engine", 7, "s");
    let leave = permit(&op, &web()).await;
    site.start(&op, &web().instance, &recovery, leave).await.unwrap_err()
}

pub(crate) fn has_left(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && error.message().contains("leaves its rescue system")
}

/// A certificate that is put there, after as many failures as are asked for.
#[derive(Debug, Default)]
pub(crate) struct Certificate {
    pub(crate) fails: AtomicBool,
}

impl Shown for Certificate {
    fn put(&self, credentials: &Path) -> Result<()> {
        let file = credentials.join("identity.json");
        site_recovery_register::durable::write_bytes(&file, SECRET.as_bytes())?;
        match self.fails.swap(false, Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the disk did not answer")),
            false => Ok(()),
        }
    }
}

pub(crate) fn certificate() -> Option<Arc<dyn Shown>> {
    Some(Arc::new(Certificate::default()))
}

/// An agent that was at work when it was captured, and what else a system has.
pub(crate) fn with_agent(root: &Path) {
    let state = root.join(STATE);
    fs::create_dir_all(state.join("agent/epochs")).unwrap();
    fs::create_dir_all(state.join("guard")).unwrap();
    fs::create_dir(state.join("credentials")).unwrap();
    fs::set_permissions(state.join("credentials"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(root.join(MARK), "{\"of\": \"its past\"}").unwrap();
    fs::write(root.join(SHOWN), "expired").unwrap();
    fs::write(state.join("agent/mark.json"), "{}").unwrap();
    fs::write(state.join("guard/seen.json"), "{\"order\": [1, 2]}").unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
}

/// Every file and link below, by its path: its mode and bytes, or where it leads.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let bytes = match (about.is_dir(), about.is_symlink()) {
                (true, _) => {
                    open.push(path.clone());
                    vec![]
                }
                (_, true) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => fs::read(&path).unwrap(),
            };
            all.insert(path.strip_prefix(root).unwrap().to_owned(), (about.permissions().mode(), bytes));
        }
    }
    all
}

/// The mark is of what was armed, as the start's operation says.
pub(crate) fn is_marked(root: &Path) {
    let armed = Instance { generation: Generation(2), ..web().instance };
    let mark = guard::Mark::read(&root.join(MARK)).unwrap();
    assert_eq!(mark, guard::Mark::of(&armed, &Epoch { number: 7, owner: "engine".into() }));
    for (path, mode) in [(MARK, 0o600), (SHOWN, 0o600), ("var/lib/site-recovery/agent/credentials", 0o700)] {
        assert_eq!(fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777, mode, "{path}");
    }
}

pub(crate) fn is_told(root: &Path) {
    is_marked(root);
    assert_eq!(fs::read_to_string(root.join(SHOWN)).unwrap(), SECRET);
}
