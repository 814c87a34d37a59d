//! Waits for processes of this host, by its own clock: a clock that a test stands still must not make them endless.

use std::time::{Duration, Instant};

/// A moment until which something is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[allow(clippy::disallowed_methods, reason = "a process of this host takes this host's time")]
    pub(crate) fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    #[allow(clippy::disallowed_methods, reason = "a process of this host takes this host's time")]
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Looks every `step` until it holds, for at most `limit`. Says whether it does. Blocks.
pub(crate) fn within<E>(
    limit: Duration,
    step: Duration,
    mut holds: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let deadline = Deadline::after(limit);
    while !holds()? {
        if deadline.is_over() {
            return Ok(false);
        }
        std::thread::sleep(step);
    }
    Ok(true)
}
