//! The site as a source.

use super::Azure;
use super::exported::CapturedDisk;
use super::register::Asker;
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, Changes, Consistency, Cursor, Disk, Disks, Fate, Instance, Lifted, Machine,
    MachineId, Op, OpKey, Power, Result, Source, Start,
};
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl Source for Azure {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.at("discover", self.0.discover().await)
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.at("enrol", self.0.enrol(op, machine).await)
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.at("dismiss", self.0.dismiss(op, instance).await)
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.at("capture", self.0.capture(op, of, want).await)
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.at("changes", self.0.changes(capture, machine, since).await)
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.at("disks", self.captured(op, capture, machine).await)
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.at("release", self.0.release(op, capture, machine, fate).await)
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.at("sweep", self.0.sweep(op, instance, keep).await)
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.at("power", self.0.power(instance).await)
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.at("fence", self.0.fence(op, instance, grace).await)
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        self.at("unfence", self.0.unfence(op, instance, permit, start).await)
    }
}

impl Azure {
    async fn captured(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let member = capture.member(machine)?;
        let turn = self.0.turn(op, machine).await?;
        let marked = self.0.mark_of(&member.machine.instance).await?;
        let cut = marked.mark.held(capture)?;
        let mut disks = Disks::new();
        for spec in member.machine.included() {
            let Some(snapshot) = cut.snapshots.get(&spec.id) else { continue };
            // Asked for now, so that who reads finds out here and not in the middle.
            self.0.exported(&turn, snapshot).await.map_err(|e| e.with("disk", &spec.id))?;
            let disk = CapturedDisk {
                site: Arc::clone(&self.0),
                asker: Asker::clone(&turn),
                id: spec.id.clone(),
                snapshot: snapshot.clone(),
                size: spec.size,
            };
            disks.insert(spec.id.clone(), Arc::new(disk) as Arc<dyn Disk>);
        }
        Ok(disks)
    }
}
