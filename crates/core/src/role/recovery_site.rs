use super::{Replica, Role};
use crate::{Armed, BootPermit, Booted, Finding, Instance, Machine, Op, OpKey, Recovery, Result, Settings};
use async_trait::async_trait;
use std::sync::Arc;

/// Runs recovered machines: prepares their disks from a point, boots them with a permit, and makes them final or takes
/// them out of the way.
///
/// # For adapter authors
/// Start natively from a replica that you know by name (a server-side copy, an overlay over an export); stream any other
/// from `from.open`. Arm change tracking for the way back *before* the first boot. The site's `Source`, of the same
/// name, reports the machines made here under the ids they were given, and fences them.
#[async_trait]
pub trait RecoverySite: Role {
    /// Checks machine and settings against the site's rules. Changes nothing.
    ///
    /// # Contract
    /// - SIT-1 A setting that would make `materialise` or `boot` fail is a `Critical` finding that names it.
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>>;

    /// Prepares the disks from the point, arms change tracking, boots nothing. In place: first a branch under the
    /// disks, then roll them to the point, so that newer points stay.
    ///
    /// # Contract
    /// - SIT-2 Afterwards the disks hold exactly the point, and nothing runs.
    /// - SIT-3 Everything written after `materialise` returned, by the preparation or the guest, is in the changes since
    ///   `Armed::cursor`; where writes to a machine that is off escape tracking, arm with no cursor.
    /// - SIT-4 The replica's other points, newer ones too, open as before.
    ///
    /// # Errors
    /// `Conflict` when the name is taken; `Refused` when the key was withdrawn, or what it made is gone; `Busy` where
    /// calls of one key meet, for the one that does not go on: it asks again; `OutOfSpace`; `Unsupported` for a drill where
    /// [`Capability::drills`](crate::Capability::drills) is false.
    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed>;

    /// Takes back what `materialise` made, or half made, under the key `made_by`: before any boot was asked for.
    ///
    /// # Contract
    /// - SIT-5 Afterwards nothing of that key is left, disks in place are as before, and a late `materialise` of that key
    ///   can make nothing. Nothing made is no error.
    ///
    /// # Errors
    /// `Busy` with progress while a branch is being parted: ask again.
    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()>;

    /// Starts the machine.
    ///
    /// # Contract
    /// - SIT-6 A permit that does not speak of this instance is `Refused`; with `Isolated`, which only
    ///   [`Purpose::Drill`](crate::Purpose::Drill) may use and must use, the machine is in that network and in no other.
    /// - SIT-7 A repeat reports what is, and starts nothing that already ran under that key. Lifts our own fence of this
    ///   instance. One that ran under another key and is off is started; one that runs is reported.
    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted>;

    /// Keeps alive what a machine needs from the replica until `settle` or `destroy` (an export that its disks stand on).
    /// Called from the watch, and right before `boot`, `settle` and `set_aside`, which may come from an engine that did not
    /// prepare the machine; most sites need nothing. Go by the instance: for a `set_aside` that was owed, `armed` tells it
    /// alone, without cursor and point. A machine that is set aside already, or gone, is no error.
    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()>;

    /// Makes the booted disks final: merges the branch, waits until they stand alone. Pinned points are written out whole
    /// first.
    ///
    /// # Contract
    /// - SIT-8 The machine goes on running; a repeat is no error. Afterwards it needs nothing of the replica.
    ///
    /// # Errors
    /// `Busy` with progress while hydration goes on: ask again. `OutOfSpace`, before anything changed.
    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()>;

    /// Takes a fenced machine that was not settled out of the way. Its disks stay openable as the returned instance; in
    /// place, the disks stand again as before `materialise`.
    ///
    /// # Contract
    /// - SIT-9 What the machine wrote is kept, byte for byte; a running machine is `Refused`.
    ///
    /// # Errors
    /// `Busy` with progress while what is kept is made to stand alone: ask again. `OutOfSpace`.
    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance>;

    /// Removes what our keys made (machine, NICs, disks), and reads back that it is gone. A running machine is stopped
    /// first, hard.
    ///
    /// # Contract
    /// - SIT-10 Never the landing itself, never what the user brought: that is `Refused`. Gone already is no error.
    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()>;
}

/// A recovery site that proposes settings: the cloud side.
#[async_trait]
pub trait Target: RecoverySite {
    /// Settings for this machine that pass [`check`](RecoverySite::check), as far as the site can choose them.
    ///
    /// # Contract
    /// - TGT-1 What is proposed passes `check`, or `check` says what only the operator can mend.
    async fn propose(&self, machine: &Machine) -> Result<Settings>;
}
