use super::Role;
use crate::{
    BootPermit, Capture, Changes, Consistency, Cursor, Disks, Fate, Instance, Lifted, Machine, MachineId, Op,
    OpKey, Power, Result, RoleName, Start,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where machines run: discovers them, captures them, says what changed, and takes and gives back their power.
///
/// # For adapter authors
/// Look an instance up by its `name`; take its `machine` as the label under which you answer. Keep tracking and fence
/// mark with the machine (its own configuration, a locked file), so that an engine that starts anew finds them; the
/// register beside the site, where no undo and no removal of the machine reaches it. Change tracking may forget, never lie: a cursor that you doubt is [`Changes::Lost`].
#[async_trait]
pub trait Source: Role {
    /// All machines that can be seen. A machine that carries our mark is told with the ids of that mark, any other
    /// with placeholders that `enrol` will replace: ids that are not empty and unique at the site, generation 0.
    ///
    /// # Contract
    /// - SRC-1 A machine that cannot be described is an error that names it, never left out in silence. What is told is valid.
    async fn discover(&self) -> Result<Vec<Machine>>;

    /// Takes a machine into care: writes the mark (ids of machine and disks, which disks are included) and opens its
    /// epoch register. Enrolled again under the same id, the newer description counts.
    ///
    /// # Contract
    /// - SRC-2 From then on `discover` tells it with these ids and each disk's `included`; captures hold the included
    ///   disks alone. A disk added later is told with `included: false` until `enrol` comes again.
    ///
    /// # Errors
    /// `Conflict` when it carries another machine's mark; `NotFound`; `Invalid` when it is not as described (a disk
    /// that is gone or has another size).
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()>;

    /// Gives a machine back: removes mark, tracking and captures; leaves it as it runs. The epoch register stays.
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()>;

    /// One instant over all disks of all the given machines, running or off.
    ///
    /// # Contract
    /// - SRC-3 All disks of all members are of one instant, unless `consistency` is
    ///   [`PerDisk`](Consistency::PerDisk); if one member fails, there is no capture.
    /// - SRC-4 The bytes of the capture are never others than those of its instant, whatever the machine writes. They stay
    ///   readable until its own `release`, or until the platform loses the capture, as it may where the machine starts,
    ///   stops or crashes: from then on `disks` and `changes` are `NotFound`, and a disk that is open `Unavailable`.
    /// - SRC-5 What was reached is told in `consistency`; less than asked comes with the reason, never as an error. A
    ///   machine is never left frozen or paused.
    /// - SRC-6 A repeat with the same key returns the same capture while it lives.
    ///
    /// # Errors
    /// `Unavailable`, `NotFound`; `Unsupported` for several machines where [`Capability::groups`] is false.
    ///
    /// [`Capability::groups`]: crate::Capability::groups
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture>;

    /// What changed between `since` and the capture, for one member.
    ///
    /// # Contract
    /// - SRC-7 Never less than what differs. A cursor of another generation, of another machine, or from before a
    ///   resize, a crash of the host or a gap in tracking is `Lost`.
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes>;

    /// The disks of one member, as of the capture.
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks>;

    /// Lets go of one member of a capture.
    ///
    /// # Contract
    /// - SRC-8 After `Sealed` a delta from this capture's cursor is possible. After `Spooled` and `Abandoned` a delta
    ///   from the last sealed one's cursor still is; after `Spooled` one from this capture's cursor is possible too. A
    ///   repeat is no error.
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()>;

    /// Removes captures of this instance that nobody holds: all whose key is not in `keep`. Called once in an engine's
    /// life per item, before its first cycle or watch, with an empty `keep`; again only where it failed. Never touches
    /// tracking.
    ///
    /// # Contract
    /// - SRC-9 Afterwards nothing of a swept capture is left at the platform; what is not ours stays. Returns what was
    ///   removed.
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>>;

    /// Merges all snapshots of a machine that is off into its disks, also those that are not ours; captures of it that
    /// are snapshots end. Its fence stays. The engine compares afterwards; a cursor that may have suffered is `Lost`.
    ///
    /// # Contract
    /// - SRC-15 Afterwards `discover` counts none (and not before the merge is over), and the disks hold the bytes of
    ///   before. A machine without snapshots stays as it is; one that runs is `Refused`.
    ///
    /// # Errors
    /// `Unsupported` where the platform has no snapshots that could be merged: the default.
    async fn consolidate(&self, _op: &Op, instance: &Instance) -> Result<()> {
        let message = format!("{} has no snapshots that could be merged here", instance.name);
        Err(crate::Error::new(crate::ErrorKind::Unsupported, message).at(&self.name(), "consolidate"))
    }

    /// Whether the instance can write now, and what keeps it off.
    ///
    /// # Contract
    /// - SRC-10 Read from the platform at the time of the call, never remembered. No answer is `Unknown` or
    ///   `Unavailable`, never off. `NotFound` only where a listing that may see everything lacks it, machine and disks; a
    ///   lost right is `Denied`.
    async fn power(&self, instance: &Instance) -> Result<Power>;

    /// Takes the instance's power and keeps it: asks the guest to shut down, cuts the power after `grace` (at once for
    /// zero), blocks the next start, and leaves a mark that says who fenced it, when, at which epoch, whether it ran,
    /// and how it is lifted.
    ///
    /// # Contract
    /// - SRC-11 After `Ok`, `power` reads as off and guarded. A machine that is off already is fenced all the same.
    /// - SRC-12 A shutdown that was asked for is over, or withdrawn, before `fence`, `unfence` or `claim` returns.
    ///
    /// # Errors
    /// `Unsupported` where [`Capability::fences`](crate::Capability::fences) is false.
    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()>;

    /// Lifts our fence, and starts the machine as `start` says. Nothing to lift is no error: `Run` starts all the same;
    /// without a mark `AsBefore` is `Stay`.
    ///
    /// # Contract
    /// - SRC-13 `AsBefore` starts exactly what ran when the mark was made. A repeat reports what is and starts nothing
    ///   that already ran under that key.
    /// - SRC-14 A permit that does not speak of this instance is `Refused`; so is `Isolated`, which is for drills only.
    ///
    /// # Errors
    /// `Unsupported` where [`Capability::fences`](crate::Capability::fences) is false and the site can start nothing.
    async fn unfence(&self, op: &Op, instance: &Instance, permit: BootPermit, start: Start)
    -> Result<Lifted>;
}

/// Who can fence at which site.
pub type Sources = BTreeMap<RoleName, Arc<dyn Source>>;
