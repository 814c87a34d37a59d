//! Handles to items and groups: what an operator can ask for.

use super::job::{self, Beginning, Job, Plan};
use super::readiness;
use super::shared::{Cause, Shared, Slot, Turn};
use super::summary::{self, Summary};
use crate::state::{Divergence, Kind, Operation, Phase, Resync, State, Trigger, next};
use crate::workflow::{Course, steps};
use crate::{
    CommitRequest, DataLoss, DisableRequest, DrillRequest, Error, ErrorKind, Event, FailoverRequest, Finding,
    Force, Item, JobRun, MachineId, Op, POINT_ZERO, Point, PointChoice, PointId, Policy, Readiness,
    RecoveryPointStore, ReprotectRequest, Request, Result, Settings, Timestamp, UndoRequest, Unit, UnitId,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One protected machine. A cheap handle: it holds nothing, and outlives nothing.
#[derive(Debug, Clone)]
pub struct ItemHandle {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    machine: MachineId,
    operator: String,
}

/// One replication group: its operations are of all members, or of none.
#[derive(Debug, Clone)]
pub struct GroupHandle {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    operator: String,
}

macro_rules! operations {
    ($handle:ident) => {
        impl $handle {
            /// The same handle, acting for this operator: named in audit records and asked about at the authorizer.
            #[must_use]
            pub fn acting_as(mut self, operator: &str) -> Self {
                self.operator = operator.to_owned();
                self
            }

            /// The unit's name.
            pub fn unit(&self) -> &UnitId {
                &self.slot.id
            }

            /// The job under way, if one is.
            pub fn run(&self) -> Option<JobRun> {
                self.slot.unit().run.clone()
            }

            /// Jobs that have ended, newest last; the last sixteen.
            pub fn finished(&self) -> Vec<JobRun> {
                self.slot.unit().finished.clone()
            }

            /// Fails over, either way.
            ///
            /// # Errors
            /// Bad requests and states are refused before anything changes; see [`FailoverRequest::validate`].
            pub async fn failover(&self, request: FailoverRequest) -> Result<Job> {
                request.validate()?;
                for item in &self.slot.unit().members {
                    if item.state.direction != request.direction {
                        let rule = format!("{} replicates {:?}", item.id(), item.state.direction);
                        let meant = format!("{:?}", request.direction);
                        return Err(Error::invalid("failover.direction", meant, &rule, "check which side runs"));
                    }
                    let unverified = item.state.resync != Resync::None;
                    if unverified && !request.accept_unverified {
                        let message = format!("{} is not compared yet; repair it, or accept that by name", item.id());
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                if self.members() > 1 && matches!(request.point, PointChoice::Custom(_)) {
                    let rule = "a point belongs to one machine";
                    return Err(Error::invalid("failover.point", "Custom", rule, "choose a latest form for a group"));
                }
                self.check_settings().await?;
                self.begin(request.operation(), Request::Failover(request)).await
            }

            /// What a failover would do, stop, start and lose. Changes nothing.
            ///
            /// # Errors
            /// As the failover itself would be refused.
            pub async fn plan(&self, request: &FailoverRequest) -> Result<Plan> {
                request.validate()?;
                plan(&self.shared, &self.slot.unit(), request).await
            }

            /// Runs from another point, before commit.
            ///
            /// # Errors
            /// `Refused` in any other state.
            pub async fn change_point(&self, point: PointChoice) -> Result<Job> {
                self.begin(Operation::ChangePit, Request::Change(point)).await
            }

            /// Boots again what was refused.
            ///
            /// # Errors
            /// `Refused` in any other state, and where the prepared machine was set aside: change the point then.
            pub async fn retry(&self, force: Option<Force>) -> Result<Job> {
                for item in &self.slot.unit().members {
                    let aside = |p: &crate::Promotion| item.kept.iter().any(|k| k.is(&p.armed.instance));
                    if item.promotion.as_ref().is_none_or(aside) {
                        let message = "what was prepared is set aside; change the point, or undo";
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                }
                self.begin(Operation::RetryFailover, Request::Forced(force)).await
            }

            /// Goes back before the pivot. A job under way is asked to turn back; one that could not finish turning back
            /// goes on doing so.
            ///
            /// # Errors
            /// `Refused` past the pivot: undo is what fences.
            pub async fn cancel(&self) -> Result<Option<Job>> {
                let unit = self.slot.unit();
                let control = self.slot.control.lock().expect("no panic under this lock").clone();
                if let (Some(run), Some(control)) = (unit.run.as_ref(), control) {
                    if run.past_pivot() {
                        let message = format!("{:?} has recorded its intent; undo it once it is completed", run.operation);
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                    control.cancel();
                    return Ok(None);
                }
                self.begin(Operation::CancelFailover, Request::Plain).await.map(Some)
            }

            /// Goes back after the pivot, until commit.
            ///
            /// # Errors
            /// `Refused` after commit; where the site cannot branch in place; and where the sides may have diverged, unless
            /// the recovered side is named as the one that loses.
            pub async fn undo(&self, request: UndoRequest) -> Result<Job> {
                for item in &self.slot.unit().members {
                    if item.state.divergence == Divergence::Possible && !request.recovered_side_loses {
                        let message = format!(
                            "both sides of {} may have run; name the recovered side as the one that loses, or commit and reprotect",
                            item.id()
                        );
                        return Err(Error::new(ErrorKind::Refused, message));
                    }
                    if !self.shared.leg_of(item)?.recovery_site.capability().branches {
                        let message = "this site cannot branch disks, so there is nothing to go back to";
                        return Err(Error::new(ErrorKind::Unsupported, message));
                    }
                }
                if let Some(force) = &request.force {
                    force.validate()?;
                }
                self.begin(Operation::UndoFailover, Request::Undo(request)).await
            }

            /// Runs on the recovered side after all, when an undo could not start the source.
            ///
            /// # Errors
            /// `Refused` once the intent to start the source is recorded.
            pub async fn abandon_undo(&self, force: Option<Force>) -> Result<Job> {
                if self.slot.unit().members.iter().any(|i| i.promotion.is_none()) {
                    let message = "the intent to start the source is recorded; retry the undo, or promote the other side";
                    return Err(Error::new(ErrorKind::Refused, message));
                }
                self.begin(Operation::AbandonUndo, Request::Forced(force)).await
            }

            /// Makes a failover final. Of a failover out: deletes all other points but pinned and locked ones, the base of
            /// the way back and the newest. Of a failback: first reads back that the other side is off.
            ///
            /// # Errors
            /// `Refused` where the machine does not run, or where a good validation is required and there is none.
            pub async fn commit(&self, request: CommitRequest) -> Result<Job> {
                if let Some(force) = &request.force {
                    force.validate()?;
                }
                self.check_commit(&request).await?;
                self.begin(Operation::Commit, Request::Commit(request)).await
            }

            async fn check_commit(&self, request: &CommitRequest) -> Result<()> {
                for item in &self.slot.unit().members {
                    for note in super::steps::commit::check(&self.shared, item, request).await? {
                        tracing::warn!(machine = %item.id(), note, "commit");
                    }
                }
                Ok(())
            }

            /// Stays on the recovery side for good: commits, and ends the item. The old side stays fenced.
            ///
            /// # Errors
            /// `Refused` on the way back.
            pub async fn complete_migration(&self) -> Result<Job> {
                let request = CommitRequest::default();
                self.check_commit(&request).await?;
                self.begin(Operation::CompleteMigration, Request::Commit(request)).await
            }

            /// Replicates the other way. Nothing does so by itself after a failover.
            ///
            /// # Errors
            /// `Refused` before commit, and where the sides may have diverged and no loser is named; `Invalid` for settings
            /// that the site refuses.
            pub async fn reprotect(&self, request: ReprotectRequest) -> Result<Job> {
                if let Some(settings) = &request.settings {
                    settings.validate()?;
                }
                if let Some((out, back)) = &request.legs {
                    self.shared.leg(out)?;
                    self.shared.leg(back)?;
                }
                self.begin(Operation::ReverseReplicate, Request::Reprotect(request)).await
            }

            /// Rolls an unfinished landing back to what stood there first.
            ///
            /// # Errors
            /// `Refused` in any other state.
            pub async fn restore_landing(&self) -> Result<Job> {
                self.begin(Operation::RestoreLanding, Request::Plain).await
            }

            /// Compares both sides and ships what differs; also starts a failed first copy again.
            ///
            /// # Errors
            /// `Refused` where nothing replicates.
            pub async fn repair(&self) -> Result<Job> {
                self.begin(Operation::RepairReplication, Request::Plain).await
            }

            /// Starts a drill: an isolated copy; nothing on the source or its replication changes.
            ///
            /// # Errors
            /// `Refused` while there is one; `Unsupported` where the site has no isolated network.
            pub async fn test_failover(&self, request: DrillRequest) -> Result<Job> {
                for item in &self.slot.unit().members {
                    if !self.shared.leg_of(item)?.recovery_site.capability().drills {
                        let message = "this site cannot run a copy in an isolated network";
                        return Err(Error::new(ErrorKind::Unsupported, message));
                    }
                }
                self.begin(Operation::TestFailover, Request::Drill(request)).await
            }

            /// Removes the drill.
            ///
            /// # Errors
            /// `Refused` where there is none.
            pub async fn clean_up_test(&self) -> Result<Job> {
                self.begin(Operation::TestFailoverCleanup, Request::Plain).await
            }

            /// Makes the drill's point a real failover: the source is fenced first, the machine is built anew from the same
            /// point, the drill goes.
            ///
            /// # Errors
            /// `Refused` where no drill waits.
            pub async fn promote_test(&self, mut request: FailoverRequest) -> Result<Job> {
                request.point = PointChoice::LatestProcessed;
                request.validate()?;
                self.begin(Operation::PromoteTestFailover, Request::Failover(request)).await
            }

            /// The last resort: starts the side that is left, from the newest complete copy there, while the active side does
            /// not answer, is gone, or has lost its disk.
            ///
            /// # Errors
            /// `Refused` while the active side runs.
            pub async fn promote_other(&self, force: Force) -> Result<Job> {
                force.validate()?;
                self.begin(Operation::PromoteOther, Request::Promote(force)).await
            }

            /// Leaves our care. Machines stay as they run; the report says what stays blocked, pinned or owed.
            ///
            /// # Errors
            /// `Refused` while a job is under way.
            pub async fn disable(&self, request: DisableRequest) -> Result<Job> {
                self.begin(Operation::DisableProtection, Request::Disable(request)).await
            }

            /// Forgets what could not be removed; the report lists it.
            ///
            /// # Errors
            /// `Refused` unless leaving has failed.
            pub async fn purge(&self, request: DisableRequest) -> Result<Job> {
                self.begin(Operation::Purge, Request::Disable(request)).await
            }

            async fn begin(&self, operation: Operation, request: Request) -> Result<Job> {
                let who = self.operator.clone();
                job::begin(&self.shared, &self.slot, Beginning { operation, request, who }).await
            }

            fn members(&self) -> usize {
                self.slot.unit().members.len()
            }

            async fn check_settings(&self) -> Result<()> {
                for item in &self.slot.unit().members {
                    let leg = self.shared.leg_of(item)?;
                    let settings = item.settings.get(&leg.recovery_site.name()).cloned().unwrap_or_default();
                    let check = leg.recovery_site.check(&item.machine, &settings);
                    let findings = self.shared.within(self.shared.deadlines.recovery_site, "check", check).await?;
                    if let Some(found) = findings.iter().find(|f| f.blocks()) {
                        let message = format!("{}: {}; {}", found.code, found.cause, found.remedy);
                        return Err(Error::new(ErrorKind::Invalid, message));
                    }
                }
                Ok(())
            }
        }
    };
}

operations!(ItemHandle);
operations!(GroupHandle);

impl ItemHandle {
    pub(crate) fn new(shared: &Arc<Shared>, slot: &Arc<Slot>, machine: &MachineId) -> Self {
        let (shared, slot) = (Arc::clone(shared), Arc::clone(slot));
        Self { shared, slot, machine: machine.clone(), operator: "embedder".into() }
    }

    /// The machine's name all round the circle.
    pub fn id(&self) -> &MachineId {
        &self.machine
    }

    /// The item as it was journalled last.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn item(&self) -> Result<Item> {
        let unit = self.slot.unit();
        unit.item(&self.machine).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} is not protected any more", self.machine))
        })
    }

    /// Where it stands.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn state(&self) -> Result<State> {
        Ok(self.item()?.state)
    }

    /// The job under way, as a handle.
    pub fn job(&self) -> Option<Job> {
        let control = self.slot.control.lock().expect("no panic under this lock").clone()?;
        Some(Job::under_way(&self.slot, control))
    }

    /// Waits for the job under way to do what was asked for; at once where there is none.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn until_done(&self) -> Result<()> {
        let control = self.slot.control.lock().expect("no panic under this lock").clone();
        if let Some(control) = control {
            let mut done = control.done.subscribe();
            let ended = done.wait_for(Option::is_some).await;
            let ended =
                ended.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?;
            return match ended.as_deref() {
                Some(Ok(report)) => report.clone().done().map(drop),
                Some(Err(error)) => Err(Error::new(error.kind(), error.to_string())),
                None => Ok(()),
            };
        }
        let unit = self.slot.unit();
        match unit.finished.last().and_then(|run| run.why.clone()) {
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }

    /// Its recovery points, oldest first.
    ///
    /// # Errors
    /// Those of the replica.
    pub async fn points(&self) -> Result<Vec<Point>> {
        self.shared.leg_of(&self.item()?)?.replica.points(&self.machine).await
    }

    /// Keeps a point from being dropped, for this reason; also by a commit.
    ///
    /// # Errors
    /// `NotFound`, naming the point.
    pub async fn pin(&self, point: PointId, why: &str) -> Result<()> {
        if why.is_empty() || [super::steps::PIN, POINT_ZERO].contains(&why) {
            let rule = "a pin has a reason of its own";
            return Err(Error::invalid("pin.why", format!("{why:?}"), rule, "say why it is kept"));
        }
        let item = self.item()?;
        self.shared.leg_of(&item)?.replica.pin(&self.op(&item, "pin", point), &self.machine, point, why).await
    }

    /// Takes a reason away again.
    ///
    /// # Errors
    /// `NotFound`; `Refused` for the engine's own pins.
    pub async fn unpin(&self, point: PointId, why: &str) -> Result<()> {
        if [super::steps::PIN, POINT_ZERO].contains(&why) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{why} is the engine's own pin; it goes by itself"),
            ));
        }
        let item = self.item()?;
        self.shared
            .leg_of(&item)?
            .replica
            .unpin(&self.op(&item, "unpin", point), &self.machine, point, why)
            .await
    }

    /// Keeps a point from being dropped by anybody until then; never shortened.
    ///
    /// # Errors
    /// `Unsupported` where the replica cannot enforce it; `Refused` for an earlier end than it has.
    pub async fn lock(&self, point: PointId, until: Timestamp) -> Result<()> {
        let item = self.item()?;
        self.store(&item)?.lock(&self.op(&item, "lock", point), &self.machine, point, until).await
    }

    /// Reads a point whole and names what is damaged.
    ///
    /// # Errors
    /// `Unsupported` where the replica cannot scrub; `NotFound`.
    pub async fn scrub(&self, point: PointId) -> Result<Vec<Finding>> {
        let item = self.item()?;
        self.store(&item)?.scrub(&self.machine, point).await
    }

    fn store(&self, item: &Item) -> Result<Arc<dyn RecoveryPointStore>> {
        let leg = self.shared.leg_of(item)?;
        let message = format!("{} keeps points for the way back only", leg.replica.name());
        leg.store.ok_or_else(|| Error::new(ErrorKind::Unsupported, message))
    }

    fn op(&self, item: &Item, verb: &str, point: PointId) -> Op {
        item.op(format!("{}/{verb}-{point}-{:08x}", self.machine, self.shared.random.bits() as u32))
    }

    /// What a person wants to see of it.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn summary(&self) -> Result<Summary> {
        summary::of(&self.shared, &self.slot, &self.item()?)
    }

    /// Checks the whole circle now and remembers what was found.
    ///
    /// # Errors
    /// Those of the roles that were asked.
    pub async fn check_readiness(&self) -> Result<Readiness> {
        readiness::check(&self.shared, &self.slot, &self.item()?).await
    }

    /// Edits what the machine shall be at its recovery site.
    ///
    /// # Errors
    /// `Invalid`, naming the field; nothing changed.
    pub async fn set_settings(&self, settings: Settings) -> Result<Vec<Finding>> {
        settings.validate()?;
        let item = self.item()?;
        let site = self.shared.leg_of(&item)?.recovery_site;
        let findings = site.check(&item.machine, &settings).await?;
        if let Some(found) = findings.iter().find(|f| f.blocks()) {
            let message = format!("{}; {}", found.cause, found.remedy);
            let field = found.code.trim_start_matches("setting.").to_owned();
            return Err(Error::new(ErrorKind::Invalid, message).with("field", field));
        }
        self.edit(Event::Set { site: site.name(), settings }).await?;
        Ok(findings)
    }

    /// Edits the policy of the way out. That of the way back cannot be edited.
    ///
    /// # Errors
    /// `Invalid`, naming the field; nothing changed.
    pub async fn set_policy(&self, policy: Policy) -> Result<()> {
        policy.validate()?;
        self.edit(Event::PolicySet(policy)).await
    }

    /// Gives up an instance that will never answer again, by name: nobody proves it off any more. The audit trail keeps
    /// who said so.
    ///
    /// # Errors
    /// `Refused` for the active instance; `NotFound`.
    pub async fn retire(&self, name: &str, force: Force) -> Result<()> {
        force.validate()?;
        let item = self.item()?;
        let found = item.instances.iter().find(|i| i.name == name && !i.is(item.active())).cloned();
        let instance = found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("no instance of {} but the active one is named {name}", self.machine),
            )
        })?;
        let why = format!("retired: {}", force.reason);
        let cause = Cause { who: force.operator, why, input: String::new() };
        let turn = Turn::take(&self.shared, &self.slot).await;
        turn.record(&cause, &[(self.machine.clone(), Event::Removed(instance))], |_| {}).await
    }

    /// What each choice of a point would lose now, for the choice before the go.
    ///
    /// # Errors
    /// Those of the replica.
    pub async fn loss_of(&self, choice: PointChoice) -> Result<DataLoss> {
        let points = self.points().await?;
        let members = BTreeMap::from([(self.machine.clone(), points.clone())]);
        let chosen = super::choose::choose(&members, choice)?;
        let point = points.iter().find(|p| Some(&p.id) == chosen.get(&self.machine));
        let taken = point.map(|p| p.taken).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such point"))?;
        Ok(DataLoss::since(taken, self.shared.clock.now()))
    }

    async fn edit(&self, event: Event) -> Result<()> {
        let cause = Cause { who: self.operator.clone(), why: "edited".into(), input: String::new() };
        let turn = Turn::take(&self.shared, &self.slot).await;
        turn.record(&cause, &[(self.machine.clone(), event)], |_| {}).await
    }
}

impl GroupHandle {
    pub(crate) fn new(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Self {
        Self { shared: Arc::clone(shared), slot: Arc::clone(slot), operator: "embedder".into() }
    }

    /// Its members.
    pub fn items(&self) -> Vec<ItemHandle> {
        self.slot.unit().machines().iter().map(|m| ItemHandle::new(&self.shared, &self.slot, m)).collect()
    }

    /// Lets a member whose boot was refused leave, by name, so that the rest can complete. It goes on alone, in the same
    /// state; the group's point is no longer common.
    ///
    /// # Errors
    /// `Refused` in any other state, or for the last member.
    pub async fn leave(&self, machine: &MachineId) -> Result<ItemHandle> {
        let (shared, slot) = (&self.shared, &self.slot);
        let turn = Turn::take(shared, slot).await;
        let unit = turn.unit();
        let item = unit.item(machine).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{machine} is not a member of {}", slot.id))
        })?;
        next(&item.state, Trigger::Begin(Operation::LeaveGroup))?;
        if unit.members.len() < 2 {
            return Err(Error::new(ErrorKind::Refused, "the last member does not leave; disable it"));
        }
        let alone = Unit::new(UnitId(machine.0.clone()), false, vec![item]);
        let left = super::shared::depart(&turn, alone, &self.operator).await?;
        Ok(ItemHandle::new(shared, &left, machine))
    }
}

async fn plan(shared: &Arc<Shared>, unit: &Unit, request: &FailoverRequest) -> Result<Plan> {
    let mut points = BTreeMap::new();
    for item in &unit.members {
        next(&item.state, Trigger::Begin(request.operation()))?;
        points.insert(item.id().clone(), shared.leg_of(item)?.replica.points(item.id()).await?);
    }
    let chosen = super::choose::choose(&points, request.point)?;
    let now = shared.clock.now();
    let planned = request.operation() == Operation::PlannedFailover;
    let mut plan = Plan {
        steps: steps(request.operation()).to_vec(),
        points: vec![],
        loss: vec![],
        stops: vec![],
        starts: vec![],
    };
    for item in &unit.members {
        let point = points[item.id()].iter().find(|p| Some(&p.id) == chosen.get(item.id()));
        if let Some(point) = point {
            plan.points.push((item.id().clone(), point.id, point.taken));
            let loss = if planned { DataLoss::none(now) } else { DataLoss::since(point.taken, now) };
            plan.loss.push((item.id().clone(), loss));
        }
        plan.stops.push(item.active().name.clone());
        plan.starts.push(format!("{} at {}", item.id(), shared.leg_of(item)?.recovery_site.name()));
    }
    Ok(plan)
}

/// Whether a unit waits for a person.
pub(crate) fn parked(unit: &Unit) -> bool {
    unit.run.as_ref().is_some_and(|r| r.course == Course::Parked)
        || unit.members.iter().any(|i| {
            matches!(
                i.state.phase,
                Phase::FailoverCompletionFailed(Kind::Planned | Kind::Unplanned) | Phase::ReprotectFailed
            )
        })
}
