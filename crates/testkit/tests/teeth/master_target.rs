use crate::Fault;
use crate::fault::is;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, ChangeSet, Complete, CutId, DiskId, Disks, Finding, Hash, Head,
    Ingest, Instance, Landed, Machine, MachineId, Manifest, MasterTarget, Offers, Op, OpKey, PhaseRecord,
    Point, PointId, Record, Recovery, RecoverySite, Replica, Result, Role, RoleName, Run, Seed, Settings,
};
use std::sync::{Arc, Mutex};

pub(crate) const FAULTS: &[Fault] = &[
    ("MTG-1", "what cannot be used is offered"),
    ("MTG-1", "nothing is offered"),
    ("MTG-2", "there is no point zero"),
    ("MTG-2", "point zero is the first point"),
    ("REP-14", "delete leaves what landed"),
];

/// A master target that does wrong what is wrong now.
#[derive(Debug)]
pub(crate) struct BrokenMasterTarget {
    honest: Arc<dyn MasterTarget>,
    deleted: Mutex<bool>,
}

impl BrokenMasterTarget {
    pub(crate) fn new(honest: Arc<dyn MasterTarget>) -> Self {
        Self { honest, deleted: Mutex::default() }
    }
}

#[async_trait]
impl Role for BrokenMasterTarget {
    fn name(&self) -> RoleName {
        self.honest.name()
    }
    fn capability(&self) -> Capability {
        self.honest.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.honest.claim(op, machine).await
    }
}

#[async_trait]
impl MasterTarget for BrokenMasterTarget {
    async fn offers(&self) -> Result<Offers> {
        let mut offers = self.honest.offers().await?;
        if is("nothing is offered") {
            offers.datastores.clear();
        }
        if is("what cannot be used is offered") {
            let all = offers.datastores.iter_mut().chain(&mut offers.retention_volumes);
            all.for_each(|offer| offer.ineligible = None);
        }
        Ok(offers)
    }
}

#[async_trait]
impl Replica for BrokenMasterTarget {
    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        let mut points = self.honest.points(machine).await?;
        if is("there is no point zero") {
            points.retain(|p| p.id.0 != 0);
        }
        Ok(points)
    }
    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let first = is("point zero is the first point") && point.0 == 0;
        self.honest.open(machine, if first { PointId(1) } else { point }).await
    }
    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        if is("delete leaves what landed") {
            *self.deleted.lock().unwrap() = true;
            return Ok(());
        }
        self.honest.delete(op, machine).await
    }
    async fn head(&self, machine: &MachineId) -> Result<Head> {
        if *self.deleted.lock().unwrap() {
            return Ok(Head::Empty);
        }
        self.honest.head(machine).await
    }
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.honest.machines().await
    }
    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        self.honest.prepare(op, machine, seed, settings).await
    }
    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        self.honest.begin(op, machine, cut, plan).await
    }
    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.honest.write(ingest, batch, records).await
    }
    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.honest.seal(ingest, manifest, complete).await
    }
    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.honest.manifest(machine, point).await
    }
    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.honest.hashes(machine, disk, run).await
    }
    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.honest.changed(machine, from, to).await
    }
    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.honest.pin(op, machine, point, why).await
    }
    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.honest.unpin(op, machine, point, why).await
    }
    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        self.honest.prune(op, machine, drop).await
    }
    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.honest.remember(op, machine, record).await
    }
    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        self.honest.recall(machine).await
    }
}

#[async_trait]
impl RecoverySite for BrokenMasterTarget {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.honest.check(machine, settings).await
    }
    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        self.honest.materialise(op, what, from).await
    }
    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        self.honest.withdraw(op, made_by, what).await
    }
    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        self.honest.boot(op, what, armed, permit).await
    }
    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
        self.honest.tend(op, armed, from).await
    }
    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        self.honest.settle(op, armed).await
    }
    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.honest.set_aside(op, instance).await
    }
    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.honest.destroy(op, instance).await
    }
}
