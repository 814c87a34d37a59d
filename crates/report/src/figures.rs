//! How old the point was, how long it took, and how long nothing ran.

use crate::{Ending, MemberPart, StepPart, moment};
use serde::{Deserialize, Serialize};
use site_recovery::{Mark, Operation, Step, Timestamp};
use std::time::Duration;

/// What is measured of one member, counted from the moment of the loss: when its source died, where somebody told that
/// moment, else when the operation was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Age of the point at that moment; zero for a point that was taken after it, as a planned failover's is. Of what
    /// was undone there is none.
    #[serde(rename = "rpo_ms", with = "moment::millis_or_none")]
    pub rpo: Option<Duration>,
    /// Until the machine ran.
    #[serde(rename = "rto_boot_ms", with = "moment::millis_or_none")]
    pub rto_boot: Option<Duration>,
    /// Until somebody had looked at it, and said how it is.
    #[serde(rename = "rto_verdict_ms", with = "moment::millis_or_none")]
    pub rto_verdict: Option<Duration>,
    /// When nothing ran.
    pub outage: Option<Outage>,
}

/// From what the begin of an outage is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutageBasis {
    /// Somebody told when the source died.
    Told,
    /// The step began that stops the machine: it may have run on for a while.
    StepBegan,
    /// It did not answer, and nobody told when it died: counted from when the operation was asked for.
    Asked,
}

/// A time in which the machine ran nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// From.
    #[serde(with = "moment::rfc3339")]
    pub from: Timestamp,
    /// Until it ran, or ran again; where it did neither, until the job ended; none: the job goes on.
    #[serde(with = "moment::rfc3339_or_none")]
    pub to: Option<Timestamp>,
    /// Whether it ran then. What came after the job is not told.
    pub over: bool,
    /// From what its begin is known.
    pub basis: OutageBasis,
}

impl Outage {
    /// How long; until `now` where the job goes on.
    pub fn length(&self, now: Timestamp) -> Duration {
        self.to.unwrap_or(now).since(self.from)
    }
}

impl Figures {
    /// Of what a member's tables say.
    pub(crate) fn of(member: &MemberPart) -> Self {
        let asked = member.died.unwrap_or(member.started);
        let booted = end_of(&member.steps, &[Step::Boot, Step::DrillBoot, Step::StartSource]);
        // A validation that nobody has set says nothing, though its step is taken. A drill is looked at as a part of its boot.
        let judged = member.verdict.as_ref().and_then(|_| match member.operation {
            Operation::TestFailover => end_of(&member.steps, &[Step::DrillBoot]),
            _ => end_of(&member.steps, &[Step::Validate, Step::Probe]),
        });
        let undone = matches!(member.outcome, Ending::Undone { .. });
        let point = member.point.as_ref().filter(|_| !undone);
        Self {
            rpo: point.map(|point| asked.since(point.taken)),
            rto_boot: booted.map(|at| at.since(asked)),
            rto_verdict: judged.map(|at| at.since(asked)),
            outage: outage(member, booted),
        }
    }
}

/// When the newest step of these was done.
fn end_of(steps: &[StepPart], which: &[Step]) -> Option<Timestamp> {
    let done = |s: &&StepPart| which.contains(&s.step) && s.mark == Mark::Done;
    steps.iter().rev().find(done).and_then(|s| s.ended)
}

/// Drills and boot proofs stop nothing. A step that stops the machine and is undone starts it again.
fn outage(member: &MemberPart, booted: Option<Timestamp>) -> Option<Outage> {
    use Operation::*;
    let moves = matches!(
        member.operation,
        PlannedFailover
            | UnplannedFailover
            | PromoteTestFailover
            | ChangePit
            | UndoFailover
            | PromoteOther
            | RetryFailover
    );
    if !moves {
        return None;
    }
    let stops = member.steps.iter().find(|s| matches!(s.step, Step::Fence | Step::FenceRecovered));
    let (from, basis) = match (member.died, stops, member.ran) {
        (Some(died), ..) => (died, OutageBasis::Told),
        (None, Some(step), Some(true)) => (step.started, OutageBasis::StepBegan),
        (None, Some(_), None) => (member.started, OutageBasis::Asked),
        _ => return None,
    };
    let lifted = || {
        let undone =
            stops.filter(|s| s.mark == Mark::Undone && matches!(member.outcome, Ending::Undone { .. }));
        undone.filter(|_| member.ran == Some(true)).and_then(|s| s.ended)
    };
    let ran = booted.or_else(lifted);
    Some(Outage { from, to: ran.or(member.ended), over: ran.is_some(), basis })
}
