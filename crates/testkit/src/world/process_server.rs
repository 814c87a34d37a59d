//! A process server in memory.

use super::BLOCK;
use super::register::Register;
use async_trait::async_trait;
use site_recovery::{
    Basis, Capability, ChangeSet, Changes, CutId, Disk, DiskId, Disks, Error, ErrorKind, Finding, HASH_BLOCK,
    Head, Ingest, Lag, MachineId, Manifest, Member, Op, Payload, Point, Pool, ProcessServer, Record, Replica,
    Result, Role, RoleName, Run, Severity, Shipment, Shipped, Source, Tally,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_128;

const BATCH: usize = 4;

/// A `ProcessServer` that ships block by block, in batches of four. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryProcessServer {
    name: RoleName,
    pool: Pool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    register: Register,
    lag: BTreeMap<MachineId, Lag>,
    spool: BTreeMap<MachineId, Vec<Spooled>>,
    spools: bool,
    breaks_after: Option<u64>,
    unreachable: BTreeSet<RoleName>,
}

/// A capture that waits for its replica, whole.
#[derive(Debug, Clone)]
struct Spooled {
    op: Op,
    manifest: Manifest,
    disks: Disks,
}

/// One transfer, from wherever the bytes come.
struct Transfer<'a> {
    op: &'a Op,
    manifest: &'a Manifest,
    disks: &'a Disks,
    set: ChangeSet,
    compare: bool,
}

impl MemoryProcessServer {
    /// A process server without a spool, with 1 MiB of memory.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), pool: Pool::new(1 << 20), state: Arc::default() }
    }

    /// Whether captures are spooled while the replica does not answer.
    pub fn spool(&self, on: bool) {
        self.state().spools = on;
    }

    /// The line breaks, once, after this many more records.
    pub fn break_after(&self, records: u64) {
        self.state().breaks_after = Some(records);
    }

    /// From now on it says that it cannot reach the role of this name.
    pub fn forget_role(&self, name: &RoleName) {
        self.state().unreachable.insert(name.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, op: &Op, machine: &MachineId, operation: &'static str) -> Result<()> {
        self.state().register.pass(op, machine).map_err(|e| e.at(&self.name, operation))
    }
}

#[async_trait]
impl Role for MemoryProcessServer {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability::default()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.pass(op, machine, "claim")
    }
}

#[async_trait]
impl ProcessServer for MemoryProcessServer {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        self.pass(op, &what.machine, "ship")?;
        let member = what.capture.member(&what.machine).map_err(|e| e.at(&self.name, "ship"))?;
        let manifest = manifest(what, member);
        let waits = self.state().spool.get(&what.machine).is_some_and(|spool| !spool.is_empty());
        if waits {
            match self.drain(op, &what.machine, replica).await {
                Err(e) if e.kind() == ErrorKind::Unavailable => {
                    return self.keep(op, what, &manifest, source, e).await;
                }
                drained => drop(drained?),
            }
        }
        let head = match replica.head(&what.machine).await {
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                return self.keep(op, what, &manifest, source, e).await;
            }
            head => head?,
        };
        let whole = ChangeSet::whole(member.machine.included());
        let (set, compare) = match (head, what.basis) {
            (Head::Empty, _) => (whole, false),
            (_, Basis::Compare) | (Head::Unsettled { cursor: None, .. }, _) => (whole, true),
            (Head::Sealed { cursor: None, .. }, Basis::Delta) => {
                return Ok(Shipped::NeedsCompare { reason: "the head has no cursor".to_owned() });
            }
            (Head::Sealed { cursor: Some(since), .. }, Basis::Delta) => {
                match source.changes(&what.capture, &what.machine, &since).await? {
                    Changes::Known(changed) => (changed, false),
                    Changes::Lost { reason } => return Ok(Shipped::NeedsCompare { reason }),
                }
            }
            (Head::Unsettled { cursor: Some(since), touched, .. }, Basis::Delta) => {
                match source.changes(&what.capture, &what.machine, &since).await? {
                    Changes::Known(changed) => (changed.union(&touched), false),
                    Changes::Lost { reason } => return Ok(Shipped::NeedsCompare { reason }),
                }
            }
        };
        let disks = source.disks(op, &what.capture, &what.machine).await?;
        let (manifest, disks) = (&manifest, &disks);
        self.transfer(Transfer { op, manifest, disks, set, compare }, replica).await
    }

    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        self.pass(op, machine, "drain")?;
        let mut points = vec![];
        loop {
            let next = self.state().spool.get(machine).and_then(|spool| spool.first()).cloned();
            let Some(Spooled { op: spooled, manifest, disks }) = next else { return Ok(points) };
            let op = &Op { key: spooled.key, epoch: op.epoch.clone() };
            let compare = replica.head(machine).await? != Head::Empty;
            let set = ChangeSet::whole(manifest.machine.included());
            let (manifest, disks) = (&manifest, &disks);
            let shipped = self.transfer(Transfer { op, manifest, disks, set, compare }, replica).await?;
            if let Shipped::Sealed { point, .. } = shipped {
                points.push(point);
            }
            let mut state = self.state();
            if let Some(spool) = state.spool.get_mut(machine) {
                spool.retain(|s| s.manifest.cut != manifest.cut);
            }
        }
    }

    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        let state = self.state();
        let lag = state.lag.get(machine).cloned().unwrap_or_default();
        let spooled: Vec<CutId> =
            state.spool.get(machine).into_iter().flatten().map(|s| s.manifest.cut.clone()).collect();
        Ok(Lag { spooled, ..lag })
    }

    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        let state = self.state();
        let unknown = roles.iter().filter(|name| state.unreachable.contains(name));
        let finding = |name: &RoleName| {
            let cause = format!("{} cannot reach {name}", self.name);
            Finding::new("process-server.route", Severity::Critical, cause, "enrol it there")
        };
        Ok(unknown.map(finding).collect())
    }
}

impl MemoryProcessServer {
    /// Spools the capture whole, where spooling is on.
    async fn keep(
        &self,
        op: &Op,
        what: &Shipment,
        manifest: &Manifest,
        source: &Arc<dyn Source>,
        away: Error,
    ) -> Result<Shipped> {
        if !self.state().spools {
            return Err(away);
        }
        let mut disks = Disks::new();
        let mut bytes = 0;
        for (id, disk) in source.disks(op, &what.capture, &what.machine).await? {
            let mut copy = Vec::with_capacity(disk.size() as usize);
            for run in Run::new(0, disk.size()).pieces(self.pool.size() as u64) {
                copy.extend_from_slice(&disk.read(run, &self.pool).await?);
            }
            bytes += disk.size();
            let frozen = super::disk::Frozen { bytes: Arc::new(copy), down: None, _lease: None };
            disks.insert(id, Arc::new(frozen) as Arc<dyn Disk>);
        }
        let mut state = self.state();
        let spool = state.spool.entry(what.machine.clone()).or_default();
        if !spool.iter().any(|s| s.manifest.cut == manifest.cut) {
            spool.push(Spooled { op: op.clone(), manifest: manifest.clone(), disks });
        }
        Ok(Shipped::Spooled { bytes })
    }

    async fn transfer(&self, what: Transfer<'_>, replica: &Arc<dyn Replica>) -> Result<Shipped> {
        let machine = &what.manifest.machine;
        let specs: Vec<_> = machine.included().cloned().collect();
        let known = what.set.disks().filter(|(id, _)| specs.iter().any(|s| &s.id == *id));
        let set: ChangeSet = known.flat_map(|(id, runs)| runs.iter().map(|r| (id.clone(), *r))).collect();
        let set = set.aligned(if what.compare { HASH_BLOCK } else { BLOCK }, &specs);
        let ingest = replica.begin(what.op, machine, &what.manifest.cut, &set).await?;
        self.meter(machine.id(), |lag| (lag.backlog, lag.transfer) = (set.bytes(), set.bytes()));
        let shipped = self.send(&what, &set, &ingest, replica).await;
        self.meter(machine.id(), |lag| (lag.backlog, lag.transfer) = (0, 0));
        let (tally, [changed, shipped, incompressible]) = shipped?;
        let point = replica.seal(&ingest, what.manifest, tally.finish()?).await?;
        Ok(Shipped::Sealed { point, changed, shipped, incompressible })
    }

    /// Sends every run of the set that the replica does not hold yet. Returns the count, the bytes read as changed,
    /// those that crossed, and those that would not compress.
    async fn send(
        &self,
        what: &Transfer<'_>,
        set: &ChangeSet,
        ingest: &Ingest,
        replica: &Arc<dyn Replica>,
    ) -> Result<(Tally, [u64; 3])> {
        let mut line = Line { server: self, ingest, replica, tally: Tally::new(set), batch: 0, full: vec![] };
        let (mut changed, mut shipped, mut incompressible) = (0, 0, 0);
        for (id, runs) in set.disks() {
            let landed = ingest.resume.get(id).copied().unwrap_or(0);
            let disk = what.disks.get(id).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("the capture has no disk {id}"))
                    .at(&self.name, "ship")
            })?;
            for run in runs.iter().flat_map(|run| run.pieces(if what.compare { HASH_BLOCK } else { BLOCK })) {
                let bytes = disk.read(run, &self.pool).await?;
                let same = what.compare
                    && replica.hashes(&ingest.machine, id, run).await?.first() == Some(&xxh3_128(&bytes));
                if same || run.end() <= landed {
                    line.tally.equal(id, run);
                    continue;
                }
                for piece in run.pieces(BLOCK) {
                    let at = (piece.start - run.start) as usize;
                    let record = record(id, piece, bytes.slice(at..at + piece.len as usize));
                    changed += piece.len;
                    let looks_random = different(&bytes[at..at + piece.len as usize]) > 200;
                    incompressible += if looks_random { piece.len } else { 0 };
                    shipped += if record.payload == Payload::Zero { 0 } else { piece.len };
                    line.push(record).await?;
                }
            }
        }
        line.flush().await?;
        Ok((line.tally, [changed, shipped, incompressible]))
    }

    fn meter(&self, machine: &MachineId, f: impl FnOnce(&mut Lag)) {
        f(self.state().lag.entry(machine.clone()).or_default());
    }

    fn unbroken(&self) -> Result<()> {
        let mut state = self.state();
        match state.breaks_after {
            Some(0) => {
                state.breaks_after = None;
                Err(Error::new(ErrorKind::Unavailable, "the line broke").at(&self.name, "ship"))
            }
            Some(left) => {
                state.breaks_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The open line to a replica: batches are counted when they are acknowledged, not when they are sent.
struct Line<'a> {
    server: &'a MemoryProcessServer,
    ingest: &'a Ingest,
    replica: &'a Arc<dyn Replica>,
    tally: Tally,
    batch: u64,
    full: Vec<Record>,
}

impl Line<'_> {
    async fn push(&mut self, record: Record) -> Result<()> {
        let alive = self.server.unbroken();
        if alive.is_err() {
            self.flush().await?;
        }
        alive?;
        self.full.push(record);
        if self.full.len() == BATCH { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.full.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.full);
        self.replica.write(self.ingest, self.batch, records.clone()).await?;
        self.batch += 1;
        for record in &records {
            self.tally.landed(record);
            self.server.meter(&self.ingest.machine, |lag| {
                lag.backlog = lag.backlog.saturating_sub(record.run.len);
                lag.shipped += record.run.len;
            });
        }
        Ok(())
    }
}

fn record(disk: &DiskId, run: Run, bytes: bytes::Bytes) -> Record {
    let zero = bytes.iter().all(|b| *b == 0);
    let checksum = if zero { 0 } else { xxh3_128(&bytes) };
    let payload = if zero { Payload::Zero } else { Payload::Plain(bytes) };
    Record { disk: disk.clone(), run, checksum, payload }
}

fn manifest(what: &Shipment, member: &Member) -> Manifest {
    Manifest {
        machine: member.machine.clone(),
        members: what.capture.members.iter().map(|m| m.machine.id().clone()).collect(),
        cut: what.capture.cut.clone(),
        taken: what.capture.taken,
        consistency: what.capture.consistency,
        cursor: member.cursor.clone(),
        sidecars: member.sidecars.clone(),
        control: what.control.clone(),
    }
}

/// How many of the 256 bytes occur.
fn different(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    seen.into_iter().filter(|seen| *seen).count()
}
