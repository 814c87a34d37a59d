//! The end of a wait.

use std::time::{Duration, Instant};

/// Longer than any wait that is meant: thirty years.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The end of a wait, with one last look after it: who was held up elsewhere still finds what came in time, and a peer that
/// never ends talking holds up nobody.
#[derive(Debug)]
pub(crate) struct Deadline {
    end: Instant,
    looked: bool,
}

impl Deadline {
    pub(crate) fn after(span: Duration) -> Self {
        Self { end: now() + span.min(LONGEST), looked: false }
    }

    /// What is left; nothing at all once the last look was had.
    pub(crate) fn left(&mut self) -> Option<Duration> {
        let left = self.end.saturating_duration_since(now());
        if left.is_zero() && std::mem::replace(&mut self.looked, true) {
            return None;
        }
        Some(left)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a thread that blocks on a socket can be woken by no other clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_end_there_is_one_look() {
        let mut past = Deadline::after(Duration::ZERO);
        assert_eq!((past.left(), past.left(), past.left()), (Some(Duration::ZERO), None, None));
        let mut far = Deadline::after(Duration::MAX);
        for _ in 0..3 {
            assert!(far.left() > Some(Duration::from_secs(3600)));
        }
    }
}
