//! What was asked for. Without queries and headers, so without secrets.

use std::sync::{Arc, Mutex, PoisonError};

/// A request that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `PUT`, say.
    pub method: String,
    /// Without the query, still encoded.
    pub path: String,
    /// The `comp` of the query, or nothing.
    pub comp: String,
    /// Of the request's body, in bytes.
    pub received: u64,
    /// Of the answer's body, in bytes.
    pub sent: u64,
    /// Of HTTP; `None` where the connection was broken instead.
    pub status: Option<u16>,
    /// Azure's word for an error.
    pub code: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    pub(crate) fn add(&self, entry: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
