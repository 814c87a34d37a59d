use super::RegisterAlone;
use async_trait::async_trait;
use site_recovery::*;
use std::time::Duration;

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "this source is a register alone"))
}

#[async_trait]
impl Role for RegisterAlone {
    fn name(&self) -> RoleName {
        "here".into()
    }
    fn capability(&self) -> Capability {
        Capability { fences: false, tracks: false, ..Capability::default() }
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.0.turn(op, machine).map(drop)
    }
}

#[async_trait]
impl Source for RegisterAlone {
    async fn discover(&self) -> Result<Vec<Machine>> {
        unused()
    }
    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        unused()
    }
    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        unused()
    }
    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        unused()
    }
    async fn changes(&self, _: &Capture, _: &MachineId, _: &Cursor) -> Result<Changes> {
        unused()
    }
    async fn disks(&self, _: &Op, _: &Capture, _: &MachineId) -> Result<Disks> {
        unused()
    }
    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        unused()
    }
    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        unused()
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        unused()
    }
    async fn fence(&self, op: &Op, instance: &Instance, _: Duration) -> Result<()> {
        self.claim(op, &instance.machine).await?;
        unused()
    }
    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        unused()
    }
}
