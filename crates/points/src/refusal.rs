//! What the store says, in our words.

use object_store::Error as StoreError;
use object_store::path::Path;
use rustix::io::Errno;
use site_recovery::{Error, ErrorKind};

/// An object that is not what was written.
pub(crate) fn damaged(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{path} is damaged: {why}")).with("object", path)
}

/// What a store's error means to a caller.
pub(crate) fn failed(error: StoreError) -> Error {
    let kind = match &error {
        StoreError::NotFound { .. } => ErrorKind::NotFound,
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => ErrorKind::Conflict,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => ErrorKind::Denied,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => ErrorKind::Unsupported,
        error if is_full(error) => ErrorKind::OutOfSpace,
        error if is_unreadable(error) => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "the object store refused").caused_by(error)
}

/// The medium, or a file system with checksums, says that the bytes are lost.
fn is_unreadable(error: &(dyn std::error::Error + 'static)) -> bool {
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN].map(Errno::raw_os_error);
    let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    code.is_some_and(|code| lost.contains(&code)) || error.source().is_some_and(is_unreadable)
}

fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
    error.downcast_ref::<std::io::Error>().is_some_and(|e| full.contains(&e.kind()))
        || error.source().is_some_and(is_full)
}
