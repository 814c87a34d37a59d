//! One run of a plan: what was asked, what has been done, and what it came to.

use crate::plan::{Action, Kind, Part, Plan};
use serde::{Deserialize, Serialize};
use site_recovery::state::Direction;
use site_recovery::workflow::Failure;
use site_recovery::{
    DataLoss, JobId, MachineId, NicId, Operation, PointId, Request, Timestamp, UnitId, Verdict,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One run of a plan, whole: what its journal holds, and what a report is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRun {
    /// Its name.
    pub id: String,
    /// The plan's name.
    pub plan: String,
    /// SHA-256 of the plan as JSON.
    pub digest: String,
    /// The plan as it was when the run began; what changes later is of later runs.
    pub of: Plan,
    /// What is done with every member.
    pub operation: Operation,
    /// As it was asked for.
    pub request: Request,
    /// Which way the members replicated when it began.
    pub direction: Direction,
    /// Who asked.
    pub who: String,
    /// Why.
    pub why: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Which way it goes.
    pub course: Course,
    /// Why it stopped, while it is [`Course::Stopped`].
    pub stopped: Option<Failure>,
    /// Its parts, in order.
    pub stages: Vec<StageRun>,
    /// Its members, in the plan's order.
    pub members: Vec<MemberRun>,
    /// The actions that have begun, in the order in which they did.
    pub actions: Vec<ActionRun>,
    /// What it came to, once it has ended.
    pub outcome: Option<Outcome>,
}

/// Which way a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Course {
    /// Stage by stage.
    Forward,
    /// Something failed: it waits until somebody lets it go on, or cancels it. What is prepared stays prepared.
    Stopped,
    /// It was cancelled: what has not booted is taken back.
    TurningBack,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RunState {
    /// Something is being done.
    InProgress,
    /// An action waits for a person.
    WaitingForManualAction,
    /// Something failed, and a person has to decide.
    Stopped,
    /// It is over; see its outcome.
    Ended,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// The actions before a part.
    Before(Part),
    /// The actions after a part.
    After(Part),
    /// The sources are shut down: of a planned run the last boot group's first, of an unplanned run all at once.
    ShutDown,
    /// All members stand prepared, and none boots.
    Prepare,
    /// The boot group of this number, from 1, boots.
    Boot(usize),
    /// What is done with all members at once: commit, reprotect, the clean-up of a drill.
    Each,
}

/// A part of a run, and when it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRun {
    /// Which.
    pub stage: Stage,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// How far a run got with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemberState {
    /// Nothing has begun.
    Waiting,
    /// It has nothing to do; the note says why.
    Skipped,
    /// Its job is begun.
    Begun,
    /// It stands prepared, its source off.
    Prepared,
    /// It may boot.
    Booting,
    /// It has done what was asked for.
    Done,
    /// It has not.
    Failed,
    /// It was taken back because the run was cancelled.
    TakenBack,
}

/// What a run did with one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRun {
    /// As the plan names it.
    pub name: String,
    /// The vault's name of it.
    pub unit: UnitId,
    /// Its boot group, from 1.
    pub group: usize,
    /// How far it got.
    pub state: MemberState,
    /// Its job.
    pub job: Option<JobId>,
    /// Jobs of it that failed before the run went on.
    pub earlier: Vec<JobId>,
    /// When its job began.
    pub started: Option<Timestamp>,
    /// When that ended.
    pub ended: Option<Timestamp>,
    /// Why it failed, or was taken back.
    pub error: Option<Failure>,
    /// What a person should know.
    pub note: Option<String>,
    /// Its machines: one, or those of the replication group.
    pub machines: Vec<MachineRun>,
}

/// What a run did with one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRun {
    /// What people call it.
    pub name: String,
    /// The vault's name of it.
    pub machine: MachineId,
    /// The point that was used.
    pub point: Option<PointId>,
    /// What was lost at most.
    pub loss: Option<DataLoss>,
    /// How to reach it, once it was booted.
    pub reach: Vec<String>,
    /// What the vault's validation said.
    pub verdict: Option<Verdict>,
    /// What this plan's maps set of its settings, by direction.
    pub mapped: BTreeMap<Direction, Mapped>,
    /// What they had set by the run before, which this one replaces.
    pub replaced: BTreeMap<Direction, Mapped>,
}

/// Settings that come from a plan's maps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mapped {
    /// The network.
    pub network: Option<String>,
    /// The address per adapter.
    pub addresses: BTreeMap<NicId, IpAddr>,
}

/// How far an action got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ActionState {
    /// It has begun.
    Running,
    /// A person is to complete it.
    Waiting,
    /// It has succeeded.
    Done,
    /// It has failed.
    Failed,
    /// It has failed, and somebody let the run go on without it.
    PassedOver,
    /// The run was cancelled while it waited for a person, or while nobody saw how it ended.
    Dropped,
}

/// What came of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRun {
    /// Its name.
    pub name: String,
    /// How far it got.
    pub state: ActionState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The program's exit code.
    pub exit: Option<i32>,
    /// The end of what the program wrote, as it was: the program keeps secrets out of it.
    pub output: String,
    /// Why it failed, or what somebody is to know who completes it.
    pub error: Option<Failure>,
    /// What somebody said who completed it.
    pub note: Option<String>,
    /// Who completed it, or let the run go on without it.
    pub completed_by: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything that was asked for is done.
    Done,
    /// It is over, but for what is named here.
    Partly {
        /// Members and actions that failed.
        failed: Vec<String>,
    },
    /// It was cancelled.
    Cancelled {
        /// Members that had done what was asked for by then, and stay so.
        stay: Vec<String>,
        /// Members and actions that had failed, or could not be taken back.
        failed: Vec<String>,
    },
}

impl PlanRun {
    /// How it stands.
    pub fn state(&self) -> RunState {
        match (self.ended, self.course, self.waiting()) {
            (Some(_), ..) => RunState::Ended,
            (None, Course::Stopped, _) => RunState::Stopped,
            (None, Course::Forward, Some(_)) => RunState::WaitingForManualAction,
            (None, ..) => RunState::InProgress,
        }
    }

    /// The action that waits for a person.
    pub fn waiting(&self) -> Option<&ActionRun> {
        self.actions.iter().find(|a| a.state == ActionState::Waiting)
    }

    /// One action, once it has begun.
    pub fn action(&self, name: &str) -> Option<&ActionRun> {
        self.actions.iter().find(|a| a.name == name)
    }

    /// One member by the name that the plan gives it.
    pub fn member(&self, name: &str) -> Option<&MemberRun> {
        self.members.iter().find(|m| m.name == name)
    }

    /// Its kind, where it boots machines.
    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::of(self.operation)
    }

    /// The stage that is next, or under way.
    pub(crate) fn next_stage(&self) -> Option<&StageRun> {
        self.stages.iter().find(|s| s.ended.is_none())
    }

    /// The operator under whose name it asks the vault. The vault's jobs and audit records carry it, and a new engine
    /// finds them by it.
    pub fn operator(&self) -> String {
        format!("{} by plan {} run {}", self.who, self.plan, self.id)
    }

    /// Whether the first failure stops it.
    pub(crate) fn stops(&self) -> bool {
        self.operation == Operation::PlannedFailover
    }

    /// The actions of one of its stages, in order: those of its kind and direction.
    pub fn actions_of(&self, stage: Stage) -> impl Iterator<Item = &Action> {
        actions_of(&self.of, self.operation, self.direction, stage)
    }

    /// What failed, by name.
    pub(crate) fn failed(&self) -> Vec<String> {
        let members = self.members.iter().filter(|m| m.state == MemberState::Failed).map(|m| &m.name);
        let failed = |a: &&ActionRun| matches!(a.state, ActionState::Failed | ActionState::PassedOver);
        let actions = self.actions.iter().filter(failed).map(|a| &a.name);
        members.chain(actions).cloned().collect()
    }
}

/// The stages of a run, in order. Without actions there is no stage for them.
pub(crate) fn stages(plan: &Plan, operation: Operation, direction: Direction) -> Vec<StageRun> {
    use Part::{Failover, Group, Shutdown};
    let mut stages = match Kind::of(operation) {
        None => vec![Stage::Each],
        Some(Kind::Drill) => vec![Stage::Before(Failover), Stage::Prepare, Stage::After(Failover)],
        Some(_) => vec![
            Stage::Before(Shutdown),
            Stage::Before(Failover),
            Stage::ShutDown,
            Stage::After(Shutdown),
            Stage::Prepare,
            Stage::After(Failover),
        ],
    };
    if Kind::of(operation).is_some() {
        let groups = 1..=plan.groups.len();
        stages.extend(groups.flat_map(|n| [Stage::Before(Group(n)), Stage::Boot(n), Stage::After(Group(n))]));
    }
    let acts = |stage: &Stage| {
        !matches!(stage, Stage::Before(_) | Stage::After(_))
            || actions_of(plan, operation, direction, *stage).next().is_some()
    };
    let stage = |stage| StageRun { stage, started: None, ended: None };
    stages.into_iter().filter(acts).map(stage).collect()
}

fn actions_of(
    plan: &Plan,
    operation: Operation,
    direction: Direction,
    stage: Stage,
) -> impl Iterator<Item = &Action> {
    let actions = match stage {
        Stage::Before(part) => plan.before(part),
        Stage::After(part) => plan.after(part),
        _ => &[],
    };
    let kind = Kind::of(operation);
    actions.iter().filter(move |a| kind.is_some_and(|kind| a.applies(kind, direction)))
}
