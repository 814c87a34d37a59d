//! Lets bytes pass at the rate of the throttle: one bucket of tokens over all machines.

use crate::throttle::Throttle;
use futures_util::future::select;
use site_recovery::{Clock, Timestamp};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// So much of a rate may come at once after a pause.
const BURST: f64 = 1.0;

/// The bucket. Bytes pass when it is not overdrawn, and may overdraw it: the next ones wait for longer.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    throttle: watch::Sender<Throttle>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    tokens: f64,
    filled: Option<Timestamp>,
}

impl Meter {
    pub(crate) fn new(clock: Arc<dyn Clock>, throttle: Throttle) -> Self {
        Self { clock, throttle: watch::Sender::new(throttle), bucket: Mutex::default() }
    }

    /// From now on it is this one, also for who waits already.
    pub(crate) fn set(&self, throttle: Throttle) {
        self.throttle.send_replace(throttle);
    }

    /// Bytes per second now.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.throttle.borrow().rate_at(self.clock.now())
    }

    /// Waits until so many bytes may pass; first come, first served.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(crate) async fn pass(&self, bytes: u64) {
        let mut changed = self.throttle.subscribe();
        let mut bucket = self.bucket.lock().await;
        loop {
            let throttle = changed.borrow_and_update().clone();
            let now = self.clock.now();
            let Some(rate) = throttle.rate_at(now) else {
                *bucket = Bucket::default();
                return;
            };
            bucket.fill(rate as f64, now);
            if bucket.tokens >= 0.0 {
                bucket.tokens -= bytes as f64;
                return;
            }
            let missing = Duration::from_secs_f64(-bucket.tokens / rate as f64);
            // A clock of milliseconds shows no less than one.
            let wait = missing.max(Duration::from_millis(1)).min(throttle.holds_for(now));
            select(self.clock.sleep(wait), pin!(changed.changed())).await;
        }
    }
}

impl Bucket {
    fn fill(&mut self, rate: f64, now: Timestamp) {
        let passed = self.filled.map_or(0.0, |filled| now.since(filled).as_secs_f64());
        self.filled = Some(now);
        self.tokens = (self.tokens + passed * rate).min(rate * BURST);
    }
}
