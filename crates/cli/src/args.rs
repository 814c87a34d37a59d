//! The command line. What goes to the engine is plain data: it is carried out here, or by whoever holds the vault.

mod plan;

pub(crate) use plan::{PlanFailover, PlanVerb};

use crate::settings::Span;
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Protects machines of one site on another: replicates, drills, fails over, commits or undoes, replicates back, fails back.
///
/// Settings are read from `./site-recovery.toml`, else from `/etc/site-recovery/site-recovery.toml`. Start with `demo`, or with
/// `init`.
#[derive(Debug, Parser)]
#[command(name = "site-recovery", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The file of settings.
    #[arg(long, global = true, value_name = "FILE", env = "SITE_RECOVERY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Answers as JSON, one object, on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Does not ask before what cannot be taken back.
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Why: kept in the audit trail of what somebody answers for by name.
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who asks, in the audit trail; else as in the settings, else the user of the system.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) operator: Option<String>,
}

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Verb {
    /// Writes commented settings, and makes the directories that they name.
    Init(Init),
    #[command(flatten)]
    Asked(Asked),
    /// The daemon: replicates what is due until SIGTERM or Ctrl-C, and does what other commands ask for.
    Run,
    /// Goes round the whole circle in a temporary directory, and proves the bytes of both sides equal.
    Demo(Demo),
    /// Writes completions for a shell to standard output.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual page to standard output.
    Man,
    /// Writes the JSON Schema of the settings to standard output.
    Schema,
}

/// What is asked of the engine.
#[derive(Debug, Clone, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// Takes machines or groups into care, and waits for their first points.
    Protect(Protect),
    /// All machines at a glance.
    List,
    /// One machine or group: state, health, points, what is allowed now.
    Show(Named),
    /// Checks the whole circle now, the way back too. Ends with 1 where something critical is found.
    Ready(Named),
    /// Recovery points, and what each would lose now.
    Points(Named),
    /// An isolated copy, to look at; production and replication go on.
    Drill(Drill),
    /// Fails over to the recovery site: planned, nothing lost, unless told otherwise.
    Failover(Failover),
    /// Runs from another point, before commit.
    ChangePoint(ChangePoint),
    /// Makes a failover or failback final.
    Commit(Commit),
    /// Turns a job back that has not passed its pivot.
    Cancel(Named),
    /// Goes back after the pivot, until commit.
    Undo(Undo),
    /// Replicates the other way, after commit.
    Reprotect(Reprotect),
    /// Fails back to the primary site: planned, nothing lost, unless told otherwise.
    Failback(Failover),
    /// Compares both sides now and ships what differs.
    Resync(Named),
    /// One replication cycle now, due or not.
    Replicate(Named),
    /// Boots again what was refused.
    Retry(Forced),
    /// Lets a member whose boot was refused leave its group.
    Leave(Named),
    /// Leaves our care; machines stay as they run.
    Disable(Disable),
    /// Jobs under way, and the last ones.
    Jobs(Perhaps),
    /// The audit trail, verified.
    Audit(Named),
    /// Serves a point as a block device (NBD) until Ctrl-C.
    Export(Export),
    /// Recovery plans: many machines over and back as one act.
    #[command(subcommand)]
    Plan(PlanVerb),
    /// After the journal was lost: takes over what the replica of a leg knows.
    Adopt(Adopt),
    /// Boots the newest point in isolation and judges it; with `--scrub`, reads a point whole.
    Verify(Verify),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Init {
    /// Where to; made where it is missing.
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Demo {
    /// Keeps the directory, and says where it is.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Named {
    /// A machine or a group.
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Perhaps {
    /// A machine or a group; all otherwise.
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Protect {
    /// Machines by the names that they have at their source, or groups of the settings.
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// A policy of the settings, instead of the one that they name.
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
}

/// Which point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    Latest,
    Processed,
    Application,
    Proven,
    Number(u64),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            "processed" => Ok(Self::Processed),
            "application" => Ok(Self::Application),
            "proven" => Ok(Self::Proven),
            number => number.parse().map(Self::Number).map_err(|_| {
                "it is latest, processed, application, proven, or the number of a point".to_owned()
            }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Drill {
    /// A machine or a group.
    pub(crate) name: String,
    /// latest, processed, application, proven, or a number; the newest processed one otherwise.
    #[arg(long, value_name = "POINT")]
    pub(crate) point: Option<Which>,
    /// An isolated network, instead of the one of the settings.
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Cleans itself up after this long.
    #[arg(long, value_name = "SPAN", default_value = "1d")]
    pub(crate) expires: Span,
    /// Removes the drill.
    #[arg(long, conflicts_with_all = ["promote", "point", "network"])]
    pub(crate) clean_up: bool,
    /// Makes the drill's point a real failover: the source is fenced first.
    #[arg(long, conflicts_with_all = ["point", "network"])]
    pub(crate) promote: bool,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How to go over: planned, unless told otherwise.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Over {
    /// The side that runs may be gone: tries to shut it down, and goes on in any case. Somebody answers for that by name.
    #[arg(long)]
    pub(crate) unplanned: bool,
    /// latest, processed, application, proven, or a number of a single machine's; of an unplanned one.
    #[arg(long, value_name = "POINT", requires = "unplanned")]
    pub(crate) point: Option<Which>,
    /// Does not touch the side that may be gone.
    #[arg(long, requires = "unplanned", conflicts_with = "unwind")]
    pub(crate) no_shutdown: bool,
    /// Goes back where that side cannot be proven off, and replicates on.
    #[arg(long, requires = "unplanned")]
    pub(crate) unwind: bool,
    /// How long a guest may take to shut down.
    #[arg(long, value_name = "SPAN", default_value = "2m")]
    pub(crate) grace: Span,
    /// Fails over to disks that were not compared.
    #[arg(long)]
    pub(crate) accept_unverified: bool,
}

impl Over {
    fn danger(&self) -> Option<(Danger, &'static str)> {
        let said = "an unplanned failover may lose the newest writes, and goes on without a proof";
        (self.unplanned && !self.unwind).then_some((Danger::ByName, said))
    }
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Failover {
    /// A machine or a group.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) over: Over,
    /// The last resort: the active side is lost, and whatever complete copy is left is started.
    #[arg(long, conflicts_with_all = ["unplanned", "accept_unverified"])]
    pub(crate) last_resort: bool,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct ChangePoint {
    /// A machine or a group.
    pub(crate) name: String,
    /// latest, processed, application, proven, or a number.
    pub(crate) point: Which,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// A machine or a group.
    pub(crate) name: String,
    /// Only what the validation found good.
    #[arg(long)]
    pub(crate) require_good: bool,
    /// Removes the other side's machine at once, on commit of a failback.
    #[arg(long)]
    pub(crate) purge_now: bool,
    /// Stays at the recovery site for good, and ends the item.
    #[arg(long, conflicts_with = "purge_now")]
    pub(crate) stay: bool,
    /// Where the sides may have diverged: the other side loses.
    #[arg(long, requires = "stay")]
    pub(crate) other_side_loses: bool,
    /// Somebody answers by name for a side that does not answer.
    #[arg(long)]
    pub(crate) force: bool,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// A machine or a group.
    pub(crate) name: String,
    /// Somebody answers by name for a recovered side that does not answer.
    #[arg(long)]
    pub(crate) force: bool,
    /// Where the sides may have diverged: the recovered side loses; its bytes stay openable.
    #[arg(long)]
    pub(crate) recovered_side_loses: bool,
    /// Gives the undo up, and runs on the recovered side after all.
    #[arg(long, conflicts_with = "recovered_side_loses")]
    pub(crate) abandon: bool,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Reprotect {
    /// A machine or a group.
    pub(crate) name: String,
    /// Where the sides may have diverged: the other side loses; its bytes become a pinned point.
    #[arg(long)]
    pub(crate) other_side_loses: bool,
    /// Compares even where a delta would do.
    #[arg(long)]
    pub(crate) compare: bool,
    /// Merges snapshots that the machine to land on has.
    #[arg(long)]
    pub(crate) consolidate: bool,
    /// Another leg out for the next round.
    #[arg(long, value_name = "LEG", requires = "back")]
    pub(crate) out: Option<String>,
    /// Another leg back for the next round.
    #[arg(long, value_name = "LEG", requires = "out")]
    pub(crate) back: Option<String>,
    /// Rolls an unfinished landing back to what stood there first.
    #[arg(long, conflicts_with_all = ["compare", "consolidate", "out"])]
    pub(crate) restore: bool,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Forced {
    /// A machine or a group.
    pub(crate) name: String,
    /// Somebody answers by name for a side that does not answer.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Disable {
    /// A machine or a group.
    pub(crate) name: String,
    /// Deletes its recovery points, too.
    #[arg(long)]
    pub(crate) delete_points: bool,
    /// Lets this machine start again, though another side may run. May be given several times.
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) unblock: Vec<String>,
    /// Where leaving has failed: forgets what could not be removed.
    #[arg(long)]
    pub(crate) purge: bool,
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Export {
    /// The machine.
    pub(crate) name: String,
    /// latest, processed, application, proven, or a number.
    pub(crate) point: Which,
    /// Where to listen: a path of a socket, or a loopback address and port. Loopback and a free port otherwise.
    #[arg(long, value_name = "WHERE")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Adopt {
    /// The leg whose replica is asked.
    #[arg(default_value = "out")]
    pub(crate) leg: String,
}

#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
pub(crate) struct Verify {
    /// A machine or a group.
    pub(crate) name: String,
    /// Reads this point whole and names what is damaged, instead of booting one.
    #[arg(long, value_name = "POINT")]
    pub(crate) scrub: Option<Which>,
}

/// What a confirmation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Danger {
    /// It cannot be taken back.
    Final,
    /// Somebody answers for it by name, with a reason.
    ByName,
}

impl Asked {
    /// What it puts at risk, and in which words; none where it can be taken back.
    pub(crate) fn danger(&self) -> Option<(Danger, &'static str)> {
        use Danger::{ByName, Final};
        let said = match self {
            _ if self.is_dry() => return None,
            Self::Plan(plan) => return plan.danger(),
            Self::Failover(f) | Self::Failback(f) if f.last_resort => {
                (ByName, "the active side is given up, and the other one is started from what is left")
            }
            Self::Failover(f) | Self::Failback(f) => return f.over.danger(),
            Self::Drill(d) if d.promote => {
                (Final, "the drill's point becomes production, and what came later is lost")
            }
            Self::Commit(c) if c.force => (ByName, "a commit is final, and the other side does not answer"),
            Self::Commit(_) => (Final, "a commit is final: there is no undo after it"),
            Self::Undo(u) if u.force => (ByName, "the recovered side is not proven off"),
            Self::Undo(u) if u.recovered_side_loses => (Final, "what the recovered side wrote loses"),
            Self::Retry(r) if r.force => (ByName, "the other side is not proven off"),
            Self::Reprotect(r) if r.other_side_loses => (Final, "what the other side wrote loses"),
            Self::Disable(d) if d.delete_points => (Final, "all recovery points are deleted"),
            Self::Disable(d) if d.purge => (Final, "what could not be removed is forgotten"),
            Self::Disable(d) if !d.unblock.is_empty() => {
                (Final, "a machine may start while its other side runs")
            }
            _ => return None,
        };
        Some(said)
    }

    /// Whether it only says what it would do.
    pub(crate) fn is_dry(&self) -> bool {
        match self {
            Self::Drill(d) => d.dry_run,
            Self::Failover(f) | Self::Failback(f) => f.dry_run,
            Self::ChangePoint(c) => c.dry_run,
            Self::Commit(c) => c.dry_run,
            Self::Undo(u) => u.dry_run,
            Self::Reprotect(r) => r.dry_run,
            Self::Disable(d) => d.dry_run,
            _ => false,
        }
    }

    /// The same, only saying what it would do; none where that cannot be asked.
    pub(crate) fn dry(&self) -> Option<Self> {
        let mut dry = self.clone();
        match &mut dry {
            Self::Drill(d) => d.dry_run = true,
            Self::Failover(f) | Self::Failback(f) => f.dry_run = true,
            Self::ChangePoint(c) => c.dry_run = true,
            Self::Commit(c) => c.dry_run = true,
            Self::Undo(u) if !u.abandon => u.dry_run = true,
            Self::Reprotect(r) if !r.restore => r.dry_run = true,
            Self::Disable(d) => d.dry_run = true,
            _ => return None,
        }
        Some(dry)
    }

    /// Whether it only looks. Such a verb leaves alone what a crash interrupted.
    pub(crate) fn only_looks(&self) -> bool {
        let looks = matches!(
            self,
            Self::List | Self::Show(_) | Self::Points(_) | Self::Jobs(_) | Self::Audit(_) | Self::Export(_)
        );
        looks || self.is_dry() || matches!(self, Self::Plan(plan) if plan.only_looks())
    }
}
