//! What an operation would do, without doing it.

use super::choose::choose;
use super::shared::Shared;
use super::survivor::{Survivor, survivors};
use crate::state::{Operation, Trigger, next};
use crate::workflow::{Mark, steps_of};
use crate::{
    CommitRequest, Cutover, DataLoss, DrillRequest, FailoverRequest, Item, JobId, JobRun, MachineId, Owed,
    Point, PointChoice, PointId, Request, Result, Shutdown, Step, Timestamp, Unit,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What an operation would do, as it looks now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// The point per member, where one is booted.
    pub points: Vec<(MachineId, PointId, Timestamp)>,
    /// What is lost at most, per member.
    pub loss: Vec<(MachineId, DataLoss)>,
    /// Machines that are stopped, or fenced again where they are off.
    pub stops: Vec<String>,
    /// Machines that are started, and where.
    pub starts: Vec<String>,
    /// Machines that are removed for good.
    pub removes: Vec<String>,
    /// How long nothing will run: as it was the last time. `None` where nothing like it was ever measured here, and for
    /// what stops nothing.
    pub downtime: Option<Downtime>,
}

/// A measured time without a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downtime {
    /// From the first step that stops a machine until the other one runs; of a drill, from the choice of its point.
    pub expected: Duration,
    /// In which job.
    pub measured_in: JobId,
}

/// Plans `operation` for a unit.
///
/// # Errors
/// `Refused` where the state does not allow it. What the roles would refuse is found when it begins.
pub(crate) async fn plan(
    shared: &Arc<Shared>,
    unit: &Unit,
    operation: Operation,
    request: &Request,
) -> Result<Plan> {
    for item in &unit.members {
        next(&item.state, Trigger::Begin(operation))?;
    }
    let mut plan = Plan {
        steps: steps_of(operation, request).collect(),
        points: vec![],
        loss: vec![],
        stops: vec![],
        starts: vec![],
        removes: vec![],
        downtime: None,
    };
    let chosen = points(shared, unit, operation, request).await?;
    let mut copies = match request {
        Request::Promote(request) => survivors(shared, unit, request.copy).await?,
        _ => BTreeMap::new(),
    };
    for item in &unit.members {
        plan.member(shared, item, operation, request, chosen.get(item.id()), copies.remove(item.id()))?;
    }
    if !plan.stops.is_empty() && !plan.starts.is_empty() {
        plan.downtime = downtime(unit, operation);
    }
    Ok(plan)
}

/// The point that each member would be booted from.
async fn points(
    shared: &Arc<Shared>,
    unit: &Unit,
    operation: Operation,
    request: &Request,
) -> Result<BTreeMap<MachineId, Point>> {
    let choice = match (operation, request) {
        (Operation::PromoteTestFailover, _) => return drilled(shared, unit).await,
        (_, Request::Failover(request)) => request.point,
        (_, Request::Change(choice)) => *choice,
        (_, Request::Drill(DrillRequest { point, .. })) => *point,
        (Operation::TestFailover | Operation::VerifyBoot, _) => PointChoice::LatestProcessed,
        _ => return Ok(BTreeMap::new()),
    };
    let mut listed = BTreeMap::new();
    for item in &unit.members {
        let points = shared.leg_of(item)?.replica.points(item.id()).await?;
        listed.insert(item.id().clone(), item.with_proofs(points));
    }
    let chosen = choose(&listed, choice)?;
    let point = |(machine, points): (&MachineId, &Vec<Point>)| {
        let point = points.iter().find(|p| Some(&p.id) == chosen.get(machine));
        Some((machine.clone(), point?.clone()))
    };
    Ok(listed.iter().filter_map(point).collect())
}

async fn drilled(shared: &Arc<Shared>, unit: &Unit) -> Result<BTreeMap<MachineId, Point>> {
    let mut points = BTreeMap::new();
    for item in &unit.members {
        let listed = shared.leg_of(item)?.replica.points(item.id()).await?;
        let point = item.drill.as_ref().and_then(|d| listed.into_iter().find(|p| p.id == d.recovery.point));
        points.extend(point.map(|p| (item.id().clone(), p)));
    }
    Ok(points)
}

impl Plan {
    fn member(
        &mut self,
        shared: &Arc<Shared>,
        item: &Item,
        operation: Operation,
        request: &Request,
        point: Option<&Point>,
        copy: Option<Survivor>,
    ) -> Result<()> {
        use Operation::*;
        let (now, active) = (shared.clock.now(), item.active().name.clone());
        let site = shared.leg_of(item)?.recovery_site.name();
        let prepared = item.promotion.as_ref().map(|p| p.armed.instance.name.clone());
        let previous = item.promotion.as_ref().map(|p| &p.previous);
        if let Some(point) = point {
            self.points.push((item.id().clone(), point.id, point.taken));
            let loss = match operation {
                PlannedFailover => Some(DataLoss::none(now)),
                TestFailover | VerifyBoot => None,
                _ => Some(DataLoss::since(point.taken, now)),
            };
            self.loss.extend(loss.map(|l| (item.id().clone(), l)));
        }
        match operation {
            PlannedFailover | UnplannedFailover | PromoteTestFailover => {
                let skips = matches!(
                    request,
                    Request::Failover(FailoverRequest {
                        cutover: Cutover::Unplanned { shutdown: Shutdown::Skip, .. },
                        ..
                    })
                );
                self.stops.extend((!skips).then_some(active));
                self.removes.extend(drill_of(item).filter(|_| operation == PromoteTestFailover));
                self.starts.push(format!("{} at {site}", item.id()));
            }
            ChangePit => {
                self.stops.push(active);
                self.starts.push(format!("{} at {site}, from another point", item.id()));
            }
            RetryFailover | AbandonUndo => self.starts.extend(prepared.map(|p| format!("{p} at {site}"))),
            UndoFailover => {
                self.stops.extend(prepared);
                self.starts.extend(previous.map(|p| format!("{} at {}", p.name, p.site)));
            }
            CancelFailover => self.starts.push(format!("{active}, if it ran before")),
            Commit | CompleteMigration => {
                self.removes.extend(item.kept.iter().map(|k| k.name.clone()).chain(drill_of(item)));
                let purge = matches!(request, Request::Commit(CommitRequest { purge_now: true, .. }));
                self.removes.extend(previous.filter(|_| purge).map(|p| p.name.clone()));
            }
            ReverseReplicate => {
                self.stops.extend(item.must_not_run().map(|i| i.name.clone()));
                self.removes.extend(item.owed.iter().filter_map(|owed| match owed {
                    Owed::Remove { instance, .. } => Some(instance.name.clone()),
                    _ => None,
                }));
            }
            TestFailover | VerifyBoot => self.starts.push(format!("{}-test at {site}, isolated", item.id())),
            TestFailoverCleanup => self.removes.extend(drill_of(item)),
            PromoteOther => {
                let (starts, point, loss) = match copy {
                    None => return Ok(()),
                    Some(Survivor::Machine { instance, loss }) => (instance.name, None, loss),
                    Some(Survivor::Point { point, leg, loss }) => {
                        (format!("{} at {}", item.id(), leg.recovery_site.name()), Some(point), loss)
                    }
                };
                self.starts.push(starts);
                self.points.extend(point.map(|p| (item.id().clone(), p.id, p.taken)));
                self.loss.push((item.id().clone(), loss));
            }
            DisableProtection | Purge => self.removes.extend(drill_of(item)),
            EnableProtection | RepairReplication | RestoreLanding | LeaveGroup => {}
        }
        Ok(())
    }
}

fn drill_of(item: &Item) -> Option<String> {
    item.drill.as_ref()?.armed.as_ref().map(|a| a.instance.name.clone())
}

/// As the newest job of this kind took; where there was none, as the newest drill did.
fn downtime(unit: &Unit, operation: Operation) -> Option<Downtime> {
    use Operation::*;
    let (from, to): (&[Step], Step) = match operation {
        UndoFailover => (&[Step::FenceRecovered], Step::StartSource),
        _ => (&[Step::Fence, Step::FenceRecovered, Step::DrillChoose], Step::Boot),
    };
    let alike = |run: &JobRun| match operation {
        UndoFailover => run.operation == UndoFailover,
        _ => matches!(run.operation, PlannedFailover | UnplannedFailover | PromoteTestFailover | ChangePit),
    };
    let runs = || unit.finished.newest_first();
    let of_drill = || {
        runs()
            .filter(|r| matches!(r.operation, TestFailover | VerifyBoot))
            .find_map(|r| took(&r, from, Step::DrillBoot))
    };
    let measured = runs().filter(alike).find_map(|r| took(&r, from, to));
    measured.or_else(|| if operation == UndoFailover { None } else { of_drill() })
}

fn took(run: &JobRun, from: &[Step], to: Step) -> Option<Downtime> {
    let began = run.tasks.iter().find(|t| from.contains(&t.step))?.started;
    let ended = run.tasks.iter().rev().find(|t| t.step == to && t.mark == Mark::Done)?.ended?;
    // Somebody let it wait: the next one may not.
    let held = run.tasks.iter().filter(|t| t.step == Step::HoldBoot);
    let held: Duration = held.filter_map(|t| Some(t.ended?.since(t.started))).sum();
    Some(Downtime { expected: ended.since(began).saturating_sub(held), measured_in: run.id.clone() })
}
