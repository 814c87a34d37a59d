//! A journal that dies at a chosen write.

use async_trait::async_trait;
use site_recovery::{Append, Error, ErrorKind, ErrorStatus, Journal, LastEntry, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where the process dies, counting writes (`append` and `fold`) from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Never: to count the writes of a whole run.
    Never,
    /// Instead of this write.
    Before(u64),
    /// Right after this write is durable: its caller never learns.
    After(u64),
}

impl Crash {
    /// Every point at which a run of `writes` writes can die.
    pub fn sweep(writes: u64) -> impl Iterator<Item = Crash> {
        (0..writes).flat_map(|n| [Crash::Before(n), Crash::After(n)])
    }
}

/// A [`Journal`] whose process dies at a chosen write. From then on every call, reads too, fails for good, so that the
/// engine over it stops where it stands; start a new engine on the journal inside. Clones die together and share one
/// count.
#[derive(Debug, Clone)]
pub struct CrashingJournal {
    inner: Arc<dyn Journal>,
    crash: Crash,
    writes: Arc<AtomicU64>,
    dead: Arc<AtomicBool>,
}

impl CrashingJournal {
    /// Over `inner`, dying at `crash`.
    pub fn new(inner: Arc<dyn Journal>, crash: Crash) -> Self {
        Self { inner, crash, writes: Arc::default(), dead: Arc::default() }
    }

    /// How many writes were asked for while it lived, the deadly one included.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Whether it is dead.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether an error is the death of the process.
    pub fn killed(error: &Error) -> bool {
        error.fact("crashed").is_some()
    }

    fn alive(&self) -> Result<()> {
        if !self.is_dead() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Unavailable, "crashed").status(ErrorStatus::Permanent);
        Err(error.with("crashed", format!("{:?}", self.crash)))
    }

    fn die(&self) -> Result<()> {
        self.dead.store(true, Ordering::SeqCst);
        self.alive()
    }

    async fn write(&self, write: impl Future<Output = Result<()>> + Send) -> Result<()> {
        self.alive()?;
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        if self.crash == Crash::Before(number) {
            return self.die();
        }
        let written = write.await;
        if self.crash == Crash::After(number) {
            return self.die();
        }
        self.alive()?;
        written
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Journal for CrashingJournal {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.alive()?;
        self.inner.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.alive()?;
        self.inner.load(subject).await
    }

    async fn last_entries(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<LastEntry>> {
        self.alive()?;
        self.inner.last_entries(prefix, after, most).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.write(self.inner.append(all)).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.write(self.inner.fold(subject, expect, snapshot)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::MemoryJournal;

    #[tokio::test]
    async fn it_dies_once_before_or_after_the_write_and_stays_dead() {
        for crash in Crash::sweep(3) {
            let inside = MemoryJournal::new();
            let journal = CrashingJournal::new(Arc::new(inside.clone()), crash);
            let mut acknowledged = 0;
            for expect in 0..3 {
                let append = Append { subject: "s".into(), expect, entry: vec![1] };
                acknowledged += u64::from(journal.append(&[append]).await.is_ok());
            }
            let (there, expected) = match crash {
                Crash::Before(n) => (n, n),
                Crash::After(n) => (n + 1, n),
                Crash::Never => unreachable!("not in a sweep"),
            };
            assert_eq!((inside.load("s").await.expect("loads").0, acknowledged), (there, expected));
            let error = journal.load("s").await.expect_err("is dead");
            assert!(CrashingJournal::killed(&error) && !error.is_temporary());
        }
    }
}
