use super::State;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an operator can ask for. Names follow Azure's `ReplicationProtectedItemOperation`; the last nine are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// Take into care: checks, timeline, first copy.
    EnableProtection,
    /// Leave care; machines stay as they run.
    DisableProtection,
    /// Fail over with nothing lost; both sides answer.
    PlannedFailover,
    /// Fail over, whatever the other side does.
    UnplannedFailover,
    /// Start a drill.
    TestFailover,
    /// Remove the drill.
    TestFailoverCleanup,
    /// Run from another point, before commit.
    ChangePit,
    /// Make the failover final.
    Commit,
    /// Go back before the pivot.
    CancelFailover,
    /// Replicate the other way (reprotect).
    ReverseReplicate,
    /// Compare both sides, ship what differs.
    RepairReplication,
    /// Stay on the recovery side for good.
    CompleteMigration,
    /// Go back after the pivot, until commit.
    UndoFailover,
    /// Run on the recovered side after all.
    AbandonUndo,
    /// Boot again after it was refused.
    RetryFailover,
    /// Make the drill's point a real failover.
    PromoteTestFailover,
    /// Roll an unfinished landing back to what stood there first.
    RestoreLanding,
    /// Start the side that is left, from the newest complete copy there.
    PromoteOther,
    /// Leave a replication group whose failover cannot complete for this member.
    LeaveGroup,
    /// Forget what could not be removed.
    Purge,
    /// Boot the newest point in isolation, look whether its guest comes up, remove it again.
    VerifyBoot,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 21] = [
        Self::EnableProtection,
        Self::DisableProtection,
        Self::PlannedFailover,
        Self::UnplannedFailover,
        Self::TestFailover,
        Self::TestFailoverCleanup,
        Self::ChangePit,
        Self::Commit,
        Self::CancelFailover,
        Self::ReverseReplicate,
        Self::RepairReplication,
        Self::CompleteMigration,
        Self::UndoFailover,
        Self::AbandonUndo,
        Self::RetryFailover,
        Self::PromoteTestFailover,
        Self::RestoreLanding,
        Self::PromoteOther,
        Self::LeaveGroup,
        Self::Purge,
        Self::VerifyBoot,
    ];
}

/// Why something is not allowed now, and what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// What was asked for.
    pub what: String,
    /// The state it was asked in.
    pub state: State,
    /// Why not.
    pub reason: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead: Vec<String> = self.state.allowed_operations().iter().map(|o| format!("{o:?}")).collect();
        write!(f, "{} is not allowed in {}: {}; allowed now: ", self.what, self.state, self.reason)?;
        f.write_str(if instead.is_empty() { "nothing, a job is under way" } else { "" })?;
        f.write_str(&instead.join(", "))
    }
}

impl From<Refusal> for crate::Error {
    fn from(refusal: Refusal) -> Self {
        crate::Error::new(crate::ErrorKind::Refused, refusal.to_string())
    }
}
