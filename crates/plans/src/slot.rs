//! One plan in memory: its newest run, how it is written, and who waits for it.

use crate::change::Change;
use crate::record::{PlanAudit, Record, audit_subject, run_subject};
use crate::run::{Course, PlanRun};
use crate::shared::Shared;
use site_recovery::workflow::Failure;
use site_recovery::{Append, Result};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Who changes a run, and why.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) who: String,
    pub(crate) why: String,
}

impl Cause {
    pub(crate) fn of(run: &PlanRun) -> Self {
        Self { who: run.who.clone(), why: run.why.clone() }
    }
}

/// What is seen of a run from outside.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// As it was journalled last.
    pub(crate) run: Arc<PlanRun>,
    /// How many tasks drive it, or are about to.
    pub(crate) drivers: usize,
    /// Why this engine does not drive it any more.
    pub(crate) broken: Option<Failure>,
}

impl Seen {
    /// One more task is about to drive the run.
    pub(crate) fn driven(&mut self) {
        (self.drivers, self.broken) = (self.drivers + 1, None);
    }
}

/// Where the journal stands.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Entries of the plan's subject.
    pub(crate) count: u64,
    /// Length and last hash of its audit trail.
    pub(crate) trail: (u64, String),
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) seen: watch::Sender<Seen>,
    written: Arc<Mutex<Written>>,
    /// Held by the task that drives the run.
    pub(crate) driving: Arc<Mutex<()>>,
}

impl Slot {
    pub(crate) fn new(run: PlanRun, written: Written) -> Arc<Self> {
        let seen = Seen { run: Arc::new(run), drivers: 0, broken: None };
        let written = Arc::new(Mutex::new(written));
        Arc::new(Self { seen: watch::Sender::new(seen), written, driving: Arc::default() })
    }

    /// The run as it was journalled last.
    pub(crate) fn run(&self) -> Arc<PlanRun> {
        Arc::clone(&self.seen.borrow().run)
    }

    /// Ends once somebody has cancelled the run.
    pub(crate) async fn turned_back(&self) {
        let mut seen = self.seen.subscribe();
        // The sender lives as long as this slot.
        let _ = seen.wait_for(|seen| seen.run.course == Course::TurningBack).await;
    }

    /// Changes the run: journals it with the audit records in one write, and only then shows it, with what `show` says
    /// besides. What is to change is decided from the run as it is by then.
    ///
    /// # Errors
    /// Those of `decide`, with nothing changed; `StaleEpoch` where another engine goes on with the run; those of the
    /// journal, after which this engine does not know what is written.
    pub(crate) async fn record(
        &self,
        shared: &Shared,
        cause: &Cause,
        decide: impl FnOnce(&PlanRun) -> Result<Vec<Change>>,
        show: impl FnOnce(&mut Seen),
    ) -> Result<Arc<PlanRun>> {
        let mut written = self.written.lock().await;
        let before = self.run();
        let changes = decide(&before)?;
        let run = if changes.is_empty() {
            before
        } else {
            Arc::new(write(shared, cause, &before, changes, &mut written).await?)
        };
        self.seen.send_modify(|seen| {
            seen.run = Arc::clone(&run);
            show(seen);
        });
        Ok(run)
    }

    /// Folds everything that was journalled of the plan into its newest run.
    pub(crate) async fn fold(&self, shared: &Shared) {
        let written = self.written.lock().await;
        let run = self.run();
        let record = Record::new((*run).clone(), written.trail.clone());
        let folded = shared.journal.fold(&run_subject(&run.plan), written.count, record.to_bytes()).await;
        if let Err(error) = folded {
            tracing::warn!(plan = %run.plan, %error, "the journal could not be folded; it stays longer");
        }
    }
}

/// What these changes make of a run, once it is journalled.
async fn write(
    shared: &Shared,
    cause: &Cause,
    before: &PlanRun,
    changes: Vec<Change>,
    written: &mut Written,
) -> Result<PlanRun> {
    let (now, plan) = (shared.clock.now(), &before.plan);
    let (mut run, mut trail, mut audits) = (before.clone(), written.trail.clone(), vec![]);
    for change in changes {
        run = run.after(&change, now);
        let record = PlanAudit {
            number: trail.0,
            at: now,
            who: cause.who.clone(),
            why: cause.why.clone(),
            run: run.id.clone(),
            digest: run.digest.clone(),
            engine: shared.id.clone(),
            change,
            previous: trail.1.clone(),
            hash: String::new(),
        }
        .sealed();
        let entry = serde_json::to_vec(&record).expect("plain data serialises");
        audits.push(Append { subject: audit_subject(plan), expect: trail.0, entry });
        trail = (record.number + 1, record.hash);
    }
    let entry = Record::new(run.clone(), trail.clone()).to_bytes();
    let mut all = vec![Append { subject: run_subject(plan), expect: written.count, entry }];
    all.extend(audits);
    shared.journal.append(&all).await?;
    *written = Written { count: written.count + 1, trail };
    Ok(run)
}
