use crate::desk::{Desk, blocking};
use crate::folder::Folder;
use crate::register;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, ChangeSet, Clock, Complete, CutId, DiskId, Disks, Error, Finding,
    Hash, Head, Ingest, Instance, Landed, LandingSite, Machine, MachineId, Manifest, Offers, Op, OpKey,
    PhaseRecord, Point, PointId, Record, Recovery, RecoverySite, Replica, Result, Role, RoleName, Run, Seed,
    Settings, Spawner, TokioSpawner,
};
use std::path::PathBuf;
use std::sync::Arc;

/// The master target of one retention volume and one landing site.
///
/// Every changing call runs to its end once it has begun, whether or not its future is kept.
#[derive(Debug, Clone)]
pub struct MasterTarget {
    desk: Arc<Desk>,
}

impl MasterTarget {
    /// Opens the master target `name`, whose log is in the directory `retention`; the directory is made where only it
    /// is missing. Tasks run on the tokio runtime of the caller.
    ///
    /// # Errors
    /// `Invalid` when `retention` is no directory and cannot be made, or outside a tokio runtime.
    pub async fn open(
        name: impl Into<RoleName>,
        landing: Arc<dyn LandingSite>,
        retention: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::open_on(name, landing, retention, clock, Arc::new(TokioSpawner::current()?)).await
    }

    /// As [`open`](Self::open), with another starter of tasks.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_on(
        name: impl Into<RoleName>,
        landing: Arc<dyn LandingSite>,
        retention: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        spawner: Arc<dyn Spawner>,
    ) -> Result<Self> {
        let (name, path) = (name.into(), retention.into());
        let root = blocking(move || {
            let made = path.is_dir() || std::fs::create_dir(&path).is_ok();
            let root = path.canonicalize().ok().filter(|_| made).ok_or_else(|| {
                let rule = "the retention volume is a directory";
                Error::invalid("retention", path.display(), rule, "make it, or name another")
            })?;
            Ok(Folder::new(root))
        });
        let root = root.await.map_err(|e| e.at(&name, "open"))?;
        Ok(Self { desk: Desk::new(name, landing, root, clock, spawner) })
    }

    #[cfg(test)]
    pub(crate) fn crashing(
        name: &str,
        landing: Arc<dyn LandingSite>,
        folder: Folder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let spawner = Arc::new(TokioSpawner::current()?);
        Ok(Self { desk: Desk::new(name.into(), landing, folder, clock, spawner) })
    }

    fn at(&self, operation: &'static str) -> impl Fn(Error) -> Error {
        let name = self.desk.name.clone();
        move |error| error.at(&name, operation)
    }
}

/// Runs a call of the desk to its end, with arguments of its own.
macro_rules! to_the_end {
    ($self:ident, $call:ident($($argument:ident),*)) => {{
        let desk = Arc::clone(&$self.desk);
        $(let $argument = $argument.clone();)*
        $self.desk.to_the_end(stringify!($call), async move { desk.$call($(&$argument),*).await }).await
    }};
}

#[async_trait]
impl Role for MasterTarget {
    fn name(&self) -> RoleName {
        self.desk.name.clone()
    }

    fn capability(&self) -> Capability {
        self.desk.capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        to_the_end!(self, claim(op, machine))
    }
}

#[async_trait]
impl Replica for MasterTarget {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.desk.machines().await.map_err(self.at("machines"))
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        to_the_end!(self, prepare(op, machine, seed, settings))
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        to_the_end!(self, head(machine))
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        to_the_end!(self, begin(op, machine, cut, plan))
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        let (desk, ingest) = (Arc::clone(&self.desk), ingest.clone());
        self.desk.to_the_end("write", async move { desk.write(&ingest, batch, records).await }).await
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        let (desk, ingest, manifest) = (Arc::clone(&self.desk), ingest.clone(), manifest.clone());
        self.desk.to_the_end("seal", async move { desk.seal(&ingest, &manifest, complete).await }).await
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.desk.points(machine).await.map_err(self.at("points"))
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.desk.manifest(machine, point).await.map_err(self.at("manifest"))
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        self.desk.open(machine, point).await.map_err(self.at("open"))
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.desk.hashes(machine, disk, run).await.map_err(self.at("hashes"))
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.desk.changed(machine, from, to).await.map_err(self.at("changed"))
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let why = why.to_owned();
        to_the_end!(self, pin(op, machine, point, why))
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let why = why.to_owned();
        to_the_end!(self, unpin(op, machine, point, why))
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        let drop = drop.to_vec();
        to_the_end!(self, prune(op, machine, drop))
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        to_the_end!(self, delete(op, machine))
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        to_the_end!(self, remember(op, machine, record))
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        let Some(looking) = self.desk.look(machine).await.map_err(self.at("recall"))? else {
            return Ok(None);
        };
        blocking(move || register::recall(&looking.folder)).await.map_err(self.at("recall"))
    }
}

#[async_trait]
impl RecoverySite for MasterTarget {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.desk.check(machine, settings).await.map_err(self.at("check"))
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        to_the_end!(self, materialise(op, what, from))
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        to_the_end!(self, withdraw(op, made_by, what))
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        let (desk, op, what, armed) = (Arc::clone(&self.desk), op.clone(), what.clone(), armed.clone());
        self.desk.to_the_end("boot", async move { desk.boot(&op, &what, &armed, permit).await }).await
    }

    /// A machine on its landing disks needs nothing.
    async fn tend(&self, op: &Op, armed: &Armed, _from: &Arc<dyn Replica>) -> Result<()> {
        self.desk.enter(op, &armed.instance.machine).await.map(drop).map_err(self.at("tend"))
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        to_the_end!(self, settle(op, armed))
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        to_the_end!(self, set_aside(op, instance))
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        to_the_end!(self, destroy(op, instance))
    }
}

#[async_trait]
impl site_recovery::MasterTarget for MasterTarget {
    async fn offers(&self) -> Result<Offers> {
        self.desk.offers().await.map_err(self.at("offers"))
    }
}
