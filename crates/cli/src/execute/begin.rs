//! Operations that are jobs: what the command line means by them, planned or begun.

use super::Request;
use super::words::{at_most, choice};
use crate::answer::{Answer, PlanPage, PlannedPoint};
use crate::args::{Asked, Failover, Over};
use crate::engine::{Unit, called_in};
use site_recovery::state::Direction;
use site_recovery::{
    self as core, CommitRequest, CompleteCopy, Cutover, DisableRequest, DrillRequest, Error, ErrorKind,
    FailoverRequest, Force, Job, OnUnfenced, Operation, Plan, PointChoice, PromoteRequest, ReprotectRequest,
    Result, Shutdown, UndoRequest,
};
use std::time::Duration;

/// An operation, whole before it begins.
#[allow(clippy::large_enum_variant, reason = "one of them exists at a time")]
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Failover(FailoverRequest),
    Promote(PromoteRequest),
    PromoteDrill(FailoverRequest),
    Drill(DrillRequest),
    CleanUp,
    Change(PointChoice),
    Commit(CommitRequest),
    Stay(CommitRequest),
    Undo(UndoRequest),
    Abandon(Option<Force>),
    Reprotect(ReprotectRequest),
    Restore,
    Repair,
    Retry(Option<Force>),
    Disable(DisableRequest),
    Purge(DisableRequest),
    Prove,
}

impl Wish {
    /// What is asked, and of which unit.
    ///
    /// # Errors
    /// `Invalid` for what lacks a reason; `Unsupported` for what is no job.
    pub(super) fn of<'a>(asked: &'a Asked, request: &Request) -> Result<(&'a str, Self)> {
        let force = |wanted: bool| wanted.then(|| request.force()).transpose();
        Ok(match asked {
            Asked::Failover(f) => (&f.name, failover(f, Direction::PrimaryToRecovery, request)?),
            Asked::Failback(f) => (&f.name, failover(f, Direction::RecoveryToPrimary, request)?),
            Asked::Drill(d) if d.clean_up => (&d.name, Self::CleanUp),
            Asked::Drill(d) if d.promote => {
                (&d.name, Self::PromoteDrill(unplanned(Direction::PrimaryToRecovery, OnUnfenced::Unwind)))
            }
            Asked::Drill(d) => {
                let point = d.point.map_or(PointChoice::LatestProcessed, choice);
                let network = d.network.clone();
                let expires_after = d.expires.0;
                (
                    &d.name,
                    Self::Drill(DrillRequest { point, network, expires_after, ..DrillRequest::default() }),
                )
            }
            Asked::ChangePoint(c) => (&c.name, Self::Change(choice(c.point))),
            Asked::Commit(c) => {
                let wish = CommitRequest {
                    require_good: c.require_good,
                    purge_now: c.purge_now,
                    force: force(c.force)?,
                    other_side_loses: c.other_side_loses,
                };
                (&c.name, if c.stay { Self::Stay(wish) } else { Self::Commit(wish) })
            }
            Asked::Undo(u) if u.abandon => (&u.name, Self::Abandon(force(u.force)?)),
            Asked::Undo(u) => {
                let recovered_side_loses = u.recovered_side_loses;
                (&u.name, Self::Undo(UndoRequest { force: force(u.force)?, recovered_side_loses }))
            }
            Asked::Reprotect(r) if r.restore => (&r.name, Self::Restore),
            Asked::Reprotect(r) => {
                let wish = ReprotectRequest {
                    settings: None,
                    legs: r.out.clone().zip(r.back.clone()),
                    other_side_loses: r.other_side_loses,
                    compare: r.compare,
                    consolidate: r.consolidate,
                };
                (&r.name, Self::Reprotect(wish))
            }
            Asked::Resync(n) => (&n.name, Self::Repair),
            Asked::Retry(r) => (&r.name, Self::Retry(force(r.force)?)),
            Asked::Disable(d) => {
                let unblock = d.unblock.iter().cloned().collect();
                let wish = DisableRequest { delete_points: d.delete_points, unblock };
                (&d.name, if d.purge { Self::Purge(wish) } else { Self::Disable(wish) })
            }
            Asked::Verify(v) => (&v.name, Self::Prove),
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other:?} is no job"))),
        })
    }

    /// Begins it.
    ///
    /// # Errors
    /// Those of the engine; nothing changed.
    pub(super) async fn begin(self, unit: &Unit) -> Result<Job> {
        match self {
            Self::Failover(request) => unit.failover(request).await,
            Self::Promote(request) => unit.promote_other(request).await,
            Self::PromoteDrill(request) => unit.promote_test(request).await,
            Self::Drill(request) => unit.test_failover(request).await,
            Self::CleanUp => unit.clean_up_test().await,
            Self::Change(point) => unit.change_point(point).await,
            Self::Commit(request) => unit.commit(request).await,
            Self::Stay(request) => unit.complete_migration(request).await,
            Self::Undo(request) => unit.undo(request).await,
            Self::Abandon(force) => unit.abandon_undo(force).await,
            Self::Reprotect(request) => unit.reprotect(request).await,
            Self::Restore => unit.restore_landing().await,
            Self::Repair => unit.repair().await,
            Self::Retry(force) => unit.retry(force).await,
            Self::Disable(request) => unit.disable(request).await,
            Self::Purge(request) => unit.purge(request).await,
            Self::Prove => unit.verify().await,
        }
    }

    /// Says what it would do.
    ///
    /// # Errors
    /// `Refused` where the state does not allow it.
    pub(super) async fn plan(self, unit: &Unit) -> Result<Answer> {
        let (operation, request) = self.asked();
        let plan = unit.plan(operation, &request).await?;
        Ok(Answer::Plan(page(operation, plan, unit)))
    }

    fn asked(self) -> (Operation, core::Request) {
        use core::Request;
        match self {
            Self::Failover(request) => (request.operation(), Request::Failover(request)),
            Self::Promote(request) => (Operation::PromoteOther, Request::Promote(request)),
            Self::PromoteDrill(request) => (Operation::PromoteTestFailover, Request::Failover(request)),
            Self::Drill(request) => (Operation::TestFailover, Request::Drill(request)),
            Self::CleanUp => (Operation::TestFailoverCleanup, Request::Plain),
            Self::Change(point) => (Operation::ChangePit, Request::Change(point)),
            Self::Commit(request) => (Operation::Commit, Request::Commit(request)),
            Self::Stay(request) => (Operation::CompleteMigration, Request::Commit(request)),
            Self::Undo(request) => (Operation::UndoFailover, Request::Undo(request)),
            Self::Abandon(force) => (Operation::AbandonUndo, Request::Forced(force)),
            Self::Reprotect(request) => (Operation::ReverseReplicate, Request::Reprotect(request)),
            Self::Restore => (Operation::RestoreLanding, Request::Plain),
            Self::Repair => (Operation::RepairReplication, Request::Plain),
            Self::Retry(force) => (Operation::RetryFailover, Request::Forced(force)),
            Self::Disable(request) => (Operation::DisableProtection, Request::Disable(request)),
            Self::Purge(request) => (Operation::Purge, Request::Disable(request)),
            Self::Prove => (Operation::VerifyBoot, Request::Plain),
        }
    }
}

/// A dry run needs no reason yet.
fn reasoned(dry: bool, request: &Request) -> Result<Force> {
    if dry && request.reason.is_none() {
        Ok(Force::by(&request.operator, "to be said"))
    } else {
        request.force()
    }
}

fn failover(told: &Failover, direction: Direction, request: &Request) -> Result<Wish> {
    if told.last_resort {
        let force = reasoned(told.dry_run, request)?;
        return Ok(Wish::Promote(PromoteRequest { force, copy: CompleteCopy::Newest }));
    }
    Ok(Wish::Failover(over(&told.over, direction, told.dry_run, request)?))
}

/// A failover as it is asked for, that is not the last resort.
///
/// # Errors
/// `Invalid` for what lacks a reason.
pub(super) fn over(
    told: &Over,
    direction: Direction,
    dry: bool,
    request: &Request,
) -> Result<FailoverRequest> {
    let mut wish = FailoverRequest::planned(direction);
    if told.unplanned {
        let on_unfenced = match told.unwind {
            true => OnUnfenced::Unwind,
            false => OnUnfenced::Continue(reasoned(dry, request)?),
        };
        wish = unplanned(direction, on_unfenced);
        if let Cutover::Unplanned { shutdown, .. } = &mut wish.cutover {
            *shutdown = match told.no_shutdown {
                true => Shutdown::Skip,
                false => Shutdown::Try { limit: told.grace.0 },
            };
        }
        wish.point = told.point.map_or(PointChoice::Latest, choice);
    }
    (wish.grace, wish.accept_unverified) = (told.grace.0, told.accept_unverified);
    Ok(wish)
}

fn unplanned(direction: Direction, on_unfenced: OnUnfenced) -> FailoverRequest {
    let shutdown = Shutdown::Try { limit: Duration::from_secs(120) };
    FailoverRequest {
        cutover: Cutover::Unplanned { shutdown, on_unfenced },
        ..FailoverRequest::planned(direction)
    }
}

fn page(operation: Operation, plan: Plan, unit: &Unit) -> PlanPage {
    let loss = |machine: &core::MachineId| {
        plan.loss.iter().find(|(of, _)| of == machine).and_then(|(_, loss)| at_most(loss))
    };
    let points = plan.points.iter().map(|(machine, point, taken)| PlannedPoint {
        machine: called_in(unit, machine),
        point: Some(point.0),
        taken: Some(taken.to_string()),
        loss_at_most_seconds: loss(machine),
    });
    let others = plan.loss.iter().filter(|(machine, _)| !plan.points.iter().any(|(m, ..)| m == machine));
    let others = others.map(|(machine, _)| PlannedPoint {
        machine: called_in(unit, machine),
        point: None,
        taken: None,
        loss_at_most_seconds: loss(machine),
    });
    PlanPage {
        operation: format!("{operation:?}"),
        steps: plan.steps.iter().map(|step| format!("{step:?}")).collect(),
        points: points.chain(others).collect(),
        stops: plan.stops.clone(),
        starts: plan.starts.clone(),
        removes: plan.removes.clone(),
        downtime_seconds: plan.downtime.as_ref().map(|d| d.expected.as_secs_f64()),
    }
}
