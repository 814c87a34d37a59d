//! What stands at the top of a report: what its parts say, once more.

use crate::{Ending, LossPart, MemberPart, PlanPart};
use site_recovery::state::Direction;
use site_recovery::{Force, Operation, Timestamp};
use std::time::Duration;

/// All of it, as it follows from the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Top {
    pub(crate) operation: Operation,
    pub(crate) direction: Option<Direction>,
    pub(crate) who: String,
    pub(crate) force: Option<Force>,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) outcome: Ending,
    pub(crate) loss: Option<LossPart>,
}

impl Top {
    /// What was asked for is told of the first machine, and of the plan where no machine has a job. `None`: of nobody.
    pub(crate) fn of(members: &[MemberPart], plan: Option<&PlanPart>) -> Option<Self> {
        let left_out = || plan.iter().flat_map(|plan| &plan.left_out);
        let (operation, direction, who) = match (members.first(), plan) {
            (Some(first), _) => (first.operation, first.direction, &first.who),
            (None, Some(plan)) if left_out().next().is_some() => {
                (plan.operation, Some(plan.direction), &plan.who)
            }
            _ => return None,
        };
        let requests = members.iter().map(|m| &m.request).chain(plan.map(|p| &p.request));
        let starts = members.iter().map(|m| m.started).chain(plan.map(|p| p.started));
        let ends = members.iter().map(|m| m.ended).chain(plan.map(|p| p.ended));
        // Of two that are equally bad the later one is told: a machine's own says more than the plan's.
        let outcomes = plan.map(|p| p.outcome.clone()).into_iter();
        let outcomes = outcomes.chain(left_out().map(|left| left.ending()));
        let outcomes = outcomes.chain(members.iter().map(|m| m.outcome.clone()));
        // Without a bound is more than any figure.
        let lost = |loss: &&LossPart| loss.at_most.unwrap_or(Duration::MAX);
        Some(Self {
            operation,
            direction,
            who: who.clone(),
            force: requests.filter_map(|request| request.force()).next().cloned(),
            started: starts.min()?,
            ended: ends.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max()),
            outcome: outcomes.max_by_key(Ending::weight)?,
            loss: members.iter().filter_map(|m| m.loss.as_ref()).max_by_key(lost).cloned(),
        })
    }
}
