//! What follows from a phase record.

use super::Mark;
use serde::{Deserialize, Serialize};
use site_recovery::state::Phase;
use site_recovery::{Item, PhaseRecord};

/// Whether a server may take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is the instance that counts.
    TakesPart,
    /// It is, or may be again, and somebody is at it: ask again.
    NotNow {
        /// Why.
        why: String,
    },
    /// Another instance counts.
    StaysOff {
        /// Why.
        why: String,
    },
}

/// Whether the server of this mark may take part, by the newest record of its machine.
///
/// | the record says | verdict |
/// |---|---|
/// | nothing yet (nothing was ever failed over), and the mark is of the original | takes part |
/// | nothing, and the mark is of a promotion | not now: whoever promoted it would know |
/// | of another machine | not now |
/// | another instance has write authority, in any phase | stays off |
/// | this instance has it, with another generation | stays off: its disks are older ones, or the record is |
/// | this one, `FailoverInitiated`, `ChangeRecoveryPointInitiated` | not now: it is being fenced |
/// | this one, `UndoFailover…` that takes *it* back | not now: it is being fenced |
/// | this one, all else: also while it is being booted, and while a failover is taken back before its pivot | takes part |
///
/// The intent to boot moves write authority and is recorded before any boot; so whoever has it is whom the engine started last, or
/// is about to start.
pub fn verdict(mark: &Mark, record: Option<&PhaseRecord>) -> Verdict {
    let not_now = |why: String| Verdict::NotNow { why };
    let Some(record) = record else {
        return match mark.generation.0 {
            0 => Verdict::TakesPart,
            promoted => not_now(format!("nobody knows of this machine, and it is of promotion {promoted}")),
        };
    };
    let item = &record.control.item;
    if *item.id() != mark.machine {
        return not_now(format!("asked about {}, and told of {}", mark.machine, item.id()));
    }
    let (active, phase) = (item.active(), item.state.phase);
    if !active.is(&mark.instance()) {
        let why = format!("{} at {} has write authority ({phase})", active.name, active.site);
        return Verdict::StaysOff { why };
    }
    if active.generation != mark.generation {
        let why = format!(
            "its disks are of promotion {}, and the one that counts is {}",
            mark.generation.0, active.generation.0
        );
        return Verdict::StaysOff { why };
    }
    match being_fenced(item, phase) {
        true => not_now(format!("{phase}: it is being fenced, or kept off")),
        false => Verdict::TakesPart,
    }
}

/// Whether somebody takes the power of the instance that has write authority. Every phase is named, so that a new one has to
/// be thought of.
fn being_fenced(item: &Item, phase: Phase) -> bool {
    match phase {
        Phase::FailoverInitiated(_) | Phase::ChangeRecoveryPointInitiated(_) => true,
        // Until the intent to start the source, what was recovered has write authority: it is what is taken back.
        Phase::UndoFailoverInProgress(_) | Phase::UndoFailoverFailed(_) => item.promotion.is_some(),
        Phase::Unprotected
        | Phase::EnablingProtection
        | Phase::EnablingFailed
        | Phase::InitialReplicationInProgress
        | Phase::InitialReplicationFailed
        | Phase::Protected
        | Phase::FailoverCompleting(_)
        | Phase::FailoverCompletionFailed(_)
        | Phase::FailoverCompleted(_)
        | Phase::CancelFailoverInProgress(_)
        | Phase::CancelFailoverFailed(_)
        | Phase::CommitFailoverInProgress
        | Phase::CommitFailoverFailed
        | Phase::CommitFailoverCompleted
        | Phase::ReprotectInitiated
        | Phase::ReprotectFailed
        | Phase::DisablingProtection
        | Phase::DisablingFailed
        | Phase::MigrationCompleted => false,
    }
}
