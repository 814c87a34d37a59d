//! The *boot guard*: what a server asks, each time it starts, before it takes part in the network.
//!
//! A server that was failed over from and comes back (after a power cut of the site, by a person's hand) holds its old disks
//! and its old addresses. So before its network is set up it asks the other side whether it may: by its [`Mark`], it is told the
//! newest phase record, and the [`verdict`] follows from that alone.
//!
//! - Without an answer it stays off the network and asks again, for ever: silence is no leave. So does a garbled answer.
//! - *All* [witnesses](All) have to answer: the store knows of a failover, the master target of the way back, and the higher
//!   [order](site_recovery::PhaseRecord::order) counts.
//! - What was answered once is remembered: a side that has forgotten since, or tells something older, is not believed.
//! - An operator may [lift](Guard::lift) it for one start, by name and reason; that is written to `guard.log` beside all
//!   verdicts. Each new one is an event of `tracing`, too.
//! - A mark that woke up on [other hardware](crate::agent::elsewhere), with the disks' bytes, is another server's: nothing is
//!   guarded there.
//! - While it asks, the server's own stack has no address: [`AskingNetwork`] lends one to a name space of its own.
//!
//! It is a belt beside the fence's braces: nothing counts it as a proof that a server is off (see the [site](crate::site)).

mod ask;
mod lift;
mod mark;
mod network;
mod verdict;

pub use ask::{All, Ask};
pub use mark::Mark;
pub use network::{Asking, AskingNetwork};
pub use verdict::{Verdict, verdict};

use lift::{Entry, Lift};
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Error, ErrorKind, PhaseRecord, Result};
use site_recovery_register::{Told, durable};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Asks for leave, and keeps what it was told.
#[derive(Debug)]
pub struct Guard {
    mark: Mark,
    ask: Arc<dyn Ask>,
    state: PathBuf,
    clock: Arc<dyn Clock>,
    every: Duration,
    patience: Duration,
    boot_id: PathBuf,
    /// What was told last, by this very guard.
    told: Mutex<Option<Entry>>,
}

/// Why a server may take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leave {
    /// The other side says that it is the one that counts.
    Given,
    /// An operator answers for it, for this start.
    Lifted {
        /// Who.
        operator: String,
        /// Why.
        reason: String,
    },
}

/// `seen.json`: the highest order that was ever answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    order: (u64, u64),
}

impl Guard {
    /// A guard that keeps its notes in `state`, asks every 10 seconds, and waits 30 for an answer.
    pub fn new(mark: Mark, ask: Arc<dyn Ask>, state: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            mark,
            ask,
            state: state.into(),
            clock,
            every: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            told: Mutex::default(),
        }
    }

    /// How often it asks, and how long it waits for an answer.
    #[must_use]
    pub fn asking(self, every: Duration, patience: Duration) -> Self {
        Self { every, patience, ..self }
    }

    /// Reads the present start's name there. For tests, which cannot restart.
    #[doc(hidden)]
    #[must_use]
    pub fn starting_by(self, boot_id: impl Into<PathBuf>) -> Self {
        Self { boot_id: boot_id.into(), ..self }
    }

    /// Asks once. `None`: not now; why is in the log.
    ///
    /// # Errors
    /// Those of the file system: what cannot be written down is not acted on.
    pub async fn look(&self) -> Result<Option<Leave>> {
        if let Some(leave) = self.lifted()? {
            return Ok(Some(leave));
        }
        let found = match self.answer().await {
            Ok(record) => self.believed(record.as_ref())?,
            Err(e) => Verdict::NotNow { why: format!("no answer that counts: {e}") },
        };
        self.write(&Entry::Judged(found.clone()))?;
        Ok((found == Verdict::TakesPart).then_some(Leave::Given))
    }

    /// Asks until it may, or for so many times.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    ///
    /// # Cancel safety
    /// Dropped, it has said nothing.
    pub async fn until_it_may(&self, times: Option<u64>) -> Result<Option<Leave>> {
        let mut asked = 0;
        loop {
            if let Some(leave) = self.look().await? {
                return Ok(Some(leave));
            }
            asked += 1;
            if times.is_some_and(|times| asked >= times) {
                return Ok(None);
            }
            self.clock.sleep(self.every).await;
        }
    }

    /// Whether an operator answers for this start. Nobody is asked.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn lifted(&self) -> Result<Option<Leave>> {
        let lift: Option<Lift> = durable::read(&self.state.join("lift.json"))?;
        let start = self.start()?;
        let Some(Lift { operator, reason, .. }) = lift.filter(|lift| lift.start == start) else {
            return Ok(None);
        };
        self.write(&Entry::Lifted { operator: operator.clone(), reason: reason.clone() })?;
        Ok(Some(Leave::Lifted { operator, reason }))
    }

    /// Lets the server take part for this start, whatever anybody answers.
    ///
    /// # Errors
    /// `Invalid` without a name or a reason; those of the file system.
    pub fn lift(&self, operator: &str, reason: &str) -> Result<()> {
        if operator.trim().is_empty() || reason.trim().is_empty() {
            let rule = "a lift has a name and a reason";
            return Err(Error::invalid("lift.operator", format!("{operator:?}"), rule, "give both"));
        }
        let (operator, reason) = (operator.to_owned(), reason.to_owned());
        let lift = Lift { operator: operator.clone(), reason: reason.clone(), start: self.start()? };
        self.write(&Entry::LiftAsked { operator, reason })?;
        durable::write(&self.state.join("lift.json"), &lift)
    }

    /// Notes that the mark is another server's, so that nobody is asked: this one takes part. Why is told by
    /// [`elsewhere`](crate::agent::elsewhere).
    ///
    /// # Errors
    /// Those of the file system: then it does not take part yet.
    pub fn void(&self, why: &str) -> Result<()> {
        self.write(&Entry::OtherHardware { why: why.to_owned() })
    }

    async fn answer(&self) -> Result<Option<PhaseRecord>> {
        tokio::select! {
            answer = self.ask.ask(&self.mark) => answer,
            () = self.clock.sleep(self.patience) => Err(Error::new(ErrorKind::Unavailable, "nobody answers")),
        }
    }

    /// The verdict, unless the other side has forgotten what it once told.
    fn believed(&self, record: Option<&PhaseRecord>) -> Result<Verdict> {
        let path = self.state.join("seen.json");
        let seen: Option<Seen> = durable::read(&path)?;
        let order = record.map(PhaseRecord::order);
        match (&seen, order) {
            (Some(seen), order) if order < Some(seen.order) => {
                let why =
                    format!("the other side told of {:?} before, and tells of {order:?} now", seen.order);
                return Ok(Verdict::NotNow { why });
            }
            (_, Some(order)) if seen.as_ref().map(|s| s.order) != Some(order) => {
                durable::write(&path, &Seen { order })?;
            }
            _ => {}
        }
        Ok(verdict(&self.mark, record))
    }

    fn start(&self) -> Result<String> {
        let read = std::fs::read_to_string(&self.boot_id);
        read.map(|id| id.trim().to_owned()).told("read", &self.boot_id)
    }

    /// Into the log, and to whoever watches: each time that it is another one than before.
    fn write(&self, entry: &Entry) -> Result<()> {
        let mut told = self.told.lock().expect("no panic under this lock");
        if told.as_ref() != Some(entry) {
            entry.tell(&self.mark);
            *told = Some(entry.clone());
        }
        lift::log(&self.state.join("guard.log"), self.clock.now(), &self.mark, entry)
    }
}
