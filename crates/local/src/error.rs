//! What the file system says, as the library's errors.

use site_recovery::{Error, ErrorKind, Result};
use std::io;
use std::path::Path;

/// Says what was being done, and to which file, when the file system refused.
pub(crate) trait Told<T> {
    fn told(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Told<T> for std::result::Result<T, E> {
    fn told(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|e| {
            let e = e.into();
            let kind = match e.kind() {
                io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::OutOfSpace,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
                // A file that is missing proves nothing about the machine: `NotFound` is said by `Site::home` alone.
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("cannot {doing} {}", path.display())).caused_by(e)
        })
    }
}

pub(crate) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Refused, message)
}

pub(crate) fn not_found(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotFound, message)
}

pub(crate) fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, message)
}
