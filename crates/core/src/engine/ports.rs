//! What an embedder may plug in besides roles.

use crate::{Armed, Booted, MachineId, Operation, Probed, Recovery, Result, Verdict};
use async_trait::async_trait;
use std::fmt::Debug;
use std::time::Duration;

/// What an operator wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Begin an operation, or take part in one: cancel, leave a group.
    Operation(Operation),
    /// Edit settings or policy.
    Edit,
    /// Pin, unpin or lock a point.
    Keep,
    /// Give an instance up, or drop one that is kept, by name.
    Retire,
}

/// Says who may do what. Asked before anything is changed.
pub trait Authorizer: Debug + Send + Sync {
    /// `Ok` if `operator` may do `verb` to `machine`.
    ///
    /// # Errors
    /// [`Denied`](crate::ErrorKind::Denied), for the operator to read.
    fn authorize(&self, operator: &str, verb: Verb, machine: &MachineId) -> Result<()>;
}

/// Everybody may do everything; the embedding program decides who gets a handle.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _operator: &str, _verb: Verb, _machine: &MachineId) -> Result<()> {
        Ok(())
    }
}

/// Looks at a recovered machine and says whether it is as it should be. Run after each boot of a failover and of an operator's
/// drill; a commit can be made to require it. Boot proofs need one.
#[async_trait]
pub trait Validation: Debug + Send + Sync {
    /// The verdict. An error counts as a bad one.
    async fn validate(&self, recovery: &Recovery, booted: &Booted) -> Result<Verdict>;

    /// Looks at a machine that a boot proof has started, and says what it measured. Called as soon as the machine is asked to
    /// run: it waits until the guest has come up, by the guest's own word (an agent that answers, a port that opens, records
    /// that go on). An error, a panic, and silence for longer than [`Deadlines::validation`] count as a bad verdict.
    ///
    /// # Cancel safety
    /// The future is dropped when an operation needs the machine's turn, and when it takes too long.
    async fn probe(&self, recovery: &Recovery, booted: &Booted) -> Result<Probed> {
        self.validate(recovery, booted).await.map(Probed::from)
    }
}

/// Prepares the guest on new disks before their first boot, in drills too: drivers, DHCP. Change tracking is on
/// already, so that what it writes goes back with the rest.
#[async_trait]
pub trait GuestPreparation: Debug + Send + Sync {
    /// Prepares it; a repeat is no error.
    async fn prepare(&self, recovery: &Recovery, armed: &Armed) -> Result<()>;
}

/// How long the engine waits for an answer. Copies and settling have no deadline: they go on until they are done,
/// cancelled, or fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Of a source: power, fence (beside the guest's grace), capture.
    pub source: Duration,
    /// Of a replica's bookkeeping.
    pub replica: Duration,
    /// Of a recovery site: check, boot, removal.
    pub recovery_site: Duration,
    /// Of the [`Validation`] of a booted machine.
    pub validation: Duration,
    /// Of a spool that is drained for `Latest`.
    pub drain: Duration,
    /// Of everything that a reprotect has to wait for: agents, discovery, the master target.
    pub prerequisites: Duration,
    /// Between tries of a step that is retried.
    pub retry_after: Duration,
    /// Tries of such a step before a person is asked.
    pub tries: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            source: Duration::from_secs(60),
            replica: Duration::from_secs(60),
            recovery_site: Duration::from_secs(600),
            validation: Duration::from_secs(600),
            drain: Duration::from_secs(120),
            prerequisites: Duration::from_secs(900),
            retry_after: Duration::from_secs(2),
            tries: 4,
        }
    }
}
