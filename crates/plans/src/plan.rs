//! A recovery plan as data.

use crate::address::{AddressMap, NetworkMap};
use serde::{Deserialize, Serialize};
use site_recovery::Operation;
use site_recovery::state::Direction;
use std::collections::BTreeSet;

/// Which machines go over together, in which order, and what is done in between. Plain data, which a TOML file holds well; a
/// key that is not known is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Groups that are booted one after the other, the first one first; 1 to 7.
    pub groups: Vec<BootGroup>,
    /// What is done before and after the sources are shut down. Not in a drill, which shuts nothing down.
    #[serde(default, skip_serializing_if = "Around::is_empty")]
    pub shutdown: Around,
    /// What is done before the first machine is prepared, and once all are.
    #[serde(default, skip_serializing_if = "Around::is_empty")]
    pub failover: Around,
    /// Networks of one side, and what stands for them at the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkMap>,
    /// Addresses of one side, and what stands for them at the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressMap>,
}

/// Machines that boot together: in parallel, but for what waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootGroup {
    /// Its members; at least one.
    pub members: Vec<Member>,
    /// What is done before the first of them boots, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Action>,
    /// What is done once they run, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Action>,
}

/// A machine, or a replication group, which is never parted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The machine's name, or the replication group's, as [`Vault::find`](site_recovery::Vault::find) and
    /// [`Vault::group`](site_recovery::Vault::group) take it.
    pub unit: String,
    /// Members of the same boot group that have to be up first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// What is done before and after a part of a run, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Around {
    /// Before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Action>,
    /// After.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Action>,
}

impl Around {
    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// Something that a run does, or waits for, besides its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Its name, which no other action of the plan has.
    pub name: String,
    /// In which kinds of run; none named: in all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub on: BTreeSet<Kind>,
    /// In which directions; none named: in both.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeSet<DirectionName>"))]
    pub directions: BTreeSet<Direction>,
    /// Seconds after which it has failed; a person is waited for as long as it takes.
    #[serde(default = "ten_minutes", skip_serializing_if = "is_ten_minutes")]
    pub limit: u64,
    /// What it is.
    pub does: Does,
}

fn ten_minutes() -> u64 {
    600
}

fn is_ten_minutes(limit: &u64) -> bool {
    *limit == ten_minutes()
}

impl Action {
    /// Whether it is part of such a run.
    pub(crate) fn applies(&self, kind: Kind, direction: Direction) -> bool {
        (self.on.is_empty() || self.on.contains(&kind))
            && (self.directions.is_empty() || self.directions.contains(&direction))
    }
}

/// What an action is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Does {
    /// Runs a program. It has succeeded when it ends with 0.
    Command {
        /// The program and its arguments; no shell. They stand in the journal and in the report: no secret belongs here.
        program: Vec<String>,
        /// Whether it can be run again when nobody knows how it ended, or when it failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// The run waits until somebody says that it is done.
    Manual {
        /// What is to be done.
        instructions: String,
    },
    /// Waits until a port of a booted machine takes connections.
    Port {
        /// The machine.
        machine: String,
        /// The TCP port.
        port: u16,
    },
    /// The vault's validation has found a booted machine good.
    Probe {
        /// The machine.
        machine: String,
    },
}

impl Does {
    /// The machine that it looks at.
    pub(crate) fn machine(&self) -> Option<&str> {
        match self {
            Self::Port { machine, .. } | Self::Probe { machine } => Some(machine),
            Self::Command { .. } | Self::Manual { .. } => None,
        }
    }
}

/// The kinds of run that actions tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Kind {
    /// Isolated copies; production goes on.
    Drill,
    /// Nothing is lost.
    Planned,
    /// The side that runs may be gone.
    Unplanned,
}

impl Kind {
    /// Of an operation that boots machines.
    pub(crate) fn of(operation: Operation) -> Option<Self> {
        match operation {
            Operation::TestFailover => Some(Self::Drill),
            Operation::PlannedFailover => Some(Self::Planned),
            Operation::UnplannedFailover => Some(Self::Unplanned),
            _ => None,
        }
    }
}

#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[schemars(rename = "Direction")]
#[allow(dead_code, reason = "for the schema alone")]
enum DirectionName {
    PrimaryToRecovery,
    RecoveryToPrimary,
}

/// Around which part of a run an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// [`Plan::shutdown`].
    Shutdown,
    /// [`Plan::failover`].
    Failover,
    /// The boot group of this number, from 1.
    Group(usize),
}

impl Plan {
    /// What is done before a part.
    pub(crate) fn before(&self, part: Part) -> &[Action] {
        match part {
            Part::Shutdown => &self.shutdown.before,
            Part::Failover => &self.failover.before,
            Part::Group(number) => self.group(number).map_or(&[], |g| &g.before),
        }
    }

    /// What is done after a part.
    pub(crate) fn after(&self, part: Part) -> &[Action] {
        match part {
            Part::Shutdown => &self.shutdown.after,
            Part::Failover => &self.failover.after,
            Part::Group(number) => self.group(number).map_or(&[], |g| &g.after),
        }
    }

    /// One boot group by its number, from 1.
    pub(crate) fn group(&self, number: usize) -> Option<&BootGroup> {
        self.groups.get(number.checked_sub(1)?)
    }

    /// All parts that have actions around them, in their order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> {
        [Part::Shutdown, Part::Failover].into_iter().chain((1..=self.groups.len()).map(Part::Group))
    }

    /// All actions, by the parts that they stand around.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.parts().flat_map(|part| self.before(part).iter().chain(self.after(part)))
    }
}
