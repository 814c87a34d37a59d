//! A landing site of another process.

use super::role;
use crate::client::{Far, Link, Owner, Stub, open_landing};
use crate::control::Channel;
use crate::control::call::{Call, LandingSiteCall};
use crate::fault::Result;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, DiskId, DiskMut, Generation, Instance, LandingSite, Machine, Op,
    Recovery, RoleName, Settings, Stamp, Survey,
};
use std::sync::Arc;
use std::time::Duration;

/// A landing site that a [`Server`](crate::Server) serves: its calls by the control plane, its disks by the data plane.
///
/// A disk of it lives as long as the connection on which it was opened: afterwards it is `Unavailable` for good, since what
/// was written and not flushed may be lost. Open it again.
///
/// # Cancel safety
/// That of the far landing site. A write that is dropped may still happen, but never after a later call.
#[derive(Debug)]
pub struct RemoteLandingSite {
    name: RoleName,
    control: Channel,
    data: Arc<Owner>,
    far: Arc<Far>,
}

role!(RemoteLandingSite);

#[async_trait]
impl Stub for RemoteLandingSite {
    const KIND: &'static str = "landing site";

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

impl RemoteLandingSite {
    fn of(far: Arc<Far>, control: Channel) -> Self {
        let data = Link::lazy(Arc::clone(&far), control.capability().clone());
        Self { name: far.role.clone(), control, data: Arc::new(Owner(data)), far }
    }

    async fn call<T: DeserializeOwned>(&self, operation: &'static str, call: LandingSiteCall) -> Result<T> {
        self.control.call(operation, Call::LandingSite(call)).await
    }
}

#[async_trait]
impl LandingSite for RemoteLandingSite {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let (machine, settings) = (machine.clone(), settings.clone());
        self.call("survey", LandingSiteCall::Survey { machine, settings }).await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let (op, machine, settings) = (op.clone(), machine.clone(), settings.clone());
        self.call("attach", LandingSiteCall::Attach { op, machine, existing, settings }).await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        open_landing(&self.data, instance, disk).await.map_err(|e| e.at(&self.name, "disk"))
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.call("stamp", LandingSiteCall::Stamp { instance: instance.clone() }).await
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("branch", LandingSiteCall::Branch { op: op.clone(), instance: instance.clone() }).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.call("part", LandingSiteCall::Part { op: op.clone(), instance: instance.clone() }).await
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("merge", LandingSiteCall::Merge { op: op.clone(), instance: instance.clone() }).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (op, instance) = (op.clone(), instance.clone());
        self.call("arm", LandingSiteCall::Arm { op, instance, generation }).await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("detach", LandingSiteCall::Detach { op: op.clone(), instance: instance.clone() }).await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        let evidence = self.far.evidence(&permit);
        let (op, instance, what) = (op.clone(), instance.clone(), what.clone());
        self.call("start", LandingSiteCall::Start { op, instance, what, evidence }).await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.call("stop", LandingSiteCall::Stop { op: op.clone(), instance: instance.clone(), grace }).await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("remove", LandingSiteCall::Remove { op: op.clone(), instance: instance.clone() }).await
    }
}
