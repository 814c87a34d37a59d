//! Faults that tests ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An error is answered instead; nothing happens.
    Status {
        /// Of HTTP.
        status: u16,
        /// `error.code` of the body.
        code: String,
        /// `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// The token is said to be past its time; nothing happens.
    TokenExpired,
    /// The connection breaks; nothing happens.
    DropBeforeEffect,
    /// The request is carried out, and the connection breaks before the answer.
    DropAfterAccept,
    /// No answer comes; nothing happens.
    Hang,
    /// The request is carried out, and no answer comes.
    HangAfterAccept,
    /// The operation that it begins ends so. What it creates stays, with `provisioningState` `Failed`.
    FailAtEnd {
        /// `error.code` of the operation.
        code: String,
        /// `error.message` of the operation.
        message: String,
    },
}

/// A fault: which requests, and what of them.
#[derive(Debug, Clone)]
pub struct Fault {
    /// As `PUT`.
    pub method: String,
    /// A part of the path, in any case of letters.
    pub path: String,
    /// The first request that it meets, counted from 1 since it was asked for.
    pub nth: u32,
    /// How many it meets, one after the other.
    pub times: u32,
    /// What goes wrong.
    pub what: What,
}

impl Fault {
    /// The next request of this method whose path has this part.
    pub fn next(method: &str, path: &str, what: What) -> Self {
        Self { method: method.into(), path: path.into(), nth: 1, times: 1, what }
    }

    /// An error instead of the next such request, without `Retry-After`.
    pub fn status(method: &str, path: &str, status: u16, code: &str) -> Self {
        Self::next(method, path, What::Status { status, code: code.into(), retry_after: None })
    }
}

/// How often a fault was met.
#[derive(Debug, Clone, Default)]
pub struct Hits(Arc<AtomicU32>);

impl Hits {
    /// Until now.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Fault, u32, Hits)>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> Hits {
        let hits = Hits::default();
        self.0.push((fault, 0, hits.clone()));
        hits
    }

    /// What goes wrong with this request. Every fault counts it; the one asked for first wins.
    pub(crate) fn meet(&mut self, method: &str, path: &str) -> Option<What> {
        let path = path.to_lowercase();
        let mut met = None;
        for (fault, seen, hits) in &mut self.0 {
            if !fault.method.eq_ignore_ascii_case(method) || !path.contains(&fault.path.to_lowercase()) {
                continue;
            }
            *seen += 1;
            if met.is_none() && (fault.nth..fault.nth.saturating_add(fault.times)).contains(seen) {
                hits.0.fetch_add(1, Ordering::SeqCst);
                met = Some(fault.what.clone());
            }
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_its_requests_alone() {
        let mut faults = Faults::default();
        let hits =
            faults.add(Fault { nth: 2, times: 2, ..Fault::next("PUT", "/Disks/", What::DropBeforeEffect) });
        let met: Vec<bool> = (0..4).map(|_| faults.meet("put", "/x/disks/a").is_some()).collect();
        assert_eq!(met, [false, true, true, false]);
        assert!(faults.meet("GET", "/x/disks/a").is_none());
        assert_eq!(hits.count(), 2);
    }
}
