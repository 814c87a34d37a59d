//! A master target in memory, in place over any landing site.

mod hand_over;
mod landing;

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
            permit.admits(op, &armed.instance, what.purpose)?;
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
