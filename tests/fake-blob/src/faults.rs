//! What goes wrong on purpose.

use crate::call::Call;
use hyper::Method;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a request is held at most, whatever a fault says.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// Which request a fault is for. What is not told fits all.
#[derive(Clone, Debug, Default)]
pub struct Match {
    method: Option<Method>,
    comp: Option<String>,
    path: Option<String>,
    after: usize,
    times: usize,
}

impl Match {
    /// Any request.
    #[must_use]
    pub fn any() -> Self {
        Self { times: 1, ..Self::default() }
    }

    /// `PUT`, say.
    ///
    /// # Panics
    /// When it is no method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(Method::from_bytes(method.as_bytes()).expect("a method"));
        self
    }

    /// The `comp` of the query; an empty one is that of requests without.
    #[must_use]
    pub fn comp(mut self, comp: &str) -> Self {
        self.comp = Some(comp.to_owned());
        self
    }

    /// What the path has in it.
    #[must_use]
    pub fn path_contains(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    /// Lets so many fitting requests pass first.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.after = requests;
        self
    }

    /// Hits so many requests instead of one.
    #[must_use]
    pub fn times(mut self, requests: usize) -> Self {
        self.times = requests;
        self
    }

    fn fits(&self, call: &Call) -> bool {
        self.method.as_ref().is_none_or(|method| *method == call.method)
            && self.comp.as_deref().is_none_or(|comp| comp == call.comp().unwrap_or_default())
            && self.path.as_deref().is_none_or(|part| call.path.contains(part))
    }
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer, and no effect.
    Status {
        /// HTTP.
        code: u16,
        /// `ServerBusy`, say.
        azure_code: &'static str,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The request has its effect, and the connection breaks instead of an answer.
    DropBeforeAnswer,
    /// The connection breaks, and there is no effect.
    DropBeforeEffect,
    /// No answer for so long (60 s at most), then the connection breaks; no effect.
    Hang(Duration),
    /// The request is taken in, and has its effect and its answer when the gate is opened (after 60 s at the latest),
    /// whether or not its sender still waits.
    Late(Gate),
    /// The answer's head and so many bytes of its body, then the connection breaks.
    CutBody(u64),
    /// From this request on the fake takes no bearer token that it has seen before.
    ExpireTokens,
}

/// Holds requests until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    open: watch::Sender<bool>,
    through: Hits,
}

impl Gate {
    /// One that is closed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// The requests that went through and were carried out.
    #[must_use]
    pub fn through(&self) -> &Hits {
        &self.through
    }

    pub(crate) async fn opened(&self) {
        // The sender lives as long as this gate.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// How often something was met.
#[derive(Clone, Debug, Default)]
pub struct Hits(watch::Sender<usize>);

impl Hits {
    /// So far.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until it was so often. Any runtime may wait; dropping it costs nothing.
    ///
    /// # Panics
    /// When that takes more than 60 s.
    pub async fn reach(&self, times: usize) {
        let mut seen = self.0.subscribe();
        let reached = timeout(LONGEST, seen.wait_for(|count| *count >= times)).await;
        assert!(reached.is_ok(), "met {} times of {times}", self.count());
    }

    pub(crate) fn add(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// The faults that wait for their requests. The oldest that fits is taken.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Armed>>>);

#[derive(Debug)]
struct Armed {
    fits: Match,
    fault: Fault,
    hits: Hits,
}

impl Faults {
    /// Arms a fault for the next requests that fit. It is gone when it was met as often as it says.
    pub fn next(&self, fits: Match, fault: Fault) -> Hits {
        let hits = Hits::default();
        let armed = Armed { fits, fault, hits: hits.clone() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(armed);
        hits
    }

    /// Disarms all.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many are still armed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn take(&self, call: &Call) -> Option<Fault> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for (i, armed) in all.iter_mut().enumerate() {
            if !armed.fits.fits(call) {
                continue;
            }
            if armed.fits.after > 0 {
                armed.fits.after -= 1;
            } else if found.is_none() {
                found = Some(i);
            }
        }
        let armed = &mut all[found?];
        armed.hits.add();
        armed.fits.times = armed.fits.times.saturating_sub(1);
        let (fault, spent) = (armed.fault.clone(), armed.fits.times == 0);
        if spent {
            all.remove(found?);
        }
        Some(fault)
    }
}
