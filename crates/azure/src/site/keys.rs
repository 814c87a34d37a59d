//! One call at a time for a key whose call takes hours: nobody waits for another one that long.

use site_recovery::{Error, ErrorKind, OpKey, Result};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Keys that a call of this process is at.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<BTreeSet<OpKey>>);

/// While it lives, no other call of this process is at the key.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    keys: &'a Keys,
    key: OpKey,
}

impl Keys {
    /// # Errors
    /// `Busy` while another call is at it.
    pub(super) fn alone(&self, key: &OpKey) -> Result<Alone<'_>> {
        if self.all().insert(key.clone()) {
            return Ok(Alone { keys: self, key: key.clone() });
        }
        Err(Error::new(ErrorKind::Busy, format!("another call is at {key}: ask again")))
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeSet<OpKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.keys.all().remove(&self.key);
    }
}
