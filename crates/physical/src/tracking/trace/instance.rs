//! An instance of the kernel's tracing for one disk: its own buffers, seen by nobody else's tracing.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::retry_on_intr;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use site_recovery::audit::sha256_hex;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

const EVENT: &str = "events/block/block_bio_queue";

/// The kernel's tracing files: where they are mounted, else mounted for this process alone.
#[derive(Debug)]
struct Tracefs {
    root: PathBuf,
    /// A mount that is attached nowhere; it goes with the process.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    fn open() -> Result<Self> {
        for root in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            if Path::new(root).join("instances").is_dir() {
                return Ok(Self { root: root.into(), _mount: None });
            }
        }
        let mount = || -> rustix::io::Result<OwnedFd> {
            let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let mount = mount().told("mount", Path::new("tracefs"))?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        Ok(Self { root, _mount: Some(mount) })
    }
}

/// What the agent calls its tracing of one disk: of the same state and disk always the same, so that it is found again.
pub(crate) fn name_of(state: &Path, disk: &str) -> String {
    format!("{OURS}{}", &sha256_hex(format!("{}\n{disk}", state.display()).as_bytes())[..DIGITS])
}

const OURS: &str = "sr-";
const DIGITS: usize = 16;

fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix(OURS).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Until it is dropped, no other agent of this host begins to trace.
fn alone(instances: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(instances, flags, Mode::empty())?;
    retry_on_intr(|| flock(&dir, FlockOperation::LockExclusive))?;
    Ok(dir)
}

/// Removes what dead agents left: each costs every write of this host a look, and some MiB. The kernel keeps what a living one reads.
fn sweep(instances: &Path) {
    let Ok(there) = fs::read_dir(instances) else { return };
    for entry in there.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours)) {
        if fs::remove_dir(entry.path()).is_ok() {
            tracing::debug!(name = ?entry.file_name(), "tracing that a dead agent left is removed");
        }
    }
}

/// One instance. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Instance {
    dir: PathBuf,
    filter: String,
    pub(crate) format: String,
    pub(crate) cpus: Vec<(PathBuf, File)>,
    _tracefs: Tracefs,
}

impl Instance {
    /// Begins to trace what is written to a disk. What dead agents left is removed first.
    ///
    /// # Errors
    /// `Busy` where a living agent traces under this name; `Unsupported`, `Denied` or `Unavailable` where the kernel does not
    /// trace for us.
    pub(crate) fn start(name: &str, dev: u32, buffer_kib: u32) -> Result<Self> {
        let tracefs = Tracefs::open()?;
        let instances = tracefs.root.join("instances");
        // What has no pipes open yet looks like a dead agent's.
        let _alone = alone(&instances).told("lock", &instances)?;
        sweep(&instances);
        let dir = instances.join(name);
        if dir.is_dir() {
            remove(&dir).map_err(|e| {
                let message = format!("tracing {name} is in use: another agent traces this disk");
                Error::new(ErrorKind::Busy, message).caused_by(e)
            })?;
        }
        let events = tracefs.root.join(EVENT);
        let format = fs::read_to_string(events.join("format")).map_err(|e| {
            Error::new(ErrorKind::Unsupported, "this kernel does not trace the block layer").caused_by(e)
        })?;
        fs::create_dir(&dir).told("make", &dir)?;
        // Partitions are told as their disk, by sectors of the disk.
        let filter = format!("dev == {dev} && !(rwbs ~ \"R*\")");
        let mut instance = Self { dir, filter, format, cpus: vec![], _tracefs: tracefs };
        instance.set("buffer_size_kb", &buffer_kib.to_string())?;
        // What was not read yet stays: what does not fit is counted.
        instance.set("options/overwrite", "0")?;
        if instance.dir.join("buffer_percent").exists() {
            instance.set("buffer_percent", "25")?;
        }
        instance.set(&format!("{EVENT}/filter"), &instance.filter)?;
        let cpus = instance.dir.join("per_cpu");
        for entry in fs::read_dir(&cpus).told("list", &cpus)? {
            let cpu = entry.told("list", &cpus)?.path();
            let pipe = cpu.join("trace_pipe_raw");
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::open(&pipe, flags, Mode::empty()).told("open", &pipe)?;
            instance.cpus.push((cpu, file.into()));
        }
        instance.set(&format!("{EVENT}/enable"), "1")?;
        instance.set("tracing_on", "1")?;
        Ok(instance)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value).told("write", &path)
    }

    /// Whether it still traces what it was set to: nobody switched it off or changed its filter.
    pub(crate) fn is_as_set(&self) -> bool {
        let reads =
            |file: &str| fs::read_to_string(self.dir.join(file)).unwrap_or_default().trim().to_owned();
        reads("tracing_on") == "1"
            && reads(&format!("{EVENT}/enable")) == "1"
            && reads(&format!("{EVENT}/filter")) == self.filter
    }

    /// Events that the kernel has lost so far. `None` where it does not say.
    pub(crate) fn lost(&self) -> Option<u64> {
        let mut all = 0_u64;
        for (cpu, _) in &self.cpus {
            let stats = fs::read_to_string(cpu.join("stats")).ok()?;
            let count = |key: &str| -> Option<u64> {
                stats.lines().find_map(|l| l.strip_prefix(key))?.trim().parse().ok()
            };
            all += count("overrun:")? + count("commit overrun:")? + count("dropped events:")?;
        }
        Some(all)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _off = self.set(&format!("{EVENT}/enable"), "0");
        self.cpus.clear();
        let _gone = remove(&self.dir);
    }
}

/// Removes an instance. A process that is just being started may hold our files for a moment.
fn remove(dir: &Path) -> std::io::Result<()> {
    for _ in 0..50 {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(5))
            }
            removed => return removed,
        }
    }
    fs::remove_dir(dir)
}

/// Reads one page; `None` where there is nothing more.
pub(crate) fn next_page<'a>(pipe: &File, page: &'a mut [u8]) -> std::io::Result<Option<&'a [u8]>> {
    let mut pipe = pipe;
    match pipe.read(page) {
        Ok(0) => Ok(None),
        Ok(len) => Ok(Some(&page[..len])),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
