//! Acts: blocking work on behalf of a caller who may stop waiting.

use site_recovery::{Error, ErrorKind, Result};
use std::cell::RefCell;
use std::sync::{Arc, Weak};

thread_local! {
    /// Who waits for the act that runs on this thread; nobody in particular for acts that are not dropped.
    static CALLER: RefCell<Option<Weak<()>>> = const { RefCell::new(None) };
}

/// Runs one act on a thread of its own.
///
/// # Cancel safety
/// Dropped while the act waits for a [`Turn`](crate::Turn), it begins nothing: the turn is `Cancelled`. Dropped later, it
/// is finished all the same.
///
/// # Panics
/// With the act's own panic.
pub async fn act<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let caller = Arc::new(());
    let waits = Arc::downgrade(&caller);
    let done = blocking(move || for_caller(waits, f)).await;
    drop(caller); // with this future, where nobody waits for it any more
    done
}

/// Runs blocking work on a thread of its own, to its end.
///
/// # Errors
/// Those of the work; `Cancelled` while the runtime shuts down.
///
/// # Panics
/// With the work's own panic.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(ErrorKind::Cancelled, "the runtime is shutting down").caused_by(e)),
    }
}

fn for_caller<T>(caller: Weak<()>, act: impl FnOnce() -> T) -> T {
    CALLER.set(Some(caller));
    let _over = Over;
    act()
}

/// The thread goes on to other work after an act, also after one that panicked.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        CALLER.set(None);
    }
}

/// A call that was dropped while it waited must not strike after a later one.
pub(crate) fn must_be_waited_for() -> Result<()> {
    match CALLER.with_borrow(|caller| caller.as_ref().is_some_and(|c| c.strong_count() == 0)) {
        true => {
            Err(Error::new(ErrorKind::Cancelled, "nobody waits for this call any more: it begins nothing"))
        }
        false => Ok(()),
    }
}
