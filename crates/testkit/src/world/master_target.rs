//! A master target in memory, in place over any landing site.

use super::disk::Content;
use super::replica::opened;
use super::timeline::{Timelines, hashes, locked, plain};
use super::{BLOCK, ManualClock};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::role::POINT_ZERO;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, ChangeSet, Clock, Complete, Consistency, CutId, DiskId, Disks,
    Error, ErrorKind, Finding, Hash, Head, Ingest, Instance, Landed, LandingSite, Machine, MachineId,
    Manifest, MasterTarget, Offers, Op, OpKey, PhaseRecord, Point, PointId, Pool, Purpose, Record, Recovery,
    RecoverySite, Replica, Result, Role, RoleName, Run, Seed, Settings, Stamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// A `MasterTarget` over a landing site: the landing disks are its working copy, and its retention log, in memory,
/// holds what they held before. Clones share it.
///
/// One call per machine at a time: register and effect are under one lock, so that after a `claim` nothing older lands.
#[derive(Debug, Clone)]
pub struct MemoryMasterTarget {
    name: RoleName,
    clock: ManualClock,
    on: Arc<dyn LandingSite>,
    pool: Pool,
    gates: Arc<Mutex<BTreeMap<MachineId, Arc<tokio::sync::Mutex<()>>>>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    timelines: Timelines<Kept>,
    landings: BTreeMap<MachineId, Landing>,
    withdrawn: BTreeSet<OpKey>,
    aside: BTreeMap<OpKey, Instance>,
}

/// What blocks held before: by disk and number of the block.
type Undo = BTreeMap<(DiskId, u64), Bytes>;

#[derive(Debug, Default)]
struct Kept {
    /// Of the blocks that were written between the point before and this one.
    undo: Undo,
    /// The whole point, where it was written out.
    whole: Option<Content>,
}

/// The disks that one machine lands on.
#[derive(Debug, Clone)]
struct Landing {
    instance: Instance,
    /// Whether `attach` made it.
    made: bool,
    stamp: Option<Stamp>,
    /// Of the blocks that were written since the newest point.
    undo: Undo,
    handed: Handed,
}

#[derive(Debug, Clone)]
enum Handed {
    /// The disks are ours.
    No,
    /// A promotion stands on them.
    Over {
        key: OpKey,
        /// The working copy as it was.
        below: Content,
        armed: Option<Armed>,
        booted: bool,
    },
    /// It was settled: the disks are the machine's own, for good.
    Away,
}

impl MemoryMasterTarget {
    /// A master target that lands on this site.
    pub fn new(name: &str, clock: ManualClock, on: Arc<dyn LandingSite>) -> Self {
        let (gates, state) = (Arc::default(), Arc::default());
        Self { name: name.into(), clock, on, pool: Pool::new(1 << 20), gates, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other call of this machine is under way.
    async fn gate(&self, machine: &MachineId) -> OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(gates.entry(machine.clone()).or_default())
        };
        gate.lock_owned().await
    }

    async fn pass(&self, op: &Op, machine: &MachineId) -> Result<OwnedMutexGuard<()>> {
        let gate = self.gate(machine).await;
        self.state().timelines.register.pass(op, machine)?;
        Ok(gate)
    }

    fn landing(&self, machine: &MachineId) -> Result<Landing> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{machine} has no landing here"));
        self.state().landings.get(machine).cloned().ok_or_else(missing)
    }

    fn at<T>(&self, operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.at(&self.name, operation))
    }
}

#[async_trait]
impl Role for MemoryMasterTarget {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        let branches = self.on.capability().branches;
        Capability { opens_while_booted: false, drills: false, branches, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let passed = self.pass(op, machine).await;
        self.at("claim", passed.map(drop))
    }
}

#[async_trait]
impl Replica for MemoryMasterTarget {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        Ok(self.state().timelines.machines())
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        let prepared = async {
            let _gate = self.pass(op, machine.id()).await?;
            self.prepare_landing(op, machine, seed, settings).await
        };
        let prepared = prepared.await;
        self.at("prepare", prepared)
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        let _gate = self.gate(machine).await;
        let head = self.state().timelines.head(machine);
        let Ok(landing) = self.landing(machine) else { return Ok(head) };
        let started = self.was_started(&landing).await;
        if !self.at("head", started)? {
            return Ok(head);
        }
        let mut state = self.state();
        let line = state.timelines.line(machine)?;
        let point = line.sealed.iter().rev().find(|s| s.manifest.is_some()).map(|s| s.point.id);
        let touched = ChangeSet::whole(line.machine.included());
        Ok(Head::Unsettled { point, cursor: None, touched })
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        let begun = async {
            let _gate = self.pass(op, machine.id()).await?;
            let landing = self.ours(machine.id())?;
            if self.was_started(&landing).await? {
                self.doubt(&landing, machine, plan).await?;
            }
            let ingest = self.state().timelines.line(machine.id())?.begin(op, machine, cut, plan)?;
            let larger = op.part("attach");
            self.on.attach(&larger, machine, Some(landing.instance), &Settings::default()).await?;
            Ok(ingest)
        };
        let begun = begun.await;
        self.at("begin", begun)
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        let written = async {
            let _gate = self.pass(&ingest.op, &ingest.machine).await?;
            let landing = self.ours(&ingest.machine)?;
            let landed = self.state().timelines.line(&ingest.machine)?.check(ingest, batch, &records)?;
            if let Some(landed) = landed {
                return Ok(landed);
            }
            for record in &records {
                self.overwrite(&landing, record).await?;
            }
            self.state().timelines.line(&ingest.machine)?.land(ingest, batch, &records)
        };
        let written = written.await;
        self.at("write", written)
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        let sealed = async {
            let _gate = self.pass(&ingest.op, &ingest.machine).await?;
            let mut state = self.state();
            let State { timelines, landings, .. } = &mut *state;
            let landing = landings.get_mut(&ingest.machine);
            timelines.line(&ingest.machine)?.seal(ingest, manifest, complete, |_| Kept {
                undo: landing.map(|l| std::mem::take(&mut l.undo)).unwrap_or_default(),
                whole: None,
            })
        };
        let sealed = sealed.await;
        self.at("seal", sealed)
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        Ok(self.state().timelines.points(machine))
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        let manifest = self.state().timelines.line(machine).and_then(|l| l.manifest(point));
        self.at("manifest", manifest)
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let disks = async {
            let _gate = self.gate(machine).await;
            let content = self.content_at(machine, point).await?;
            let mut state = self.state();
            Ok(opened(state.timelines.line(machine)?.point(point)?, &content, &Arc::default()))
        };
        let disks = disks.await;
        self.at("open", disks)
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let found = async {
            let _gate = self.gate(machine).await;
            let working = self.working(&self.ours(machine)?).await?;
            let missing = || Error::new(ErrorKind::NotFound, format!("{machine} has no disk {disk} here"));
            hashes(working.get(disk).ok_or_else(missing)?, run)
        };
        let found = found.await;
        self.at("hashes", found)
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        let changed = self.state().timelines.line(machine).map(|l| l.changed(from, to));
        self.at("changed", changed)
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let passed = self.pass(op, machine).await;
        let pinned = passed.and_then(|_gate| self.state().timelines.line(machine)?.pin(point, why));
        self.at("pin", pinned)
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let passed = self.pass(op, machine).await;
        let unpinned = passed.and_then(|_gate| self.state().timelines.line(machine)?.unpin(point, why));
        self.at("unpin", unpinned)
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        let now = self.clock.now();
        let passed = self.pass(op, machine).await;
        let pruned = passed.and_then(|_gate| {
            let mut state = self.state();
            let line = state.timelines.line(machine)?;
            // What a block held before the dropped point's writes is older, so it is what counts for the points before.
            let merge = |gone: Kept, next: &mut Kept| next.undo.extend(gone.undo);
            Ok(drop.iter().filter_map(|id| line.drop_point(*id, now, merge)).collect())
        });
        self.at("prune", pruned)
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let deleted = async {
            let _gate = self.pass(op, machine).await?;
            let now = self.clock.now();
            if let Some(point) = self.state().timelines.points(machine).iter().find(|p| locked(p, now)) {
                let message = format!("point {} of {machine} is locked", point.id);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            self.give_back(op, machine).await?;
            let mut state = self.state();
            state.timelines.lines.remove(machine);
            state.landings.remove(machine);
            Ok(())
        };
        let deleted = deleted.await;
        self.at("delete", deleted)
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        let _gate = self.gate(machine).await;
        let remembered = self.state().timelines.remember(op, machine, record);
        self.at("remember", remembered)
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        Ok(self.state().timelines.recall(machine))
    }
}

#[async_trait]
impl RecoverySite for MemoryMasterTarget {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let mut findings = self.on.survey(machine, settings).await?.findings;
        if let Err(error) = settings.validate().and_then(|()| placeable(settings)) {
            let field = super::site::field(&error);
            findings.push(Finding::setting(field, "not valid", error.message(), "change it"));
        }
        Ok(findings)
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        let armed = async {
            if what.purpose == Purpose::Drill {
                return Err(Error::new(ErrorKind::Unsupported, "a drill in place would stop replication"));
            }
            if from.name() != self.name {
                let message =
                    format!("a master target hands over its own points, not those of {}", from.name());
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let _gate = self.pass(op, what.machine.id()).await?;
            self.hand_over(op, what).await
        };
        let armed = armed.await;
        self.at("materialise", armed)
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        let withdrawn = async {
            let _gate = self.pass(op, what.machine.id()).await?;
            self.take_back(op, made_by, what.machine.id()).await
        };
        let withdrawn = withdrawn.await;
        self.at("withdraw", withdrawn)
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        let booted = async {
            permit.admits(op, &armed.instance)?;
            let _gate = self.pass(op, &armed.instance.machine).await?;
            self.promoted(&armed.instance, |booted| *booted = true)?;
            self.on.detach(&op.part("detach"), &armed.instance).await?;
            self.on.start(op, &armed.instance, what, permit).await
        };
        let booted = booted.await;
        self.at("boot", booted)
    }

    async fn tend(&self, op: &Op, armed: &Armed, _from: &Arc<dyn Replica>) -> Result<()> {
        let passed = self.pass(op, &armed.instance.machine).await;
        self.at("tend", passed.map(drop))
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        let settled = async {
            let machine = &armed.instance.machine;
            let _gate = self.pass(op, machine).await?;
            let landing = self.landing(machine)?;
            if matches!(landing.handed, Handed::Away) && landing.instance.is(&armed.instance) {
                return Ok(());
            }
            self.promoted(&armed.instance, |_| ())?;
            self.write_out_pinned(machine)?;
            self.on.merge(&op.part("merge"), &armed.instance).await?;
            let mut state = self.state();
            let line = state.timelines.line(machine)?;
            line.sealed.retain(|s| s.kept.whole.is_some());
            line.gave_away();
            let landing = state.landings.get_mut(machine).expect("found above");
            (landing.handed, landing.undo) = (Handed::Away, Undo::new());
            Ok(())
        };
        let settled = settled.await;
        self.at("settle", settled)
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let kept = async {
            let _gate = self.pass(op, &instance.machine).await?;
            if let Some(kept) = self.state().aside.get(&op.key) {
                return Ok(kept.clone());
            }
            self.promoted(instance, |_| ())?;
            let kept = self.on.part(&op.part("part"), instance).await?;
            self.stand_again(op, instance).await?;
            self.state().aside.insert(op.key.clone(), kept.clone());
            Ok(kept)
        };
        let kept = kept.await;
        self.at("set_aside", kept)
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        let destroyed = async {
            let _gate = self.pass(op, &instance.machine).await?;
            if self.landing(&instance.machine).is_ok_and(|l| l.instance.is(instance)) {
                let message = format!("{} is the landing itself", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            self.on.remove(op, instance).await
        };
        let destroyed = destroyed.await;
        self.at("destroy", destroyed)
    }
}

#[async_trait]
impl MasterTarget for MemoryMasterTarget {
    async fn offers(&self) -> Result<Offers> {
        Ok(super::site::offers())
    }
}

/// Landing: attaching, writing over, reading back.
impl MemoryMasterTarget {
    async fn prepare_landing(
        &self,
        op: &Op,
        machine: &Machine,
        seed: &Seed,
        settings: &Settings,
    ) -> Result<()> {
        machine.validate()?;
        settings.validate()?;
        placeable(settings)?;
        if self.state().timelines.line(machine.id()).is_ok_and(|l| l.was_prepared(op)) {
            return Ok(());
        }
        let before = self.landing(machine.id()).ok();
        if before.as_ref().is_some_and(|l| matches!(l.handed, Handed::Over { .. })) {
            let message = format!("a promotion of {} stands on the landing disks", machine.id());
            return Err(Error::new(ErrorKind::Refused, message + ": settle it or set it aside"));
        }
        let named = match seed {
            Seed::Fresh => None,
            Seed::Known { landing, .. } | Seed::Unknown { landing } => landing.clone(),
        };
        let ours = before.clone().filter(|l| matches!(l.handed, Handed::No));
        let existing = named.clone().or(ours.as_ref().map(|l| l.instance.clone()));
        let instance = self.on.attach(&op.part("attach"), machine, existing.clone(), settings).await?;
        let stamp = self.on.stamp(&instance).await?;
        let mut state = self.state();
        let line = state.timelines.prepare(op, machine, seed)?;
        let goes_on = ours.as_ref().is_some_and(|l| l.instance.is(&instance));
        if existing.is_some() && !goes_on && !line.sealed.iter().any(|s| s.point.id == PointId(0)) {
            line.sealed.insert(0, point_zero(machine, &instance, self.clock.now()));
        }
        let landing = Landing {
            made: existing.is_none() || goes_on && ours.as_ref().is_some_and(|l| l.made),
            undo: ours.filter(|_| goes_on).map(|l| l.undo).unwrap_or_default(),
            instance,
            stamp,
            handed: Handed::No,
        };
        state.landings.insert(machine.id().clone(), landing);
        Ok(())
    }

    /// The landing, while its disks are ours.
    fn ours(&self, machine: &MachineId) -> Result<Landing> {
        let landing = self.landing(machine)?;
        match landing.handed {
            Handed::No => Ok(landing),
            Handed::Over { .. } | Handed::Away => {
                let message = format!("the disks of {} are handed over", landing.instance.name);
                Err(Error::new(ErrorKind::Refused, message))
            }
        }
    }

    async fn was_started(&self, landing: &Landing) -> Result<bool> {
        if !matches!(landing.handed, Handed::No) {
            return Ok(false);
        }
        Ok(self.on.stamp(&landing.instance).await? != landing.stamp)
    }

    /// Somebody started the landing machine past us: points that rest on its disks are in doubt, and only a comparison of
    /// everything ends it.
    async fn doubt(&self, landing: &Landing, machine: &Machine, plan: &ChangeSet) -> Result<()> {
        let stamp = self.on.stamp(&landing.instance).await?;
        let mut state = self.state();
        let line = state.timelines.line(machine.id())?;
        line.close();
        line.compare_all(machine);
        for sealed in line.sealed.iter_mut().filter(|s| s.kept.whole.is_none()) {
            sealed.point.verified = false;
        }
        state.landings.get_mut(machine.id()).expect("found above").stamp = stamp;
        let whole = ChangeSet::whole(machine.included());
        if whole.disks().all(|(id, runs)| runs.iter().all(|run| plan.contains(id, *run))) {
            return Ok(());
        }
        let message = format!("{} was started past us: compare everything", landing.instance.name);
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// Keeps what each block held, where this is its first write since the newest point; then writes.
    async fn overwrite(&self, landing: &Landing, record: &Record) -> Result<()> {
        let machine = &landing.instance.machine;
        let disk = self.on.disk(&landing.instance, &record.disk).await?;
        for block in record.run.aligned(BLOCK, disk.size()).pieces(BLOCK) {
            let before = Bytes::copy_from_slice(&disk.read(block, &self.pool).await?);
            let mut state = self.state();
            let undo = &mut state.landings.get_mut(machine).expect("found before").undo;
            undo.entry((record.disk.clone(), block.start / BLOCK)).or_insert(before);
        }
        self.state().timelines.line(machine)?.touch(record);
        match record.payload {
            site_recovery::Payload::Zero => disk.zero(record.run).await?,
            _ => disk.write(record.run.start, plain(record)?).await?,
        }
        disk.flush().await
    }

    /// The landing disks as they stand.
    async fn working(&self, landing: &Landing) -> Result<Content> {
        let specs = self.state().timelines.line(&landing.instance.machine)?.machine.clone();
        let mut content = Content::new();
        for spec in specs.included() {
            let disk = self.on.disk(&landing.instance, &spec.id).await?;
            let mut bytes = Vec::with_capacity(disk.size() as usize);
            for run in Run::new(0, disk.size()).pieces(self.pool.size() as u64) {
                bytes.extend_from_slice(&disk.read(run, &self.pool).await?);
            }
            content.insert(spec.id.clone(), Arc::new(bytes));
        }
        Ok(content)
    }

    /// The bytes of a point, cut to the sizes that it was sealed with.
    async fn content_at(&self, machine: &MachineId, point: PointId) -> Result<Content> {
        let whole = self.state().timelines.line(machine)?.point(point)?.kept.whole.clone();
        if let Some(whole) = whole {
            return Ok(whole);
        }
        let landing = self.landing(machine)?;
        let working = match &landing.handed {
            Handed::No => self.working(&landing).await?,
            Handed::Over { below, booted: false, .. } => below.clone(),
            Handed::Over { .. } | Handed::Away => {
                let message =
                    format!("{} runs on the disks that point {point} rests on", landing.instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
        };
        self.rolled_back(machine, working, &landing.undo, point)
    }

    fn rolled_back(
        &self,
        machine: &MachineId,
        mut content: Content,
        pending: &Undo,
        point: PointId,
    ) -> Result<Content> {
        let mut state = self.state();
        let line = state.timelines.line(machine)?;
        let later = line.sealed.iter().rev().take_while(|s| s.point.id > point).map(|s| &s.kept.undo);
        for ((id, block), before) in std::iter::once(pending).chain(later).flatten() {
            if let Some(bytes) = content.get_mut(id) {
                let start = (block * BLOCK) as usize;
                Arc::make_mut(bytes)[start..start + before.len()].copy_from_slice(before);
            }
        }
        if let Ok(manifest) = line.manifest(point) {
            content.retain(|id, _| manifest.machine.disk(id).is_some());
            for (id, bytes) in &mut content {
                let size = manifest.machine.disk(id).map_or(0, |d| d.size);
                Arc::make_mut(bytes).truncate(size as usize);
            }
        }
        Ok(content)
    }
}

/// Handing over, and taking back.
impl MemoryMasterTarget {
    async fn hand_over(&self, op: &Op, what: &Recovery) -> Result<Armed> {
        let machine = what.machine.id();
        if self.state().withdrawn.contains(&op.key) {
            let message = format!("{} was withdrawn and makes nothing more", op.key);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let mut landing = self.landing(machine)?;
        let below = match landing.handed.clone() {
            Handed::Over { key, armed: Some(armed), .. } if key == op.key => return Ok(armed),
            Handed::Over { key, below, .. } if key == op.key => below,
            _ => self.working(&self.ours(machine)?).await?,
        };
        self.state().timelines.line(machine)?.point(what.point)?;
        let key = op.key.clone();
        landing.handed = Handed::Over { key, below: below.clone(), armed: None, booted: false };
        {
            let mut state = self.state();
            state.timelines.line(machine)?.close();
            state.landings.insert(machine.clone(), landing.clone());
        }
        if self.on.capability().branches {
            self.on.branch(&op.part("branch"), &landing.instance).await?;
        }
        let point = self.content_at(machine, what.point).await?;
        self.write_content(&landing.instance, &point).await?;
        let armed = self.on.arm(&op.part("arm"), &landing.instance, what.generation).await?;
        let armed = Armed { point: what.point, ..armed };
        landing.instance = armed.instance.clone();
        let key = op.key.clone();
        landing.handed = Handed::Over { key, below, armed: Some(armed.clone()), booted: false };
        self.state().landings.insert(machine.clone(), landing);
        Ok(armed)
    }

    /// Writes every block that differs.
    async fn write_content(&self, instance: &Instance, content: &Content) -> Result<()> {
        for (id, bytes) in content {
            let disk = self.on.disk(instance, id).await?;
            for run in Run::new(0, bytes.len() as u64).pieces(BLOCK) {
                let wanted = &bytes[run.start as usize..run.end() as usize];
                if disk.read(run, &self.pool).await? != wanted {
                    disk.write(run.start, Bytes::copy_from_slice(wanted)).await?;
                }
            }
            disk.flush().await?;
        }
        Ok(())
    }

    async fn take_back(&self, op: &Op, made_by: &OpKey, machine: &MachineId) -> Result<()> {
        let handed = self.landing(machine).ok();
        let ours = handed.and_then(|l| match l.handed {
            Handed::Over { key, below, booted, .. } if &key == made_by => Some((l.instance, below, booted)),
            _ => None,
        });
        if let Some((instance, below, booted)) = ours {
            if booted {
                let message = format!("{} was booted: undo it", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            if self.on.capability().branches {
                match self.on.part(&op.part("part"), &instance).await {
                    Ok(above) => self.on.remove(&op.part("remove"), &above).await?,
                    // The branch was never made, so nothing was written above one.
                    Err(e) if e.kind() == ErrorKind::Refused => {}
                    Err(e) => return Err(e),
                }
            } else {
                self.write_content(&instance, &below).await?;
            }
            self.stand_again(op, &instance).await?;
        }
        self.state().withdrawn.insert(made_by.clone());
        Ok(())
    }

    /// The landing disks are as before the hand-over, and ours again.
    async fn stand_again(&self, op: &Op, instance: &Instance) -> Result<()> {
        let machine = self.state().timelines.line(&instance.machine)?.machine.clone();
        let settings = Settings::default();
        let instance =
            self.on.attach(&op.part("attach"), &machine, Some(instance.clone()), &settings).await?;
        let mut state = self.state();
        let landing = state.landings.get_mut(machine.id()).expect("handed over before");
        (landing.instance, landing.handed) = (instance, Handed::No);
        Ok(())
    }

    /// Checks that a promotion stands on the landing disks as this instance.
    fn promoted(&self, instance: &Instance, f: impl FnOnce(&mut bool)) -> Result<()> {
        let mut state = self.state();
        let landing = state.landings.get_mut(&instance.machine).filter(|l| l.instance.is(instance));
        match landing.map(|l| &mut l.handed) {
            Some(Handed::Over { booted, armed: Some(_), .. }) => {
                f(booted);
                Ok(())
            }
            _ => {
                let message = format!("{} is not a promotion of this master target", instance.name);
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    fn write_out_pinned(&self, machine: &MachineId) -> Result<()> {
        let landing = self.landing(machine)?;
        let Handed::Over { below, .. } = &landing.handed else { return Ok(()) };
        let pinned: Vec<PointId> = {
            let points = self.state().timelines.points(machine);
            points.iter().filter(|p| !p.pins.is_empty()).map(|p| p.id).collect()
        };
        for id in pinned {
            let content = self.rolled_back(machine, below.clone(), &landing.undo, id)?;
            let mut state = self.state();
            let kept = &mut state.timelines.line(machine)?.point(id)?.kept;
            kept.whole.get_or_insert(content);
        }
        Ok(())
    }

    /// Before a timeline is forgotten: the disks go back as they are; where nothing was sealed, as they were.
    async fn give_back(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let Ok(landing) = self.landing(machine) else { return Ok(()) };
        match &landing.handed {
            Handed::Away => return Ok(()),
            Handed::Over { .. } => {
                let message = format!("a promotion of {machine} stands on the landing disks");
                return Err(Error::new(ErrorKind::Refused, message + ": settle it or set it aside"));
            }
            Handed::No => {}
        }
        if !self.state().timelines.line(machine)?.is_sealed() {
            for ((id, block), before) in &landing.undo {
                let disk = self.on.disk(&landing.instance, id).await?;
                disk.write(block * BLOCK, before.clone()).await?;
                disk.flush().await?;
            }
        }
        self.on.detach(&op.part("detach"), &landing.instance).await?;
        if landing.made {
            self.on.remove(&op.part("remove"), &landing.instance).await?;
        }
        Ok(())
    }
}

fn point_zero(
    machine: &Machine,
    at: &Instance,
    now: site_recovery::Timestamp,
) -> super::timeline::Sealed<Kept> {
    let point = Point {
        id: PointId(0),
        cut: POINT_ZERO.into(),
        members: vec![machine.id().clone()],
        taken: now,
        consistency: Consistency::Crash,
        generation: at.generation,
        pins: vec![POINT_ZERO.to_owned()],
        locked_until: None,
        verified: true,
    };
    super::timeline::Sealed { point, manifest: None, lease: Arc::default(), kept: Kept::default() }
}

/// Refuses a place that is not offered.
fn placeable(settings: &Settings) -> Result<()> {
    let offers = super::site::offers();
    let places = [
        ("settings.datastore", &settings.datastore, &offers.datastores),
        ("settings.retention_volume", &settings.retention_volume, &offers.retention_volumes),
    ];
    for (field, wish, offers) in places {
        let Some(wish) = wish else { continue };
        if !offers.iter().any(|o| &o.name == wish && o.ineligible.is_none()) {
            return Err(Error::invalid(field, wish, "one of those that are offered", "ask for the offers"));
        }
    }
    Ok(())
}
