//! Between the words of the command line and those of the library.

use crate::args::Which;
use site_recovery::state::Direction;
use site_recovery::{DataLoss, Error, ErrorKind, ItemHandle, Operation, Point, PointChoice, PointId, Result};
use std::time::Duration;

pub(super) fn choice(which: Which) -> PointChoice {
    match which {
        Which::Latest => PointChoice::Latest,
        Which::Processed => PointChoice::LatestProcessed,
        Which::Application => PointChoice::LatestAppConsistent,
        Which::Proven => PointChoice::LatestProven,
        Which::Number(number) => PointChoice::Custom(PointId(number)),
    }
}

/// The point of one machine that is meant.
///
/// # Errors
/// `NotFound`, with the numbers of the newest that there are; those of the replica.
pub(super) async fn one_point(item: &ItemHandle, which: Which) -> Result<Point> {
    let mut points = item.points().await?;
    let meant = |point: &Point| match which {
        Which::Latest | Which::Processed => true,
        Which::Application => point.consistency == site_recovery::Consistency::Application,
        Which::Proven => point.boots(),
        Which::Number(number) => point.id.0 == number,
    };
    match points.iter().rposition(meant) {
        Some(at) => Ok(points.swap_remove(at)),
        None => {
            let newest: Vec<String> = points.iter().rev().take(8).map(|p| p.id.to_string()).collect();
            let message = format!("there is no such point; the newest are: {}", newest.join(", "));
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }
}

/// Seconds of what is lost at most; none where that cannot be bounded.
pub(super) fn at_most(loss: &DataLoss) -> Option<f64> {
    (loss.at_most != Duration::MAX).then_some(loss.at_most.as_secs_f64())
}

/// The verbs by which these operations are asked for, each once.
pub(super) fn allowed(operations: &[Operation], direction: Direction) -> Vec<String> {
    let mut verbs: Vec<String> = vec![];
    for verb in operations.iter().map(|operation| verb(*operation, direction)) {
        if !verbs.contains(&verb) {
            verbs.push(verb);
        }
    }
    verbs
}

fn verb(operation: Operation, direction: Direction) -> String {
    let over = match direction {
        Direction::PrimaryToRecovery => "failover",
        Direction::RecoveryToPrimary => "failback",
    };
    match operation {
        Operation::EnableProtection => "protect".into(),
        Operation::DisableProtection => "disable".into(),
        Operation::PlannedFailover => over.into(),
        Operation::UnplannedFailover => format!("{over} --unplanned"),
        Operation::TestFailover => "drill".into(),
        Operation::TestFailoverCleanup => "drill --clean-up".into(),
        Operation::ChangePit => "change-point".into(),
        Operation::Commit => "commit".into(),
        Operation::CancelFailover => "cancel".into(),
        Operation::ReverseReplicate => "reprotect".into(),
        Operation::RepairReplication => "resync".into(),
        Operation::CompleteMigration => "commit --stay".into(),
        Operation::UndoFailover => "undo".into(),
        Operation::AbandonUndo => "undo --abandon".into(),
        Operation::RetryFailover => "retry".into(),
        Operation::PromoteTestFailover => "drill --promote".into(),
        Operation::RestoreLanding => "reprotect --restore".into(),
        Operation::PromoteOther => format!("{over} --last-resort"),
        Operation::LeaveGroup => "leave".into(),
        Operation::Purge => "disable --purge".into(),
        Operation::VerifyBoot => "verify".into(),
    }
}
