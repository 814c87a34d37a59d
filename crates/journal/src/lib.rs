//! The engine's journal on SQLite.
//!
//! One file (with SQLite's `-wal` and `-shm` beside it) on a *local* file system; SQLite is built in.
//!
//! - **Durable**: write-ahead log with `synchronous = FULL`, so that what `append` acknowledged survives a power cut.
//! - **All or none**: the appends of one call are one savepoint; calls that wait at the same time share one commit, and
//!   one sync of the disk, without sharing each other's refusals.
//! - **Fenced by counting**: a subject's count is compared and set in the same transaction, so of two engines on one file
//!   exactly one appends, and the other is told `StaleEpoch`.
//! - **Never silently damaged**: every entry carries a checksum over subject, number and bytes, and numbers have no gaps;
//!   a damaged, missing, moved or truncated entry is `Corrupt`, naming subject and entry. What cannot be seen from
//!   inside: a file that was replaced by an older copy of itself, whole.
//! - **Versioned**: `user_version` is the format; a newer one is refused as `Unsupported` before anything is written.
//!
//! All work is done by one thread per journal, which ends when the last clone is dropped; dropping waits for it.
//!
//! ```no_run
//! # async fn f() -> site_recovery::Result<()> {
//! use site_recovery::{Append, Journal};
//! use site_recovery_journal::SqliteJournal;
//!
//! let journal = SqliteJournal::open("/var/lib/site-recovery/journal.db").await?;
//! let (count, entries) = journal.load("item/web").await?;
//! journal.append(&[Append { subject: "item/web".into(), expect: count, entry: b"next".to_vec() }]).await?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod error;
mod store;
mod writer;

use async_trait::async_trait;
use site_recovery::{Append, Journal, LastEntry, Result};
use std::path::Path;
use std::sync::Arc;
use store::Store;
use writer::Writer;

/// A journal in one SQLite file. Clones share its thread.
///
/// # Cancel safety
/// Dropping a future means no longer waiting; the write may still happen. The counts say whether it did.
#[derive(Debug, Clone)]
pub struct SqliteJournal(Arc<Writer>);

impl SqliteJournal {
    /// Opens the journal at `path`, and makes it where there is none. The directory must exist.
    ///
    /// # Errors
    /// `Unsupported` when a newer version wrote it; `Conflict` when the file is another kind of database; `Corrupt` when
    /// it is damaged; `Denied` or `NotFound` when it cannot be opened; `Busy` while somebody else holds it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Ok(Self(Arc::new(Writer::start(move || Store::open(&path)).await?)))
    }

    /// A journal that is gone with its last clone, for tests and trials.
    ///
    /// # Errors
    /// `Unavailable` when no thread can be started.
    pub async fn in_memory() -> Result<Self> {
        Ok(Self(Arc::new(Writer::start(Store::in_memory).await?)))
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.0.ask(|store| store.subjects()).await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        let subject = subject.to_owned();
        self.0.ask(move |store| store.load(&subject)).await
    }

    async fn last_entries(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<LastEntry>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.0.ask(move |store| store.last_entries(&prefix, &after, most)).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        let all = all.to_vec();
        self.0.ask(move |store| store.append(&all)).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        let subject = subject.to_owned();
        self.0.ask(move |store| store.fold(&subject, expect, &snapshot)).await
    }
}
