//! What can be asked of plans.

use crate::builder::PlansBuilder;
use crate::change::Change;
use crate::check::{check_name, refuse};
use crate::plan::Plan;
use crate::record::{PlanAudit, Record, audit_subject, read};
use crate::resolve::{Resolved, check, direction, resolve};
use crate::run::{ActionRun, ActionState, Course, PlanRun, stages};
use crate::shared::Shared;
use crate::slot::{Cause, Slot, Written};
use site_recovery::audit::sha256_hex;
use site_recovery::{
    CommitRequest, DrillRequest, Error, ErrorKind, FailoverRequest, Journal, Operation, ReprotectRequest,
    Request, Result, Vault,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// Drives plans over a vault. A cheap handle, `Send`, `Sync` and `Clone`.
///
/// What it begins in the vault it begins as the [operator of its run](PlanRun::operator); that is what the vault's
/// [`Authorizer`](site_recovery::Authorizer) is asked about. Nobody is asked about going on, cancelling and completing: the
/// embedding program decides who gets a handle.
#[derive(Debug, Clone)]
pub struct Plans {
    shared: Arc<Shared>,
    cause: Cause,
}

impl Plans {
    /// Starts building one. The journal may be the vault's own: their subjects are apart.
    pub fn builder(vault: &Vault, journal: Arc<dyn Journal>) -> PlansBuilder {
        PlansBuilder::new(vault, journal)
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared, cause: Cause { who: "embedder".into(), why: String::new() } }
    }

    /// The same handle, acting for this operator: named in runs and in the audit trail.
    #[must_use]
    pub fn acting_as(mut self, who: &str) -> Self {
        self.cause.who = who.to_owned();
        self
    }

    /// The same handle, with this reason.
    #[must_use]
    pub fn because(mut self, why: &str) -> Self {
        self.cause.why = why.to_owned();
        self
    }

    /// Starts isolated copies of all members, group by group. Nothing of production changes, and no map of networks or
    /// addresses is applied.
    ///
    /// # Errors
    /// As [`failover`](Plans::failover).
    pub async fn drill(&self, name: &str, plan: &Plan, request: DrillRequest) -> Result<PlanRun> {
        let request = DrillRequest { hold_boot: true, ..request };
        self.begin(name, plan, Operation::TestFailover, Request::Drill(request)).await
    }

    /// Removes the drills of all members that have one.
    ///
    /// # Errors
    /// As [`failover`](Plans::failover).
    pub async fn clean_up(&self, name: &str, plan: &Plan) -> Result<PlanRun> {
        self.begin(name, plan, Operation::TestFailoverCleanup, Request::Plain).await
    }

    /// Fails all members over, either way. A planned run shuts down the members of the last boot group first, then those of
    /// the one before, and stops at the first failure until it [goes on](Plans::go_on) or is [cancelled](Plans::cancel). An
    /// unplanned one shuts all down at once, goes on whatever fails, and says in its outcome what did.
    ///
    /// Returns the run as it begins; see [`wait`](Plans::wait).
    ///
    /// # Cancel safety
    /// Dropping the future before the run is journalled begins nothing; from then on it goes on by itself.
    ///
    /// # Errors
    /// Nothing has changed: `Invalid`, naming field, value, rule and remedy, for a plan or a request that cannot be meant;
    /// `Busy`, naming it, while a run of this plan, or of another one that shares a member, is under way, or while a member has
    /// a job of its own; `Refused` for a member that cannot do it, or where no member has anything to do; `StaleEpoch` where
    /// another engine has begun a run of this plan meanwhile; those of the vault's checks and of the journal.
    pub async fn failover(&self, name: &str, plan: &Plan, request: FailoverRequest) -> Result<PlanRun> {
        let request = FailoverRequest { hold_boot: true, ..request };
        self.begin(name, plan, request.operation(), Request::Failover(request)).await
    }

    /// Makes the failover of all members final that wait for it.
    ///
    /// # Errors
    /// As [`failover`](Plans::failover).
    pub async fn commit(&self, name: &str, plan: &Plan, request: CommitRequest) -> Result<PlanRun> {
        self.begin(name, plan, Operation::Commit, Request::Commit(request)).await
    }

    /// Replicates all members the other way that may.
    ///
    /// # Errors
    /// As [`failover`](Plans::failover).
    pub async fn reprotect(&self, name: &str, plan: &Plan, request: ReprotectRequest) -> Result<PlanRun> {
        self.begin(name, plan, Operation::ReverseReplicate, Request::Reprotect(request)).await
    }

    async fn begin(
        &self,
        name: &str,
        plan: &Plan,
        operation: Operation,
        request: Request,
    ) -> Result<PlanRun> {
        check_name(name)?;
        plan.validate()?;
        let shared = &self.shared;
        let alone = Arc::clone(&shared.beginning).lock_owned().await;
        let before = shared.read(name).await?;
        if let Some((_, record)) = before.as_ref().filter(|(_, r)| r.run.ended.is_none()) {
            let message = format!("run {} of plan {name} is under way", record.run.id);
            return Err(Error::new(ErrorKind::Busy, message).with("run", &record.run.id));
        }
        let members = resolve(&shared.vault, plan)?;
        self.check_alone(name, &members).await?;
        let earlier = before.as_ref().map(|(_, record)| &record.run);
        let checked = check(&members, operation, &request, earlier).await?;
        let now = shared.clock.now();
        let direction = direction(&members, &request);
        let (count, trail) = before.map_or((0, (0, String::new())), |(count, record)| (count, record.trail));
        let run = PlanRun {
            id: format!("{name}-{}-{:06x}", trail.0, shared.random.bits() & 0xff_ffff),
            plan: name.to_owned(),
            digest: sha256_hex(&serde_json::to_vec(plan).expect("plain data serialises")),
            of: plan.clone(),
            operation,
            stages: stages(plan, operation, direction),
            request,
            direction,
            who: self.cause.who.clone(),
            why: self.cause.why.clone(),
            started: now,
            ended: None,
            course: Course::Forward,
            stopped: None,
            members: checked,
            actions: vec![],
            outcome: None,
        };
        self.open(run, Written { count, trail }, alone).await
    }

    /// No other run begins until this one is journalled, or is not.
    async fn open(&self, run: PlanRun, written: Written, alone: OwnedMutexGuard<()>) -> Result<PlanRun> {
        let (shared, cause) = (Arc::clone(&self.shared), self.cause.clone());
        let opened = self.shared.by_itself(async move {
            let slot = Slot::new(run, written);
            let began = |run: &PlanRun| Ok(vec![Change::Began(Box::new(run.clone()))]);
            let run = Arc::clone(&shared).go(Arc::clone(&slot), cause, began).await?;
            shared.insert(&run.plan, &slot);
            drop(alone);
            Ok(run)
        });
        Ok((*opened.await?).clone())
    }

    /// No run of another plan has one of these members.
    async fn check_alone(&self, name: &str, members: &[Resolved]) -> Result<()> {
        let all = self.shared.read_all().await?;
        for (other, _, Record { run, .. }) in all.into_iter().filter(|(other, ..)| other != name) {
            let shares = |m: &&Resolved| run.members.iter().any(|other| other.unit == *m.handle.unit());
            if let Some(member) = members.iter().find(shares).filter(|_| run.ended.is_none()) {
                let message = format!(
                    "{} is a member of run {} of plan {other}, which is under way",
                    member.name, run.id
                );
                return Err(Error::new(ErrorKind::Busy, message).with("run", &run.id));
            }
        }
        Ok(())
    }

    /// Lets a run go on that has stopped: members that failed begin anew, and actions that failed are taken again, but for
    /// programs of which the plan does not say that they can be; those are passed over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the decision to be journalled by itself; once it is, the run goes on.
    ///
    /// # Errors
    /// `Refused` for a run that has not stopped; `NotFound`; `StaleEpoch` where another engine goes on with it.
    pub async fn go_on(&self, name: &str) -> Result<PlanRun> {
        let by = self.cause.who.clone();
        self.decide(name, move |run| match run.course {
            Course::Stopped if run.ended.is_none() => Ok(vec![Change::WentOn { by }]),
            _ => Err(Error::new(ErrorKind::Refused, format!("run {} has not stopped", run.id))),
        })
        .await
    }

    /// Cancels a run: an action that is under way is ended, members that stand prepared are taken back, and their sources
    /// run again; members that have booted stay, and are named in the outcome. What cannot be taken back, a commit, goes on to
    /// its end. An action that waits for a person is dropped.
    ///
    /// # Cancel safety
    /// As [`go_on`](Plans::go_on).
    ///
    /// # Errors
    /// `Refused` for a run that is over, or is cancelled already; `NotFound`; `StaleEpoch` where another engine goes on with
    /// it.
    pub async fn cancel(&self, name: &str) -> Result<PlanRun> {
        self.decide(name, |run| {
            if run.ended.is_some() || run.course == Course::TurningBack {
                return Err(Error::new(ErrorKind::Refused, format!("run {} is over, or turns back", run.id)));
            }
            Ok(vec![Change::TurnedBack])
        })
        .await
    }

    /// Says that an action is done which waits for a person, and how.
    ///
    /// # Cancel safety
    /// As [`go_on`](Plans::go_on).
    ///
    /// # Errors
    /// `Invalid` for an empty note; `Refused` for an action that does not wait; `NotFound`; `StaleEpoch` where another engine
    /// goes on with the run.
    pub async fn complete(&self, name: &str, action: &str, note: &str) -> Result<PlanRun> {
        if note.trim().is_empty() {
            return refuse("note", "empty", "who completes an action says how", "write it down");
        }
        let (action, note, who) = (action.to_owned(), note.to_owned(), self.cause.who.clone());
        let now = self.shared.clock.now();
        self.decide(name, move |run| {
            let waiting = run.action(&action).filter(|a| {
                a.state == ActionState::Waiting && run.ended.is_none() && run.course == Course::Forward
            });
            let Some(waiting) = waiting else {
                let message = format!("action {action} of run {} does not wait for anybody", run.id);
                return Err(Error::new(ErrorKind::Refused, message));
            };
            Ok(vec![Change::Action(ActionRun {
                state: ActionState::Done,
                ended: Some(now),
                note: Some(note),
                completed_by: Some(who),
                ..waiting.clone()
            })])
        })
        .await
    }

    async fn decide(
        &self,
        name: &str,
        decide: impl FnOnce(&PlanRun) -> Result<Vec<Change>> + Send + 'static,
    ) -> Result<PlanRun> {
        self.go(self.shared.slot(name)?, decide).await
    }

    async fn go(
        &self,
        slot: Arc<Slot>,
        decide: impl FnOnce(&PlanRun) -> Result<Vec<Change>> + Send + 'static,
    ) -> Result<PlanRun> {
        let (shared, cause) = (Arc::clone(&self.shared), self.cause.clone());
        let run = self.shared.by_itself(shared.go(slot, cause, decide)).await?;
        Ok((*run).clone())
    }

    /// Waits until a run has ended or needs a person, and gives it as it is by then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the run as it is.
    ///
    /// # Errors
    /// Why this engine does not drive it any more; `NotFound`.
    pub async fn wait(&self, name: &str) -> Result<PlanRun> {
        let mut seen = self.shared.slot(name)?.seen.subscribe();
        let seen = seen.wait_for(|seen| seen.drivers == 0).await;
        let seen =
            seen.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?;
        match &seen.broken {
            Some(why) => Err(why.clone().into()),
            None => Ok((*seen.run).clone()),
        }
    }

    /// The newest run of a plan, as it stands.
    ///
    /// # Errors
    /// `NotFound` for a plan that was never run.
    pub fn status(&self, name: &str) -> Result<PlanRun> {
        Ok((*self.shared.slot(name)?.run()).clone())
    }

    /// The newest run of every plan, by the plans' names.
    pub fn list(&self) -> Vec<PlanRun> {
        self.shared.all().iter().map(|slot| (*slot.run()).clone()).collect()
    }

    /// Goes on with every run that a crash interrupted, in place of the engine that drove it: what that one still does is
    /// refused. Call it after [`Vault::resume`]. A program that had begun is run again where its plan says that it can be;
    /// otherwise the run waits for a person.
    ///
    /// Returns by the plans' names the runs that go on, and why one does not: `StaleEpoch` where a third engine has gone on
    /// with it; what the journal said. One that does not holds up no other.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rest as it is; each run that was journalled as resumed goes on.
    #[must_use = "a run that nobody goes on with is told here alone"]
    pub async fn resume(&self) -> BTreeMap<String, Result<PlanRun>> {
        let mut resumed = BTreeMap::new();
        for slot in self.shared.all() {
            let run = slot.run();
            if run.ended.is_some() || slot.seen.borrow().drivers > 0 {
                continue;
            }
            let goes_on =
                self.go(slot, |run| Ok(if run.ended.is_none() { vec![Change::Resumed] } else { vec![] }));
            resumed.insert(run.plan.clone(), goes_on.await);
        }
        resumed
    }

    /// The audit trail of a plan, over all its runs, verified. [`replay`](crate::replay) of it gives the newest run.
    ///
    /// # Errors
    /// `Corrupt`, naming the record that was changed, added or removed.
    pub async fn audit(&self, name: &str) -> Result<Vec<PlanAudit>> {
        let (_, entries) = self.shared.journal.load(&audit_subject(name)).await?;
        read(&entries).map_err(|e| e.with("plan", name))
    }
}
