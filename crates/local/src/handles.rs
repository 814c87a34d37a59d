//! Which handles of landing disks still count: a number in a locked file, raised whenever all of them end.
//!
//! A write takes the lock shared and compares; whoever ends them takes it alone and raises. So no write of an ended
//! handle can land, in this process or in another.

use crate::home::Home;
use site_recovery::Result;
use site_recovery_register::lock_file;
use site_recovery_register::{Told, refused};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A handle's right to write. Holds while the number has not been raised.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    path: PathBuf,
    /// The file and its number: a machine that was removed and made again has another file.
    is: (u64, u64),
}

impl Ticket {
    pub(crate) fn take(home: &Home) -> Result<Self> {
        let path = home.own("handles");
        let file = lock_file(&path)?;
        file.lock_shared().told("lock", &path)?;
        Ok(Self { is: (inode(&file, &path)?, read(&file)), path })
    }

    /// Holds off whoever wants to end the handles, until the guard is dropped.
    ///
    /// # Errors
    /// `Refused` when they were ended.
    pub(crate) fn hold(&self) -> Result<File> {
        let ended =
            || refused("this disk handle has ended: the disks were branched, parted, merged or given back");
        // Without creating it: the directory may have been moved away.
        let file = File::open(&self.path).map_err(|e| ended().caused_by(e))?;
        file.lock_shared().told("lock", &self.path)?;
        if (inode(&file, &self.path)?, read(&file)) == self.is { Ok(file) } else { Err(ended()) }
    }
}

/// Ends every handle. No new one is given while the guard lives.
pub(crate) fn end_all(home: &Home) -> Result<File> {
    let path = home.own("handles");
    let file = lock_file(&path)?;
    file.lock().told("lock", &path)?;
    let next = read(&file) + 1;
    file.write_all_at(&next.to_le_bytes(), 0).told("write", &path)?;
    Ok(file)
}

fn inode(file: &File, path: &Path) -> Result<u64> {
    file.metadata().map(|m| m.ino()).told("look at", path)
}

fn read(file: &File) -> u64 {
    let mut bytes = [0; 8];
    // An empty file is 0: nothing was ever ended.
    file.read_exact_at(&mut bytes, 0).map_or(0, |()| u64::from_le_bytes(bytes))
}
