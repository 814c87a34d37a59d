//! The system's clock, which is put ahead by hand.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use site_recovery::{Clock, SystemClock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Clones share one time. Whoever sleeps already is not woken when it is put ahead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ahead {
    by_ms: Arc<AtomicU64>,
    skipped: Arc<AtomicU64>,
    skips: Option<Duration>,
}

impl Ahead {
    pub(crate) fn put(&self, span: Duration) {
        self.by_ms.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
    }

    /// How often nobody waited.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::SeqCst)
    }

    /// The same time, put ahead by who sleeps for exactly this span: nobody waits for that.
    pub(crate) fn skipping(&self, span: Duration) -> Self {
        Self { skips: Some(span), ..self.clone() }
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(Duration::from_millis(self.by_ms.load(Ordering::SeqCst)))
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        if self.skips == Some(span) {
            self.put(span);
            self.skipped.fetch_add(1, Ordering::SeqCst);
            return futures_util::future::ready(()).boxed();
        }
        SystemClock.sleep(span)
    }
}
