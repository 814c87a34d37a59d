use crate::Result;
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
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// All subjects.
    async fn subjects(&self) -> Result<Vec<String>>;
    /// Count, and entries since the last fold.
    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)>;
    /// Appends, all or none.
    async fn append(&self, all: &[Append]) -> Result<()>;
    /// Replaces all `expect` entries by one.
    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()>;
}
