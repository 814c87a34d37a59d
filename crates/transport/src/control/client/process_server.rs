//! A process server of another process.

use super::role;
use crate::client::{Far, Stub};
use crate::control::Channel;
use crate::control::call::{Call, ProcessServerCall};
use crate::fault::Result;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use site_recovery::{
    Capability, Finding, Lag, MachineId, Op, Point, ProcessServer, Replica, RoleName, Shipment, Shipped,
    Source,
};
use std::sync::Arc;

/// A process server that a [`Server`](crate::Server) serves. The roles that it is handed go by name: it reaches them itself,
/// with credentials of its own, and [`knows`](ProcessServer::knows) tells whether it can.
///
/// # Cancel safety
/// That of the far process server: what has landed stays.
#[derive(Debug)]
pub struct RemoteProcessServer {
    name: RoleName,
    control: Channel,
}

role!(RemoteProcessServer);

#[async_trait]
impl Stub for RemoteProcessServer {
    const KIND: &'static str = "process server";

    async fn connected(far: Far) -> Result<Self> {
        Ok(Self { name: far.role.clone(), control: Channel::connected(Arc::new(far)).await? })
    }

    fn lazy(far: Far, capability: Capability) -> Self {
        Self { name: far.role.clone(), control: Channel::lazy(Arc::new(far), capability) }
    }
}

impl RemoteProcessServer {
    async fn call<T: DeserializeOwned>(&self, operation: &'static str, call: ProcessServerCall) -> Result<T> {
        self.control.call(operation, Call::ProcessServer(call)).await
    }
}

#[async_trait]
impl ProcessServer for RemoteProcessServer {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        let (op, what, source, replica) = (op.clone(), what.clone(), source.name(), replica.name());
        self.call("ship", ProcessServerCall::Ship { op, what, source, replica }).await
    }

    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        let (op, machine, replica) = (op.clone(), machine.clone(), replica.name());
        self.call("drain", ProcessServerCall::Drain { op, machine, replica }).await
    }

    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        self.call("lag", ProcessServerCall::Lag { machine: machine.clone() }).await
    }

    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        self.call("knows", ProcessServerCall::Knows { roles: roles.to_vec() }).await
    }
}
