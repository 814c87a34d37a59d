//! Recovery points in page blobs: a replica per disk, whose snapshots are the points.
//!
//! - What is true of a machine stands in one document that is replaced by compare-and-set, so that the check of the epoch and the
//!   effect are one act ([`state`]).
//! - Pages are guarded by the sequence number of their blob, which is the number of the ingest's session: what an earlier session
//!   sends later is refused by the service itself.
//! - A page that landed is noted before it is acknowledged, several batches by one note ([`session`]).
//! - A point is sealed when the state names its snapshots. What no state came to name is deleted by a later `seal` or `prune`
//!   ([`sweep`]).

mod fold;
mod ingest;
mod line;
mod names;
mod open;
mod pages;
mod point_disk;
mod prepare;
mod prune;
mod scrub;
mod seal;
mod sealed;
mod session;
mod state;
mod sums;
mod sweep;
mod view;

use async_trait::async_trait;
use line::Line;

pub(crate) use names::plain;
use open::OpenPoints;
use sealed::Sealed;
use session::Session;
use site_recovery::{
    Capability, ChangeSet, Clock, Complete, CutId, DiskId, Disks, Error, ErrorKind, Finding, Form, Hash,
    Head, Ingest, Landed, Machine, MachineId, Manifest, Op, PhaseRecord, Point, PointId, Record,
    RecoveryPointStore, Replica, Result, Role, RoleName, Run, Seed, Settings, Timestamp,
};
use site_recovery_azure_blob::{Container, Error as BlobError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Recovery points in the page blobs of one container. Clones share everything.
///
/// The container is made where it is missing, in a Standard general-purpose v2 account: not with a hierarchical namespace, which
/// has no page blobs, and not premium, which takes 100 snapshots of a blob, one in ten minutes (Azure REST reference).
///
/// # Windows
/// A point that is open in another process is not known to be open, and may be dropped there.
#[derive(Debug, Clone)]
pub struct PageBlobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: RoleName,
    clock: Arc<dyn Clock>,
    container: Container,
    open: OpenPoints,
    turns: Mutex<BTreeMap<MachineId, Arc<tokio::sync::Mutex<()>>>>,
    sessions: Mutex<BTreeMap<MachineId, Arc<Session>>>,
    /// Whether calls of this process have left blobs that no state names.
    littered: Mutex<BTreeMap<MachineId, bool>>,
}

impl PageBlobs {
    /// Opens the container, and makes it where it is missing. Of a client that was made already: others open it of a
    /// [`Subscription`](crate::Subscription).
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    #[doc(hidden)]
    pub async fn open(name: RoleName, container: Container, clock: Arc<dyn Clock>) -> Result<Self> {
        container.make().await.map_err(|e| reports(e).at(&name, "open"))?;
        Ok(Self::over(name, container, clock))
    }

    /// In a container that is there.
    pub(crate) fn over(name: RoleName, container: Container, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            name,
            clock,
            container,
            open: OpenPoints::default(),
            turns: Mutex::default(),
            sessions: Mutex::default(),
            littered: Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    pub(crate) fn container(&self) -> &Container {
        &self.0.container
    }

    async fn enter(&self, machine: &MachineId) -> Result<Line> {
        Line::enter(&self.0, machine).await
    }

    fn at<T>(&self, operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.at(&self.0.name, operation))
    }
}

impl Inner {
    fn turn(&self, machine: &MachineId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(machine.clone()).or_default())
    }

    fn session(&self, machine: &MachineId) -> Option<Arc<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(machine).cloned()
    }

    fn keep_session(&self, machine: &MachineId, session: Arc<Session>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(machine.clone(), session);
    }

    /// Forgets the session of this number, or an earlier one; not one that was opened since.
    fn forget_session(&self, machine: &MachineId, number: u64) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(machine).is_some_and(|session| session.number <= number) {
            sessions.remove(machine);
        }
    }
}

/// What the service said, in our words: where a blob is gone that the state names, the replica is damaged.
fn reports(error: BlobError) -> Error {
    match error {
        BlobError::Absent { .. } => {
            Error::new(ErrorKind::Corrupt, "a blob that the replica needs is gone").caused_by(error)
        }
        other => other.into(),
    }
}

#[async_trait]
impl Role for PageBlobs {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability { takes: Form::Plain, locks: false, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let claimed = async {
            let mut line = self.enter(machine).await?;
            let next = line.state.admit(op)?;
            line.commit(next).await?;
            // Also where the state says so already: a claim that was broken off goes on.
            line.close_earlier().await
        };
        self.at("claim", claimed.await)
    }
}

#[async_trait]
impl Replica for PageBlobs {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.at("machines", self.list_machines().await)
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, _settings: &Settings) -> Result<()> {
        self.at("prepare", self.set_up(op, machine, seed).await)
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.at("head", self.stand(machine).await)
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        self.at("begin", self.open_ingest(op, machine, cut, plan).await)
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.at("write", self.land(ingest, batch, records).await)
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.at("seal", self.make_point(ingest, manifest, complete).await)
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.at("points", self.list_points(machine).await)
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.at("manifest", self.sealed_in(machine, point).await.and_then(Sealed::manifest))
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        self.at("open", self.disks_at(machine, point).await)
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.at("hashes", self.hash_run(machine, disk, run).await)
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.at("changed", self.difference(machine, from, to).await)
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let edit = |pins: &mut Vec<String>| {
            if !pins.iter().any(|pin| pin == why) {
                pins.push(why.to_owned());
            }
        };
        self.at("pin", self.mark(op, machine, ("pin", why), point, edit).await)
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let edit = |pins: &mut Vec<String>| pins.retain(|pin| pin != why);
        self.at("unpin", self.mark(op, machine, ("unpin", why), point, edit).await)
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        self.at("prune", self.drop_points(op, machine, drop).await)
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.at("delete", self.forget(op, machine).await)
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.at("remember", self.note_phase(op, machine, record).await)
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        let line = self.enter(machine).await;
        self.at("recall", line.map(|line| line.state.phase.clone()))
    }
}

#[async_trait]
impl RecoveryPointStore for PageBlobs {
    async fn lock(&self, _: &Op, _: &MachineId, _: PointId, _: Timestamp) -> Result<()> {
        let message = "snapshots of page blobs cannot be locked one by one";
        self.at("lock", Err(Error::new(ErrorKind::Unsupported, message)))
    }

    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        self.at("scrub", self.compare_with_notes(machine, point).await)
    }
}
