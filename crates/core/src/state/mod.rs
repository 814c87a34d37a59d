//! The state machine of one item: a finite product of small enums.
//!
//! [`next`] is pure and total: every (state, trigger) either gives the next state or a [`Refusal`]. The table in
//! `docs/state-machine.md` is generated from it, and a test enumerates every reachable state against every trigger.
//! Names follow Azure's published vocabulary; *ours* are `UndoFailover…` and `MigrationCompleted`.

mod operation;
mod transition;

pub use operation::{Operation, Refusal};
pub use transition::{Trigger, next};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which kind of failover is under way or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Both sides answer, nothing is lost.
    Planned,
    /// The side that runs may be gone.
    Unplanned,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Not in our care.
    Unprotected,
    /// Checks run, the timeline is opened.
    EnablingProtection,
    /// That failed; nothing replicates.
    EnablingFailed,
    /// The first copy is under way.
    InitialReplicationInProgress,
    /// It failed; it can be started again.
    InitialReplicationFailed,
    /// It replicates. Trouble shows in health, not here.
    Protected,
    /// Fence, last changes, disks: before the pivot.
    FailoverInitiated(Kind),
    /// The intent to boot is recorded: only forward, or undo.
    FailoverCompleting(Kind),
    /// The boot was refused for good; a person decides.
    FailoverCompletionFailed(Kind),
    /// It runs on the other side; commit is pending.
    FailoverCompleted(Kind),
    /// Another point is being brought up.
    ChangeRecoveryPointInitiated(Kind),
    /// Going back before the pivot.
    CancelFailoverInProgress(Kind),
    /// Going back did not finish; a person decides.
    CancelFailoverFailed(Kind),
    /// Going back after the pivot.
    UndoFailoverInProgress(Kind),
    /// That did not finish; a person decides.
    UndoFailoverFailed(Kind),
    /// The failover is being made final.
    CommitFailoverInProgress,
    /// That did not finish; it is retried, never taken back.
    CommitFailoverFailed,
    /// Final; nothing replicates until reprotect.
    CommitFailoverCompleted,
    /// The other direction is being opened.
    ReprotectInitiated,
    /// That failed; it can be started again.
    ReprotectFailed,
    /// Leaving our care.
    DisablingProtection,
    /// That did not finish.
    DisablingFailed,
    /// It stays where it is, for good.
    MigrationCompleted,
}

impl Phase {
    /// All of them.
    pub fn all() -> Vec<Phase> {
        use Phase::*;
        let mut all = vec![
            Unprotected,
            EnablingProtection,
            EnablingFailed,
            InitialReplicationInProgress,
            InitialReplicationFailed,
            Protected,
            CommitFailoverInProgress,
            CommitFailoverFailed,
            CommitFailoverCompleted,
            ReprotectInitiated,
            ReprotectFailed,
            DisablingProtection,
            DisablingFailed,
            MigrationCompleted,
        ];
        for k in [Kind::Planned, Kind::Unplanned] {
            all.extend([
                FailoverInitiated(k),
                FailoverCompleting(k),
                FailoverCompletionFailed(k),
                FailoverCompleted(k),
                ChangeRecoveryPointInitiated(k),
                CancelFailoverInProgress(k),
                CancelFailoverFailed(k),
                UndoFailoverInProgress(k),
                UndoFailoverFailed(k),
            ]);
        }
        all
    }
}

impl fmt::Display for Phase {
    /// Azure's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Phase::*;
        match self {
            FailoverInitiated(k) => write!(f, "{k:?}FailoverInitiated"),
            FailoverCompleting(k) => write!(f, "{k:?}FailoverCompleting"),
            FailoverCompletionFailed(k) => write!(f, "{k:?}FailoverCompletionFailed"),
            FailoverCompleted(k) => write!(f, "{k:?}FailoverCompleted"),
            ChangeRecoveryPointInitiated(_) => f.write_str("ChangeRecoveryPointInitiated"),
            CancelFailoverInProgress(_) => f.write_str("CancelFailoverInProgress"),
            CancelFailoverFailed(_) => f.write_str("CancelFailoverFailed"),
            UndoFailoverInProgress(_) => f.write_str("UndoFailoverInProgress"),
            UndoFailoverFailed(_) => f.write_str("UndoFailoverFailed"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A side of the pair, fixed for the life of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Location {
    /// Where the machine was protected first.
    Primary,
    /// The other side.
    Recovery,
}

impl Location {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Recovery,
            Self::Recovery => Self::Primary,
        }
    }
}

/// Which way the item replicates. Turns when the first point of the new leg is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Out.
    PrimaryToRecovery,
    /// Back.
    RecoveryToPrimary,
}

impl Direction {
    /// The other one.
    pub fn turned(self) -> Self {
        match self {
            Self::PrimaryToRecovery => Self::RecoveryToPrimary,
            Self::RecoveryToPrimary => Self::PrimaryToRecovery,
        }
    }

    /// The side that is replicated from.
    pub fn source(self) -> Location {
        match self {
            Self::PrimaryToRecovery => Location::Primary,
            Self::RecoveryToPrimary => Location::Recovery,
        }
    }

    /// The direction that ends at `side`.
    pub fn towards(side: Location) -> Self {
        match side {
            Location::Recovery => Self::PrimaryToRecovery,
            Location::Primary => Self::RecoveryToPrimary,
        }
    }
}

/// The drill of an item, beside its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DrillState {
    /// None.
    None,
    /// Being brought up.
    Initiated,
    /// It runs; somebody looks at it.
    WaitingForCompletion,
    /// Being removed.
    CleanupInitiated,
    /// Something of it is left.
    CleanupFailed,
    /// Its point is becoming a real failover; it is out of expiry.
    Promoting,
}

/// Whether the replica must be compared with the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resync {
    /// No.
    None,
    /// Before anything else is sealed.
    Required,
    /// Now.
    InProgress,
    /// It was tried.
    Failed,
}

/// Whether both sides may hold writes that the other lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Divergence {
    /// No.
    None,
    /// The old side is fenced, but holds writes that the booted point lacks.
    OldSideAhead,
    /// Somebody could not be proven off, or ran without us.
    Possible,
}

/// The whole state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// Which way it replicates.
    pub direction: Direction,
    /// Its drill.
    pub drill: DrillState,
    /// Whether a compare is due.
    pub resync: Resync,
    /// Whether the sides may differ.
    pub divergence: Divergence,
}

impl State {
    /// Before protection.
    pub fn unprotected() -> Self {
        Self {
            phase: Phase::Unprotected,
            direction: Direction::PrimaryToRecovery,
            drill: DrillState::None,
            resync: Resync::None,
            divergence: Divergence::None,
        }
    }

    /// The side that has write authority by this state. While a failover is undone this is the recovered side until the
    /// intent to start the source is recorded, and while protection is disabled it may be either: an item's
    /// [`machine`](crate::Item::machine) tells them apart.
    pub fn active_location(&self) -> Location {
        use Phase::*;
        let source = self.direction.source();
        match self.phase {
            Unprotected
            | EnablingProtection
            | EnablingFailed
            | InitialReplicationInProgress
            | InitialReplicationFailed
            | Protected
            | FailoverInitiated(_)
            | CancelFailoverInProgress(_)
            | CancelFailoverFailed(_) => source,
            _ => source.other(),
        }
    }

    /// What may be asked for now.
    pub fn allowed_operations(&self) -> Vec<Operation> {
        Operation::ALL.into_iter().filter(|o| next(self, Trigger::Begin(*o)).is_ok()).collect()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.phase, self.direction)?;
        if self.drill != DrillState::None {
            write!(f, ", drill {:?}", self.drill)?;
        }
        if self.resync != Resync::None {
            write!(f, ", resync {:?}", self.resync)?;
        }
        if self.divergence != Divergence::None {
            write!(f, ", divergence {:?}", self.divergence)?;
        }
        Ok(())
    }
}
