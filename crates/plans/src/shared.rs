//! What all parts of one plans engine share.

use crate::actions::Actions;
use crate::change::Change;
use crate::driver::Driver;
use crate::record::{RUNS, Record, run_subject};
use crate::run::PlanRun;
use crate::slot::{Cause, Seen, Slot, Written};
use futures_util::FutureExt;
use site_recovery::workflow::Failure;
use site_recovery::{Clock, EngineId, Error, ErrorKind, Journal, LastEntry, Random, Result, Spawner, Vault};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, RwLock};
use tokio::sync::{Mutex, oneshot};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: EngineId,
    pub(crate) vault: Vault,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) actions: Arc<dyn Actions>,
    pub(crate) at_once: usize,
    pub(crate) slots: RwLock<BTreeMap<String, Arc<Slot>>>,
    /// Held while a run begins: of two that share a unit the second one sees the first.
    pub(crate) beginning: Arc<Mutex<()>>,
}

impl Shared {
    pub(crate) fn slot(&self, plan: &str) -> Result<Arc<Slot>> {
        let found = self.slots.read().expect("no panic under this lock").get(plan).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("plan {plan} was never run here")))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().expect("no panic under this lock").values().cloned().collect()
    }

    pub(crate) fn insert(&self, plan: &str, slot: &Arc<Slot>) {
        let mut slots = self.slots.write().expect("no panic under this lock");
        slots.insert(plan.to_owned(), Arc::clone(slot));
    }

    /// The newest run of a plan as it is journalled, and how many entries there are.
    pub(crate) async fn read(&self, plan: &str) -> Result<Option<(u64, Record)>> {
        let subject = run_subject(plan);
        let (count, entries) = self.journal.load(&subject).await?;
        let Some(last) = entries.last() else { return Ok(None) };
        Ok(Some((count, Record::from_bytes(&subject, last)?)))
    }

    /// The newest run of every plan that was ever run, by the plan's name, and how many entries it has.
    pub(crate) async fn read_all(&self) -> Result<Vec<(String, u64, Record)>> {
        let all = self.journal.last_entries(RUNS, "", usize::MAX).await?;
        let read = |last: LastEntry| {
            let plan = last.subject.strip_prefix(RUNS).unwrap_or_default().to_owned();
            Ok((plan, last.count, Record::from_bytes(&last.subject, &last.entry)?))
        };
        all.into_iter().map(read).collect()
    }

    pub(crate) async fn load(&self) -> Result<()> {
        for (plan, count, record) in self.read_all().await? {
            self.insert(&plan, &Slot::new(record.run, Written { count, trail: record.trail }));
        }
        Ok(())
    }

    /// Does it in a task of its own: it comes to its end also where the caller is gone by then.
    pub(crate) async fn by_itself<T: Send + 'static>(
        &self,
        what: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, ended) = oneshot::channel();
        self.spawner.spawn(Box::pin(async move {
            let _whoever_waited_may_be_gone = done.send(what.await);
        }));
        ended.await.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?
    }

    /// Changes a run, and has it driven from there. Where a run is to be driven, this is done [by
    /// itself](Shared::by_itself), so that nothing is journalled as going on which nobody drives.
    ///
    /// # Errors
    /// As [`Slot::record`].
    pub(crate) async fn go(
        self: Arc<Self>,
        slot: Arc<Slot>,
        cause: Cause,
        decide: impl FnOnce(&PlanRun) -> Result<Vec<Change>>,
    ) -> Result<Arc<PlanRun>> {
        let run = slot.record(&self, &cause, decide, Seen::driven).await?;
        self.start(&slot);
        Ok(run)
    }

    /// Starts the task that drives the run until it ends or needs a person, and is counted already.
    fn start(self: &Arc<Self>, slot: &Arc<Slot>) {
        let driver = Driver { shared: Arc::clone(self), slot: Arc::clone(slot) };
        self.spawner.spawn(Box::pin(async move {
            let alone = Arc::clone(&driver.slot.driving).lock_owned().await;
            let driven = AssertUnwindSafe(driver.drive()).catch_unwind().await;
            let driven = driven.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Cancelled,
                    "the run stopped in a panic; Plans::resume goes on with it",
                ))
            });
            if let Err(error) = &driven {
                let plan = &driver.slot.run().plan;
                tracing::error!(plan, %error, "the run stopped; a new engine resumes it");
            }
            drop(alone);
            driver.slot.seen.send_modify(|seen| {
                seen.drivers -= 1;
                if let Err(error) = &driven {
                    seen.broken = Some(Failure::from(error));
                }
            });
        }));
    }
}
