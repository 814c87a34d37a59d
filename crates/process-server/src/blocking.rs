//! Work that goes on by itself: files and CPU off the async workers, and calls that must not stand still.

use site_recovery::{Error, ErrorKind, Result};
use std::io;
use std::path::Path;
use tokio::task::{JoinError, JoinSet};

/// Runs `work` on a blocking thread. It runs to its end even when nobody waits any more.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    ended(tokio::task::spawn_blocking(work).await)
}

/// A call that goes on also while nobody polls for it. It ends when nobody waits for it any more.
pub(crate) async fn driven<T: Send + 'static>(
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let mut task = JoinSet::new();
    task.spawn(call);
    ended(task.join_next().await.expect("one task was started"))
}

fn ended<T>(task: std::result::Result<Result<T>, JoinError>) -> Result<T> {
    match task {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(ErrorKind::Cancelled, "the runtime is shutting down").caused_by(e)),
    }
}

/// An error of the file system at `path`.
pub(crate) fn at_path(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |e| {
        let kind = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::OutOfSpace,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::Corrupt,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "the file system refused").with("file", path.display()).caused_by(e)
    }
}
