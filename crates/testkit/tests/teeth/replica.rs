use crate::Fault;
use crate::bytes::{Copied, lying, read};
use crate::fault::{Gate, dawdle, is};
use async_trait::async_trait;
use site_recovery::{
    Capability, ChangeSet, Complete, CutId, Disk, DiskId, DiskRole, DiskSpec, Disks, Epoch, Error, ErrorKind,
    Finding, HASH_BLOCK, Hash, Head, Ingest, Landed, Machine, MachineId, Manifest, Op, Payload, PhaseRecord,
    Point, PointId, Record, RecoveryPointStore, Replica, Result, Role, RoleName, Run, Seed, Settings,
    Timestamp, fold,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) const FAULTS: &[Fault] = &[
    ("REP-1", "fresh wipes the points"),
    ("REP-2", "known tells only what is given"),
    ("REP-2", "unknown keeps the cursor"),
    ("REP-3", "begin resumes nowhere"),
    ("REP-3", "what another op landed is forgotten"),
    ("REP-4", "an earlier session still writes"),
    ("REP-5", "a disk that shrank is taken"),
    ("REP-5", "a disk that grew is refused"),
    ("REP-6", "writes are acknowledged in memory"),
    ("REP-6", "checksums are believed"),
    ("REP-6", "a record outside the plan lands"),
    ("REP-6", "a batch lands up to what is refused"),
    ("REP-6", "a batch that comes again counts again"),
    ("REP-7", "a point is listed when it begins"),
    ("REP-7", "a repeated seal makes another point"),
    ("REP-7", "numbers are left out"),
    ("REP-8", "complete is not compared"),
    ("REP-9", "damaged points are skipped"),
    ("REP-9", "damage is read as zeros"),
    ("REP-9", "points come newest first"),
    ("REP-10", "a point opens as the newest"),
    ("REP-10", "an open point is dropped"),
    ("REP-11", "hashes are of the newest point"),
    ("REP-11", "hashes begin at the disk"),
    ("REP-12", "changed looks at the last step alone"),
    ("REP-12", "changed forgets dropped points"),
    ("REP-13", "prune drops what is pinned"),
    ("REP-13", "prune drops all that is older"),
    ("REP-13", "unpin takes every reason away"),
    ("REP-14", "delete leaves the points"),
    ("REP-14", "delete takes the phase record along"),
    ("REP-14", "delete forgets the register"),
    ("REP-15", "a phase record is kept in memory"),
    ("REP-15", "a lower phase record replaces a higher"),
    ("REP-16", "the newest is the oldest"),
    ("REP-16", "the newest is what is not sealed yet"),
    ("REP-16", "the newest of several come in another order"),
    ("RPS-1", "a lock is shortened"),
    ("RPS-1", "a lock holds nobody"),
    ("RPS-1", "a lock is promised without the capability"),
    ("RPS-2", "scrub finds nothing"),
    ("RPS-2", "scrub always finds something"),
    ("RPS-2", "scrub names no disk"),
    ("ROL-1", "a repeated pin is another reason"),
    ("ROL-2", "the register is not checked"),
    ("ROL-2", "the register is kept in memory"),
    ("ROL-2", "only claim raises the register"),
    ("ROL-3", "prepare mends bad input"),
    ("ROL-4", "a dropped write counts besides its repeat"),
    ("ROL-7", "delete takes every machine"),
    ("ROL-8", "prune dawdles after the check"),
    ("DSK-1", "size grows with the reads"),
    ("DSK-2", "extents pass the end"),
    ("DSK-3", "data is told as zero"),
    ("DSK-4", "reads are in memory of their own"),
    ("DSK-5", "a later read differs"),
];

/// A store that does wrong what is wrong now.
#[derive(Debug)]
pub(crate) struct BrokenStore {
    honest: Arc<dyn RecoveryPointStore>,
    gate: Gate,
    notes: Mutex<Notes>,
}

/// What it holds in memory.
#[derive(Debug, Default)]
struct Notes {
    begun: Option<(Ingest, Machine)>,
    /// Records and digest of the session.
    counted: (u64, u64),
    /// Batches that were heard of, and those that were answered.
    heard: Vec<u64>,
    answered: Vec<u64>,
    waiting: Vec<(Ingest, u64, Vec<Record>)>,
    sealed: Vec<CutId>,
    /// A point that nobody asked for, until the next one is sealed.
    between: Option<PointId>,
    pins: u32,
    phases: BTreeMap<MachineId, PhaseRecord>,
    deleted: bool,
    locked: Option<Timestamp>,
}

impl BrokenStore {
    pub(crate) fn new(honest: Arc<dyn RecoveryPointStore>) -> Self {
        Self { honest, gate: Gate::default(), notes: Mutex::default() }
    }

    /// Lands what was acknowledged and only remembered.
    async fn settle(&self) -> Result<()> {
        let waiting = std::mem::take(&mut self.notes.lock().unwrap().waiting);
        for (ingest, batch, records) in waiting {
            self.honest.write(&ingest, batch, records).await?;
        }
        Ok(())
    }

    /// Takes a number for a point of its own, where it has not done so since the last one that was asked for.
    async fn seal_between(&self, op: &Op, machine: &MachineId, known: PointId) -> Result<()> {
        if self.notes.lock().unwrap().between.is_some() {
            return Ok(());
        }
        let mut manifest = self.honest.manifest(machine, known).await?;
        manifest.cut = format!("between-{}", op.key).into();
        let (op, cut) = (op.part("between"), &manifest.cut);
        let ingest = self.honest.begin(&op, &manifest.machine, cut, &ChangeSet::new()).await?;
        let point = self.honest.seal(&ingest, &manifest, Complete::admit(0, 0)).await?;
        self.notes.lock().unwrap().between = Some(point.id);
        Ok(())
    }

    async fn last(&self, machine: &MachineId) -> Result<PointId> {
        let points = self.honest.points(machine).await?;
        let missing = || Error::new(ErrorKind::NotFound, "no point");
        points.last().map(|p| p.id).ok_or_else(missing)
    }

    async fn newest_of(&self, machine: &MachineId) -> Result<Option<Point>> {
        let mut points = self.points(machine).await?;
        if is("the newest is the oldest") {
            points.truncate(1);
        }
        let mut newest = points.pop();
        if is("the newest is what is not sealed yet")
            && matches!(self.honest.head(machine).await?, Head::Unsettled { .. })
            && let Some(newest) = &mut newest
        {
            newest.id = PointId(newest.id.0 + 1);
        }
        Ok(newest)
    }
}

fn every(op: &Op) -> Op {
    Op { epoch: Epoch { number: 1_000_000, owner: "broken".into() }, ..op.clone() }
}

/// Copies that hold nothing up.
async fn copies(disks: Disks) -> Result<Disks> {
    let mut copies = Disks::new();
    for (id, disk) in disks {
        copies.insert(id, Arc::new(Copied(read(&disk).await?)) as Arc<dyn Disk>);
    }
    Ok(copies)
}

#[async_trait]
impl Role for BrokenStore {
    fn name(&self) -> RoleName {
        self.honest.name()
    }

    fn capability(&self) -> Capability {
        let honest = self.honest.capability();
        let locks = honest.locks && !is("a lock is promised without the capability");
        Capability { locks, ..honest }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let op = self.gate.pass(op, machine, "claim")?;
        self.honest.claim(&op, machine).await
    }
}

#[async_trait]
impl Replica for BrokenStore {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.honest.machines().await
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        let op = self.gate.pass(op, machine.id(), "prepare")?;
        let (mut machine, mut seed) = (machine.clone(), seed.clone());
        if is("prepare mends bad input") && machine.disks.is_empty() {
            let (id, role) = ("system".into(), DiskRole::System);
            machine.disks.push(DiskSpec { id, size: 4096, role, included: true });
        }
        if is("known tells only what is given")
            && let Seed::Known { at, .. } = &mut seed
        {
            *at = Some(self.last(machine.id()).await?);
        }
        let prepared = self.honest.prepare(&op, &machine, &seed, settings).await;
        if is("fresh wipes the points") && prepared.is_err() {
            self.honest.delete(&op.part("wipe"), machine.id()).await?;
            return self.honest.prepare(&op.part("again"), &machine, &seed, settings).await;
        }
        prepared
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.settle().await?;
        let head = self.honest.head(machine).await?;
        Ok(match head {
            Head::Unsettled { point: Some(point), cursor, .. }
                if is("what another op landed is forgotten") =>
            {
                Head::Sealed { point, cursor }
            }
            Head::Unsettled { point: Some(point), cursor: None, touched }
                if is("unknown keeps the cursor") =>
            {
                let cursor = self.honest.manifest(machine, point).await?.cursor;
                Head::Unsettled { point: Some(point), cursor, touched }
            }
            head => head,
        })
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        let op = self.gate.pass(op, machine.id(), "begin")?;
        self.settle().await?;
        let mut machine = machine.clone();
        let known = self.honest.points(machine.id()).await?.last().map(|p| p.id);
        if let Some(known) = known {
            let before = self.honest.manifest(machine.id(), known).await?.machine;
            for (spec, was) in machine.disks.iter_mut().zip(&before.disks) {
                if is("a disk that shrank is taken") {
                    spec.size = spec.size.max(was.size);
                }
                if is("a disk that grew is refused") && spec.size > was.size {
                    return Err(Error::new(ErrorKind::Refused, "the disk has another size"));
                }
            }
        }
        if let Some(known) = known.filter(|_| is("numbers are left out")) {
            self.seal_between(&op, machine.id(), known).await?;
        }
        let whole = ChangeSet::whole(machine.included());
        let plan = if is("a record outside the plan lands") { &whole } else { plan };
        let mut ingest = self.honest.begin(&op, &machine, cut, plan).await?;
        if is("begin resumes nowhere") {
            ingest.resume.clear();
        }
        let mut notes = self.notes.lock().unwrap();
        notes.begun = Some((ingest.clone(), machine));
        notes.counted = (0, 0);
        (notes.heard, notes.answered) = (vec![], vec![]);
        Ok(ingest)
    }

    async fn write(&self, ingest: &Ingest, batch: u64, mut records: Vec<Record>) -> Result<Landed> {
        if is("writes are acknowledged in memory") {
            let mut landed = ingest.resume.clone();
            let mut notes = self.notes.lock().unwrap();
            notes.waiting.push((ingest.clone(), batch, records));
            for record in notes.waiting.iter().flat_map(|(_, _, records)| records) {
                let end = landed.entry(record.disk.clone()).or_default();
                *end = record.run.end().max(*end);
            }
            return Ok(landed);
        }
        if is("checksums are believed") {
            for record in &mut records {
                if let Payload::Plain(bytes) = &record.payload {
                    record.checksum = site_recovery_testkit::suite::checksum(bytes);
                }
            }
        }
        let (heard, answered) = {
            let mut notes = self.notes.lock().unwrap();
            let before = (notes.heard.contains(&batch), notes.answered.contains(&batch));
            notes.heard.push(batch);
            before
        };
        let again = is("a batch that comes again counts again") && heard
            || is("a dropped write counts besides its repeat") && heard && !answered;
        let number = if again { batch + 1_000 } else { batch };
        if is("a dropped write counts besides its repeat") {
            let landed = self.honest.write(ingest, number, records).await?;
            dawdle().await;
            self.notes.lock().unwrap().answered.push(batch);
            return Ok(landed);
        }
        let written = self.honest.write(ingest, number, records.clone()).await;
        let refused = written.as_ref().is_err_and(|e| e.kind() != ErrorKind::StaleEpoch);
        if is("an earlier session still writes") && refused {
            let begun = self.notes.lock().unwrap().begun.clone();
            let (current, _) = begun.expect("an ingest has begun");
            return self.honest.write(&current, 10_000 + batch, records).await;
        }
        if is("a batch lands up to what is refused") && refused {
            for (at, record) in (20_000..).zip(records.clone()) {
                self.honest.write(ingest, at, vec![record]).await?;
            }
        }
        if written.is_ok() {
            let mut notes = self.notes.lock().unwrap();
            notes.counted.0 += records.len() as u64;
            notes.counted.1 = records.iter().fold(notes.counted.1, fold);
        }
        written
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        self.settle().await?;
        let again = self.notes.lock().unwrap().sealed.contains(&manifest.cut);
        let sealed = self.honest.seal(ingest, manifest, complete).await;
        if is("complete is not compared") && sealed.is_err() {
            let (records, digest) = self.notes.lock().unwrap().counted;
            return self.honest.seal(ingest, manifest, Complete::admit(records, digest)).await;
        }
        let mut point = sealed?;
        if is("a repeated seal makes another point") && again {
            point.id = PointId(point.id.0 + 1);
        }
        let between = self.notes.lock().unwrap().between.take();
        if let Some(between) = between {
            self.honest.prune(&ingest.op.part("between"), &ingest.machine, &[between]).await?;
        }
        self.notes.lock().unwrap().sealed.push(manifest.cut.clone());
        Ok(point)
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        let mut points = self.honest.points(machine).await?;
        let begun = self.notes.lock().unwrap().begun.is_some();
        if is("a point is listed when it begins")
            && begun
            && matches!(self.honest.head(machine).await?, Head::Unsettled { .. })
            && let Some(last) = points.last().cloned()
        {
            points.push(Point { id: PointId(last.id.0 + 1), ..last });
        }
        if is("damaged points are skipped") {
            let mut whole = vec![];
            for point in points {
                if self.honest.open(machine, point.id).await.is_ok() {
                    whole.push(point);
                }
            }
            return Ok(whole);
        }
        if is("points come newest first") {
            points.reverse();
        }
        let notes = self.notes.lock().unwrap();
        points.retain(|p| Some(p.id) != notes.between);
        if is("a repeated pin is another reason") {
            let pins = |p: &mut Point| p.pins = vec![p.pins.clone(); notes.pins as usize].concat();
            points.iter_mut().filter(|p| !p.pins.is_empty()).for_each(pins);
        }
        if (is("a lock is shortened") || is("a lock holds nobody")) && notes.locked.is_some() {
            points.iter_mut().take(1).for_each(|p| p.locked_until = notes.locked);
        }
        Ok(points)
    }

    async fn newest(&self, machines: &[MachineId]) -> Vec<Result<Option<Point>>> {
        let mut told = vec![];
        for machine in machines {
            told.push(self.newest_of(machine).await);
        }
        if is("the newest of several come in another order") {
            told.rotate_right(1);
        }
        told
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.honest.manifest(machine, point).await
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let point = if is("a point opens as the newest") { self.last(machine).await? } else { point };
        let opened = self.honest.open(machine, point).await;
        if is("damage is read as zeros") && opened.as_ref().is_err_and(|e| e.kind() == ErrorKind::Corrupt) {
            let machine = self.honest.manifest(machine, point).await?.machine;
            let zeros = |d: &DiskSpec| Arc::new(Copied(vec![0; d.size as usize])) as Arc<dyn Disk>;
            return Ok(machine.included().map(|d| (d.id.clone(), zeros(d))).collect());
        }
        if is("an open point is dropped") {
            return copies(opened?).await;
        }
        opened.map(lying)
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.settle().await?;
        if is("hashes are of the newest point") {
            let newest = self.last(machine).await?;
            let disks = self.honest.open(machine, newest).await?;
            let bytes = read(&disks[disk]).await?;
            let bytes = &bytes[run.start as usize..run.end() as usize];
            return Ok(bytes.chunks(HASH_BLOCK as usize).map(xxhash_rust::xxh3::xxh3_128).collect());
        }
        let run = if is("hashes begin at the disk") { Run::new(0, run.len) } else { run };
        self.honest.hashes(machine, disk, run).await
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        let points = self.honest.points(machine).await?;
        let at = points.iter().position(|p| p.id == to).unwrap_or(0);
        let before = at.checked_sub(1).map(|at| points[at].id);
        let from = if is("changed looks at the last step alone") { before } else { from };
        let told = self.honest.changed(machine, from, to).await?;
        let dropped = before.is_some_and(|b| to.0 - b.0 > 1);
        if is("changed forgets dropped points") && dropped {
            return Ok(Some(ChangeSet::new()));
        }
        Ok(told)
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let op = self.gate.pass(op, machine, "pin")?;
        self.notes.lock().unwrap().pins += 1;
        self.honest.pin(&op, machine, point, why).await
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let op = self.gate.pass(op, machine, "unpin")?;
        if is("unpin takes every reason away") {
            let points = self.honest.points(machine).await?;
            for reason in points.iter().filter(|p| p.id == point).flat_map(|p| p.pins.clone()) {
                self.honest.unpin(&op.part(&reason), machine, point, &reason).await?;
            }
        }
        self.honest.unpin(&op, machine, point, why).await
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        let op = &self.gate.pass(op, machine, "prune")?;
        let points = self.honest.points(machine).await?;
        let mut drop = drop.to_vec();
        if is("prune drops what is pinned") {
            for point in points.iter().filter(|p| drop.contains(&p.id)) {
                for reason in &point.pins {
                    self.honest.unpin(&op.part(reason), machine, point.id, reason).await?;
                }
            }
        }
        if is("prune drops all that is older")
            && let Some(newest) = drop.iter().max().copied()
        {
            drop = points.iter().map(|p| p.id).filter(|id| *id <= newest).collect();
        }
        if is("prune dawdles after the check") {
            self.honest.claim(op, machine).await?;
            dawdle().await;
            let pruned = self.honest.prune(op, machine, &drop).await;
            return if pruned.is_err() {
                self.honest.prune(&every(op), machine, &drop).await
            } else {
                pruned
            };
        }
        self.honest.prune(op, machine, &drop).await
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let op = self.gate.pass(op, machine, "delete")?;
        self.notes.lock().unwrap().deleted = true;
        if is("delete leaves the points") {
            return self.honest.claim(&op, machine).await;
        }
        if is("delete takes every machine") {
            for other in self.honest.machines().await? {
                self.honest.delete(&op, &other).await?;
            }
        }
        self.honest.delete(&op, machine).await?;
        if is("delete takes the phase record along")
            && let Some(record) = self.honest.recall(machine).await?
        {
            let mut blank = record;
            blank.control.item.revision += 1;
            blank.run = None;
            self.honest.remember(&every(&op), machine, &blank).await?;
        }
        Ok(())
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        let op = self.gate.pass(op, machine, "remember")?;
        if is("a phase record is kept in memory") {
            self.honest.claim(&op, machine).await?;
            self.notes.lock().unwrap().phases.insert(machine.clone(), record.clone());
            return Ok(());
        }
        let remembered = self.honest.remember(&op, machine, record).await;
        let refused = remembered.as_ref().is_err_and(|e| e.kind() != ErrorKind::StaleEpoch);
        if is("a lower phase record replaces a higher") && refused {
            self.notes.lock().unwrap().phases.insert(machine.clone(), record.clone());
            return Ok(());
        }
        remembered
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        let noted = self.notes.lock().unwrap().phases.get(machine).cloned();
        Ok(noted.or(self.honest.recall(machine).await?))
    }
}

#[async_trait]
impl RecoveryPointStore for BrokenStore {
    async fn lock(&self, op: &Op, machine: &MachineId, point: PointId, until: Timestamp) -> Result<()> {
        let op = self.gate.pass(op, machine, "lock")?;
        if is("a lock holds nobody") || is("a lock is promised without the capability") {
            self.notes.lock().unwrap().locked = Some(until);
            return Ok(());
        }
        let locked = self.honest.lock(&op, machine, point, until).await;
        if is("a lock is shortened") {
            self.notes.lock().unwrap().locked = Some(until);
            return Ok(());
        }
        locked
    }

    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        let mut found = self.honest.scrub(machine, point).await?;
        if is("scrub finds nothing") {
            found.clear();
        }
        if is("scrub always finds something") && found.is_empty() {
            let cause = "disk system may be damaged at 0".to_owned();
            found.push(Finding::new("scrub", site_recovery::Severity::Critical, cause, "look"));
        }
        if is("scrub names no disk") {
            found.iter_mut().for_each(|f| f.cause = "something is damaged".into());
        }
        Ok(found)
    }
}
