//! What the file system says, as the library's errors.

use site_recovery::{Error, ErrorKind, Result};
use std::io;
use std::path::Path;

/// Says what was being done, and to which file, when the file system refused.
pub trait Told<T> {
    /// `Conflict` for what exists, `OutOfSpace`, `Denied`, and `Unavailable` for all else: a file that is missing proves
    /// nothing about a machine.
    ///
    /// # Errors
    /// The one that was there.
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
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("cannot {doing} {}", path.display())).caused_by(e)
        })
    }
}

/// A call that is [`Refused`](ErrorKind::Refused).
pub fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Refused, message)
}

/// What is [`NotFound`](ErrorKind::NotFound).
pub fn not_found(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotFound, message)
}

/// A [`Conflict`](ErrorKind::Conflict).
pub fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, message)
}
