//! What can be asked of recovery plans.

use super::{Danger, Over, Which};
use crate::settings::Span;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// What is asked of a recovery plan.
#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlanVerb {
    /// All plans of the settings, and how the newest run of each stands.
    List,
    /// One plan: its boot groups, its actions, its newest run.
    Show(PlanName),
    /// Isolated copies of all members, group by group; production and replication go on.
    Drill(PlanDrill),
    /// Removes the drills of all members.
    CleanUp(PlanName),
    /// Fails all members over to the recovery site: planned, nothing lost, unless told otherwise.
    Failover(PlanFailover),
    /// Fails all members back to the primary site: planned, nothing lost, unless told otherwise.
    Failback(PlanFailover),
    /// Makes the failover or failback of all members final.
    Commit(PlanCommit),
    /// Replicates all members the other way, after commit.
    Reprotect(PlanReprotect),
    /// Lets a run go on that has stopped: what has failed begins anew.
    Continue(PlanName),
    /// Cancels a run: what has not booted is taken back, and its sources run again.
    Cancel(PlanName),
    /// Says that an action is done that waits for a person.
    Complete(PlanComplete),
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct PlanName {
    /// A plan of the settings.
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct PlanDrill {
    /// A plan of the settings.
    pub(crate) name: String,
    /// latest, processed, application or proven, of every machine; the newest processed ones otherwise.
    #[arg(long, value_name = "POINT")]
    pub(crate) point: Option<Which>,
    /// An isolated network, instead of those of the settings.
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Cleans itself up after this long.
    #[arg(long, value_name = "SPAN", default_value = "1d")]
    pub(crate) expires: Span,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct PlanFailover {
    /// A plan of the settings.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) over: Over,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct PlanCommit {
    /// A plan of the settings.
    pub(crate) name: String,
    /// Only what the validation found good.
    #[arg(long)]
    pub(crate) require_good: bool,
    /// Removes the other side's machines at once, on commit of a failback.
    #[arg(long)]
    pub(crate) purge_now: bool,
    /// Somebody answers by name for a side that does not answer.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct PlanReprotect {
    /// A plan of the settings.
    pub(crate) name: String,
    /// Where the sides may have diverged: the other side loses; its bytes become pinned points.
    #[arg(long)]
    pub(crate) other_side_loses: bool,
    /// Compares even where a delta would do.
    #[arg(long)]
    pub(crate) compare: bool,
    /// Merges snapshots that the machines to land on have.
    #[arg(long)]
    pub(crate) consolidate: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct PlanComplete {
    /// A plan of the settings.
    pub(crate) name: String,
    /// The action that waits.
    pub(crate) action: String,
    /// What was done: kept in the run and in its report.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: String,
}

impl PlanVerb {
    /// As of a machine's verb.
    pub(super) fn danger(&self) -> Option<(Danger, &'static str)> {
        use Danger::{ByName, Final};
        match self {
            Self::Failover(told) | Self::Failback(told) => told.over.danger(),
            Self::Commit(c) if c.force => {
                Some((ByName, "a commit is final, and the other side does not answer"))
            }
            Self::Commit(_) => Some((Final, "a commit is final: there is no undo after it")),
            Self::Reprotect(r) if r.other_side_loses => Some((Final, "what the other side wrote loses")),
            _ => None,
        }
    }

    pub(super) fn only_looks(&self) -> bool {
        matches!(self, Self::List | Self::Show(_))
    }
}
