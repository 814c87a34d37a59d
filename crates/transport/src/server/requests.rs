//! What a connection is at: how much it asked for that is not answered, and the means to let it go.

use crate::fault::{Fault, Result};
use futures_util::future::AbortHandle;
use std::collections::HashMap;
use std::sync::Mutex;

/// Requests that are not answered, within the credit.
#[derive(Debug)]
pub(super) struct Requests {
    credit: u64,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: u64,
    running: HashMap<u64, Running>,
    /// Counts requests, so that silence can be told from coming and going.
    begun: u64,
}

#[derive(Debug)]
struct Running {
    bytes: u64,
    abort: AbortHandle,
}

impl Requests {
    pub(super) fn new(credit: usize, most: usize) -> Self {
        Self { credit: credit as u64, most, state: Mutex::default() }
    }

    /// Takes a request on. One that goes beyond the credit is a flood: a client that keeps the rules does not send it.
    pub(super) fn begin(&self, id: u64, bytes: u32, abort: AbortHandle) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.running.len() >= self.most {
            return Err(Fault::protocol(format!("more than {} requests at a time", self.most)));
        }
        if state.taken + u64::from(bytes) > self.credit {
            let what = format!("{bytes} bytes beside {}, with a credit of {}", state.taken, self.credit);
            return Err(Fault::Protocol(what));
        }
        if state.running.contains_key(&id) {
            return Err(Fault::protocol(format!("request {id} twice at a time")));
        }
        state.taken += u64::from(bytes);
        state.begun += 1;
        state.running.insert(id, Running { bytes: bytes.into(), abort });
        Ok(())
    }

    /// Lets a request go that nobody waits for. It is answered still.
    pub(super) fn cancel(&self, id: u64) {
        if let Some(running) = self.lock().running.get(&id) {
            running.abort.abort();
        }
    }

    /// The answer is about to leave.
    pub(super) fn end(&self, id: u64) {
        let mut state = self.lock();
        if let Some(running) = state.running.remove(&id) {
            state.taken -= running.bytes;
        }
    }

    /// How many there were, and whether none is left.
    pub(super) fn standing(&self) -> (u64, bool) {
        let state = self.lock();
        (state.begun, state.running.is_empty())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}
