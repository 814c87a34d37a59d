//! Peers that have not shown yet who they are: few at a time, and the oldest makes room. So those who never get on with it
//! keep nobody out who does.

use futures_util::future::{AbortHandle, AbortRegistration};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub(crate) struct Strangers {
    most: usize,
    present: Arc<Mutex<Present>>,
}

/// By the order in which they came.
#[derive(Debug, Default)]
struct Present {
    last: u64,
    all: BTreeMap<u64, AbortHandle>,
}

/// A stranger's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    number: u64,
    present: Arc<Mutex<Present>>,
}

impl Strangers {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, present: Arc::default() }
    }

    /// One more. What runs under the registration ends when it is the oldest of too many.
    pub(crate) fn enter(&self) -> (Stranger, AbortRegistration) {
        let (end, registration) = AbortHandle::new_pair();
        let mut present = self.present.lock().expect("no panic under this lock");
        while present.all.len() >= self.most
            && let Some((_, oldest)) = present.all.pop_first()
        {
            oldest.abort();
        }
        present.last += 1;
        let number = present.last;
        present.all.insert(number, end);
        (Stranger { number, present: Arc::clone(&self.present) }, registration)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Ok(mut present) = self.present.lock() {
            present.all.remove(&self.number);
        }
    }
}
