//! The keeper of a physical site, looked up for each call: it may come later than the master target, and move.

use super::roster::Roster;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, DiskId, DiskMut, Generation, Instance, LandingSite, Machine,
    MachineId, Op, Recovery, Result, Role, RoleName, Settings, Stamp, Survey,
};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Keeper(pub(super) Arc<Roster>);

#[async_trait]
impl Role for Keeper {
    fn name(&self) -> RoleName {
        self.0.site().clone()
    }

    /// That of the way back to bare disks, which is known before anybody answers.
    fn capability(&self) -> Capability {
        Capability { tracks: false, groups: false, drills: false, branches: false, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.0.keeper().await?.claim(op, machine).await
    }
}

#[async_trait]
impl LandingSite for Keeper {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.0.keeper().await?.survey(machine, settings).await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        self.0.keeper().await?.attach(op, machine, existing, settings).await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        self.0.keeper().await?.disk(instance, disk).await
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.0.keeper().await?.stamp(instance).await
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.0.keeper().await?.branch(op, instance).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.0.keeper().await?.part(op, instance).await
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.0.keeper().await?.merge(op, instance).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.0.keeper().await?.arm(op, instance, generation).await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.0.keeper().await?.detach(op, instance).await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        self.0.keeper().await?.start(op, instance, what, permit).await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.0.keeper().await?.stop(op, instance, grace).await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.0.keeper().await?.remove(op, instance).await
    }
}
