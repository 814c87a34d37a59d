//! Everything that has bytes.

use crate::{DiskId, Extent, Pool, Result, Run};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// A readable disk: of a capture, of an opened point, a landing disk, a remote export. There is no second reader
/// trait.
///
/// # Contract
/// - DSK-1 `size` never changes for one handle.
/// - DSK-2 `extents` covers the asked range without gap or overlap, in order, cut to the disk.
/// - DSK-3 What `extents` calls `Zero` reads as zeros; holes may be told as `Data`, data never as `Zero`.
/// - DSK-4 `read` returns exactly `run.len` bytes, in memory of the pool; a run past the end is
///   [`Invalid`](crate::ErrorKind::Invalid).
/// - DSK-5 A captured disk and an opened point read the same bytes however often, whatever is written meanwhile.
///
/// # Cancel safety
/// Dropping a future reads nothing further and leaves nothing behind.
#[async_trait]
pub trait Disk: Debug + Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// What is known of `range` without reading it.
    async fn extents(&self, range: Run) -> Result<Vec<Extent>>;
    /// Reads one run. Waits while the pool is empty.
    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes>;
}

/// A disk that can be written: landing disks alone.
///
/// # Contract
/// - DSM-1 What was written is read back, by this handle and by the next one.
/// - DSM-2 `zero` makes a run read as zeros; space may come back.
/// - DSM-3 When `flush` returns, every earlier `write` and `zero` survives a power cut.
#[async_trait]
pub trait DiskMut: Disk {
    /// Writes at `start`; past the end is [`Invalid`](crate::ErrorKind::Invalid), and writes nothing.
    async fn write(&self, start: u64, data: Bytes) -> Result<()>;
    /// Makes a run read as zeros; past the end is [`Invalid`](crate::ErrorKind::Invalid).
    async fn zero(&self, run: Run) -> Result<()>;
    /// Makes everything written so far durable.
    async fn flush(&self) -> Result<()>;
}

/// Disks by name.
pub type Disks = BTreeMap<DiskId, Arc<dyn Disk>>;
