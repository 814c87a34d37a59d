//! What an operator asks for. A request is complete before it starts: nothing is asked at three in the morning.

use crate::state::{Direction, Operation};
use crate::{Error, PointId, Result, Settings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Which point to recover to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PointChoice {
    /// First processes everything that was received, at the replica and in every spool that answers, then takes the
    /// newest. Lowest data loss.
    #[default]
    Latest,
    /// The newest that is sealed already; waits for nothing.
    LatestProcessed,
    /// The newest sealed one that is application-consistent; refused where there is none.
    LatestAppConsistent,
    /// The newest sealed one that a boot proof found good; refused where there is none.
    LatestProven,
    /// This one. Not for groups.
    Custom(PointId),
}

/// Somebody answers by name for what cannot be proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Force {
    /// Who.
    pub operator: String,
    /// Why.
    pub reason: String,
}

impl Force {
    /// Who, and why.
    pub fn by(operator: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { operator: operator.into(), reason: reason.into() }
    }
}

/// Whether to shut the source down before an unplanned failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    /// Try, for at most this long.
    Try {
        /// The limit of the attempt, guest shutdown included.
        limit: Duration,
    },
    /// Do not touch the source at all.
    Skip,
}

/// What to do when the source cannot be proven off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUnfenced {
    /// Go on under a force. The item is possibly diverged until the old side is fenced.
    Continue(Force),
    /// Undo what was done and go on replicating.
    Unwind,
}

/// How to go over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cutover {
    /// Never goes on without a fence that was read back; the last changes are shipped after it; nothing is lost.
    Planned {
        /// Compare both sides whole before the boot: a delta that left something out is found, not trusted.
        verify: bool,
    },
    /// The other side may be gone.
    Unplanned {
        /// Whether to try a shutdown.
        shutdown: Shutdown,
        /// What if that gives no proof.
        on_unfenced: OnUnfenced,
    },
}

/// A failover, either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRequest {
    /// To which point.
    pub point: PointChoice,
    /// The direction that the operator means; refused if the item is the other way round.
    pub direction: Direction,
    /// How.
    pub cutover: Cutover,
    /// How long a guest may take to shut down before its power is cut.
    pub grace: Duration,
    /// Fail over to disks that were not verified, because the other side does not answer.
    pub accept_unverified: bool,
    /// Stop once it is prepared, and boot only when [`Job::let_boot`](crate::Job::let_boot) says so; until then it can be
    /// cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold_boot: bool,
}

impl FailoverRequest {
    /// Nothing lost; both sides answer.
    pub fn planned(direction: Direction) -> Self {
        Self {
            point: PointChoice::Latest,
            direction,
            cutover: Cutover::Planned { verify: true },
            grace: Duration::from_secs(120),
            accept_unverified: false,
            hold_boot: false,
        }
    }

    /// As the Azure tutorial has it: try to shut down, go on in any case, for which `force` answers.
    pub fn unplanned(direction: Direction, force: Force) -> Self {
        let shutdown = Shutdown::Try { limit: Duration::from_secs(120) };
        let cutover = Cutover::Unplanned { shutdown, on_unfenced: OnUnfenced::Continue(force) };
        Self { cutover, ..Self::planned(direction) }
    }

    /// To this point.
    #[must_use]
    pub fn to(mut self, point: PointChoice) -> Self {
        self.point = point;
        self
    }

    /// Which operation it is.
    pub fn operation(&self) -> Operation {
        match self.cutover {
            Cutover::Planned { .. } => Operation::PlannedFailover,
            Cutover::Unplanned { .. } => Operation::UnplannedFailover,
        }
    }

    /// Who answers for what cannot be proven.
    pub fn force(&self) -> Option<&Force> {
        match &self.cutover {
            Cutover::Unplanned { on_unfenced: OnUnfenced::Continue(force), .. } => Some(force),
            _ => None,
        }
    }

    /// Checks what cannot be meant.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): a planned failover to another point than the latest; `Skip` with `Unwind`,
    /// since nothing could ever prove the fence; a force without name or reason.
    pub fn validate(&self) -> Result<()> {
        match &self.cutover {
            Cutover::Planned { .. } if self.point != PointChoice::Latest => {
                let rule = "a planned failover loses nothing, so it goes to the latest point";
                Err(Error::invalid(
                    "failover.point",
                    format!("{:?}", self.point),
                    rule,
                    "ask for an unplanned one",
                ))
            }
            Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced: OnUnfenced::Unwind } => {
                let rule =
                    "without a shutdown nothing can prove the fence, and without a force nothing can go on";
                Err(Error::invalid("failover.shutdown", "Skip with Unwind", rule, "choose Try, or Continue"))
            }
            Cutover::Unplanned { on_unfenced: OnUnfenced::Continue(force), .. } => force.validate(),
            _ => Ok(()),
        }
    }
}

impl Force {
    pub(crate) fn validate(&self) -> Result<()> {
        if self.operator.trim().is_empty() || self.reason.trim().is_empty() {
            let rule = "a force has a name and a reason";
            return Err(Error::invalid("force", format!("{:?}", self.operator), rule, "give both"));
        }
        Ok(())
    }
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRequest {
    /// To which point.
    pub point: PointChoice,
    /// An isolated network; else that of the settings.
    pub network: Option<String>,
    /// It cleans itself up after this long.
    pub expires_after: Duration,
    /// As [`FailoverRequest::hold_boot`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold_boot: bool,
}

impl Default for DrillRequest {
    /// The newest processed point, the settings' test network, one day.
    fn default() -> Self {
        Self {
            point: PointChoice::LatestProcessed,
            network: None,
            expires_after: Duration::from_secs(86_400),
            hold_boot: false,
        }
    }
}

/// Undo of a failover.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UndoRequest {
    /// Answers for a recovered side that does not answer.
    pub force: Option<Force>,
    /// Where the sides may have diverged: the recovered side loses, by this wish. Its bytes stay openable.
    pub recovered_side_loses: bool,
}

/// Commit of a failover.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Commit only what the user's validation found good.
    pub require_good: bool,
    /// Remove the cloud machine at once, as Azure does, and not when the next point out is sealed.
    pub purge_now: bool,
    /// Answers for a cloud side that does not answer, on commit of a failback.
    pub force: Option<Force>,
    /// Where the sides may have diverged and the item is to stay here for good: the other side loses, by this wish. Its
    /// machine stays fenced as it is.
    pub other_side_loses: bool,
}

/// Which complete copy of the side that is left is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CompleteCopy {
    /// The machine as it stands there; where there is none, the newest point.
    #[default]
    Newest,
    /// The machine as it stands there.
    Machine,
    /// This point.
    Point(PointId),
}

/// The last resort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteRequest {
    /// Answers for the side that is given up.
    pub force: Force,
    /// What is started.
    pub copy: CompleteCopy,
}

impl PromoteRequest {
    /// The newest complete copy, for which `force` answers.
    pub fn newest(force: Force) -> Self {
        Self { force, copy: CompleteCopy::Newest }
    }
}

/// The other direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReprotectRequest {
    /// Settings for the new recovery site; where not given, those that were asked for before. The leg's come under them.
    pub settings: Option<Settings>,
    /// Names of other legs for the next round: out, and back. Where none are named, those of the last round. The one that is
    /// used next comes from where the machine runs now; else the reprotect is refused, naming `reprotect.legs`. The other
    /// one is to come from where that leads.
    pub legs: Option<(String, String)>,
    /// Where the sides may have diverged: the other side loses, by this wish. Its bytes become a pinned point.
    pub other_side_loses: bool,
    /// Compare even where a delta would do.
    pub compare: bool,
    /// Merge snapshots that the machine to land on has; without this they refuse the reprotect.
    pub consolidate: bool,
}

/// Leaving our care.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisableRequest {
    /// Delete the recovery points too.
    pub delete_points: bool,
    /// Lift start blocks of these instances too, by name, though another side may run.
    pub unblock: BTreeSet<String>,
}

/// What is asked for, as it is kept in a run.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Nothing but the operation itself.
    Plain,
    /// See [`FailoverRequest`].
    Failover(FailoverRequest),
    /// Another point.
    Change(PointChoice),
    /// See [`DrillRequest`].
    Drill(DrillRequest),
    /// See [`UndoRequest`].
    Undo(UndoRequest),
    /// See [`CommitRequest`].
    Commit(CommitRequest),
    /// See [`ReprotectRequest`].
    Reprotect(ReprotectRequest),
    /// See [`DisableRequest`].
    Disable(DisableRequest),
    /// See [`PromoteRequest`].
    Promote(PromoteRequest),
    /// Retry or abandon, with somebody who answers for silence.
    Forced(Option<Force>),
}

impl Request {
    /// Whether it waits, prepared, until somebody lets it boot.
    pub fn holds_boot(&self) -> bool {
        match self {
            Self::Failover(r) => r.hold_boot,
            Self::Drill(r) => r.hold_boot,
            _ => false,
        }
    }

    /// Who answers for silence, where somebody does.
    pub fn force(&self) -> Option<&Force> {
        match self {
            Self::Failover(r) => r.force(),
            Self::Undo(r) => r.force.as_ref(),
            Self::Commit(r) => r.force.as_ref(),
            Self::Promote(r) => Some(&r.force),
            Self::Forced(f) => f.as_ref(),
            _ => None,
        }
    }
}
