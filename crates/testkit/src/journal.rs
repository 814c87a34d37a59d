//! A journal in memory.

use async_trait::async_trait;
use site_recovery::{Append, Error, ErrorKind, Journal, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u32 = 1;

/// A [`Journal`] in memory. Clones share one content, as two engines on one file would.
#[derive(Debug, Clone)]
pub struct MemoryJournal(Arc<Mutex<Content>>);

#[derive(Debug)]
struct Content {
    version: u32,
    subjects: BTreeMap<String, Subject>,
}

#[derive(Debug, Default, Clone)]
struct Subject {
    count: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Vec<u8>,
    checksum: u64,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Content { version: VERSION, subjects: BTreeMap::new() })))
    }

    /// Opens the same content again, as an engine that starts anew does.
    ///
    /// # Errors
    /// `Unsupported` when the content was written by a newer version.
    pub fn reopen(&self) -> Result<Self> {
        let version = self.content().version;
        if version > VERSION {
            let message = format!("the journal has version {version}, known is {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(self.clone())
    }

    /// Says that the content was written by this version.
    pub fn set_version(&self, version: u32) {
        self.content().version = version;
    }

    /// Changes the stored bytes of the `at`-th kept entry of a subject, past all checks.
    ///
    /// # Panics
    /// When there is no such entry.
    pub fn damage(&self, subject: &str, at: usize, how: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content();
        let entries = content.subjects.get_mut(subject).map(|s| &mut s.entries);
        how(&mut entries.and_then(|e| e.get_mut(at)).expect("there is such an entry").bytes);
    }

    /// A copy of everything, on which nobody else writes: what a crash at this moment leaves.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let content = self.content();
        let (version, subjects) = (content.version, content.subjects.clone());
        Self(Arc::new(Mutex::new(Content { version, subjects })))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn subjects(&self) -> Result<Vec<String>> {
        Ok(self.content().subjects.keys().cloned().collect())
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        let content = self.content();
        let Some(found) = content.subjects.get(subject) else { return Ok((0, vec![])) };
        let first = found.count - found.entries.len() as u64;
        let mut entries = vec![];
        for (number, entry) in (first..).zip(&found.entries) {
            if xxh3_64(&entry.bytes) != entry.checksum {
                let message = format!("entry {number} of {subject} is damaged");
                let error = Error::new(ErrorKind::Corrupt, message);
                return Err(error.with("subject", subject).with("entry", number));
            }
            entries.push(entry.bytes.clone());
        }
        Ok((found.count, entries))
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        let mut content = self.content();
        let mut next = content.subjects.clone();
        for append in all {
            let subject = next.entry(append.subject.clone()).or_default();
            subject.check(&append.subject, append.expect)?;
            subject.count += 1;
            subject.entries.push(Entry::new(append.entry.clone()));
        }
        content.subjects = next;
        Ok(())
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        let mut content = self.content();
        let mut found = content.subjects.get(subject).cloned().unwrap_or_default();
        found.check(subject, expect)?;
        if expect == 0 {
            let message = format!("{subject} has no entries to fold");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        found.entries = vec![Entry::new(snapshot)];
        content.subjects.insert(subject.to_owned(), found);
        Ok(())
    }
}

impl Subject {
    fn check(&self, name: &str, expect: u64) -> Result<()> {
        if self.count == expect {
            return Ok(());
        }
        let message = format!("{name} has {} entries, not {expect}: another engine writes here", self.count);
        Err(Error::new(ErrorKind::StaleEpoch, message).with("subject", name))
    }
}

impl Entry {
    fn new(bytes: Vec<u8>) -> Self {
        let checksum = xxh3_64(&bytes);
        Self { bytes, checksum }
    }
}
