//! How a process server is made.

use crate::blocking::blocking;
use crate::means::Means;
use crate::server::ProcessServer;
use crate::spool::Spool;
use site_recovery::{Error, Result, RoleName};
use site_recovery_record::{Codec, Keyring};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Settings of a [`ProcessServer`].
#[derive(Debug, Clone)]
pub struct Builder {
    name: RoleName,
    pool_bytes: usize,
    spool: Option<PathBuf>,
    spool_bytes: u64,
    disks_at_once: usize,
    codec: Codec,
    keys: Keyring,
    threads: usize,
    known: Option<BTreeSet<RoleName>>,
}

impl Builder {
    pub(crate) fn new(name: RoleName) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            name,
            pool_bytes: 128 << 20,
            spool: None,
            spool_bytes: u64::MAX,
            disks_at_once: 3,
            codec: Codec::Zstd,
            keys: Keyring::new(),
            threads,
            known: None,
        }
    }

    /// Bytes of disks in memory at once, over all machines; at least 256 KiB. Records are a sixteenth of it, from 64 KiB
    /// to 1 MiB. 128 MiB unless said otherwise.
    #[must_use]
    pub fn pool(mut self, bytes: usize) -> Self {
        self.pool_bytes = bytes;
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

    /// Disks of one machine that are read in parallel; 3 unless said otherwise.
    #[must_use]
    pub fn disks_at_once(mut self, disks: usize) -> Self {
        self.disks_at_once = disks;
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

    /// Threads for comparing, checksums and compression, over all machines; the processors of this host unless said
    /// otherwise.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The names of the roles that it will be handed. Without this it is taken to reach all of them, as objects of its
    /// own process.
    #[must_use]
    pub fn knows(mut self, roles: impl IntoIterator<Item = RoleName>) -> Self {
        self.known.get_or_insert_default().extend(roles);
        self
    }

    /// Opens the spool and makes the process server.
    ///
    /// # Errors
    /// `Invalid`, naming the setting; `Conflict` when another process has the spool open; `Denied`, `OutOfSpace` or
    /// `Unavailable`, naming the file, when the spool cannot be used.
    pub async fn build(self) -> Result<ProcessServer> {
        let least = |field, value: usize, least: usize| {
            let rule = format!("it is at least {least}");
            let found = || Error::invalid(field, value, &rule, "raise it").at(&self.name, "build");
            if value < least { Err(found()) } else { Ok(()) }
        };
        least("pool", self.pool_bytes, Means::LEAST_POOL)?;
        least("disks_at_once", self.disks_at_once, 1)?;
        least("threads", self.threads, 1)?;
        least("name", self.name.0.len(), 1)?;
        let spool = match self.spool {
            Some(folder) => {
                let opened = blocking(move || Spool::open(&folder, self.spool_bytes)).await;
                Some(opened.map_err(|e| e.at(&self.name, "build"))?)
            }
            None => None,
        };
        let means = Means::new(self.pool_bytes, self.threads, self.codec, self.keys, self.disks_at_once);
        Ok(ProcessServer::new(self.name, means, spool, self.known))
    }
}
