//! A plan of several units and actions, as plain data: whoever runs plans fills it in.

use crate::{Ending, MemberPart, moment};
use serde::{Deserialize, Serialize};
use site_recovery::state::Direction;
use site_recovery::{Failure, MachineId, Operation, Request, Timestamp};

/// The plan that a report's jobs belonged to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPart {
    /// What people call it.
    pub name: String,
    /// Name of this run of it.
    pub run: String,
    /// What it does with its members.
    pub operation: Operation,
    /// The direction that they replicated in when it began.
    pub direction: Direction,
    /// What was asked for.
    pub request: Request,
    /// By whom.
    pub who: String,
    /// When it was asked for.
    #[serde(with = "moment::rfc3339")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(with = "moment::rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    /// What it came to as a whole, actions and all.
    pub outcome: Ending,
    /// Its groups, in the order in which they are taken.
    pub groups: Vec<GroupPart>,
    /// Its members that have no job.
    pub left_out: Vec<LeftOut>,
}

/// A member of a plan that has no job: nothing was done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// As the plan names it.
    pub name: String,
    /// Its machines.
    pub machines: Vec<MachineId>,
    /// Why it has none.
    pub why: Left,
}

/// Why a member of a plan has no job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// Its job could not begin.
    Refused {
        /// Why.
        why: Failure,
    },
    /// It had nothing to do, or its turn never came.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl PlanPart {
    /// A machine of its groups of which nothing is told.
    pub(crate) fn untold(&self, members: &[MemberPart]) -> Option<&MachineId> {
        let told = |machine: &MachineId| {
            members.iter().any(|m| m.machine == *machine)
                || self.left_out.iter().any(|left| left.machines.contains(machine))
        };
        self.groups.iter().flat_map(|group| &group.machines).find(|machine| !told(machine))
    }
}

impl LeftOut {
    /// How it weighs beside those that have a job.
    pub(crate) fn ending(&self) -> Ending {
        match &self.why {
            Left::Refused { why } => Ending::Failed { why: why.clone() },
            Left::Skipped { .. } => Ending::Done,
        }
    }
}

/// A group of a plan: its machines go together, the next group waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPart {
    /// Its name.
    pub name: String,
    /// Its machines.
    pub machines: Vec<MachineId>,
    /// Names of the actions before it.
    pub before: Vec<String>,
    /// Names of the actions after it.
    pub after: Vec<String>,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionEnding {
    /// It did what it is for.
    Done,
    /// It did not.
    Failed {
        /// Why.
        error: String,
    },
    /// It was left out, by a person or a rule.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It goes on, or waits for a person.
    Open,
}

/// Something that a plan did besides machines: a script, a question to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionPart {
    /// Its name, unique in the plan.
    pub name: String,
    /// What kind: `script`, `manual`, …
    pub kind: String,
    /// Of which group.
    pub group: Option<String>,
    /// When it began; none: it did not.
    #[serde(with = "moment::rfc3339_or_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "moment::rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    /// How.
    pub ending: ActionEnding,
    /// Who did or confirmed it, where a person did.
    pub who: Option<String>,
    /// What it told.
    pub notes: Vec<String>,
}
