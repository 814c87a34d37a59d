//! A clock that is moved by hand, and randomness that can be replayed.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use site_recovery::{Clock, Random, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Where every [`ManualClock`] starts: `2026-01-01T00:00:00.000Z`.
pub const START: Timestamp = Timestamp(1_767_225_600_000);

/// A clock that stands still until it is moved. Clones share one time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    now: Timestamp,
    sleepers: Vec<(Timestamp, oneshot::Sender<()>)>,
}

impl ManualClock {
    /// A clock that shows [`START`].
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Hands { now: START, sleepers: vec![] })))
    }

    /// Moves on by `span` and wakes everybody whose time has come, those who wait for the earliest time first.
    pub fn advance(&self, span: Duration) {
        let now = self.now().after(span);
        self.set(now);
    }

    /// Moves on to the time at which the next sleeper wakes, and wakes it. False when nobody sleeps.
    pub fn advance_to_next(&self) -> bool {
        let next = self.hands().sleepers.iter().map(|(due, _)| *due).min();
        if let Some(due) = next {
            self.set(due.max(self.now()));
        }
        next.is_some()
    }

    /// Jumps, also back, as a wall clock may. Jumping back wakes nobody.
    pub fn set(&self, now: Timestamp) {
        let mut hands = self.hands();
        hands.now = now;
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut hands.sleepers).into_iter().partition(|(due, _)| *due <= now);
        hands.sleepers = later;
        drop(hands);
        due.sort_by_key(|(due, _)| *due);
        for (_, wake) in due {
            // A sleeper that was dropped has nobody to wake.
            let _ = wake.send(());
        }
    }

    /// How many sleep and still wait.
    pub fn sleepers(&self) -> usize {
        self.hands().sleepers.iter().filter(|(_, wake)| !wake.is_closed()).count()
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().now
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let mut hands = self.hands();
        let due = hands.now.after(span);
        if due <= hands.now {
            return futures_util::future::ready(()).boxed();
        }
        let (wake, woken) = oneshot::channel();
        hands.sleepers.retain(|(_, wake)| !wake.is_closed());
        hands.sleepers.push((due, wake));
        // When the clock itself is gone, nobody can wake the sleeper any more: it sleeps for ever.
        async move {
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

/// The numbers of one seed, by splitmix64. Clones share one row of numbers.
#[derive(Debug, Clone)]
pub struct SeededRandom(Arc<Mutex<u64>>);

impl SeededRandom {
    /// The row of numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// The next number below `end`; 0 for 0.
    pub fn below(&self, end: u64) -> u64 {
        self.bits().checked_rem(end).unwrap_or(0)
    }

    /// The next `len` bytes.
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.bits().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

impl Random for SeededRandom {
    fn bits(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_the_clock_is_moved_far_enough() {
        let clock = ManualClock::new();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.000Z");
        let mut long = clock.sleep(Duration::from_secs(10));
        let short = clock.sleep(Duration::from_secs(3));
        assert_eq!(clock.sleepers(), 2);
        clock.advance(Duration::from_secs(9));
        short.await;
        assert!((&mut long).now_or_never().is_none());
        assert!(clock.advance_to_next());
        long.await;
        assert_eq!(clock.now().since(START), Duration::from_secs(10));
        assert!(!clock.advance_to_next());
    }

    #[test]
    fn a_seed_replays() {
        let (one, two) = (SeededRandom::new(7), SeededRandom::new(7));
        assert_eq!(one.bytes(100), two.bytes(100));
        assert_ne!(SeededRandom::new(8).bits(), SeededRandom::new(7).bits());
        // The published first number of splitmix64 for the seed 0.
        assert_eq!(SeededRandom::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }
}
