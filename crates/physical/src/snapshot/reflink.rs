//! Snapshots of files by shared blocks: `FICLONE`.

use super::{Handle, Means, Prepared};
use crate::inventory::ServerDisk;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, durable, not_found};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory of ours beside a backing file.
const OWN: &str = ".site-recovery";

/// Disks that are files, or loop devices over files, on a file system that shares blocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reflink;

impl Reflink {
    /// The file that a disk's bytes lie in.
    fn backing(disk: &ServerDisk) -> Result<PathBuf> {
        let meta = fs::metadata(&disk.device).told("look at", &disk.device)?;
        if meta.is_file() {
            return Ok(disk.device.clone());
        }
        if !meta.file_type().is_block_device() {
            return Err(unsupported(disk, "it is neither a file nor a block device"));
        }
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/loop"));
        if !path.is_dir() {
            return Err(unsupported(disk, "it is not a loop device"));
        }
        let offset = fs::read_to_string(path.join("offset")).told("read", &path)?;
        if offset.trim() != "0" {
            return Err(unsupported(disk, "its loop device does not begin where its file does"));
        }
        let text = fs::read_to_string(path.join("backing_file")).told("read", &path)?;
        Ok(PathBuf::from(text.trim_end_matches('\n')))
    }

    /// Whether files of a directory can share blocks: tried, with two that are removed again.
    fn shares(dir: &Path) -> Result<bool> {
        let file = || tempfile_in(dir);
        let (one, other) = (file()?, file()?);
        Ok(rustix::fs::ioctl_ficlone(&other, &one).is_ok())
    }
}

impl Means for Reflink {
    fn name(&self) -> &'static str {
        "reflink"
    }

    fn plan(&self, disk: &ServerDisk, name: &str) -> Result<Handle> {
        let backing = Self::backing(disk)?;
        let dir = backing.parent().unwrap_or(Path::new("/"));
        if !Self::shares(dir)? {
            return Err(unsupported(disk, "the file system of its file shares no blocks"));
        }
        let path = dir.join(OWN).join(format!("{name}.raw"));
        Ok(Handle { means: self.name().into(), name: name.into(), path })
    }

    fn writes_to(&self, disk: &ServerDisk) -> Result<Vec<PathBuf>> {
        Ok(Self::backing(disk)?.parent().map(Path::to_owned).into_iter().collect())
    }

    fn prepare(&self, disk: &ServerDisk, handle: &Handle) -> Result<Box<dyn Prepared>> {
        let backing = Self::backing(disk)?;
        if let Some(dir) = handle.path.parent() {
            durable::make_dir(dir)?;
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&handle.path);
        Ok(Box::new(Clone {
            device: File::open(&disk.device).told("open", &disk.device)?,
            from: File::open(&backing).told("open", &backing)?,
            to: made.told("make", &handle.path)?,
            path: handle.path.clone(),
        }))
    }

    fn open(&self, handle: &Handle) -> Result<PathBuf> {
        match handle.path.is_file() {
            true => Ok(handle.path.clone()),
            false => Err(not_found(format!("{} is gone", handle.path.display()))),
        }
    }

    fn remove(&self, handle: &Handle) -> Result<()> {
        durable::remove_file(&handle.path)
    }
}

#[derive(Debug)]
struct Clone {
    device: File,
    from: File,
    to: File,
    path: PathBuf,
}

impl Prepared for Clone {
    fn take(&mut self) -> Result<()> {
        // What was written to the device itself, past any file system, is in its cache first.
        self.device.sync_all().told("sync", &self.path)?;
        rustix::fs::ioctl_ficlone(&self.to, &self.from).told("share blocks with", &self.path)
    }

    fn settle(&mut self) -> Result<()> {
        self.to.sync_all().told("sync", &self.path)?;
        self.path.parent().map_or(Ok(()), durable::sync_dir)
    }
}

/// A file without a name, gone when it is closed.
fn tempfile_in(dir: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).map(File::from).told("make a file in", dir)
}

fn unsupported(disk: &ServerDisk, why: &str) -> Error {
    let message = format!(
        "{} cannot be captured: {why}; put it on a loop device over XFS or Btrfs, or stack device-mapper below its \
         file systems",
        disk.device.display()
    );
    Error::new(ErrorKind::Unsupported, message).with("disk", &disk.id)
}
