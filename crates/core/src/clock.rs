//! Time, randomness and tasks: the three things that a simulation must own.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug};
use std::time::Duration;

/// A moment, in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This long after.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_millis() as u64))
    }

    /// This long before.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_millis() as u64))
    }

    /// How long since `earlier`; zero if that is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// As `2026-11-24T08:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Civil date from days, after Howard Hinnant's `civil_from_days`, for dates from 1970 on.
        let z = days + 719_468;
        let (era, doe) = (z / 146_097, z % 146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
        let year = yoe + era * 400 + u64::from(month <= 2);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1_000)
    }
}

/// The only source of time. Safety never rests on it: a clock that jumps deletes nothing and fences nobody.
pub trait Clock: Debug + Send + Sync {
    /// Now, by the wall.
    fn now(&self) -> Timestamp;
    /// Ends after `span`. A clock that is driven by hand ends it when it has been moved on that far.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;
}

/// The only source of randomness: minted ids.
pub trait Random: Debug + Send + Sync {
    /// Sixty-four bits that nobody can foresee, or, in a simulation, the next ones of its seed.
    fn bits(&self) -> u64;
}

/// Starts tasks. One per runtime; a simulation brings its own.
pub trait Spawner: Debug + Send + Sync {
    /// Runs `task` to its end, beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// Tasks on the tokio runtime that the vault was built in.
#[derive(Debug, Clone)]
pub struct TokioSpawner(tokio::runtime::Handle);

impl TokioSpawner {
    /// The runtime of the caller.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) outside a tokio runtime.
    pub fn current() -> crate::Result<Self> {
        tokio::runtime::Handle::try_current().map(Self).map_err(|e| {
            crate::Error::invalid("spawner", "absent", "tasks need a tokio runtime", "build the vault in one")
                .caused_by(e)
        })
    }
}

impl Spawner for TokioSpawner {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
}

/// The machine's clock and timers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| d.as_millis() as u64))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// The operating system's randomness, by the standard library's hash seeds.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bits(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        std::collections::hash_map::RandomState::new().build_hasher().finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_as_dates() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_709_210_096_789).to_string(), "2024-02-29T12:34:56.789Z");
    }
}
