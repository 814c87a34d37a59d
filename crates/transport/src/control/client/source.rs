//! A source of another process.

use super::role;
use crate::client::{Far, Link, Owner, Stub, open_captured};
use crate::control::Channel;
use crate::control::call::{Call, SourceCall};
use crate::fault::Result;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use site_recovery::{
    BootPermit, Capability, Capture, Changes, Consistency, Cursor, Disks, Fate, Instance, Lifted, Machine,
    MachineId, Op, OpKey, Power, RoleName, Source, Start,
};
use std::sync::Arc;
use std::time::Duration;

/// A source that a [`Server`](crate::Server) serves: its calls by the control plane, the disks of its captures by the data
/// plane.
///
/// It keeps the far source's contract. What cannot be reached within the patience is `Unavailable`, which says nothing about
/// power. Of a client with rules, `discover` tells the machines of its rules alone.
///
/// # Cancel safety
/// That of the far source. A call that is dropped is dropped there, too, before anything that is asked later begins.
#[derive(Debug)]
pub struct RemoteSource {
    name: RoleName,
    control: Channel,
    data: Arc<Owner>,
    far: Arc<Far>,
}

role!(RemoteSource);

#[async_trait]
impl Stub for RemoteSource {
    const KIND: &'static str = "source";

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

impl RemoteSource {
    fn of(far: Arc<Far>, control: Channel) -> Self {
        let data = Link::lazy(Arc::clone(&far), control.capability().clone());
        Self { name: far.role.clone(), control, data: Arc::new(Owner(data)), far }
    }

    async fn call<T: DeserializeOwned>(&self, operation: &'static str, call: SourceCall) -> Result<T> {
        self.control.call(operation, Call::Source(call)).await
    }
}

#[async_trait]
impl Source for RemoteSource {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.call("discover", SourceCall::Discover).await
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.call("enrol", SourceCall::Enrol { op: op.clone(), machine: machine.clone() }).await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("dismiss", SourceCall::Dismiss { op: op.clone(), instance: instance.clone() }).await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.call("capture", SourceCall::Capture { op: op.clone(), of: of.to_vec(), want }).await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let (capture, machine, since) = (capture.clone(), machine.clone(), since.clone());
        self.call("changes", SourceCall::Changes { capture, machine, since }).await
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        open_captured(&self.data, op, capture, machine).await.map_err(|e| e.at(&self.name, "disks"))
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.call("release", SourceCall::Release { op, capture, machine, fate }).await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (op, instance, keep) = (op.clone(), instance.clone(), keep.to_vec());
        self.call("sweep", SourceCall::Sweep { op, instance, keep }).await
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.call("consolidate", SourceCall::Consolidate { op: op.clone(), instance: instance.clone() }).await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.call("power", SourceCall::Power { instance: instance.clone() }).await
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.call("fence", SourceCall::Fence { op: op.clone(), instance: instance.clone(), grace }).await
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        let evidence = self.far.evidence(&permit);
        let (op, instance) = (op.clone(), instance.clone());
        self.call("unfence", SourceCall::Unfence { op, instance, evidence, start }).await
    }
}
