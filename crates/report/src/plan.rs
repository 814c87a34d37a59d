//! A plan of several units and actions, as plain data: whoever runs plans fills it in.

use crate::moment;
use serde::{Deserialize, Serialize};
use site_recovery::{MachineId, Timestamp};

/// The plan that a report's jobs belonged to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPart {
    /// What people call it.
    pub name: String,
    /// Name of this run of it.
    pub run: String,
    /// When it was asked for.
    #[serde(with = "moment::rfc3339")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(with = "moment::rfc3339_or_none")]
    pub ended: Option<Timestamp>,
    /// Its groups, in the order in which they are taken.
    pub groups: Vec<GroupPart>,
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
