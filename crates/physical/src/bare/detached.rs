//! A file system that is mounted where nobody sees it.

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, refused};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount that has no place in any tree of directories: it is reached by this handle alone, and the kernel takes it down
/// with it, also where the process is killed.
#[derive(Debug)]
pub(crate) struct Detached(OwnedFd);

/// A directory in there, reached without following a link.
#[derive(Debug)]
pub(crate) struct Dir(File);

impl Detached {
    /// Mounts a device that is in nobody's use.
    ///
    /// # Errors
    /// `Invalid` for a kind of file system that this kernel does not know, and for a device that holds no such file system;
    /// `Unsupported` on a kernel before 5.6; those of the device.
    pub(crate) fn mount(device: &Path, kind: &str) -> Result<Self> {
        let context = match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NODEV) => {
                let rule = "this system knows that kind of file system";
                return Err(Error::invalid("installed.kind", kind, rule, "name another, or load its module"));
            }
            Err(Errno::NOSYS) => return Err(too_old()),
            opened => opened.told("prepare a mount of", device)?,
        };
        fsconfig_set_string(&context, "source", device).told("name for a mount", device)?;
        match fsconfig_create(&context) {
            Err(e @ (Errno::INVAL | Errno::UCLEAN | Errno::BADMSG)) => {
                let rule = format!("it holds a file system of kind {kind}, as the restored system mounts it");
                let remedy = "name the partition or volume with the restored system's state, and its kind";
                return Err(Error::invalid("installed.device", device.display(), &rule, remedy)
                    .caused_by(std::io::Error::from(e)));
            }
            created => created.told("mount", device)?,
        }
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).told("mount", device).map(Self)
    }

    /// The directory at this path of the file system; `None`: there is none.
    ///
    /// # Errors
    /// As [`Dir::dir`].
    pub(crate) fn dir(&self, path: &Path) -> Result<Option<Dir>> {
        open(&self.0, path.strip_prefix("/").unwrap_or(path))
    }
}

impl Dir {
    /// A directory in this one; `None`: there is none.
    ///
    /// # Errors
    /// `Refused` where a symbolic link, or another file system, is on the way.
    pub(crate) fn dir(&self, name: &str) -> Result<Option<Self>> {
        open(&self.0, Path::new(name))
    }

    /// The same one, made for its owner alone where it is missing.
    ///
    /// # Errors
    /// As [`dir`](Self::dir).
    pub(crate) fn made(&self, name: &str) -> Result<Self> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => made.told("make", Path::new(name)).and_then(|()| self.sync())?,
        }
        self.dir(name)?.ok_or_else(|| refused(format!("{name} is no directory")))
    }

    /// A path that leads there for as long as this handle lives, in this process alone.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Makes durable what was written to the whole file system.
    pub(crate) fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(&self.0).told("sync the file system of", &self.path())
    }

    fn sync(&self) -> Result<()> {
        self.0.sync_all().told("sync", &self.path())
    }
}

fn open(below: impl AsFd, path: &Path) -> Result<Option<Dir>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    match openat2(below, path, flags, Mode::empty(), resolve) {
        Ok(dir) => Ok(Some(Dir(dir.into()))),
        Err(Errno::NOENT) => Ok(None),
        // A link that stands where a directory is expected reads as either.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
            let message = format!(
                "{} of the restored system is no directory of that file system: name where it is, without links, and the device \
                 that it is on",
                path.display()
            );
            Err(refused(message).with("field", "installed.state"))
        }
        Err(Errno::NOSYS) => Err(too_old()),
        Err(e) => Err(e).told("open", path),
    }
}

fn too_old() -> Error {
    let message =
        "this kernel cannot mount a file system unseen: use a rescue system with Linux 5.6 or newer";
    Error::new(ErrorKind::Unsupported, message)
}
