//! A store of recovery points in memory.

use super::disk::{Content, Frozen, cut};
use super::timeline::{Sealed, Timelines, hashes, locked, plain};
use super::{BLOCK, ManualClock};
use async_trait::async_trait;
use site_recovery::{
    Capability, ChangeSet, Clock, Complete, CutId, Disk, DiskId, Disks, Error, ErrorKind, Finding, Hash,
    Head, Ingest, Landed, Machine, MachineId, Manifest, Op, PhaseRecord, Point, PointId, Record,
    RecoveryPointStore, Replica, Result, Role, RoleName, Run, Seed, Settings, Severity, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

/// A `Replica` and `RecoveryPointStore` that keeps every point whole. Clones share it.
///
/// Every method is one act under one lock, so a register never passes a call whose effect comes after a `claim`.
#[derive(Debug, Clone)]
pub struct MemoryReplica {
    name: RoleName,
    clock: ManualClock,
    down: Arc<AtomicBool>,
    drops: Arc<AtomicUsize>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    timelines: Timelines<Kept>,
    working: BTreeMap<MachineId, Content>,
}

/// A point's bytes, and their hashes by block at the time of the seal.
#[derive(Debug)]
struct Kept {
    content: Content,
    sums: BTreeMap<DiskId, Vec<u64>>,
}

impl MemoryReplica {
    /// An empty store.
    pub fn new(name: &str, clock: ManualClock) -> Self {
        let drops = Arc::new(AtomicUsize::new(usize::MAX));
        Self { name: name.into(), clock, down: Arc::default(), drops, state: Arc::default() }
    }

    /// Takes the store down, or brings it back: while it is down every method is `Unavailable`.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// From now on a call of `prune` drops so many points at most.
    pub fn drops_at_most(&self, points: usize) {
        self.drops.store(points, Ordering::SeqCst);
    }

    /// Flips one byte of a sealed point, as a bad disk would.
    ///
    /// # Panics
    /// When there is no such point, disk or byte.
    pub fn damage(&self, machine: &MachineId, point: PointId, disk: &DiskId, at: u64) {
        let mut state = self.state();
        let sealed =
            state.timelines.line(machine).and_then(|l| l.point(point)).expect("there is such a point");
        let bytes = sealed.kept.content.get_mut(disk).expect("there is such a disk");
        Arc::make_mut(bytes)[at as usize] ^= 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, operation: &'static str, f: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        if self.down.load(Ordering::SeqCst) {
            let error = Error::new(ErrorKind::Unavailable, "the store does not answer");
            return Err(error.at(&self.name, operation));
        }
        f(&mut self.state()).map_err(|e| e.at(&self.name, operation))
    }

    fn act<T>(
        &self,
        operation: &'static str,
        op: &Op,
        machine: &MachineId,
        f: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        self.ask(operation, |state| {
            state.timelines.register.pass(op, machine)?;
            f(state)
        })
    }
}

#[async_trait]
impl Role for MemoryReplica {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability { locks: true, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.act("claim", op, machine, |_| Ok(()))
    }
}

#[async_trait]
impl Replica for MemoryReplica {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.ask("machines", |state| Ok(state.timelines.machines()))
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, _settings: &Settings) -> Result<()> {
        self.act("prepare", op, machine.id(), |state| {
            machine.validate()?;
            state.timelines.prepare(op, machine, seed)?;
            fit(state.working.entry(machine.id().clone()).or_default(), machine);
            Ok(())
        })
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.ask("head", |state| Ok(state.timelines.head(machine)))
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        self.act("begin", op, machine.id(), |state| {
            let ingest = state.timelines.line(machine.id())?.begin(op, machine, cut, plan)?;
            fit(state.working.entry(machine.id().clone()).or_default(), machine);
            Ok(ingest)
        })
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.act("write", &ingest.op, &ingest.machine, |state| {
            let line = state.timelines.line(&ingest.machine)?;
            if let Some(landed) = line.check(ingest, batch, &records)? {
                return Ok(landed);
            }
            let working = state.working.entry(ingest.machine.clone()).or_default();
            for record in &records {
                line.touch(record);
                let bytes = working.get_mut(&record.disk).expect("as large as the machine says");
                Arc::make_mut(bytes)[record.run.start as usize..record.run.end() as usize]
                    .copy_from_slice(&plain(record)?);
            }
            line.land(ingest, batch, &records)
        })
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.act("seal", &ingest.op, &ingest.machine, |state| {
            let working = state.working.get(&ingest.machine).cloned().unwrap_or_default();
            let included = |id: &DiskId| manifest.machine.included().any(|d| &d.id == id);
            let content: Content = working.into_iter().filter(|(id, _)| included(id)).collect();
            let kept = || Kept { sums: sums(&content), content };
            state.timelines.line(&ingest.machine)?.seal(ingest, manifest, complete, |_| kept())
        })
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.ask("points", |state| Ok(state.timelines.points(machine)))
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.ask("manifest", |state| state.timelines.line(machine)?.manifest(point))
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        self.ask("open", |state| {
            let sealed = state.timelines.line(machine)?.point(point)?;
            if let Some((disk, run)) = damaged(&sealed.kept).first() {
                let message = format!("point {point}: disk {disk} is damaged at {}", run.start);
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Ok(opened(sealed, &sealed.kept.content, &self.down))
        })
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.ask("hashes", |state| {
            let working = state.working.get(machine).and_then(|w| w.get(disk));
            let missing = || Error::new(ErrorKind::NotFound, format!("{machine} has no disk {disk} here"));
            hashes(working.ok_or_else(missing)?, run)
        })
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        self.ask("changed", |state| Ok(state.timelines.line(machine)?.changed(from, to)))
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.act("pin", op, machine, |state| state.timelines.line(machine)?.pin(point, why))
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        self.act("unpin", op, machine, |state| state.timelines.line(machine)?.unpin(point, why))
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        let now = self.clock.now();
        self.act("prune", op, machine, |state| {
            let line = state.timelines.line(machine)?;
            let gone = drop.iter().filter_map(|id| line.drop_point(*id, now, |_, _| ()));
            Ok(gone.take(self.drops.load(Ordering::SeqCst)).collect())
        })
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let now = self.clock.now();
        self.act("delete", op, machine, |state| {
            if let Some(point) = state.timelines.points(machine).iter().find(|p| locked(p, now)) {
                let message = format!("point {} of {machine} is locked", point.id);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            state.timelines.lines.remove(machine);
            state.working.remove(machine);
            Ok(())
        })
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.ask("remember", |state| state.timelines.remember(op, machine, record))
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        self.ask("recall", |state| Ok(state.timelines.recall(machine)))
    }
}

#[async_trait]
impl RecoveryPointStore for MemoryReplica {
    async fn lock(&self, op: &Op, machine: &MachineId, point: PointId, until: Timestamp) -> Result<()> {
        self.act("lock", op, machine, |state| {
            let held = &mut state.timelines.line(machine)?.point(point)?.point.locked_until;
            if held.is_some_and(|held| held > until) {
                let message = format!("point {point} is locked for longer than until {until}");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            *held = Some(until);
            Ok(())
        })
    }

    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        self.ask("scrub", |state| {
            let sealed = state.timelines.line(machine)?.point(point)?;
            let finding = |(disk, run): (DiskId, Run)| {
                let cause = format!("point {point}: disk {disk} is damaged at {}+{}", run.start, run.len);
                Finding::new(
                    "point.damaged",
                    Severity::Critical,
                    cause,
                    "resynchronise, then seal a new point",
                )
            };
            Ok(damaged(&sealed.kept).into_iter().map(finding).collect())
        })
    }
}

/// The disks of an opened point; while one of them lives, so does the point.
pub(super) fn opened<P>(sealed: &Sealed<P>, content: &Content, down: &Arc<AtomicBool>) -> Disks {
    let frozen = |bytes: &Arc<Vec<u8>>| {
        let (lease, down) = (Some(Arc::clone(&sealed.lease)), Some(Arc::clone(down)));
        Arc::new(Frozen { bytes: Arc::clone(bytes), down, _lease: lease }) as Arc<dyn Disk>
    };
    content.iter().map(|(id, bytes)| (id.clone(), frozen(bytes))).collect()
}

/// Makes the working copy as large as the machine.
fn fit(working: &mut Content, machine: &Machine) {
    for disk in machine.included() {
        let bytes = working.entry(disk.id.clone()).or_default();
        if (bytes.len() as u64) < disk.size {
            Arc::make_mut(bytes).resize(disk.size as usize, 0);
        }
    }
}

fn sums(content: &Content) -> BTreeMap<DiskId, Vec<u64>> {
    let sums = |bytes: &Arc<Vec<u8>>| bytes.chunks(BLOCK as usize).map(xxh3_64).collect();
    content.iter().map(|(id, bytes)| (id.clone(), sums(bytes))).collect()
}

fn damaged(kept: &Kept) -> Vec<(DiskId, Run)> {
    let mut damaged = vec![];
    for (id, bytes) in &kept.content {
        let runs = Run::new(0, bytes.len() as u64).pieces(BLOCK);
        for (run, sum) in runs.zip(&kept.sums[id]) {
            if cut(bytes, run).map(xxh3_64).ok() != Some(*sum) {
                damaged.push((id.clone(), run));
            }
        }
    }
    damaged
}
