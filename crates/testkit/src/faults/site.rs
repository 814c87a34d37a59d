use super::Faulty;
use super::disk::FaultyDisk;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capture, Changes, Consistency, Cursor, Disk, DiskId, DiskMut, Disks, Fate,
    Finding, Generation, Instance, LandingSite, Lifted, Machine, MachineId, Op, OpKey, Power, Recovery,
    RecoverySite, Replica, Result, Role, Settings, Source, Stamp, Start, Survey, Target,
};
use std::sync::Arc;
use std::time::Duration;

impl<T: Role + ?Sized> Faulty<T> {
    pub(super) fn wrapped(&self, disks: Disks) -> Disks {
        let wrap = |inner| Arc::new(self.wrapped_disk(inner)) as Arc<dyn Disk>;
        disks.into_iter().map(|(id, disk)| (id, wrap(disk))).collect()
    }

    fn wrapped_disk<D: ?Sized>(&self, inner: Arc<D>) -> FaultyDisk<D> {
        FaultyDisk { inner, faults: self.faults.clone(), name: format!("{}.disk", self.inner.name()) }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Source + ?Sized> Source for Faulty<T> {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.call("discover", self.inner.discover()).await
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.call("enrol", self.inner.enrol(op, machine)).await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("dismiss", self.inner.dismiss(op, instance)).await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.call("capture", self.inner.capture(op, of, want)).await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.call("changes", self.inner.changes(capture, machine, since)).await
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let disks = self.call("disks", self.inner.disks(op, capture, machine)).await?;
        Ok(self.wrapped(disks))
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.call("release", self.inner.release(op, capture, machine, fate)).await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.call("sweep", self.inner.sweep(op, instance, keep)).await
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("consolidate", self.inner.consolidate(op, instance)).await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.call("power", self.inner.power(instance)).await
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.call("fence", self.inner.fence(op, instance, grace)).await
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        self.call("unfence", self.inner.unfence(op, instance, permit, start)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: RecoverySite + ?Sized> RecoverySite for Faulty<T> {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.call("check", self.inner.check(machine, settings)).await
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        self.call("materialise", self.inner.materialise(op, what, from)).await
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        self.call("withdraw", self.inner.withdraw(op, made_by, what)).await
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        self.call("boot", self.inner.boot(op, what, armed, permit)).await
    }

    async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
        self.call("tend", self.inner.tend(op, armed, from)).await
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        self.call("settle", self.inner.settle(op, armed)).await
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.call("set_aside", self.inner.set_aside(op, instance)).await
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("destroy", self.inner.destroy(op, instance)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Target + ?Sized> Target for Faulty<T> {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        self.call("propose", self.inner.propose(machine)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: LandingSite + ?Sized> LandingSite for Faulty<T> {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.call("survey", self.inner.survey(machine, settings)).await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        self.call("attach", self.inner.attach(op, machine, existing, settings)).await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let disk = self.call("disk", self.inner.disk(instance, disk)).await?;
        Ok(Arc::new(self.wrapped_disk(disk)))
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.call("stamp", self.inner.stamp(instance)).await
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("branch", self.inner.branch(op, instance)).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.call("part", self.inner.part(op, instance)).await
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("merge", self.inner.merge(op, instance)).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.call("arm", self.inner.arm(op, instance, generation)).await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("detach", self.inner.detach(op, instance)).await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        self.call("start", self.inner.start(op, instance, what, permit)).await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.call("stop", self.inner.stop(op, instance, grace)).await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("remove", self.inner.remove(op, instance)).await
    }
}
