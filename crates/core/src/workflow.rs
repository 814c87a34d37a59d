//! Operations as lists of steps.
//!
//! ```text
//! compensable … compensable | pivot | forward … forward
//!   failure or cancel: undo    the      only retried; a permanent error
//!   in reverse, go on          intent   asks the operator
//! ```
//! A step is recorded before it begins and after it ended. After a crash a step that had begun is taken again, with the
//! same key. Parallelism is inside a step, over the members of a unit, so the end of a step is a barrier for all of them.

use crate::state::{Operation, Phase, State, Trigger};
use crate::{
    Armed, BootProof, Booted, DataLoss, Error, ErrorKind, Instance, JobId, MachineId, Observed, OpKey,
    PointId, Recovery, Request, Settings, Timestamp, Verdict,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One step of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Raise the epoch at replica and recovery site.
    Claim,
    /// Mark the machine at its source.
    Enrol,
    /// Open the timeline.
    Open,
    /// Seal the first point.
    FirstCopy,
    /// Prove the running side off.
    Fence,
    /// Lift that fence again: of a failover whose run is not known any more.
    Lift,
    /// Ship what was written last, drain what was received.
    ShipLast,
    /// Choose the point and the generation.
    Choose,
    /// Pin the point.
    Pin,
    /// Prepare the disks.
    Materialise,
    /// Wait, prepared, until somebody lets it boot; of a request that holds.
    HoldBoot,
    /// Prove again, and record the intent to boot: the pivot.
    Intend,
    /// Start the recovered machine.
    Boot,
    /// Run the user's validation.
    Validate,
    /// Fence the recovered machine.
    FenceRecovered,
    /// Take it out of the way.
    SetAside,
    /// Prove again, and record the intent to start the source: the pivot of an undo.
    IntendSource,
    /// Start the source.
    StartSource,
    /// Make the booted disks final.
    Settle,
    /// Remove instances that were set aside.
    RemoveKept,
    /// Drop the points that the commit ends.
    PrunePoints,
    /// Remove what the other side no longer needs, or owe it.
    RemoveOther,
    /// Wait until the way is open: the process server reaches its roles, the site takes the machine, both answer.
    AwaitPrerequisites,
    /// Prove the side off that will be replicated to.
    FenceOther,
    /// Open the timeline of the other direction.
    Seed,
    /// Seal its first point.
    FirstReverse,
    /// Pay what was owed until then.
    PayOwed,
    /// Pin the newest point, so that what a comparison overwrites stays openable.
    KeepNewest,
    /// Compare both sides.
    Resync,
    /// Choose the drill's point.
    DrillChoose,
    /// Prepare the drill's disks.
    DrillPrepare,
    /// Start the drill.
    DrillBoot,
    /// Look whether the guest of a boot proof has come up.
    Probe,
    /// Remove the drill.
    DrillRemove,
    /// Find the newest complete copy of the side that is left.
    FindSurvivor,
    /// Roll an unfinished landing back.
    RestoreLanding,
    /// Lift blocks and marks.
    Dismiss,
}

/// What a failure of a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// It and what came before is undone.
    Compensable,
    /// It ends what can be undone.
    Pivot,
    /// It is retried.
    Forward,
}

impl Step {
    /// What its failure means.
    pub fn class(self) -> Class {
        use Step::*;
        match self {
            Claim | Fence | ShipLast | Choose | Pin | Materialise | FenceRecovered | FindSurvivor
            | DrillChoose | DrillPrepare | DrillBoot | Probe | HoldBoot => Class::Compensable,
            Intend | IntendSource => Class::Pivot,
            _ => Class::Forward,
        }
    }
}

/// The steps of an operation, in order, whatever was asked: [`steps_of`] has those that are taken. `SetAside` of a change of point stands before its pivot and is not undone: once
/// it was taken, a failure leaves the change failed.
pub fn steps(operation: Operation) -> &'static [Step] {
    use Operation::*;
    use Step::*;
    match operation {
        EnableProtection => &[Claim, Enrol, Open, FirstCopy],
        PlannedFailover | UnplannedFailover => {
            &[Claim, Fence, ShipLast, Choose, Pin, Materialise, HoldBoot, Intend, Boot, Validate]
        }
        PromoteTestFailover => &[Claim, Fence, Choose, Pin, Materialise, Intend, Boot, Validate, DrillRemove],
        ChangePit => &[Claim, Choose, Pin, FenceRecovered, SetAside, Materialise, Intend, Boot, Validate],
        RetryFailover | AbandonUndo => &[Claim, Intend, Boot, Validate],
        UndoFailover => &[Claim, FenceRecovered, IntendSource, StartSource, SetAside],
        Commit | CompleteMigration => &[Settle, RemoveKept, DrillRemove, RemoveOther, PrunePoints],
        ReverseReplicate => &[AwaitPrerequisites, Claim, FenceOther, Seed, FirstReverse, PayOwed],
        RepairReplication => &[Claim, KeepNewest, Resync],
        TestFailover => &[Claim, DrillChoose, DrillPrepare, HoldBoot, DrillBoot],
        TestFailoverCleanup => &[DrillRemove],
        VerifyBoot => &[Claim, DrillChoose, DrillPrepare, DrillBoot, Probe, DrillRemove],
        PromoteOther => &[FindSurvivor, Intend, Boot, Validate],
        Operation::RestoreLanding => &[Step::RestoreLanding],
        DisableProtection | Purge => &[DrillRemove, Step::RestoreLanding, Dismiss],
        CancelFailover => &[Claim, Lift],
        LeaveGroup => &[],
    }
}

/// The steps that are taken of an operation for this request, in order.
pub fn steps_of(operation: Operation, request: &Request) -> impl Iterator<Item = Step> + use<> {
    let holds = request.holds_boot();
    steps(operation).iter().copied().filter(move |step| holds || *step != Step::HoldBoot)
}

/// What moves the state when an operation has succeeded, and when it has failed for good.
pub fn endings(operation: Operation, state: &State) -> (Option<Trigger>, Option<Trigger>) {
    use Operation::*;
    let copying = state.phase == Phase::InitialReplicationInProgress;
    match operation {
        EnableProtection | RepairReplication if copying => {
            (Some(Trigger::FirstSealed), Some(Trigger::CopyFailed))
        }
        EnableProtection => (None, Some(Trigger::EnableFailed)),
        PlannedFailover | UnplannedFailover | PromoteTestFailover | ChangePit | RetryFailover
        | AbandonUndo | PromoteOther => (Some(Trigger::Booted), Some(Trigger::BootFailed)),
        UndoFailover => (Some(Trigger::Undone), Some(Trigger::UndoFailed)),
        Commit => (Some(Trigger::Committed), Some(Trigger::CommitFailed)),
        CompleteMigration => (Some(Trigger::Migrated), Some(Trigger::CommitFailed)),
        ReverseReplicate => (Some(Trigger::Turned), Some(Trigger::ReprotectFailed)),
        RepairReplication => (Some(Trigger::Resynced), Some(Trigger::ResyncFailed)),
        TestFailover => (Some(Trigger::DrillStarted), Some(Trigger::DrillCleanupFailed)),
        TestFailoverCleanup | VerifyBoot => (None, Some(Trigger::DrillCleanupFailed)),
        DisableProtection => (Some(Trigger::Disabled), Some(Trigger::DisableFailed)),
        CancelFailover => (Some(Trigger::Cancelled), Some(Trigger::CancelFailed)),
        RestoreLanding | LeaveGroup | Purge => (None, None),
    }
}

/// How far a step got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// It begins.
    Started,
    /// It is done.
    Done,
    /// It failed; what it may have done is still to be undone, or retried.
    Failed {
        /// Why.
        why: Failure,
    },
    /// It was undone.
    Undone,
}

/// An error as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// Whether it may pass.
    pub temporary: bool,
    /// What a person reads.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), temporary: error.is_temporary(), message: error.to_string() }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error::new(failure.kind, failure.message)
    }
}

/// A step that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Which.
    pub step: Step,
    /// In which round; a planned failover ships and prepares again when somebody started the source in between.
    pub round: u32,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How far it got.
    pub mark: Mark,
}

/// Which way a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Course {
    /// Step by step.
    Forward,
    /// Back, before the pivot.
    Unwinding,
    /// It waits for an operator.
    Parked,
}

/// What a run has found out about one member so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Whether the side that runs was running when we came.
    pub ran: Option<bool>,
    /// What was read of the fenced instances.
    pub observed: Vec<Observed>,
    /// When that was.
    pub fenced_at: Option<Timestamp>,
    /// Who could not be proven off.
    pub unproven: Vec<Instance>,
    /// Whether everything written was shipped after the fence.
    pub shipped_last: bool,
    /// The chosen point.
    pub point: Option<PointId>,
    /// What is being recovered.
    pub recovery: Option<Recovery>,
    /// The key under which its disks are prepared.
    pub made_by: Option<OpKey>,
    /// What was prepared, or what is being taken back.
    pub armed: Option<Armed>,
    /// How to reach it.
    pub booted: Option<Booted>,
    /// What the user's validation said.
    pub verdict: Option<Verdict>,
    /// What is lost.
    pub loss: Option<DataLoss>,
    /// When the boot of a proof was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_asked: Option<Timestamp>,
    /// What a boot proof came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<BootProof>,
    /// What it is to be where it lands, as the run looked at it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landing: Option<Settings>,
    /// Whether an earlier reprotect was broken off: its landing is compared.
    pub broken_off: bool,
    /// Whether the other direction starts from a known distance.
    pub known: bool,
    /// Whether the other side holds, or may hold, what the booted point lacks.
    pub ahead: bool,
    /// Bytes that crossed.
    pub shipped: u64,
    /// Bytes that had changed.
    pub changed: u64,
    /// What an operator should know: what was kept and why, what was ignored.
    pub notes: Vec<String>,
}

/// One run of an operation over all members of a unit; Azure calls it a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRun {
    /// Its name; every key of its steps begins with it.
    pub id: JobId,
    /// What it does.
    pub operation: Operation,
    /// What was asked for.
    pub request: Request,
    /// Who asked.
    pub who: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Which way it goes.
    pub course: Course,
    /// Why it turned or stopped.
    pub why: Option<Failure>,
    /// See [`Task::round`].
    pub round: u32,
    /// Its steps so far.
    pub tasks: Vec<Task>,
    /// What it knows of each member. Boxed: a leaf of the map has room for eleven, and most units have one.
    pub members: BTreeMap<MachineId, Box<Progress>>,
}

impl JobRun {
    /// Whether a step is done in this round.
    pub fn done(&self, step: Step) -> bool {
        let once = matches!(step, Step::Claim | Step::Fence | Step::HoldBoot);
        self.tasks.iter().any(|t| t.step == step && (once || t.round == self.round) && t.mark == Mark::Done)
    }

    /// Whether the pivot was passed: the intent is recorded.
    pub fn past_pivot(&self) -> bool {
        self.tasks.iter().any(|t| t.step.class() == Class::Pivot && t.mark == Mark::Done)
    }

    /// The step that is next, going forward.
    pub fn next_step(&self) -> Option<Step> {
        steps_of(self.operation, &self.request).find(|step| !self.done(*step))
    }

    /// Whether it stands prepared, and waits until somebody lets it boot.
    pub fn holds_boot(&self) -> bool {
        let open = |t: &Task| t.step == Step::HoldBoot && t.mark == Mark::Started;
        self.course == Course::Forward && self.tasks.last().is_some_and(open)
    }

    /// The step that is next to be undone: the newest that began and was not undone.
    pub fn next_undo(&self) -> Option<Step> {
        let open = |t: &&Task| t.mark != Mark::Undone && t.step.class() == Class::Compensable;
        self.tasks.iter().rev().find(open).map(|t| t.step)
    }

    /// The key of a step for one member.
    pub fn key(&self, machine: &MachineId, step: Step, round: u32) -> OpKey {
        OpKey(format!("{machine}/{}/{step:?}-{round}", self.id))
    }

    pub(crate) fn mark(&mut self, step: Step, mark: Mark, now: Timestamp) {
        let ended = (mark != Mark::Started).then_some(now);
        if mark == Mark::Undone {
            // In whatever round it was taken.
            for task in self.tasks.iter_mut().filter(|t| t.step == step) {
                (task.mark, task.ended) = (Mark::Undone, ended);
            }
            return;
        }
        match self.tasks.iter_mut().rev().find(|t| t.step == step && t.round == self.round) {
            Some(task) => (task.mark, task.ended) = (mark, ended),
            None => self.tasks.push(Task { step, round: self.round, started: now, ended, mark }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workflow_has_its_classes_in_order() {
        for operation in Operation::ALL {
            let mut passed = false;
            for step in steps(operation) {
                match step.class() {
                    Class::Compensable => assert!(!passed, "{operation:?}: {step:?} after the pivot"),
                    Class::Pivot => passed = true,
                    Class::Forward => {}
                }
            }
        }
    }
}
