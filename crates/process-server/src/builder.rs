//! How a process server is made.

use crate::blocking::blocking;
use crate::means::{Bounds, Means};
use crate::meter::Meter;
use crate::server::ProcessServer;
use crate::spool::Spool;
use crate::throttle::Throttle;
use site_recovery::{Clock, Error, Result, RoleName, SystemClock};
use site_recovery_record::{Codec, Keyring};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Most threads, disks and writes.
const MOST: usize = 4096;

/// Settings of a [`ProcessServer`].
#[derive(Debug, Clone)]
pub struct Builder {
    name: RoleName,
    bounds: Bounds,
    spool: Option<PathBuf>,
    spool_bytes: u64,
    codec: Codec,
    keys: Keyring,
    clock: Arc<dyn Clock>,
    throttle: Throttle,
    known: Option<BTreeSet<RoleName>>,
}

impl Builder {
    pub(crate) fn new(name: RoleName) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        Self {
            name,
            bounds: Bounds { pool_bytes: 128 << 20, threads, disks_at_once: 3, writes_at_once: 4 },
            spool: None,
            spool_bytes: u64::MAX,
            codec: Codec::Zstd,
            keys: Keyring::new(),
            clock: Arc::new(SystemClock),
            throttle: Throttle::default(),
            known: None,
        }
    }

    /// Bytes of disks in memory at once, over all machines; at least 256 KiB. Reads are a sixteenth of it, from 64 KiB
    /// to 1 MiB. 128 MiB unless said otherwise.
    #[must_use]
    pub fn pool(mut self, bytes: usize) -> Self {
        self.bounds.pool_bytes = bytes;
        self
    }

    /// The folder for captures whose replica is away; made if it does not exist, and used by one process at a time.
    /// Without one a capture waits at its source instead.
    #[must_use]
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool = Some(folder.into());
        self
    }

    /// The most bytes that the spool may hold over all machines. A capture for which there is no room is not spooled.
    /// No bound but the volume unless said otherwise.
    #[must_use]
    pub fn spool_limit(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// Disks of one machine that are read in parallel, 1 to 4096; 3 unless said otherwise.
    #[must_use]
    pub fn disks_at_once(mut self, disks: usize) -> Self {
        self.bounds.disks_at_once = disks;
        self
    }

    /// Batches of one machine that are under way at its replica at once, 1 to 4096; 4 unless said otherwise.
    #[must_use]
    pub fn writes_at_once(mut self, writes: usize) -> Self {
        self.bounds.writes_at_once = writes;
        self
    }

    /// How records are compressed for replicas that keep them sealed, and in the spool; `Zstd` unless said otherwise.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The keys that records are sealed with, for replicas that keep them sealed and in the spool. None unless said
    /// otherwise: then nothing is sealed.
    #[must_use]
    pub fn keys(mut self, keys: Keyring) -> Self {
        self.keys = keys;
        self
    }

    /// Threads for comparing, checksums and compression, over all machines, 1 to 4096; the processors of this host unless
    /// said otherwise.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.bounds.threads = threads;
        self
    }

    /// The names of the roles that it will be handed. Without this it is taken to reach all of them, as objects of its
    /// own process.
    #[must_use]
    pub fn knows(mut self, roles: impl IntoIterator<Item = RoleName>) -> Self {
        self.known.get_or_insert_default().extend(roles);
        self
    }

    /// How fast bytes may cross, and when; as fast as they go unless said otherwise.
    #[must_use]
    pub fn throttle(mut self, throttle: Throttle) -> Self {
        self.throttle = throttle;
        self
    }

    /// What tells the time; the system's clock unless said otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the spool and makes the process server.
    ///
    /// # Errors
    /// `Invalid`, naming the setting; `Conflict` when another process has the spool open; `Denied`, `OutOfSpace` or
    /// `Unavailable`, naming the file, when the spool cannot be used.
    pub async fn build(self) -> Result<ProcessServer> {
        let refused = |field, value: usize, rule: &str, remedy: &str| {
            Err(Error::invalid(field, value, rule, remedy).at(&self.name, "build"))
        };
        let Bounds { pool_bytes, threads, disks_at_once, writes_at_once } = self.bounds;
        if pool_bytes < Means::LEAST_POOL {
            return refused("pool", pool_bytes, &format!("it is at least {}", Means::LEAST_POOL), "raise it");
        }
        let counts =
            [("disks_at_once", disks_at_once), ("writes_at_once", writes_at_once), ("threads", threads)];
        if let Some((field, value)) = counts.into_iter().find(|(_, value)| !(1..=MOST).contains(value)) {
            let rule = format!("it is 1 to {MOST}");
            return refused(field, value, &rule, "choose another number, or leave it out");
        }
        if self.name.0.is_empty() {
            let error = Error::invalid("name", "empty", "roles are told apart by it", "give one");
            return Err(error.at(&self.name, "build"));
        }
        self.throttle.validate().map_err(|e| e.at(&self.name, "build"))?;
        let spool = match self.spool {
            Some(folder) => {
                let opened = blocking(move || Spool::open(&folder, self.spool_bytes)).await;
                Some(opened.map_err(|e| e.at(&self.name, "build"))?)
            }
            None => None,
        };
        let meter = Meter::new(Arc::clone(&self.clock), self.throttle);
        let means = Means::new(&self.bounds, self.codec, self.keys, meter);
        Ok(ProcessServer::new(self.name, means, spool, self.known, self.clock))
    }
}
