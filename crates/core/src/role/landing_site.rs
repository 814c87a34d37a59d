use super::Role;
use crate::{
    Armed, BootPermit, Booted, DiskId, DiskMut, Finding, Generation, Instance, Machine, Offers, Op, Recovery,
    Result, Settings, Stamp,
};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// What a landing site says of itself before anything lands.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Survey {
    /// What stands in the way.
    pub findings: Vec<Finding>,
    /// Where disks can be made.
    pub offers: Offers,
}

/// Disks that the way back lands on, and the machine around them: what a hypervisor implements so that the one master
/// target works on it.
///
/// # For adapter authors
/// `disk` hands out handles that outlive the call: keep your inner state in an `Arc`. The site's `Source` has the same
/// name and register.
///
/// # Contract of all
/// - LND-1 `branch`, `part`, `merge` and `detach` end every handle given out before: it writes nothing any more. `arm`
///   ends none: it precedes `detach`.
/// - LND-2 Every method names an instance that `attach` or `part` returned; any other is `NotFound`, but for `remove`.
#[async_trait]
pub trait LandingSite: Role {
    /// What stands in the way of landing this machine here, and where disks could be made. Changes nothing.
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey>;

    /// Finds the existing instance, or makes a machine with empty disks under a free name. Its disks are ours, starting
    /// it is blocked.
    ///
    /// # Contract
    /// - LND-3 An existing machine must be off, else `Refused`. Its bytes are left as they are. A disk that is missing or
    ///   smaller is made or grown.
    ///
    /// Attached again, also with a branch under the disks or after `detach`, the disks are ours again; handles that ended
    /// stay ended.
    ///
    /// # Errors
    /// `NotFound` where `existing` is not there; `Conflict` where it carries another machine's mark.
    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance>;

    /// One landing disk.
    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>>;

    /// A value that a start of the machine from outside changes for ever. `None`: nobody can tell; the master target
    /// goes on as if nothing had happened, and hand-over is allowed while `Source::power` reads `Blocked`. So a site
    /// without a stamp keeps the start blocked for as long as the disks are ours.
    ///
    /// # Contract
    /// - LND-4 Our own acts leave it; a start past us changes it. Where the platform counts every start, the adapter
    ///   counts its own out.
    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>>;

    /// Puts a branch under the disks. A second branch over the first is not made.
    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()>;

    /// Back to below the branch. What was written above it stays, off and openable, as the returned instance.
    ///
    /// # Contract
    /// - LND-5 Below: the bytes as before `branch`. Above: all that was written since. Without a branch it is `Refused`.
    ///
    /// # Errors
    /// `Busy` with progress while what stands above is copied: ask again. `OutOfSpace`; `Refused` once a merge has begun,
    /// where that writes below.
    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance>;

    /// Makes what stands above the branch final. Also while the machine runs.
    ///
    /// # Errors
    /// `Busy` with progress while what stands above is copied: ask again. `OutOfSpace`.
    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()>;

    /// Gives the machine its generation, in its own mark, and starts change tracking. A site that cannot track arms with
    /// no cursor.
    ///
    /// # Contract
    /// - LND-6 The site's `Source` tells everything written from here on as changes since the cursor.
    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed>;

    /// Gives the disks back to the machine: nobody but it writes them any more. Starting stays blocked, or changes the
    /// stamp.
    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()>;

    /// Starts the machine with a permit.
    ///
    /// # Contract
    /// - LND-7 As [`RecoverySite::boot`](super::RecoverySite::boot), SIT-6 and SIT-7.
    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted>;

    /// Stops it, after `grace` hard, and blocks starting.
    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()>;

    /// Removes a machine that `attach` made or `part` returned.
    ///
    /// # Contract
    /// - LND-8 Anything else is `Refused`. Gone already is no error.
    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()>;
}
