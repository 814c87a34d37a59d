use crate::{Error, ErrorKind, Result};
use async_trait::async_trait;
use std::fmt::Debug;

/// One entry to append to one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Which.
    pub subject: String,
    /// How many entries the subject has ever had, folded ones included: compare-and-set.
    pub expect: u64,
    /// The entry.
    pub entry: Vec<u8>,
}

/// The last entry of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEntry {
    /// Which.
    pub subject: String,
    /// How many entries the subject has ever had, folded ones included.
    pub count: u64,
    /// The entry.
    pub entry: Vec<u8>,
}

/// Where the engine writes what it intends and what has happened, before and after each step.
///
/// # Contract
/// - JRN-1 `append` is durable on return.
/// - JRN-2 All appends of one call land, or none. A subject whose count is not `expect` makes it `StaleEpoch`: another
///   engine writes here.
/// - JRN-3 `load` returns the count and what has not been folded, in order; an unknown subject has count 0. A damaged or
///   truncated entry is `Corrupt`, naming subject and entry; never skipped.
/// - JRN-4 `fold` replaces all entries so far by one; `expect` is the count, otherwise `StaleEpoch`. The count does not
///   change: the snapshot stands in the place of the newest entry. A subject without entries is `Refused`.
/// - JRN-5 A journal written by an unknown newer version is refused as `Unsupported` when it is opened.
/// - JRN-6 `last_entries` returns count and last entry, as `load` does, of every subject whose name begins so and comes after
///   the given one, by name, byte by byte: the first of them, as many as asked for, and fewer only where there are no more.
///   A last entry that is damaged or gone is `Corrupt`, as JRN-3 has it; those before it need not be looked at. Two answers
///   are no snapshot: what is appended between them may be in the second one.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// All subjects.
    async fn subjects(&self) -> Result<Vec<String>>;
    /// Count, and entries since the last fold.
    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)>;
    /// Of each subject whose name begins with `prefix` and comes after `after`, which may be empty: name, count and last entry,
    /// of `most` at most. How an engine that starts reads thousands of units, some at a time: a journal that can answer this
    /// at once should; by default all subjects are listed, and each is loaded whole. It only looks: dropping it is safe.
    async fn last_entries(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<LastEntry>> {
        let mut subjects = self.subjects().await?;
        subjects.retain(|subject| subject.starts_with(prefix) && subject.as_str() > after);
        subjects.sort();
        let mut all = vec![];
        for subject in subjects.into_iter().take(most) {
            let (count, mut entries) = self.load(&subject).await?;
            let entry = entries.pop().ok_or_else(|| {
                let message = format!("journal subject {subject} has {count} entries and none is left");
                Error::new(ErrorKind::Corrupt, message)
            })?;
            all.push(LastEntry { subject, count, entry });
        }
        Ok(all)
    }
    /// Appends, all or none.
    async fn append(&self, all: &[Append]) -> Result<()>;
    /// Replaces all `expect` entries by one.
    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()>;
}
