//! Work that goes on by itself: files and CPU off the async workers, and calls that must not stand still.

use site_recovery::{Error, ErrorKind, Result};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinError, JoinSet};

/// Runs `work` on a blocking thread. It runs to its end even when nobody waits any more.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    unwound(tokio::task::spawn_blocking(work).await)?
}

/// Calls that go on also while nobody polls for them, from their start on. They end when nobody waits for them any more.
#[derive(Debug)]
pub(crate) struct Driven<T>(JoinSet<T>);

impl<T: Send + 'static> Driven<T> {
    pub(crate) fn new() -> Self {
        Self(JoinSet::new())
    }

    /// One that is under way.
    pub(crate) fn one(call: impl Future<Output = T> + Send + 'static) -> Self {
        let mut calls = Self::new();
        calls.start(call);
        calls
    }

    pub(crate) fn start(&mut self, call: impl Future<Output = T> + Send + 'static) {
        self.0.spawn(call);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the next one came to that is over; `None` when there is none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        Poll::Ready(ready!(self.0.poll_join_next(cx)).map(unwound))
    }
}

/// Ends with the first.
impl<T: Send + 'static> Future for Driven<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        self.poll_next(cx).map(|done| done.expect("one was started"))
    }
}

fn unwound<T>(task: std::result::Result<T, JoinError>) -> Result<T> {
    match task {
        Ok(done) => Ok(done),
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
