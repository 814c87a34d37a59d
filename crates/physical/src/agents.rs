//! The agents of a site, as a process server reaches them: to read, and for nothing else.

use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Result, Role, RoleName, Source, Start,
};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Finds the agent of a server.
#[async_trait]
pub trait Reach: Debug + Send + Sync {
    /// The agent of this server, by the server's name at its site.
    ///
    /// # Errors
    /// `NotFound` where no agent says that it is this server's.
    async fn agent(&self, server: &str) -> Result<Arc<dyn Source>>;
}

/// A site whose servers a process server reads: what changed, and the bytes of captures, each from the agent of its server.
/// Captures are taken, and servers fenced, by the site's keeper, [`PhysicalSite`](crate::site::PhysicalSite); here that is
/// `Unsupported`.
#[derive(Debug, Clone)]
pub struct Agents {
    site: RoleName,
    reach: Arc<dyn Reach>,
}

impl Agents {
    /// Those of this site.
    pub fn of(site: RoleName, reach: Arc<dyn Reach>) -> Self {
        Self { site, reach }
    }

    async fn of_member(&self, capture: &Capture, machine: &MachineId) -> Result<Arc<dyn Source>> {
        let instance = &capture.member(machine)?.machine.instance;
        if instance.site != self.site {
            let said = format!("{} stands at {}, and this is {}", instance.name, instance.site, self.site);
            return Err(Error::new(ErrorKind::NotFound, said));
        }
        self.reach.agent(&instance.name).await
    }

    fn not_here<T>(&self, operation: &str) -> Result<T> {
        let said = format!("{operation} is for the keeper of {}: a process server only reads", self.site);
        Err(Error::new(ErrorKind::Unsupported, said))
    }
}

#[async_trait]
impl Role for Agents {
    fn name(&self) -> RoleName {
        self.site.clone()
    }

    fn capability(&self) -> Capability {
        Capability { groups: false, fences: false, captures_off: false, ..Capability::default() }
    }

    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        self.not_here("claim")
    }
}

#[async_trait]
impl Source for Agents {
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.of_member(capture, machine).await?.changes(capture, machine, since).await
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.of_member(capture, machine).await?.disks(op, capture, machine).await
    }

    async fn discover(&self) -> Result<Vec<Machine>> {
        self.not_here("discover")
    }

    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        self.not_here("enrol")
    }

    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        self.not_here("dismiss")
    }

    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        self.not_here("capture")
    }

    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        self.not_here("release")
    }

    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        self.not_here("sweep")
    }

    async fn power(&self, _: &Instance) -> Result<Power> {
        self.not_here("power")
    }

    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        self.not_here("fence")
    }

    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        self.not_here("unfence")
    }
}
