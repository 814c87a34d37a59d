//! A process that stops before any of its effects: on files of the retention volume, or at the landing.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

/// Counts effects and stops all of them from one on.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: AtomicI64,
}

impl Default for Fuse {
    fn default() -> Self {
        Self { left: AtomicI64::new(i64::MAX) }
    }
}

impl Fuse {
    /// Before an effect.
    pub(crate) fn step(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.left.store(0, Ordering::SeqCst);
        Err(io::Error::other("the process is gone"))
    }

    /// How much of a write reaches the file when the process stops in it: half the first time, then nothing.
    pub(crate) fn torn(&self, len: usize) -> usize {
        len / 2
    }
}
