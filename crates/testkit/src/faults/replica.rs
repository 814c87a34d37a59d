use super::Faulty;
use async_trait::async_trait;
use site_recovery::{
    ChangeSet, Complete, CutId, DiskId, Disks, Error, Finding, Hash, Head, Ingest, Landed, Machine,
    MachineId, Manifest, MasterTarget, Offers, Op, PhaseRecord, Point, PointId, Record, RecoveryPointStore,
    Replica, Result, Run, Seed, Settings, Timestamp,
};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Replica + ?Sized> Replica for Faulty<T> {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.call("machines", self.inner.machines()).await
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        self.call("prepare", self.inner.prepare(op, machine, seed, settings)).await
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.call("head", self.inner.head(machine)).await
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        self.call("begin", self.inner.begin(op, machine, cut, plan)).await
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.call("write", self.inner.write(ingest, batch, records)).await
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.call("seal", self.inner.seal(ingest, manifest, complete)).await
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.call("points", self.inner.points(machine)).await
    }

    async fn newest(&self, machines: &[MachineId]) -> Vec<Result<Option<Point>>> {
        match self.call("newest", async { Ok(self.inner.newest(machines).await) }).await {
            Ok(newest) => newest,
            Err(error) => machines.iter().map(|_| Err(Error::new(error.kind(), error.message()))).collect(),
        }
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.call("manifest", self.inner.manifest(machine, point)).await
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let disks = self.call("open", self.inner.open(machine, point)).await?;
        Ok(self.wrapped(disks))
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.call("hashes", self.inner.hashes(machine, disk, run)).await
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.call("changed", self.inner.changed(machine, from, to)).await
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.call("pin", self.inner.pin(op, machine, point, why)).await
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.call("unpin", self.inner.unpin(op, machine, point, why)).await
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        self.call("prune", self.inner.prune(op, machine, drop)).await
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.call("delete", self.inner.delete(op, machine)).await
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.call("remember", self.inner.remember(op, machine, record)).await
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        self.call("recall", self.inner.recall(machine)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: RecoveryPointStore + ?Sized> RecoveryPointStore for Faulty<T> {
    async fn lock(&self, op: &Op, machine: &MachineId, point: PointId, until: Timestamp) -> Result<()> {
        self.call("lock", self.inner.lock(op, machine, point, until)).await
    }

    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        self.call("scrub", self.inner.scrub(machine, point)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: MasterTarget + ?Sized> MasterTarget for Faulty<T> {
    async fn offers(&self) -> Result<Offers> {
        self.call("offers", self.inner.offers()).await
    }
}
