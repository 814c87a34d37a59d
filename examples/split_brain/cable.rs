//! A cable between the engine and a site, which can be cut: the site and its machines go on, and nobody hears of them. The
//! one part of this example that is played.

use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Result, Role, RoleName, Source, Start,
};
use site_recovery_qemu::QemuSite;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Cable {
    site: QemuSite,
    cut: AtomicBool,
}

impl Cable {
    pub(crate) fn to(site: QemuSite) -> Self {
        Self { site, cut: AtomicBool::new(false) }
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    fn site(&self) -> Result<&QemuSite> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the cable is cut"));
        }
        Ok(&self.site)
    }
}

#[async_trait]
impl Role for Cable {
    fn name(&self) -> RoleName {
        self.site.name()
    }
    fn capability(&self) -> Capability {
        self.site.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.site()?.claim(op, machine).await
    }
}

#[async_trait]
impl Source for Cable {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.site()?.discover().await
    }
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.site()?.enrol(op, machine).await
    }
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.site()?.dismiss(op, instance).await
    }
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.site()?.capture(op, of, want).await
    }
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.site()?.changes(capture, machine, since).await
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.site()?.disks(op, capture, machine).await
    }
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.site()?.release(op, capture, machine, fate).await
    }
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.site()?.sweep(op, instance, keep).await
    }
    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.site()?.power(instance).await
    }
    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.site()?.fence(op, instance, grace).await
    }
    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        self.site()?.unfence(op, instance, permit, start).await
    }
}
