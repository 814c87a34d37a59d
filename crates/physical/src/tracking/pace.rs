//! How fast a disk may be read beside the server's own work, and when to stop.

use site_recovery::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The limit of reads for tracking, shared by all disks of a server. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Limits>);

#[derive(Debug, Default)]
struct Limits {
    bytes_per_second: Option<u64>,
    stopped: AtomicBool,
    read: AtomicU64,
}

impl Pace {
    /// At most so many bytes a second; without a number, as fast as the disk is.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self(Arc::new(Limits { bytes_per_second, ..Limits::default() }))
    }

    /// Bytes that were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Everything that reads by this pace ends as `Cancelled`.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Called after each read; holds the reader back. Blocks.
    pub(crate) fn took(&self, bytes: u64) -> Result<()> {
        self.0.read.fetch_add(bytes, Ordering::Relaxed);
        let mut wait = match self.0.bytes_per_second {
            Some(limit) => Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64),
            None => Duration::ZERO,
        };
        loop {
            if self.0.stopped.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Cancelled, "the agent ends"));
            }
            if wait.is_zero() {
                return Ok(());
            }
            let step = wait.min(Duration::from_millis(100));
            std::thread::sleep(step);
            wait -= step;
        }
    }
}
