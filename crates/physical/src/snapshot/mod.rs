//! Bytes of a disk as of an instant.
//!
//! | means | serves | needs | holds writers itself |
//! |---|---|---|---|
//! | [`Reflink`] | loop devices and plain files | the file on XFS or Btrfs, not on a disk of the same server that is captured | no |
//! | [`DeviceMapper`] | mapped devices under a `snapshot-origin` | `dmsetup`, and a block device of its own as scratch space, which is labelled | yes: it suspends them |
//!
//! A capture is made in three steps, so that the instant is short: `prepare` makes everything that can be made before,
//! `take` is the instant alone and writes to no file system that may be frozen, and what was made is named by a [`Handle`]
//! that is written down before `prepare`.

mod device_mapper;
mod reflink;
mod scratch;

pub use device_mapper::{DeviceMapper, Stack};
pub use reflink::Reflink;

use crate::freeze::Held;
use crate::inventory::ServerDisk;
use serde::{Deserialize, Serialize};
use site_recovery::Result;
use std::fmt::Debug;
use std::path::PathBuf;

/// A snapshot, as it is found again: by another process, after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The means that made it.
    pub means: String,
    /// Its name, made from the key of the capture.
    pub name: String,
    /// Where its bytes are read.
    pub path: PathBuf,
}

/// A way to keep the bytes of a disk. All methods block.
pub trait Means: Debug + Send + Sync {
    /// As in `reflink`.
    fn name(&self) -> &'static str;

    /// Where the snapshot of this disk by this name would stand. Changes nothing.
    ///
    /// # Errors
    /// `Unsupported`, with what is missing and what helps.
    fn plan(&self, disk: &ServerDisk, name: &str) -> Result<Handle>;

    /// Directories whose file systems must not be frozen while it takes a snapshot of this disk.
    fn writes_to(&self, disk: &ServerDisk) -> Result<Vec<PathBuf>>;

    /// What holds the writers of this disk still, where that is part of the means: held while it is taken, after the file
    /// systems above it. The kernel freezes what is mounted from such a device itself.
    fn holds(&self, _disk: &ServerDisk) -> Vec<Held> {
        vec![]
    }

    /// Makes ready what [`Prepared::take`] needs.
    fn prepare(&self, disk: &ServerDisk, handle: &Handle) -> Result<Box<dyn Prepared>>;

    /// Where to read it.
    ///
    /// # Errors
    /// `NotFound` where it is gone, or was lost: it ran out of space.
    fn open(&self, handle: &Handle) -> Result<PathBuf>;

    /// Removes it. Gone already is no error.
    fn remove(&self, handle: &Handle) -> Result<()>;
}

/// A snapshot that is about to be taken.
pub trait Prepared: Debug + Send {
    /// The instant.
    fn take(&mut self) -> Result<()>;

    /// Drops what was taken, for another try. Between two windows.
    fn again(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes it last, after the window.
    fn settle(&mut self) -> Result<()>;
}
