use super::{Direction, Divergence, DrillState, Kind, Location, Operation, Phase, Refusal, Resync, State};
use serde::{Deserialize, Serialize};

/// What moves the state: an operation that begins, or what the engine has found or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// An operation begins.
    Begin(Operation),
    /// The timeline is open; the first copy begins.
    Enabled,
    /// Protection could not be enabled.
    EnableFailed,
    /// The first point is sealed.
    FirstSealed,
    /// The first copy broke for good.
    CopyFailed,
    /// Replica and source may differ by more than is tracked.
    Doubted,
    /// They were compared and made equal.
    Resynced,
    /// Comparing failed.
    ResyncFailed,
    /// The drill runs.
    DrillStarted,
    /// It could not be brought up.
    DrillFailed,
    /// Nothing of it is left.
    DrillCleaned,
    /// Something of it is left.
    DrillCleanupFailed,
    /// The fenced side holds writes that the chosen point lacks.
    FoundAhead,
    /// Somebody is not proven off, or was seen running without us.
    FoundPossible,
    /// A fresh fence with a raised epoch, and what that side held is pinned.
    Reconciled,
    /// The intent to boot is recorded: the pivot.
    Intended,
    /// The machine runs.
    Booted,
    /// The boot is refused for good.
    BootFailed,
    /// The earlier instance runs again.
    ChangeReverted,
    /// Neither the earlier nor the other point runs.
    ChangeFailed,
    /// The engine goes back by itself before the pivot.
    Unwinding,
    /// Gone back: the source runs as before.
    Cancelled,
    /// Going back did not finish.
    CancelFailed,
    /// The source runs again, the recovered side is fenced and set aside.
    Undone,
    /// The source runs again, but the recovered side owes its fence.
    UndoneOwing,
    /// The recovered machine runs again instead.
    UndoReverted,
    /// The recovered machine did not run before, and does not now.
    UndoStopped,
    /// Neither side was started.
    UndoFailed,
    /// The failover is final.
    Committed,
    /// The commit did not finish.
    CommitFailed,
    /// The item stays on the recovery side.
    Migrated,
    /// The first point of the new leg is sealed.
    Turned,
    /// The new leg could not be opened.
    ReprotectFailed,
    /// The side that is left is started.
    Promoted(Location),
    /// Nothing of ours is left.
    Disabled,
    /// Something is left.
    DisableFailed,
    /// The control state was rebuilt from the replica.
    Adopted,
}

impl Trigger {
    /// All of them.
    pub fn all() -> Vec<Trigger> {
        use Trigger::*;
        let mut all: Vec<Trigger> = Operation::ALL.into_iter().map(Begin).collect();
        all.extend([
            Enabled,
            EnableFailed,
            FirstSealed,
            CopyFailed,
            Doubted,
            Resynced,
            ResyncFailed,
            DrillStarted,
            DrillFailed,
            DrillCleaned,
            DrillCleanupFailed,
            FoundAhead,
            FoundPossible,
            Reconciled,
            Intended,
            Booted,
            BootFailed,
            ChangeReverted,
            ChangeFailed,
            Unwinding,
            Cancelled,
            CancelFailed,
            Undone,
            UndoneOwing,
            UndoReverted,
            UndoStopped,
            UndoFailed,
            Committed,
            CommitFailed,
            Migrated,
            Turned,
            ReprotectFailed,
            Promoted(Location::Primary),
            Promoted(Location::Recovery),
            Disabled,
            DisableFailed,
            Adopted,
        ]);
        all
    }
}

/// The next state, or why there is none.
pub fn next(state: &State, trigger: Trigger) -> Result<State, Refusal> {
    let moved = match trigger {
        Trigger::Begin(operation) => begin(state, operation),
        Trigger::Doubted | Trigger::Resynced | Trigger::ResyncFailed => resync(state, trigger),
        Trigger::DrillStarted
        | Trigger::DrillFailed
        | Trigger::DrillCleaned
        | Trigger::DrillCleanupFailed => drill(state, trigger),
        Trigger::FoundAhead | Trigger::FoundPossible | Trigger::Reconciled => divergence(state, trigger),
        Trigger::Promoted(survivor) => promoted(state, survivor),
        Trigger::Adopted => Ok(State { phase: settled(state.phase), ..*state }),
        _ => advance(state, trigger),
    };
    moved.map_err(|reason| Refusal {
        what: match trigger {
            Trigger::Begin(operation) => format!("{operation:?}"),
            other => format!("{other:?}"),
        },
        state: *state,
        reason,
    })
}

type Moved = Result<State, &'static str>;

fn begin(s: &State, operation: Operation) -> Moved {
    use Operation::*;
    use Phase::*;
    let to = |phase| Ok(State { phase, ..*s });
    let forward = s.direction == Direction::PrimaryToRecovery;
    match (operation, s.phase) {
        (EnableProtection, Unprotected | EnablingFailed) => to(EnablingProtection),

        (
            DisableProtection,
            FailoverInitiated(_) | FailoverCompleting(_) | ChangeRecoveryPointInitiated(_),
        )
        | (
            DisableProtection,
            CancelFailoverInProgress(_) | UndoFailoverInProgress(_) | CommitFailoverInProgress,
        )
        | (DisableProtection, CommitFailoverFailed | ReprotectInitiated | DisablingProtection) => {
            Err("it has to be finished or cancelled first")
        }
        (DisableProtection, Unprotected | MigrationCompleted) => Err("it is not protected"),
        (DisableProtection, _) => to(DisablingProtection),
        (Purge, DisablingFailed) => to(Unprotected),

        (RepairReplication, InitialReplicationFailed) => to(InitialReplicationInProgress),
        (RepairReplication, Protected) if s.resync == Resync::InProgress => Err("a resync is under way"),
        (RepairReplication, Protected) if s.divergence == Divergence::Possible => {
            Err("the sides may have diverged")
        }
        (RepairReplication, Protected) => Ok(State { resync: Resync::InProgress, ..*s }),

        (TestFailover | VerifyBoot, Protected) if s.drill != DrillState::None => {
            Err("a drill exists; clean it up first")
        }
        (TestFailover | VerifyBoot, Protected) if !forward => Err("drills run on the recovery side"),
        (TestFailover | VerifyBoot, Protected) => Ok(State { drill: DrillState::Initiated, ..*s }),
        (TestFailoverCleanup, _) if matches!(s.drill, DrillState::None | DrillState::Promoting) => {
            Err("there is no drill to clean up")
        }
        (TestFailoverCleanup, _) => Ok(State { drill: DrillState::CleanupInitiated, ..*s }),
        (PromoteTestFailover, Protected) if s.drill != DrillState::WaitingForCompletion => {
            Err("no drill is waiting")
        }
        (PromoteTestFailover, Protected) if s.divergence == Divergence::Possible => {
            Err("the sides may have diverged")
        }
        (PromoteTestFailover, Protected) => {
            Ok(State { phase: FailoverInitiated(Kind::Unplanned), drill: DrillState::Promoting, ..*s })
        }

        (PlannedFailover, Protected | CancelFailoverFailed(_)) => match (s.resync, s.divergence) {
            (Resync::None, Divergence::None) => to(FailoverInitiated(Kind::Planned)),
            (Resync::None, _) => Err("the sides may have diverged"),
            _ => Err("a resync is due: repair first"),
        },
        (UnplannedFailover, Protected | CancelFailoverFailed(_)) => match s.divergence {
            Divergence::Possible => {
                Err("the sides may have diverged; only PromoteOther, by name, starts the other one")
            }
            _ => to(FailoverInitiated(Kind::Unplanned)),
        },
        (CancelFailover, FailoverInitiated(k) | CancelFailoverFailed(k)) => to(CancelFailoverInProgress(k)),
        (CancelFailover, FailoverCompleting(_)) => {
            Err("the intent to boot is recorded; undo it once it is completed")
        }
        (CancelFailover, ReprotectInitiated) => to(ReprotectFailed),
        (RetryFailover, FailoverCompletionFailed(k)) => to(FailoverCompleting(k)),
        (ChangePit, FailoverCompleted(k) | FailoverCompletionFailed(k)) => {
            to(ChangeRecoveryPointInitiated(k))
        }
        (UndoFailover, FailoverCompleted(k) | FailoverCompletionFailed(k) | UndoFailoverFailed(k)) => {
            to(UndoFailoverInProgress(k))
        }
        (UndoFailover, CommitFailoverInProgress | CommitFailoverFailed | CommitFailoverCompleted) => {
            Err("a commit is final")
        }
        (AbandonUndo, UndoFailoverFailed(k)) => to(FailoverCompleting(k)),
        (LeaveGroup, FailoverCompletionFailed(_)) => to(s.phase),
        (Commit, FailoverCompleted(_) | CommitFailoverFailed) => to(CommitFailoverInProgress),
        (CompleteMigration, FailoverCompleted(_) | CommitFailoverCompleted) if forward => {
            to(CommitFailoverInProgress)
        }
        (CompleteMigration, _) if !forward => Err("a machine that came back has not migrated"),
        (ReverseReplicate, CommitFailoverCompleted | ReprotectFailed) => to(ReprotectInitiated),
        (ReverseReplicate, FailoverCompleted(_)) => Err("commit first"),
        (RestoreLanding, ReprotectFailed) => to(ReprotectFailed),
        (PromoteOther, _) if can_promote(s) => to(s.phase),
        (Commit, FailoverCompletionFailed(_)) => Err("nothing runs; retry, change the point or undo"),
        _ => Err("not in this phase"),
    }
}

fn can_promote(s: &State) -> bool {
    use Phase::*;
    match s.phase {
        Protected => s.divergence == Divergence::Possible || s.resync != Resync::None,
        FailoverCompletionFailed(_)
        | FailoverCompleted(_)
        | CancelFailoverFailed(_)
        | UndoFailoverFailed(_)
        | CommitFailoverInProgress
        | CommitFailoverFailed
        | CommitFailoverCompleted
        | ReprotectInitiated
        | ReprotectFailed => true,
        _ => false,
    }
}

fn advance(s: &State, trigger: Trigger) -> Moved {
    use Phase::*;
    use Trigger::*;
    let to = |phase| Ok(State { phase, ..*s });
    match (s.phase, trigger) {
        (EnablingProtection, Enabled) => to(InitialReplicationInProgress),
        (EnablingProtection, EnableFailed) => to(EnablingFailed),
        (InitialReplicationInProgress, FirstSealed) => to(Protected),
        (InitialReplicationInProgress, CopyFailed) => to(InitialReplicationFailed),
        (FailoverInitiated(k) | ChangeRecoveryPointInitiated(k), Intended) => to(FailoverCompleting(k)),
        (FailoverCompleting(k), Booted) => to(FailoverCompleted(k)),
        (FailoverCompleting(k), BootFailed) => to(FailoverCompletionFailed(k)),
        (ChangeRecoveryPointInitiated(k), ChangeReverted) => to(FailoverCompleted(k)),
        (ChangeRecoveryPointInitiated(k), ChangeFailed) => to(FailoverCompletionFailed(k)),
        (FailoverInitiated(k), Unwinding) => to(CancelFailoverInProgress(k)),
        (CancelFailoverInProgress(_), Cancelled) => Ok(State {
            phase: Protected,
            divergence: Divergence::None,
            drill: match s.drill {
                DrillState::Promoting => DrillState::WaitingForCompletion,
                other => other,
            },
            ..*s
        }),
        (CancelFailoverInProgress(k), CancelFailed) => to(CancelFailoverFailed(k)),
        (UndoFailoverInProgress(_), Undone) => {
            Ok(State { phase: Protected, divergence: Divergence::None, ..*s })
        }
        (UndoFailoverInProgress(_), UndoneOwing) => {
            Ok(State { phase: Protected, divergence: Divergence::Possible, ..*s })
        }
        (UndoFailoverInProgress(k), UndoReverted) => to(FailoverCompleted(k)),
        (UndoFailoverInProgress(k), UndoStopped) => to(FailoverCompletionFailed(k)),
        (UndoFailoverInProgress(k), UndoFailed) => to(UndoFailoverFailed(k)),
        (CommitFailoverInProgress, Committed) => to(CommitFailoverCompleted),
        (CommitFailoverInProgress, CommitFailed) => to(CommitFailoverFailed),
        (CommitFailoverInProgress, Migrated) => to(MigrationCompleted),
        (ReprotectInitiated, Turned) => Ok(State {
            phase: Protected,
            direction: s.direction.turned(),
            resync: Resync::None,
            divergence: Divergence::None,
            ..*s
        }),
        (ReprotectInitiated, Trigger::ReprotectFailed) => to(Phase::ReprotectFailed),
        (DisablingProtection, Disabled) => Ok(State::unprotected()),
        (DisablingProtection, DisableFailed) => to(DisablingFailed),
        _ => Err("nothing of this kind is under way"),
    }
}

fn resync(s: &State, trigger: Trigger) -> Moved {
    let to = |resync| Ok(State { resync, ..*s });
    match (trigger, s.resync) {
        (Trigger::Doubted, _) if s.phase == Phase::Unprotected || s.phase == Phase::MigrationCompleted => {
            Err("nothing replicates")
        }
        (Trigger::Doubted, _) => to(Resync::Required),
        (Trigger::Resynced, Resync::InProgress) => to(Resync::None),
        (Trigger::ResyncFailed, Resync::InProgress) => to(Resync::Failed),
        _ => Err("no resync is under way"),
    }
}

fn drill(s: &State, trigger: Trigger) -> Moved {
    let to = |drill| Ok(State { drill, ..*s });
    match (trigger, s.drill) {
        (Trigger::DrillStarted, DrillState::Initiated) => to(DrillState::WaitingForCompletion),
        (Trigger::DrillFailed, DrillState::Initiated) => to(DrillState::CleanupInitiated),
        (Trigger::DrillCleaned, DrillState::CleanupInitiated | DrillState::Promoting) => to(DrillState::None),
        (Trigger::DrillCleanupFailed, DrillState::CleanupInitiated | DrillState::Promoting) => {
            to(DrillState::CleanupFailed)
        }
        _ => Err("no such drill"),
    }
}

fn divergence(s: &State, trigger: Trigger) -> Moved {
    let to = |divergence| Ok(State { divergence, ..*s });
    match (trigger, s.phase, s.divergence) {
        (_, Phase::Unprotected | Phase::MigrationCompleted, _) => Err("nothing is watched"),
        (Trigger::FoundPossible, ..) => to(Divergence::Possible),
        (
            Trigger::FoundAhead,
            Phase::FailoverInitiated(_) | Phase::ChangeRecoveryPointInitiated(_),
            Divergence::None,
        ) => to(Divergence::OldSideAhead),
        (Trigger::Reconciled, Phase::Protected, Divergence::Possible) => to(Divergence::None),
        _ => Err("it says nothing new"),
    }
}

fn promoted(s: &State, survivor: Location) -> Moved {
    if !can_promote(s) {
        return Err("the active side has to be given up first");
    }
    Ok(State {
        phase: Phase::FailoverCompleting(Kind::Unplanned),
        direction: Direction::towards(survivor),
        resync: Resync::None,
        divergence: Divergence::Possible,
        ..*s
    })
}

/// The phase that a phase in flight becomes when the journal is lost.
fn settled(phase: Phase) -> Phase {
    use Phase::*;
    match phase {
        EnablingProtection => EnablingFailed,
        InitialReplicationInProgress => InitialReplicationFailed,
        FailoverInitiated(k) | CancelFailoverInProgress(k) => CancelFailoverFailed(k),
        FailoverCompleting(k) | ChangeRecoveryPointInitiated(k) => FailoverCompletionFailed(k),
        UndoFailoverInProgress(k) => UndoFailoverFailed(k),
        CommitFailoverInProgress => CommitFailoverFailed,
        ReprotectInitiated => ReprotectFailed,
        DisablingProtection => DisablingFailed,
        other => other,
    }
}
