//! Who works: one process at a time.

use site_recovery::{Error, ErrorKind, Result};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The lock on a state directory. It goes with its process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes the state directory where it is missing, for its owner alone.
///
/// # Errors
/// `Denied`, `Unavailable`, naming it.
fn prepare(state: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|e| unusable(state, e))
}

impl Lock {
    /// Takes it, unless somebody else has it.
    ///
    /// # Errors
    /// As of [`prepare`]; `OutOfSpace` where its disk is full.
    pub(crate) fn take(state: &Path) -> Result<Option<Self>> {
        prepare(state)?;
        let path = file(state);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut lock = opened.map_err(|e| unusable(&path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(unusable(&path, error)),
        }
        // Whose it is, for people. It is shorter than a block, which the file keeps: a full disk takes it as well.
        let written = lock.rewind().and_then(|()| lock.set_len(0)).and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::debug!(%error, "the lock does not say whose it is");
        }
        Ok(Some(Self { _file: lock }))
    }

    /// Who has it, as far as it says.
    pub(crate) fn holder(state: &Path) -> Option<u32> {
        let mut text = String::new();
        File::open(file(state)).ok()?.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("lock")
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        std::io::ErrorKind::StorageFull => ErrorKind::OutOfSpace,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the state directory cannot be used: {}", path.display())).caused_by(error)
}
