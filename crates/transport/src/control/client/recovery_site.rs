//! Recovery sites of another process: a target, and a master target, which is a replica besides.

use super::role;
use crate::client::{Far, Link, RemoteStore, Stub};
use crate::control::Channel;
use crate::control::call::{Call, RecoverySiteCall};
use crate::fault::Result;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, ChangeSet, Complete, CutId, DiskId, Disks, Finding, Hash, Head,
    Ingest, Instance, Landed, Machine, MachineId, Manifest, MasterTarget, Offers, Op, OpKey, PhaseRecord,
    Point, PointId, Record, Recovery, RecoverySite, Replica, RoleName, Run, Seed, Settings, Target,
};
use std::sync::Arc;

/// A target that a [`Server`](crate::Server) serves. Replicas that it is handed go by name.
///
/// # Cancel safety
/// That of the far target.
#[derive(Debug)]
pub struct RemoteTarget {
    name: RoleName,
    control: Channel,
    far: Arc<Far>,
}

/// A master target that a [`Server`](crate::Server) serves: what has bytes by the data plane, the rest by the control plane.
///
/// # Cancel safety
/// That of the far master target.
#[derive(Debug)]
pub struct RemoteMasterTarget {
    name: RoleName,
    control: Channel,
    replica: RemoteStore,
    far: Arc<Far>,
}

role!(RemoteTarget);
role!(RemoteMasterTarget);

#[async_trait]
impl Stub for RemoteTarget {
    const KIND: &'static str = "target";

    async fn connected(far: Far) -> Result<Self> {
        let far = Arc::new(far);
        let control = Channel::connected(Arc::clone(&far)).await?;
        Ok(Self { name: far.role.clone(), control, far })
    }

    fn lazy(far: Far, capability: Capability) -> Self {
        let far = Arc::new(far);
        let control = Channel::lazy(Arc::clone(&far), capability);
        Self { name: far.role.clone(), control, far }
    }
}

#[async_trait]
impl Stub for RemoteMasterTarget {
    const KIND: &'static str = "master target";

    async fn connected(far: Far) -> Result<Self> {
        let far = Arc::new(far);
        let control = Channel::connected(Arc::clone(&far)).await?;
        Ok(Self::of(far, control))
    }

    fn lazy(far: Far, capability: Capability) -> Self {
        let far = Arc::new(far);
        let control = Channel::lazy(Arc::clone(&far), capability);
        Self::of(far, control)
    }
}

impl RemoteMasterTarget {
    fn of(far: Arc<Far>, control: Channel) -> Self {
        let link = Link::lazy(Arc::clone(&far), control.capability().clone());
        Self { name: far.role.clone(), control, replica: RemoteStore::over(far.role.clone(), link), far }
    }
}

macro_rules! recovery_site {
    ($remote:ty) => {
        impl $remote {
            async fn call<T: DeserializeOwned>(
                &self,
                operation: &'static str,
                call: RecoverySiteCall,
            ) -> Result<T> {
                self.control.call(operation, Call::RecoverySite(call)).await
            }
        }

        #[async_trait]
        impl RecoverySite for $remote {
            async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
                let (machine, settings) = (machine.clone(), settings.clone());
                self.call("check", RecoverySiteCall::Check { machine, settings }).await
            }

            async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
                let (op, what, from) = (op.clone(), what.clone(), from.name());
                self.call("materialise", RecoverySiteCall::Materialise { op, what, from }).await
            }

            async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
                let (op, made_by, what) = (op.clone(), made_by.clone(), what.clone());
                self.call("withdraw", RecoverySiteCall::Withdraw { op, made_by, what }).await
            }

            async fn boot(
                &self,
                op: &Op,
                what: &Recovery,
                armed: &Armed,
                permit: BootPermit,
            ) -> Result<Booted> {
                let evidence = self.far.evidence(&permit);
                let (op, what, armed) = (op.clone(), what.clone(), armed.clone());
                self.call("boot", RecoverySiteCall::Boot { op, what, armed, evidence }).await
            }

            async fn tend(&self, op: &Op, armed: &Armed, from: &Arc<dyn Replica>) -> Result<()> {
                let (op, armed, from) = (op.clone(), armed.clone(), from.name());
                self.call("tend", RecoverySiteCall::Tend { op, armed, from }).await
            }

            async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
                self.call("settle", RecoverySiteCall::Settle { op: op.clone(), armed: armed.clone() }).await
            }

            async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
                let (op, instance) = (op.clone(), instance.clone());
                self.call("set_aside", RecoverySiteCall::SetAside { op, instance }).await
            }

            async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
                let (op, instance) = (op.clone(), instance.clone());
                self.call("destroy", RecoverySiteCall::Destroy { op, instance }).await
            }
        }
    };
}

recovery_site!(RemoteTarget);
recovery_site!(RemoteMasterTarget);

#[async_trait]
impl Target for RemoteTarget {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        self.call("propose", RecoverySiteCall::Propose { machine: machine.clone() }).await
    }
}

#[async_trait]
impl MasterTarget for RemoteMasterTarget {
    async fn offers(&self) -> Result<Offers> {
        self.call("offers", RecoverySiteCall::Offers).await
    }
}

#[async_trait]
impl Replica for RemoteMasterTarget {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.replica.machines().await
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        self.replica.prepare(op, machine, seed, settings).await
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.replica.head(machine).await
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        self.replica.begin(op, machine, cut, plan).await
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.replica.write(ingest, batch, records).await
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.replica.seal(ingest, manifest, complete).await
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.replica.points(machine).await
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.replica.manifest(machine, point).await
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        self.replica.open(machine, point).await
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.replica.hashes(machine, disk, run).await
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.replica.changed(machine, from, to).await
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.replica.pin(op, machine, point, why).await
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.replica.unpin(op, machine, point, why).await
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        self.replica.prune(op, machine, drop).await
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.replica.delete(op, machine).await
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.replica.remember(op, machine, record).await
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        self.replica.recall(machine).await
    }
}
