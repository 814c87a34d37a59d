//! Whether anything was written to a disk: what the kernel counts.

use site_recovery::Result;
use site_recovery_register::Told;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The kernel's counters of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    dir: PathBuf,
}

/// What it counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    /// Sectors written, and discards: a cache that is flushed counts as a write of none.
    finished: [u64; 2],
    under_way: u64,
}

impl Counter {
    /// `None` for what the kernel counts nothing of.
    pub(crate) fn of(device: &Path) -> Result<Option<Self>> {
        let meta = fs::metadata(device).told("look at", device)?;
        if !meta.file_type().is_block_device() {
            return Ok(None);
        }
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let dir = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let counts = fs::read_to_string(dir.join("queue/iostats")).is_ok_and(|on| on.trim() == "1");
        Ok(counts.then_some(Self { dir }))
    }

    /// What has ended, and what is under way.
    pub(crate) fn read(&self) -> Result<Count> {
        let numbers = |file: &str| -> Result<Vec<u64>> {
            let path = self.dir.join(file);
            let text = fs::read_to_string(&path).told("read", &path)?;
            Ok(text.split_whitespace().map(|n| n.parse().unwrap_or(u64::MAX)).collect())
        };
        let stat = numbers("stat")?;
        let at = |n: usize| stat.get(n).copied().unwrap_or(0);
        let under_way = numbers("inflight")?.get(1).copied().unwrap_or(u64::MAX);
        Ok(Count { finished: [at(6), at(11)], under_way })
    }
}

impl Count {
    /// Whether nothing was written from this count to `later`.
    pub(crate) fn nothing_until(&self, later: &Count) -> bool {
        self.under_way == 0 && self == later
    }
}
