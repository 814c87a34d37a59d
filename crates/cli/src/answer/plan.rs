//! What verbs of recovery plans come to.

use serde::{Deserialize, Serialize};

/// A plan at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanLine {
    pub(crate) plan: String,
    /// False for one that was run, and is in the settings no more.
    pub(crate) in_settings: bool,
    pub(crate) groups: usize,
    pub(crate) members: usize,
    /// Its newest run.
    pub(crate) run: Option<String>,
    pub(crate) operation: Option<String>,
    pub(crate) state: Option<RunState>,
    pub(crate) why: Option<String>,
}

/// One plan, and its newest run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecoveryPlanPage {
    pub(crate) plan: String,
    /// As the settings have it now; none for a plan that they have no more.
    pub(crate) groups: Vec<BootGroupLine>,
    pub(crate) run: Option<RunPage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BootGroupLine {
    pub(crate) group: usize,
    pub(crate) members: Vec<PlanMemberLine>,
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanMemberLine {
    pub(crate) unit: String,
    pub(crate) after: Vec<String>,
    /// Whether the vault knows it.
    pub(crate) protected: bool,
}

/// How a run of a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    UnderWay,
    /// An action waits for a person.
    Waiting,
    /// Something failed, and a person has to decide.
    Stopped,
    Done,
    /// It is over, and something has failed.
    Partly,
    Cancelled,
}

/// One run of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunPage {
    pub(crate) plan: String,
    pub(crate) run: String,
    pub(crate) operation: String,
    pub(crate) direction: String,
    pub(crate) who: String,
    pub(crate) why: String,
    pub(crate) started: String,
    pub(crate) ended: Option<String>,
    pub(crate) state: RunState,
    /// Why it stands there, where it is not done.
    pub(crate) because: Option<String>,
    pub(crate) waits_for: Option<WaitLine>,
    pub(crate) stages: Vec<StageLine>,
    pub(crate) members: Vec<RunMemberLine>,
    pub(crate) actions: Vec<ActionLine>,
}

/// The action that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WaitLine {
    pub(crate) action: String,
    /// What is to be done, or to be judged.
    pub(crate) instructions: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageLine {
    pub(crate) stage: String,
    pub(crate) started: Option<String>,
    pub(crate) ended: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunMemberLine {
    pub(crate) member: String,
    pub(crate) group: usize,
    pub(crate) state: String,
    pub(crate) job: Option<String>,
    pub(crate) why: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) machines: Vec<RunMachineLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunMachineLine {
    pub(crate) machine: String,
    pub(crate) point: Option<u64>,
    /// None where it cannot be bounded, or nothing was brought over.
    pub(crate) loss_at_most_seconds: Option<f64>,
    pub(crate) reach: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ActionLine {
    pub(crate) action: String,
    pub(crate) state: String,
    pub(crate) exit: Option<i32>,
    pub(crate) output: String,
    pub(crate) why: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) completed_by: Option<String>,
}
