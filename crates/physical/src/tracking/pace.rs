//! How fast a disk may be read beside the server's own work, and when to stop.

use rustix::time::ClockId;
use site_recovery::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The limit of reads for tracking, shared by all disks of a server. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Limits>);

#[derive(Debug, Default)]
struct Limits {
    bytes_per_second: Option<u64>,
    cpu_percent: Option<u8>,
    stopped: AtomicBool,
    read: AtomicU64,
}

impl Pace {
    /// At most so many bytes a second; without a number, as fast as the disk is.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self::limited(bytes_per_second, None)
    }

    /// The same, and each reader takes at most so much of one processor, 1 to 100.
    pub fn limited(bytes_per_second: Option<u64>, cpu_percent: Option<u8>) -> Self {
        Self(Arc::new(Limits { bytes_per_second, cpu_percent, ..Limits::default() }))
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
        if let Some(percent) = self.0.cpu_percent {
            let worked = worked();
            wait = wait.max(worked.mul_f64(100.0 / f64::from(percent.max(1))).saturating_sub(worked));
        }
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

/// Processor time that this thread took since it was asked last; none at first.
fn worked() -> Duration {
    thread_local!(static LAST: Cell<Option<Duration>> = const { Cell::new(None) });
    let now = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    LAST.replace(Some(now)).map_or(Duration::ZERO, |last| now.saturating_sub(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "it is the machine's time that is shared")]
    fn a_reader_takes_its_share_of_a_processor_and_no_more() {
        let pace = Pace::limited(None, Some(20));
        pace.took(0).unwrap();
        let (began, mut sum) = (std::time::Instant::now(), 0_u64);
        let before = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        for piece in 0..20 {
            for number in 0..1_000_000 {
                sum = std::hint::black_box(sum.wrapping_mul(31) + number + piece);
            }
            pace.took(1).unwrap();
        }
        let after = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        let cpu = (after.tv_sec - before.tv_sec) as f64 + (after.tv_nsec - before.tv_nsec) as f64 / 1e9;
        let share = cpu / began.elapsed().as_secs_f64();
        assert!(cpu > 0.0 && share < 0.25, "{share} of a processor, {cpu} s");
        assert_eq!(pace.bytes_read(), 20);
    }
}
