use super::Role;
use crate::{
    ChangeSet, Complete, CutId, DiskId, Disks, Finding, Hash, Head, Ingest, Landed, Machine, MachineId,
    Manifest, Op, PhaseRecord, Point, PointId, Record, Result, Run, Seed, Settings, Timestamp,
};
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};

/// Machines that are asked about at once.
const AT_ONCE: usize = 64;

/// Keeps the recovery points of machines: one linear timeline each, at most one ingest open on it.
///
/// An ingest is `begin`, any number of `write`s, `seal`. Recovering an older point never moves the head.
///
/// # For adapter authors
/// What has landed stays landed: a broken ingest is not thrown away, it is told in [`Head::Unsettled`] and the next one
/// goes on from there. A replica that works in place makes the first pre-image of a block since the last seal durable
/// before it writes the block. A replica with a log may keep records sealed.
#[async_trait]
pub trait Replica: Role {
    /// Every machine that has a timeline here. For adopt.
    async fn machines(&self) -> Result<Vec<MachineId>>;

    /// Opens a timeline, or opens it again from `seed`. A master target attaches its disks here.
    ///
    /// # Contract
    /// - REP-1 `Fresh` on a new machine makes the head `Empty`; on a timeline that has points it is `Conflict`.
    /// - REP-2 `Known` makes the head `Unsettled` with the seed's cursor, and `touched` at least what is given and the
    ///   distance from `at` to where the working copy stands; an `at` that was never a point here is `NotFound`. `Unknown`
    ///   leaves no cursor.
    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()>;

    /// Where the timeline stands. `Empty` for a machine that is not known.
    async fn head(&self, machine: &MachineId) -> Result<Head>;

    /// Opens an ingest over at most `plan`. A plan may pass a disk's end and is cut there; a disk the timeline never had is
    /// `Invalid`.
    ///
    /// # Contract
    /// - REP-3 The same op resumes: what is below `resume` is durable. Another op closes the open ingest and takes what
    ///   it landed over as `touched`, durable before its own first byte.
    /// - REP-4 When it returns, no write of an earlier session can land: a write or seal of a closed session is `Refused`.
    /// - REP-5 A disk that the timeline has with another size is `Invalid`, unless it grew.
    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest>;

    /// Lands records; `batch` counts up from 0 within a session, and a batch that comes again counts once.
    ///
    /// Batches of one session may be under way side by side, and land in any order: their runs do not overlap. A replica
    /// takes them at the same time where it can, or one after the other; what it returns, and what `begin` returns later as
    /// `resume`, is below the first run of the plan that has not landed, whatever landed above it. A repeat of a batch may
    /// come while the first is under way; the same number with other records is ignored, or `Conflict`; `seal` tells by
    /// REP-8. `seal` comes when all writes have returned. After `Corrupt` or `Invalid` the session stays open.
    ///
    /// # Contract
    /// - REP-6 What is acknowledged is durable. A record whose bytes do not match its checksum is `Corrupt`, and none
    ///   of its batch is acknowledged. A record outside plan or disk is `Invalid`; none of its batch lands.
    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed>;

    /// Makes the ingest a point.
    ///
    /// # Contract
    /// - REP-7 All or nothing: the point is listed when bytes and manifest are durable, not before. A repeat for the
    ///   same cut returns the same point. Its number follows that of the last one sealed, also where that was dropped.
    /// - REP-8 What was written must match `complete` in count and digest, else `Corrupt`.
    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point>;

    /// All points, oldest first. Empty for a machine that is not known.
    ///
    /// # Contract
    /// - REP-9 Every point that is listed opens, or is named by an error; never silently skipped.
    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>>;

    /// The newest point of each of these machines, in their order. What a list of thousands asks, once: a replica that can
    /// tell it without going through all points should. It only looks: dropping it is safe.
    ///
    /// # Contract
    /// - REP-16 One answer for each, also where one is named twice: the last point that `points` lists, and none where that
    ///   lists none. One that cannot be told hides no other.
    async fn newest(&self, machines: &[MachineId]) -> Vec<Result<Option<Point>>> {
        let mut asked = vec![];
        for machine in machines {
            asked.push(async move { self.points(machine).await.map(|mut points| points.pop()) });
        }
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }

    /// What was sealed in a point.
    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest>;

    /// The disks at a point.
    ///
    /// # Contract
    /// - REP-10 They hold exactly what was captured, while the head moves on, and until the handles are dropped; an
    ///   open point is not dropped.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`, naming what is damaged; `Refused` while the machine runs on these disks and
    /// [`Capability::opens_while_booted`](crate::Capability::opens_while_booted) is false.
    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks>;

    /// Hashes of the working copy, unsealed bytes included: one per started [`HASH_BLOCK`](crate::HASH_BLOCK) of `run`,
    /// which starts at a multiple of it.
    ///
    /// # Contract
    /// - REP-11 Equal hashes mean equal bytes, of what stands there now.
    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>>;

    /// Everything that may differ between two points; without `from`, between what stood there before the first point
    /// and `to`. `None` where the replica cannot list it any more.
    ///
    /// # Contract
    /// - REP-12 Never less than what differs, also after points between were dropped, and after `settle`.
    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>>;

    /// Keeps a point from being dropped, for a reason. Several reasons may hold one point.
    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()>;

    /// Takes one reason away.
    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()>;

    /// Drops points; a list, never a rule. Returns what was dropped.
    ///
    /// # Contract
    /// - REP-13 Points that are pinned, locked or open, and the newest, stay. The others keep their bytes. A call may drop
    ///   only the first part of what may go of the list, at least one point; it tells which, and the caller asks again for
    ///   the rest, by a key of its own, until nothing is dropped.
    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>>;

    /// Forgets the timeline: its points and its working copy, never disks that were there before it.
    ///
    /// # Contract
    /// - REP-14 `Refused` while a point is locked or a machine is handed over, `Busy` while a point is open whose
    ///   handles it would end. The epoch register stays. In place, where no point was sealed yet, the
    ///   landing disks are rolled back to what stood there before the first byte.
    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()>;

    /// Writes the phase record beside the timeline: what an engine that lost its journal must know.
    ///
    /// # Contract
    /// - REP-15 Durable on return. By [`PhaseRecord::order`], lower is `Refused`; equal order replaces; a repeat is no
    ///   error. Works for machines without a timeline.
    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()>;

    /// The phase record, if there is one. Survives `delete`.
    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>>;
}

/// A replica that keeps points for their own sake: the cloud's, or a directory's.
#[async_trait]
pub trait RecoveryPointStore: Replica {
    /// Keeps a point from being dropped by anybody until then.
    ///
    /// # Contract
    /// - RPS-1 The time is never shortened; a shorter one is `Refused`. Where [`Capability::locks`] is false this is
    ///   `Unsupported`.
    ///
    /// [`Capability::locks`]: crate::Capability::locks
    async fn lock(&self, op: &Op, machine: &MachineId, point: PointId, until: Timestamp) -> Result<()>;

    /// Reads a point whole and compares with what was sealed.
    ///
    /// # Contract
    /// - RPS-2 A damaged run is a `Critical` finding that names disk and run; a whole point gives none.
    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>>;
}
