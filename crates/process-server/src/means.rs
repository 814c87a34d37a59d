//! What all transfers share: memory, threads, and how blocks are packed.

use crate::blocking::blocking;
use crate::delivery::BATCH_BYTES;
use crate::meter::Meter;
use crate::room::Rooms;
use site_recovery::{Error, ErrorKind, Form, HASH_BLOCK, MachineId, Pool, Result};
use site_recovery_record::{Codec, Keyring, MOST_BYTES, Packer, Unpacker};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Memory and threads of one process server.
///
/// Room is taken in the order of the bytes of a disk, before a read begins, and given back when the replica has
/// acknowledged them. That order is what keeps a full pool from locking up: the block that everybody waits for always
/// has its room already. A quarter of the pool stays free for what disks need beside the run they were asked for.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) pool: Pool,
    pub(crate) rooms: Arc<Rooms>,
    threads: Arc<Semaphore>,
    /// The most that is read in one go.
    pub(crate) piece: u64,
    /// Reads under way per disk.
    pub(crate) reads: usize,
    pub(crate) compresses: bool,
    pub(crate) packer: Packer,
    pub(crate) unpacker: Unpacker,
    pub(crate) disks_at_once: usize,
    pub(crate) writes_at_once: usize,
    pub(crate) meter: Meter,
}

/// How many of each.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) pool_bytes: usize,
    pub(crate) threads: usize,
    pub(crate) disks_at_once: usize,
    pub(crate) writes_at_once: usize,
}

impl Means {
    /// The smallest pool that works.
    pub(crate) const LEAST_POOL: usize = 4 * HASH_BLOCK as usize;

    pub(crate) fn new(bounds: &Bounds, codec: Codec, keys: Keyring, meter: Meter) -> Self {
        let pool = Pool::new(bounds.pool_bytes);
        let size = pool.size() as u64;
        Self {
            rooms: Rooms::new(size - size / 4),
            threads: Arc::new(Semaphore::new(bounds.threads)),
            piece: (size / 16 / HASH_BLOCK * HASH_BLOCK).clamp(HASH_BLOCK, MOST_BYTES),
            reads: bounds.threads.clamp(4, 16),
            compresses: codec != Codec::Raw,
            packer: Packer::new(codec, keys.clone()),
            unpacker: Unpacker::new(keys),
            disks_at_once: bounds.disks_at_once,
            writes_at_once: bounds.writes_at_once,
            pool,
            meter,
        }
    }

    /// A batch closes at so many bytes that cross: at a low rate, at what crosses in a second.
    pub(crate) fn batch(&self) -> u64 {
        self.meter.rate().map_or(BATCH_BYTES, |rate| rate.clamp(HASH_BLOCK, BATCH_BYTES))
    }

    /// The form in which a machine's records cross: a frame that neither compresses nor seals would add a copy alone.
    pub(crate) fn form(&self, machine: &MachineId, takes: Form) -> Form {
        if self.compresses || self.packer.seals(machine) { takes } else { Form::Plain }
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
