//! Where a disk of a bare server is: a block device, or a plain file in its stead.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often a disk that is in use is looked at, and how long between.
const LOOKS: u32 = 25;
const BETWEEN: Duration = Duration::from_millis(20);

/// A sector, where nobody says otherwise.
const SECTOR: u32 = 512;

/// A place for one disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Stable over restarts and changes of order: world-wide name, serial number. Never `sda`.
    pub id: String,
    /// The block device, or the plain file.
    pub path: PathBuf,
}

/// A slot as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) size: u64,
    /// Bytes of a logical sector.
    pub(crate) sector: u32,
    pub(crate) device: bool,
}

impl Slot {
    pub(crate) fn new(id: &str, path: impl Into<PathBuf>) -> Self {
        Self { id: id.to_owned(), path: path.into() }
    }

    /// Reads its size and sector; neither opens it alone, nor changes it.
    pub(crate) fn read(&self) -> Result<Read> {
        let path = &self.path;
        let about = path.metadata().told("look at", path)?;
        if about.is_file() {
            return Ok(Read { size: about.len(), sector: SECTOR, device: false });
        }
        if !about.file_type().is_block_device() {
            let rule = "it is a block device or a plain file";
            return Err(Error::invalid("slot.path", path.display(), rule, "name the disk"));
        }
        let size = size(&File::open(path).told("open", path)?).told("ask for the size of", path)?;
        Ok(Read { size, sector: sector(about.rdev()), device: true })
    }

    /// Opens it so that nobody else can: no mount, no volume, no second landing. Blocks for a moment while somebody has it: a
    /// process of ours that was just made has all handles until it runs its program.
    ///
    /// # Errors
    /// `Busy` when somebody has it.
    pub(crate) fn take(&self) -> Result<File> {
        self.taken(true)
    }

    /// That nobody has it: as [`take`](Self::take), for a moment, and without leave to write, which tells the system to look
    /// again what is on it.
    pub(crate) fn must_be_free(&self) -> Result<()> {
        self.taken(false).map(drop)
    }

    fn taken(&self, write: bool) -> Result<File> {
        let mut looks = 1;
        loop {
            match self.take_now(write) {
                Err(e) if e.kind() == ErrorKind::Busy && looks < LOOKS => {
                    looks += 1;
                    std::thread::sleep(BETWEEN);
                }
                taken => return taken,
            }
        }
    }

    fn take_now(&self, write: bool) -> Result<File> {
        let path = &self.path;
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        let busy = || {
            let message = format!(
                "disk {} ({}) is in use: unmount it, stop what lies on it, and ask again",
                self.id,
                path.display()
            );
            Error::new(ErrorKind::Busy, message).with("disk", &self.id)
        };
        if self.read()?.device {
            options.custom_flags(rustix::fs::OFlags::EXCL.bits() as i32);
        }
        let file = match options.open(path) {
            Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => return Err(busy().caused_by(e)),
            opened => opened.told("open", path)?,
        };
        // Whoever opens a plain file alone says so with a lock; a device has one of the kernel besides.
        file.try_lock().map_err(|e| busy().caused_by(std::io::Error::from(e)))?;
        Ok(file)
    }

    /// Lets the system see what is on it now.
    pub(crate) fn look_again(&self) {
        if !self.read().is_ok_and(|r| r.device) {
            return;
        }
        for what in ["--flushbufs", "--rereadpt"] {
            let mut command = Command::new("blockdev");
            command
                .arg(what)
                .arg(&self.path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // A device without partitions cannot read them again; the bytes are durable in any case.
            match command.status() {
                Ok(status) if status.success() => {}
                ended => tracing::debug!(slot = %self.id, what, ?ended, "blockdev"),
            }
        }
    }
}

/// Bytes of a block device or a file.
fn size(file: &File) -> std::io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}

fn sector(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let of = format!("/sys/dev/block/{major}:{minor}");
    // A partition has the queue of its disk.
    let said = ["queue", "../queue"].iter().find_map(|queue| {
        let text = std::fs::read_to_string(Path::new(&of).join(queue).join("logical_block_size")).ok()?;
        text.trim().parse().ok()
    });
    said.unwrap_or(SECTOR)
}
