//! The way back to a site's servers for a master target that stands elsewhere: the keeper decides, and bytes go straight to the
//! rescue systems.

use crate::bare;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, DiskId, DiskMut, Error, ErrorKind, Generation, Instance,
    LandingSite, Machine, MachineId, Op, Recovery, Result, Role, RoleName, Settings, Stamp, Survey,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Finds what the rescue system of a server serves.
#[async_trait]
pub trait Rescues: Debug + Send + Sync {
    /// The bare disks of this server, by the server's name at its site.
    ///
    /// # Errors
    /// `NotFound` where nothing is known of such a rescue system; `Unavailable` where it does not answer.
    async fn rescue(&self, server: &str) -> Result<Arc<dyn LandingSite>>;
}

#[async_trait]
impl Rescues for BTreeMap<String, Arc<dyn LandingSite>> {
    async fn rescue(&self, server: &str) -> Result<Arc<dyn LandingSite>> {
        self.get(server)
            .map(Arc::clone)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no rescue system of {server} is known")))
    }
}

/// Finds both ends of the way back to a site's servers, anew for each call: either may come later, and move.
#[async_trait]
pub trait WayBack: Rescues {
    /// What the site's keeper serves: its [`Returning`](super::Returning).
    ///
    /// # Errors
    /// `Unavailable` where there is none yet, or where it does not answer. Never `NotFound`, which would speak of a machine.
    async fn keeper(&self) -> Result<Arc<dyn LandingSite>>;
}

/// A site's servers as its keeper's [`Returning`](super::Returning) has them, but for their disks: those are opened at the
/// rescue systems themselves, so that no byte goes through the keeper. Clones share everything.
#[derive(Debug, Clone)]
pub struct Direct {
    site: RoleName,
    way: Arc<dyn WayBack>,
}

impl Direct {
    /// To the servers of this site.
    pub fn new(site: RoleName, way: Arc<dyn WayBack>) -> Self {
        Self { site, way }
    }
}

#[async_trait]
impl Role for Direct {
    fn name(&self) -> RoleName {
        self.site.clone()
    }

    fn capability(&self) -> Capability {
        bare::capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.way.keeper().await?.claim(op, machine).await
    }
}

#[async_trait]
impl LandingSite for Direct {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.way.keeper().await?.survey(machine, settings).await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        self.way.keeper().await?.attach(op, machine, existing, settings).await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let rescue = self.way.rescue(&instance.name).await?;
        let there = Instance { site: rescue.name(), ..instance.clone() };
        rescue.disk(&there, disk).await
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.way.keeper().await?.stamp(instance).await
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.way.keeper().await?.branch(op, instance).await
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.way.keeper().await?.part(op, instance).await
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.way.keeper().await?.merge(op, instance).await
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.way.keeper().await?.arm(op, instance, generation).await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.way.keeper().await?.detach(op, instance).await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        self.way.keeper().await?.start(op, instance, what, permit).await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.way.keeper().await?.stop(op, instance, grace).await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.way.keeper().await?.remove(op, instance).await
    }
}
