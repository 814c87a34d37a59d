//! What all transfers share: memory, threads, and how blocks are packed.

use crate::blocking::blocking;
use crate::delivery::BATCH_BYTES;
use site_recovery::{Error, ErrorKind, HASH_BLOCK, Pool, Result};
use site_recovery_record::{Codec, Keyring, MOST_BYTES, Packer, Unpacker};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const PAGE: u64 = 4096;

/// Memory and threads of one process server.
///
/// Room is taken in the order of the bytes of a disk, before a read begins, and given back when the replica has
/// acknowledged them. That order is what keeps a full pool from locking up: the block that everybody waits for always
/// has its room already. A quarter of the pool stays free for what disks need beside the run they were asked for.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) pool: Pool,
    room: Arc<Semaphore>,
    room_bytes: u64,
    threads: Arc<Semaphore>,
    pub(crate) piece: u64,
    pub(crate) packer: Packer,
    pub(crate) unpacker: Unpacker,
    pub(crate) disks_at_once: usize,
}

/// Part of the pool, given back when dropped.
pub(crate) type Room = OwnedSemaphorePermit;

impl Means {
    /// The smallest pool that works.
    pub(crate) const LEAST_POOL: usize = 4 * HASH_BLOCK as usize;

    pub(crate) fn new(
        pool_bytes: usize,
        threads: usize,
        codec: Codec,
        keys: Keyring,
        disks_at_once: usize,
    ) -> Self {
        let pool = Pool::new(pool_bytes);
        let size = pool.size() as u64;
        let piece = (size / 16 / HASH_BLOCK * HASH_BLOCK).clamp(HASH_BLOCK, MOST_BYTES);
        let pages = (size - size / 4) / PAGE;
        Self {
            pool,
            room: Arc::new(Semaphore::new(pages as usize)),
            room_bytes: pages * PAGE,
            threads: Arc::new(Semaphore::new(threads)),
            piece,
            packer: Packer::new(codec, keys.clone()),
            unpacker: Unpacker::new(keys),
            disks_at_once,
        }
    }

    /// The most plain bytes of one batch.
    pub(crate) fn batch(&self) -> u64 {
        BATCH_BYTES.min(self.room_bytes)
    }

    /// Waits for room for `bytes`, or for all there is.
    pub(crate) async fn room(&self, bytes: u64) -> Result<Room> {
        let pages = bytes.min(self.room_bytes).div_ceil(PAGE) as u32;
        let taken = Arc::clone(&self.room).acquire_many_owned(pages).await;
        taken.map_err(|e| Error::new(ErrorKind::Cancelled, "the pool is closed").caused_by(e))
    }

    /// Runs CPU work on one of the bounded threads.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let thread = thread.map_err(|e| Error::new(ErrorKind::Cancelled, "no thread").caused_by(e))?;
        blocking(move || {
            let done = work();
            drop(thread);
            Ok(done)
        })
        .await
    }
}
