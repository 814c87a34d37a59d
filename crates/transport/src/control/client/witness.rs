//! Whoever can tell a server how it stands.

use super::role;
use crate::client::{Far, Stub};
use crate::control::Channel;
use crate::control::call::Call;
use crate::fault::Result;
use async_trait::async_trait;
use site_recovery::{Capability, MachineId, PhaseRecord, RoleName};
use std::sync::Arc;

/// A replica of another process, as a server asks it that wants to take part in the network again: what is recorded of its
/// machine, and nothing else.
#[derive(Debug)]
pub struct RemoteWitness {
    name: RoleName,
    control: Channel,
}

role!(RemoteWitness);

#[async_trait]
impl Stub for RemoteWitness {
    const KIND: &'static str = "witness";

    async fn connected(far: Far) -> Result<Self> {
        Ok(Self { name: far.role.clone(), control: Channel::connected(Arc::new(far)).await? })
    }

    fn lazy(far: Far, capability: Capability) -> Self {
        Self { name: far.role.clone(), control: Channel::lazy(Arc::new(far), capability) }
    }
}

impl RemoteWitness {
    /// What was recorded last of a machine; nothing where nothing was.
    ///
    /// # Errors
    /// `Denied` for a machine that is not the client's own; `Unavailable` where nobody answers, which says nothing.
    pub async fn standing(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        self.control.call("standing", Call::Standing { machine: machine.clone() }).await
    }
}
