//! An agent that is not one: a directory as the server's system, which answers while a fake server runs.

use crate::support::FakeServer;
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_local::LocalSite;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct FakeAgent {
    pub(crate) system: LocalSite,
    pub(crate) server: Arc<FakeServer>,
    /// Takes every question, and never answers.
    pub(crate) hangs: AtomicBool,
    /// Says what a rescue system says, whatever runs: somebody has its certificate.
    pub(crate) pretends: AtomicBool,
}

impl FakeAgent {
    async fn here(&self) -> Result<&LocalSite> {
        while self.hangs.load(Ordering::SeqCst) {
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
        let runs = self.server.runs() && !self.server.truth().agent_dead;
        runs.then_some(&self.system).ok_or_else(|| Error::new(ErrorKind::Unavailable, "connection refused"))
    }
}

#[async_trait]
impl Role for FakeAgent {
    fn name(&self) -> RoleName {
        self.system.name()
    }
    fn capability(&self) -> Capability {
        Capability { captures_off: false, fences: false, ..self.system.capability() }
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.here().await?.claim(op, machine).await
    }
}

#[async_trait]
impl Source for FakeAgent {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.here().await?.discover().await
    }
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.here().await?.enrol(op, machine).await
    }
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here().await?.dismiss(op, instance).await
    }
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.here().await?.capture(op, of, want).await
    }
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.here().await?.changes(capture, machine, since).await
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.here().await?.disks(op, capture, machine).await
    }
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.here().await?.release(op, capture, machine, fate).await
    }
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.here().await?.sweep(op, instance, keep).await
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        let truth = self.server.truth().clone();
        if self.pretends.load(Ordering::SeqCst) {
            return Ok(Power::Off { start: StartGuard::Free });
        }
        if truth.on && truth.rescue && !truth.agent_dead {
            // The rescue system answers in its place.
            return Ok(Power::Off { start: StartGuard::Free });
        }
        self.here().await.map(|_| Power::On)
    }
    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "an agent fences nobody"))
    }
    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        Err(Error::new(ErrorKind::Unsupported, "an agent starts nobody"))
    }
}
