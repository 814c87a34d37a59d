//! What the example stands on: a directory, and one disk for the server. Whatever is made here is unmade when it is dropped.
//!
//! The agent captures a loop device by a clone of its file. So the file lies on XFS, which clones, and that on another file:
//! no file system of this machine has to be of the right kind.

use site_recovery::{Error, ErrorKind, Result};
use site_recovery_examples::failed;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Bytes of the server's disk.
pub(crate) const DISK: u64 = 48 << 20;
/// XFS is never smaller than 300 MiB; what is not written takes no room.
const STORE: u64 = 512 << 20;

/// The directory of the example, and the server's disk in it. The fields are dropped in their order.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) disk: Loop,
    store: Mount,
    _store_disk: Loop,
    dir: TempDir,
}

impl Ground {
    /// Makes both, and an ext4 on the disk.
    ///
    /// # Errors
    /// What a tool complains about, or that it is absent.
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("site-recovery-").tempdir();
        let dir = dir.map_err(|e| failed("make a directory in", &std::env::temp_dir(), e))?;
        let store_disk = Loop::over(&dir.path().join("store.raw"), STORE)?;
        tool("mkfs.xfs", ["-q", "-K", "-m", "reflink=1"].map(OsStr::new), &store_disk.device)?;
        let store = Mount::new(&store_disk.device, &dir.path().join("store"))?;
        let disk = Loop::over(&store.at.join("web-1.raw"), DISK)?;
        tool("mkfs.ext4", ["-q", "-F"].map(OsStr::new), &disk.device)?;
        Ok(Self { disk, store, _store_disk: store_disk, dir })
    }

    /// Where files of the example may lie.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As [`dir`](Self::dir), and never in memory, which a log of the way back must not be.
    pub(crate) fn on_disk(&self) -> &Path {
        &self.store.at
    }
}

/// A loop device over a file. Detached when dropped.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) file: PathBuf,
    pub(crate) device: PathBuf,
}

impl Loop {
    fn over(file: &Path, bytes: u64) -> Result<Self> {
        File::create(file).and_then(|f| f.set_len(bytes)).map_err(|e| failed("make", file, e))?;
        let said = tool("losetup", ["-f", "--show"].map(OsStr::new), file)?;
        Ok(Self { file: file.to_owned(), device: said.trim().into() })
    }

    /// Its bytes, past all caches.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        tool("blockdev", ["--flushbufs"].map(OsStr::new), &self.device)?;
        fs::read(&self.device).map_err(|e| failed("read", &self.device, e))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        told(tool("losetup", ["-d"].map(OsStr::new), &self.device));
    }
}

/// A mounted file system. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
}

impl Mount {
    /// Mounts a device at a directory, which is made.
    ///
    /// # Errors
    /// What `mount` says.
    pub(crate) fn new(device: &Path, at: &Path) -> Result<Self> {
        fs::create_dir_all(at).map_err(|e| failed("make", at, e))?;
        tool("mount", [device.as_os_str()], at)?;
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        told(tool("umount", [], &self.at));
    }
}

/// What cannot be unmade is told: nobody is left to handle it.
fn told(unmade: Result<String>) {
    if let Err(error) = unmade {
        eprintln!("left behind: {error}");
    }
}

/// What a tool of the system says that ends well; its words and a file. Debian keeps such tools where only root looks.
///
/// # Errors
/// `Unsupported` where it is absent; `Unavailable`, with what it complains about.
pub(crate) fn tool<'a>(
    name: &str,
    words: impl IntoIterator<Item = &'a OsStr>,
    file: &Path,
) -> Result<String> {
    let mut command = Command::new(name);
    command.args(words).arg(file).env("PATH", path()).stdin(Stdio::null());
    // Whoever interrupts this program does not interrupt how it cleans up.
    command.process_group(0);
    let output = command.output().map_err(|e| {
        Error::new(ErrorKind::Unsupported, format!("the tool {name} cannot be run")).caused_by(e)
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(ErrorKind::Unavailable, format!("{name} {}: {complaint}", file.display())))
}

/// Where programs are looked for.
pub(crate) fn path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}
