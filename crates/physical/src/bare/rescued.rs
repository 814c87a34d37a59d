//! A server that runs its rescue system, as its keeper asks it.

use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Result, Role, RoleName, Source, Start, StartGuard,
};
use std::time::Duration;

/// Answers for a server whose own system does not run: it is off, as far as its machine goes. It knows nothing else of it.
#[derive(Debug, Clone)]
pub struct Rescued {
    site: RoleName,
    capability: Capability,
}

impl Rescued {
    /// Of a server at this site, whose agent has this capability: whoever asks finds the same role, whichever system runs.
    pub fn at(site: RoleName, capability: Capability) -> Self {
        Self { site, capability }
    }

    fn not_now<T>(&self, operation: &'static str) -> Result<T> {
        let said = "this server runs its rescue system, and nothing of its machine";
        Err(Error::new(ErrorKind::Unavailable, said).at(&self.site, operation))
    }
}

#[async_trait]
impl Role for Rescued {
    fn name(&self) -> RoleName {
        self.site.clone()
    }

    fn capability(&self) -> Capability {
        self.capability.clone()
    }

    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Source for Rescued {
    /// Off, as long as the rescue system runs; what keeps it off is the keeper's to say.
    async fn power(&self, _: &Instance) -> Result<Power> {
        Ok(Power::Off { start: StartGuard::Free })
    }

    async fn discover(&self) -> Result<Vec<Machine>> {
        self.not_now("discover")
    }

    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        self.not_now("enrol")
    }

    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        self.not_now("dismiss")
    }

    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        self.not_now("capture")
    }

    async fn changes(&self, _: &Capture, _: &MachineId, _: &Cursor) -> Result<Changes> {
        self.not_now("changes")
    }

    async fn disks(&self, _: &Op, _: &Capture, _: &MachineId) -> Result<Disks> {
        self.not_now("disks")
    }

    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        self.not_now("release")
    }

    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        Ok(vec![])
    }

    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        self.not_now("fence")
    }

    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        self.not_now("unfence")
    }
}
