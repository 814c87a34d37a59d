use super::BLOCK;
use super::register::Register;
use site_recovery::{
    ChangeSet, Complete, Cursor, CutId, Error, ErrorKind, Head, Ingest, Landed, Machine, MachineId, Manifest,
    Op, OpKey, Payload, PhaseRecord, Point, PointId, Record, Result, Run, Seed, Timestamp, fold,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

const LONGEST_RECORD: u64 = 1 << 20;

/// All timelines of one replica, and what stands beside them. `P` is what the replica keeps per point.
#[derive(Debug)]
pub(super) struct Timelines<P> {
    pub(super) register: Register,
    pub(super) lines: BTreeMap<MachineId, Timeline<P>>,
    phases: BTreeMap<MachineId, PhaseRecord>,
}

/// One machine's timeline: all of it but the bytes.
#[derive(Debug)]
pub(super) struct Timeline<P> {
    pub(super) machine: Machine,
    pub(super) sealed: Vec<Sealed<P>>,
    /// What every seal added, for ever: what is left of points that are gone.
    distances: BTreeMap<PointId, ChangeSet>,
    /// What `prepare` said; until the next seal.
    seed: Option<(Option<Cursor>, ChangeSet)>,
    /// What landed since the newest seal.
    pub(super) pending: ChangeSet,
    /// What landed since the disks were given away, or since ever.
    moved: ChangeSet,
    open: Option<Open>,
    prepared: BTreeSet<OpKey>,
    sessions: u64,
    newest: PointId,
}

#[derive(Debug)]
pub(super) struct Sealed<P> {
    pub(super) point: Point,
    /// None for what was there before the first seal.
    pub(super) manifest: Option<Manifest>,
    /// Held by everybody who has the point open.
    pub(super) lease: Arc<()>,
    pub(super) kept: P,
}

#[derive(Debug)]
struct Open {
    ingest: Ingest,
    cut: CutId,
    plan: ChangeSet,
    landed: ChangeSet,
    batches: BTreeSet<u64>,
    records: u64,
    digest: u64,
}

impl<P> Default for Timelines<P> {
    fn default() -> Self {
        Self { register: Register::default(), lines: BTreeMap::new(), phases: BTreeMap::new() }
    }
}

impl<P> Timelines<P> {
    pub(super) fn line(&mut self, machine: &MachineId) -> Result<&mut Timeline<P>> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{machine} has no timeline here"));
        self.lines.get_mut(machine).ok_or_else(missing)
    }

    pub(super) fn machines(&self) -> Vec<MachineId> {
        self.lines.keys().cloned().collect()
    }

    pub(super) fn head(&self, machine: &MachineId) -> Head {
        self.lines.get(machine).map_or(Head::Empty, Timeline::head)
    }

    pub(super) fn points(&self, machine: &MachineId) -> Vec<Point> {
        self.lines.get(machine).map_or(vec![], |l| l.sealed.iter().map(|s| s.point.clone()).collect())
    }

    /// Opens a timeline, or opens it again.
    pub(super) fn prepare(&mut self, op: &Op, machine: &Machine, seed: &Seed) -> Result<&mut Timeline<P>> {
        let line = self.lines.entry(machine.id().clone()).or_insert_with(|| Timeline::new(machine));
        line.prepare(op, machine, seed)?;
        Ok(line)
    }

    pub(super) fn remember(&mut self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        self.register.pass(op, machine)?;
        if let Some(held) = self.phases.get(machine).filter(|held| held.order() > record.order()) {
            let message = format!("a phase record {:?} stands, {:?} is older", held.order(), record.order());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        self.phases.insert(machine.clone(), record.clone());
        Ok(())
    }

    pub(super) fn recall(&self, machine: &MachineId) -> Option<PhaseRecord> {
        self.phases.get(machine).cloned()
    }
}

impl<P> Timeline<P> {
    fn new(machine: &Machine) -> Self {
        Self {
            machine: machine.clone(),
            sealed: vec![],
            distances: BTreeMap::new(),
            seed: None,
            pending: ChangeSet::new(),
            moved: ChangeSet::new(),
            open: None,
            prepared: BTreeSet::new(),
            sessions: 0,
            newest: PointId(0),
        }
    }

    pub(super) fn was_prepared(&self, op: &Op) -> bool {
        self.prepared.contains(&op.key)
    }

    /// Whether anything was ever sealed here.
    pub(super) fn is_sealed(&self) -> bool {
        self.newest > PointId(0)
    }

    fn prepare(&mut self, op: &Op, machine: &Machine, seed: &Seed) -> Result<()> {
        if self.was_prepared(op) {
            return Ok(());
        }
        match seed {
            Seed::Fresh if !self.sealed.is_empty() => {
                let message = format!("{} has points here: it cannot start from nothing", machine.id());
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            Seed::Fresh => {}
            Seed::Known { at, cursor, differs, .. } => {
                let distance = match at {
                    Some(at) if self.distances.contains_key(at) || *at == PointId(0) => self.after(*at),
                    Some(at) => {
                        let message = format!("{} never had a point {at} here", machine.id());
                        return Err(Error::new(ErrorKind::NotFound, message));
                    }
                    None => self.moved.clone(),
                };
                self.seed = Some((Some(cursor.clone()), differs.clone().union(&distance)));
            }
            Seed::Unknown { .. } => self.compare_all(machine),
        }
        self.machine = machine.clone();
        self.prepared.insert(op.key.clone());
        Ok(())
    }

    /// From now on nothing is known of the distance to the source.
    pub(super) fn compare_all(&mut self, machine: &Machine) {
        self.seed = Some((None, ChangeSet::whole(machine.included())));
    }

    pub(super) fn head(&self) -> Head {
        let newest = self.sealed.iter().rev().find(|s| s.manifest.is_some());
        let point = newest.map(|s| s.point.id);
        let sealed_at = newest.and_then(|s| s.manifest.as_ref()?.cursor.clone());
        match (&self.seed, point) {
            (Some((cursor, differs)), _) => {
                let touched = differs.clone().union(&self.pending);
                Head::Unsettled { point, cursor: cursor.clone(), touched }
            }
            (None, _) if !self.pending.is_empty() => {
                Head::Unsettled { point, cursor: sealed_at, touched: self.pending.clone() }
            }
            (None, Some(point)) => Head::Sealed { point, cursor: sealed_at },
            (None, None) => Head::Empty,
        }
    }

    /// Opens an ingest. The same key for the same cut goes on; any other closes what is open.
    pub(super) fn begin(
        &mut self,
        op: &Op,
        machine: &Machine,
        cut: &CutId,
        plan: &ChangeSet,
    ) -> Result<Ingest> {
        for disk in machine.included() {
            let had = self.machine.disk(&disk.id).map_or(0, |d| d.size);
            if disk.size < had {
                let rule = format!("disk {} has {had} bytes on this timeline", disk.id);
                return Err(Error::invalid("disk.size", disk.size, &rule, "disks may only grow"));
            }
        }
        let before = self.open.take().filter(|open| open.ingest.op.key == op.key && open.cut == *cut);
        let landed = before.map(|open| open.landed).unwrap_or_default();
        self.sessions += 1;
        let ingest = Ingest {
            op: op.clone(),
            machine: machine.id().clone(),
            session: self.sessions,
            resume: progress(plan, &landed),
        };
        self.machine = machine.clone();
        self.open = Some(Open {
            ingest: ingest.clone(),
            cut: cut.clone(),
            plan: plan.clone(),
            landed,
            batches: BTreeSet::new(),
            records: 0,
            digest: 0,
        });
        Ok(ingest)
    }

    /// Closes what is open: its writes land no more, what has landed stays.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Checks a batch before any of it lands. None when it has landed already.
    pub(super) fn check(
        &mut self,
        ingest: &Ingest,
        batch: u64,
        records: &[Record],
    ) -> Result<Option<Landed>> {
        let sizes = self.machine.clone();
        let open = self.session(ingest)?;
        if open.batches.contains(&batch) {
            return Ok(Some(progress(&open.plan, &open.landed)));
        }
        for record in records {
            let size = sizes.disk(&record.disk).map_or(0, |d| d.size);
            well_formed(record, size)?;
            if !open.plan.contains(&record.disk, record.run) {
                let value = format!("{}+{} of {}", record.run.start, record.run.len, record.disk);
                let rule = "an ingest writes inside the plan it was opened with";
                return Err(Error::invalid("record.run", value, rule, "begin with a wider plan"));
            }
        }
        Ok(None)
    }

    /// Something is about to be written: from now on it may differ.
    pub(super) fn touch(&mut self, record: &Record) {
        self.pending.add(&record.disk, record.run);
        self.moved.add(&record.disk, record.run);
    }

    /// Counts a batch that has landed whole.
    pub(super) fn land(&mut self, ingest: &Ingest, batch: u64, records: &[Record]) -> Result<Landed> {
        let open = self.session(ingest)?;
        open.batches.insert(batch);
        for record in records {
            open.landed.add(&record.disk, record.run);
            open.records += 1;
            open.digest = fold(open.digest, record);
        }
        Ok(progress(&open.plan, &open.landed))
    }

    /// Makes the open ingest a point, of which `keep` says what is kept.
    pub(super) fn seal(
        &mut self,
        ingest: &Ingest,
        manifest: &Manifest,
        complete: Complete,
        keep: impl FnOnce(&mut Self) -> P,
    ) -> Result<Point> {
        let same = |s: &&Sealed<P>| s.manifest.is_some() && s.point.cut == manifest.cut;
        if let Some(sealed) = self.sealed.iter().find(same) {
            return Ok(sealed.point.clone());
        }
        let open = self.session(ingest)?;
        if open.cut != manifest.cut {
            let message = format!("the open ingest is of {}, not of {}", open.cut, manifest.cut);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        if (open.records, open.digest) != (complete.records(), complete.digest()) {
            let message =
                format!("{} records arrived, {} were sent, or others", open.records, complete.records());
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        self.newest = PointId(self.newest.0 + 1);
        let point = Point {
            id: self.newest,
            cut: manifest.cut.clone(),
            members: manifest.members.clone(),
            taken: manifest.taken,
            consistency: manifest.consistency,
            generation: manifest.control.item.lineage.current(),
            pins: vec![],
            locked_until: None,
            verified: true,
            verified_boot: None,
        };
        let kept = keep(self);
        (self.open, self.seed) = (None, None);
        self.distances.insert(point.id, std::mem::take(&mut self.pending));
        let (point_, manifest) = (point.clone(), Some(manifest.clone()));
        self.sealed.push(Sealed { point: point_, manifest, lease: Arc::default(), kept });
        Ok(point)
    }

    pub(super) fn point(&mut self, id: PointId) -> Result<&mut Sealed<P>> {
        let missing = format!("{} has no point {id} here", self.machine.id());
        let found = self.sealed.iter_mut().find(|s| s.point.id == id);
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, missing))
    }

    pub(super) fn manifest(&mut self, id: PointId) -> Result<Manifest> {
        let missing = || Error::new(ErrorKind::NotFound, "nothing was sealed in point zero");
        self.point(id)?.manifest.clone().ok_or_else(missing)
    }

    /// Everything that landed between two points, or before `to`.
    pub(super) fn changed(&self, from: Option<PointId>, to: PointId) -> Option<ChangeSet> {
        if to > self.newest {
            return None;
        }
        let (from, to) = (from.unwrap_or(PointId(0)).min(to), from.unwrap_or(PointId(0)).max(to));
        let between = self.distances.iter().filter(|(id, _)| **id > from && **id <= to);
        Some(between.fold(ChangeSet::new(), |all, (_, set)| all.union(set)))
    }

    pub(super) fn pin(&mut self, id: PointId, why: &str) -> Result<()> {
        let pins = &mut self.point(id)?.point.pins;
        if !pins.iter().any(|p| p == why) {
            pins.push(why.to_owned());
        }
        Ok(())
    }

    pub(super) fn unpin(&mut self, id: PointId, why: &str) -> Result<()> {
        self.point(id)?.point.pins.retain(|p| p != why);
        Ok(())
    }

    /// Takes a point out of the list unless something holds it; `then` sees it and the point after it.
    pub(super) fn drop_point(
        &mut self,
        id: PointId,
        now: Timestamp,
        then: impl FnOnce(P, &mut P),
    ) -> Option<PointId> {
        let at = self.sealed.iter().position(|s| s.point.id == id)?;
        let sealed = &self.sealed[at];
        let open = Arc::strong_count(&sealed.lease) > 1;
        let held = open || !sealed.point.pins.is_empty() || locked(&sealed.point, now);
        if held || at + 1 == self.sealed.len() {
            return None;
        }
        let gone = self.sealed.remove(at);
        then(gone.kept, &mut self.sealed[at].kept);
        Some(id)
    }

    /// The disks are somebody else's now: nothing is known of them until the next `prepare`.
    pub(super) fn gave_away(&mut self) {
        let machine = self.machine.clone();
        self.compare_all(&machine);
        (self.open, self.pending, self.moved) = (None, ChangeSet::new(), ChangeSet::new());
    }

    fn session(&mut self, ingest: &Ingest) -> Result<&mut Open> {
        let closed = || Error::new(ErrorKind::Refused, format!("the ingest of {} is closed", ingest.op.key));
        self.open.as_mut().filter(|open| open.ingest.session == ingest.session).ok_or_else(closed)
    }

    fn after(&self, at: PointId) -> ChangeSet {
        let later = self.distances.iter().filter(|(id, _)| **id > at);
        later.fold(self.pending.clone(), |all, (_, set)| all.union(set))
    }
}

/// Whether nobody may drop the point yet.
pub(super) fn locked(point: &Point, now: Timestamp) -> bool {
    point.locked_until.is_some_and(|until| until > now)
}

/// Per disk: the end of what has landed without a gap in the plan.
fn progress(plan: &ChangeSet, landed: &ChangeSet) -> Landed {
    let mut progress = Landed::new();
    for (disk, runs) in plan.disks() {
        let mut end = 0;
        for run in runs {
            let covered = landed.runs(disk).iter().find(|l| l.start <= run.start && l.end() > run.start);
            end = covered.map_or(end, |l| l.end().min(run.end()));
            if end < run.end() {
                break;
            }
        }
        if end > 0 {
            progress.insert(disk.clone(), end);
        }
    }
    progress
}

fn well_formed(record: &Record, size: u64) -> Result<()> {
    let run = record.run;
    let value = || format!("{}+{} of {}", run.start, run.len, record.disk);
    if run.len == 0 || run.len > LONGEST_RECORD {
        return Err(Error::invalid("record.run", value(), "1 byte to 1 MiB", "cut it"));
    }
    if run.start.checked_add(run.len).is_none_or(|end| end > size) {
        return Err(Error::invalid("record.run", value(), &format!("the disk has {size} bytes"), "cut it"));
    }
    if !run.start.is_multiple_of(BLOCK) || !run.end().is_multiple_of(BLOCK) && run.end() != size {
        return Err(Error::invalid("record.run", value(), "aligned to 4096 bytes", "widen it"));
    }
    let bytes = plain(record)?;
    let checksum = if record.payload == Payload::Zero { 0 } else { xxh3_128(&bytes) };
    if bytes.len() as u64 != run.len || checksum != record.checksum {
        return Err(Error::new(ErrorKind::Corrupt, format!("record {} is not what was sent", value())));
    }
    Ok(())
}

/// The plain bytes of a record.
pub(super) fn plain(record: &Record) -> Result<bytes::Bytes> {
    match &record.payload {
        Payload::Plain(bytes) => Ok(bytes.clone()),
        Payload::Zero => Ok(bytes::Bytes::from(vec![0; record.run.len as usize])),
        Payload::Sealed(_) => {
            let rule = "this replica takes plain records";
            Err(Error::invalid("record.payload", "sealed", rule, "open it before"))
        }
    }
}

/// The hash of each block of [`HASH_BLOCK`](site_recovery::HASH_BLOCK) bytes of a run.
pub(super) fn hashes(bytes: &[u8], run: Run) -> Result<Vec<site_recovery::Hash>> {
    let size = site_recovery::HASH_BLOCK;
    if !run.start.is_multiple_of(size) {
        return Err(Error::invalid("run.start", run.start, "a multiple of 65536", "widen the run"));
    }
    super::disk::cut(bytes, run)?;
    let whole = run.aligned(size, bytes.len() as u64);
    whole.pieces(size).map(|p| super::disk::cut(bytes, p).map(xxh3_128)).collect()
}
