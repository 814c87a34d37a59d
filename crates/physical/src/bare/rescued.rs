//! A server that runs its rescue system, as its keeper asks it.

use super::{BareDisks, Site};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Result, Role, RoleName, Source, Start, StartGuard,
};
use std::time::Duration;

/// Answers for a server whose own system does not run: it is off, as far as its machine goes, for as long as its disks are
/// nobody else's. It knows nothing else of it.
#[derive(Debug, Clone)]
pub struct Rescued {
    disks: BareDisks,
    capability: Capability,
}

impl BareDisks {
    /// As the source of these disks' server, whose agent has this capability: whoever asks finds the same role, whichever
    /// system runs.
    pub fn rescued(&self, capability: Capability) -> Rescued {
        Rescued { disks: self.clone(), capability }
    }

    /// That a rescue system runs here, as far as can be read: each slot is held by a landing, or nobody has it. A system that
    /// is mounted from one of them, or a volume on it, is somebody.
    ///
    /// # Errors
    /// `Busy`, naming the disk; whatever keeps one from being opened.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn must_be_free(&self) -> Result<()> {
        self.act("look", Site::must_be_free).await
    }
}

impl Site {
    fn must_be_free(&self) -> Result<()> {
        for server in self.servers.values() {
            for slot in &server.slots {
                // Under the lock: nobody is to find a disk in use because we look at it.
                let held = self.held();
                let ours = held.get(&(server.name.clone(), slot.id.clone()));
                if !ours.is_some_and(|held| held.slot() == slot) {
                    slot.must_be_free()?;
                }
            }
        }
        Ok(())
    }
}

impl Rescued {
    fn not_now<T>(&self, operation: &'static str) -> Result<T> {
        let said = "this server runs its rescue system, and nothing of its machine";
        Err(Error::new(ErrorKind::Unavailable, said).at(&self.disks.name(), operation))
    }
}

#[async_trait]
impl Role for Rescued {
    fn name(&self) -> RoleName {
        self.disks.name()
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
    /// Off, as long as its disks are held here, or in nobody's use; what keeps it off is the keeper's to say. Otherwise
    /// nobody knows what runs.
    async fn power(&self, _: &Instance) -> Result<Power> {
        match self.disks.must_be_free().await {
            Ok(()) => Ok(Power::Off { start: StartGuard::Free }),
            Err(e) => {
                tracing::warn!(error = %e, "this may be no rescue system: a disk of the server is not ours");
                Ok(Power::Unknown)
            }
        }
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
        self.not_now("sweep")
    }

    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        self.not_now("fence")
    }

    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        self.not_now("unfence")
    }
}
