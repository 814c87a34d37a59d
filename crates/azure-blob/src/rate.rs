//! No more than so much a second.

use crate::settings::Limits;
use site_recovery::{Clock, SystemClock};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What may be taken at once after a while of nothing.
const BURST: Duration = Duration::from_secs(1);

/// Lets so much pass a second, on average, and as much at once after a second of nothing.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    /// When all that was taken will have been earned.
    earned: Mutex<Instant>,
}

impl Bucket {
    pub(crate) fn new(per_second: u64) -> Self {
        let now = Instant::now();
        Self { per_second, earned: Mutex::new(now.checked_sub(BURST).unwrap_or(now)) }
    }

    /// Takes so much, now, and says how long to wait before it is used.
    fn take(&self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut earned = self.earned.lock().unwrap_or_else(PoisonError::into_inner);
        let from = earned.max(now.checked_sub(BURST).unwrap_or(now));
        *earned = from + cost;
        earned.saturating_duration_since(now)
    }
}

/// What one blob may be asked.
#[derive(Debug)]
pub(crate) struct Rate {
    requests: Bucket,
    bytes: Bucket,
}

impl Rate {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { requests: Bucket::new(limits.blob_requests), bytes: Bucket::new(limits.blob_bytes) }
    }

    /// Waits until one more request with so many bytes may be sent.
    pub(crate) async fn pass(&self, account: &Bucket, bytes: u64) {
        let wait = self.requests.take(1).max(self.bytes.take(bytes)).max(account.take(1));
        if !wait.is_zero() {
            SystemClock.sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_passes_than_a_second_and_what_it_earns() {
        let limits = Limits { blob_requests: 100, ..Limits::default() };
        let (rate, account) = (Rate::new(&limits), Bucket::new(1_000));
        let start = Instant::now();
        for _ in 0..500 {
            rate.pass(&account, 0).await;
        }
        let took = start.elapsed();
        assert!(took > Duration::from_millis(3_900) && took < Duration::from_millis(5_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_has_asked_yet_is_asked_at_once() {
        let (rate, account) = (Rate::new(&Limits::default()), Bucket::new(20_000));
        let start = Instant::now();
        for _ in 0..15 {
            rate.pass(&account, 4 << 20).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        rate.pass(&account, 4 << 20).await;
        assert!(start.elapsed() > Duration::from_millis(60), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_account_limits_where_its_blobs_do_not_and_bytes_count_too() {
        let limits = Limits { blob_bytes: 1 << 20, ..Limits::default() };
        let (one, other, account) = (Rate::new(&limits), Rate::new(&limits), Bucket::new(10));
        let start = Instant::now();
        for _ in 0..25 {
            one.pass(&account, 0).await;
            other.pass(&account, 0).await;
        }
        let took = start.elapsed();
        assert!(took > Duration::from_millis(3_900) && took < Duration::from_millis(5_100), "{took:?}");
        let start = Instant::now();
        for _ in 0..8 {
            one.pass(&Bucket::new(1_000), 1 << 20).await;
        }
        let took = start.elapsed();
        assert!(took > Duration::from_millis(6_900) && took < Duration::from_millis(8_100), "{took:?}");
    }
}
