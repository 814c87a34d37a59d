use super::{nothing, wishful};
use crate::fault::{fresh, is};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capability, Capture, ChangeSet, Changes, Complete, Consistency, Cursor, CutId, DiskId, Disks,
    ErrorKind, Fate, Hash, Head, Ingest, Instance, Landed, Lifted, Machine, MachineId, Manifest, Op, OpKey,
    PhaseRecord, Point, PointId, Power, Record, Replica, Result, Role, RoleName, Run, Seed, Settings, Source,
    Start,
};
use std::sync::Arc;
use std::time::Duration;

/// The source, as a broken process server sees it.
#[derive(Debug)]
pub(super) struct LyingSource(pub(super) Arc<dyn Source>);

#[async_trait]
impl Role for LyingSource {
    fn name(&self) -> RoleName {
        self.0.name()
    }
    fn capability(&self) -> Capability {
        self.0.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.0.claim(op, machine).await
    }
}

#[async_trait]
impl Source for LyingSource {
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        Ok(match self.0.changes(&as_captured(capture), machine, since).await? {
            Changes::Lost { .. } if is("lost changes are no changes") => Changes::Known(ChangeSet::new()),
            Changes::Known(told) if is("a block on the way is lost") => {
                let runs = told.disks().flat_map(|(d, runs)| runs.iter().map(|r| (d.clone(), *r)));
                Changes::Known(runs.skip(1).collect())
            }
            changes => changes,
        })
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        if is("the first capture is shipped again") {
            let first = Capture { cut: "cut-1".into(), ..capture.clone() };
            return self.0.disks(op, &first, machine).await;
        }
        self.0.disks(op, &as_captured(capture), machine).await
    }
    async fn discover(&self) -> Result<Vec<Machine>> {
        Err(nothing())
    }
    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        Err(nothing())
    }
    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(nothing())
    }
    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        Err(nothing())
    }
    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        Err(nothing())
    }
    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        Err(nothing())
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        Err(nothing())
    }
    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        Err(nothing())
    }
    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        Err(nothing())
    }
}

/// The capture under the cut that the source knows: `cut-1` of `cut-1-again`.
fn as_captured(capture: &Capture) -> Capture {
    let known: Vec<&str> = capture.cut.as_str().splitn(3, '-').take(2).collect();
    Capture { cut: CutId(known.join("-")), ..capture.clone() }
}

/// The replica, as a broken process server sees it.
#[derive(Debug)]
pub(super) struct LyingReplica(pub(super) Arc<dyn Replica>);

#[async_trait]
impl Role for LyingReplica {
    fn name(&self) -> RoleName {
        self.0.name()
    }
    fn capability(&self) -> Capability {
        self.0.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.0.claim(op, machine).await
    }
}

#[async_trait]
impl Replica for LyingReplica {
    async fn head(&self, machine: &MachineId) -> Result<Head> {
        Ok(match self.0.head(machine).await? {
            Head::Unsettled { point, cursor, .. } if is("what was touched is left out") => {
                Head::Unsettled { point, cursor, touched: ChangeSet::new() }
            }
            Head::Unsettled { point: None, .. } if is("a broken cycle begins anew") => Head::Empty,
            head => head,
        })
    }
    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        let mut ingest = self.0.begin(op, machine, cut, plan).await?;
        if is("a broken cycle begins anew") {
            ingest.resume.clear();
        }
        Ok(ingest)
    }
    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.0.write(ingest, batch, records).await
    }
    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        let mut manifest = manifest.clone();
        if is("the instant is when it was sealed") {
            manifest.taken.0 += 1;
        }
        let sealed = self.0.seal(ingest, &manifest, complete).await;
        let believed = match sealed.as_ref().map_err(|e| e.kind()) {
            Err(ErrorKind::Unavailable) => is("silence at the seal is a seal"),
            Err(ErrorKind::OutOfSpace) => is("a refusal to seal is a seal"),
            _ => false,
        };
        if believed { Ok(wishful(&manifest.cut, manifest.machine.id())) } else { sealed }
    }
    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.0.points(machine).await
    }
    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let mut hashes = self.0.hashes(machine, disk, run).await?;
        if is("everything is sent, whatever the hashes say") {
            hashes.iter_mut().for_each(|h| *h = Hash::from(fresh()));
        }
        Ok(hashes)
    }
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.0.machines().await
    }
    async fn prepare(&self, _: &Op, _: &Machine, _: &Seed, _: &Settings) -> Result<()> {
        Err(nothing())
    }
    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.0.manifest(machine, point).await
    }
    async fn open(&self, _: &MachineId, _: PointId) -> Result<Disks> {
        Err(nothing())
    }
    async fn changed(&self, _: &MachineId, _: Option<PointId>, _: PointId) -> Result<Option<ChangeSet>> {
        Err(nothing())
    }
    async fn pin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        Err(nothing())
    }
    async fn unpin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        Err(nothing())
    }
    async fn prune(&self, _: &Op, _: &MachineId, _: &[PointId]) -> Result<Vec<PointId>> {
        Err(nothing())
    }
    async fn delete(&self, _: &Op, _: &MachineId) -> Result<()> {
        Err(nothing())
    }
    async fn remember(&self, _: &Op, _: &MachineId, _: &PhaseRecord) -> Result<()> {
        Err(nothing())
    }
    async fn recall(&self, _: &MachineId) -> Result<Option<PhaseRecord>> {
        Err(nothing())
    }
}
