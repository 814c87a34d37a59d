use super::super::content::{Image, blank, checksum, hash, plain};
use async_trait::async_trait;
use site_recovery::{
    Capability, ChangeSet, Complete, CutId, DiskId, Disks, Error, ErrorKind, HASH_BLOCK, Hash, Head, Ingest,
    Landed, Machine, MachineId, Manifest, Op, PhaseRecord, Point, PointId, Record, Replica, Result, Role,
    RoleName, Run, Seed, Settings, fold,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Every call, as one that never arrived.
    Away,
    /// Every `write` once this many bytes have landed, as one that never arrived.
    AwayAfter(u64),
    /// The n-th `write` from now on lands and its reply is lost.
    WriteReplyLost(u64),
    /// The next `seal` is done and its reply is lost.
    SealReplyLost,
    /// Every `seal`, as one that never arrived.
    SealAway,
    /// Every `seal` is answered with `OutOfSpace`, and nothing is sealed.
    SealRefused,
}

/// One timeline in memory that takes plain records and keeps account of what came.
#[derive(Debug)]
pub(crate) struct TinyReplica {
    state: Mutex<State>,
    /// Writes pass while this has a permit.
    gate: Semaphore,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    working: Image,
    head: Head,
    sealed: Vec<(Point, Image)>,
    /// Of each point.
    manifests: Vec<Manifest>,
    open: Option<Open>,
    sessions: u64,
    failure: Option<Failure>,
    /// Every record that landed, in order.
    landed: Vec<(DiskId, Run)>,
}

#[derive(Debug)]
struct Open {
    ingest: Ingest,
    cut: CutId,
    plan: ChangeSet,
    /// What has landed since `begin` by this op, in whatever session.
    written: ChangeSet,
    batches: BTreeSet<u64>,
    records: u64,
    digest: u64,
}

impl TinyReplica {
    pub(crate) fn new(machine: Machine) -> Arc<Self> {
        let working = blank(&machine);
        let state = State {
            machine,
            working,
            head: Head::Empty,
            sealed: vec![],
            manifests: vec![],
            open: None,
            sessions: 0,
            failure: None,
            landed: vec![],
        };
        Arc::new(Self { state: Mutex::new(state), gate: Semaphore::new(Semaphore::MAX_PERMITS >> 1) })
    }

    /// From now on calls fail like this; none: they are answered again.
    pub(crate) fn fail(&self, failure: Option<Failure>) {
        self.state().failure = failure;
    }

    /// Keeps every write waiting.
    pub(crate) fn close_gate(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    /// Lets writes pass again.
    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS >> 1);
    }

    /// The working copy differs from what was sealed, and the head says so.
    pub(crate) fn disturb(&self, disk: usize, at: usize, bytes: &[u8]) {
        let mut state = self.state();
        state.working[disk][at..at + bytes.len()].copy_from_slice(bytes);
        let (id, run) = (state.machine.disks[disk].id.clone(), Run::new(at as u64, bytes.len() as u64));
        state.head = state.touched(&[(id, run)].into_iter().collect());
    }

    /// The distance to the source is unknown from now on.
    pub(crate) fn forget_cursor(&self) {
        let mut state = self.state();
        let point = state.sealed.last().map(|(p, _)| p.id);
        state.head = Head::Unsettled { point, cursor: None, touched: ChangeSet::new() };
    }

    /// What was sealed, oldest first.
    pub(crate) fn sealed(&self) -> Vec<(Point, Image)> {
        self.state().sealed.clone()
    }

    /// Every record that landed, in order.
    pub(crate) fn landed(&self) -> Vec<(DiskId, Run)> {
        self.state().landed.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.failure == Some(Failure::Away) { Err(away()) } else { Ok(state) }
    }
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "the replica does not answer")
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a process server has no business with this method"))
}

impl State {
    /// The head, when this has landed besides.
    fn touched(&self, set: &ChangeSet) -> Head {
        let nothing = ChangeSet::new();
        let (point, cursor, touched) = match &self.head {
            head if set.is_empty() => return head.clone(),
            Head::Empty => (None, None, &nothing),
            Head::Sealed { point, cursor } => (Some(*point), cursor.clone(), &nothing),
            Head::Unsettled { point, cursor, touched } => (*point, cursor.clone(), touched),
        };
        Head::Unsettled { point, cursor, touched: touched.clone().union(set) }
    }

    fn bytes(&self) -> u64 {
        self.landed.iter().map(|(_, run)| run.len).sum()
    }

    fn land(&mut self, record: &Record) -> Result<()> {
        let bytes = plain(record);
        if checksum(&bytes) != record.checksum {
            return Err(Error::new(ErrorKind::Corrupt, "a record does not match its checksum"));
        }
        let at = self.machine.included().position(|d| d.id == record.disk).expect("a disk of the machine");
        self.working[at][record.run.start as usize..record.run.end() as usize].copy_from_slice(&bytes);
        self.landed.push((record.disk.clone(), record.run));
        let open = self.open.as_mut().expect("an ingest is open");
        open.written.add(&record.disk, record.run);
        open.records += 1;
        open.digest = fold(open.digest, record);
        Ok(())
    }
}

impl Open {
    /// Per disk: the end of the runs of the plan that have landed without a gap.
    fn resume(&self) -> Landed {
        let reached = |disk: &DiskId, runs: &[Run]| {
            let whole = runs.iter().take_while(|r| self.written.contains(disk, **r)).last().map(|r| r.end());
            let next = runs.iter().find(|r| !self.written.contains(disk, **r));
            let part = next.and_then(|n| {
                let inside = self.written.runs(disk).iter().find(|w| w.start <= n.start && w.end() > n.start);
                inside.map(|w| w.end())
            });
            part.or(whole)
        };
        self.plan.disks().filter_map(|(d, runs)| Some((d.clone(), reached(d, runs)?))).collect()
    }
}

#[async_trait]
impl Role for TinyReplica {
    fn name(&self) -> RoleName {
        "tiny-replica".into()
    }

    fn capability(&self) -> Capability {
        Capability::default()
    }

    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        self.reach().map(drop)
    }
}

#[async_trait]
impl Replica for TinyReplica {
    async fn head(&self, _: &MachineId) -> Result<Head> {
        let state = self.reach()?;
        let written = state.open.as_ref().map(|o| o.written.clone()).unwrap_or_default();
        Ok(state.touched(&written))
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        let mut state = self.reach()?;
        state.sessions += 1;
        let same = state.open.take_if(|o| o.ingest.op.key == op.key && &o.cut == cut);
        let written = match same {
            Some(open) => open.written,
            None => {
                let earlier = state.open.take().map(|o| o.written).unwrap_or_default();
                state.head = state.touched(&earlier);
                ChangeSet::new()
            }
        };
        let mut open = Open {
            ingest: Ingest {
                op: op.clone(),
                machine: machine.id().clone(),
                session: state.sessions,
                resume: Landed::new(),
            },
            cut: cut.clone(),
            plan: plan.clone(),
            written,
            batches: BTreeSet::new(),
            records: 0,
            digest: 0,
        };
        open.ingest.resume = open.resume();
        let ingest = open.ingest.clone();
        state.open = Some(open);
        Ok(ingest)
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        let passed = self.gate.acquire().await;
        drop(passed.map_err(|e| Error::new(ErrorKind::Unavailable, "the replica is gone").caused_by(e))?);
        let mut state = self.reach()?;
        let mut reply_lost = false;
        match state.failure {
            Some(Failure::AwayAfter(most)) if state.bytes() >= most => return Err(away()),
            Some(Failure::WriteReplyLost(0)) => {
                state.failure = None;
                reply_lost = true;
            }
            Some(Failure::WriteReplyLost(left)) => state.failure = Some(Failure::WriteReplyLost(left - 1)),
            _ => {}
        }
        let open = state.open.as_mut().filter(|o| o.ingest.session == ingest.session);
        let Some(open) = open else {
            return Err(Error::new(ErrorKind::Refused, "another session has begun"));
        };
        if open.batches.insert(batch) {
            for record in &records {
                state.land(record)?;
            }
        }
        let landed = state.open.as_ref().expect("it is open").resume();
        if reply_lost { Err(away()) } else { Ok(landed) }
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        let mut state = self.reach()?;
        if let Some((point, _)) = state.sealed.iter().find(|(p, _)| p.cut == manifest.cut) {
            return Ok(point.clone());
        }
        match state.failure {
            Some(Failure::SealAway) => return Err(away()),
            Some(Failure::SealRefused) => {
                return Err(Error::new(ErrorKind::OutOfSpace, "no room for another point"));
            }
            _ => {}
        }
        let open = state.open.as_ref().filter(|o| o.ingest.session == ingest.session);
        let Some(open) = open else {
            return Err(Error::new(ErrorKind::Refused, "another session has begun"));
        };
        if (open.records, open.digest) != (complete.records(), complete.digest()) {
            let message = format!("{} records came, {} are told", open.records, complete.records());
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let point = Point {
            id: PointId(state.sealed.len() as u64 + 1),
            cut: manifest.cut.clone(),
            members: manifest.members.clone(),
            taken: manifest.taken,
            consistency: manifest.consistency,
            generation: manifest.machine.instance.generation,
            pins: vec![],
            locked_until: None,
            verified: true,
            verified_boot: None,
        };
        let working = state.working.clone();
        state.open = None;
        state.head = Head::Sealed { point: point.id, cursor: manifest.cursor.clone() };
        state.sealed.push((point.clone(), working));
        state.manifests.push(manifest.clone());
        if state.failure == Some(Failure::SealReplyLost) {
            state.failure = None;
            return Err(away());
        }
        Ok(point)
    }

    async fn points(&self, _: &MachineId) -> Result<Vec<Point>> {
        Ok(self.reach()?.sealed.iter().map(|(p, _)| p.clone()).collect())
    }

    async fn manifest(&self, _: &MachineId, point: PointId) -> Result<Manifest> {
        let state = self.reach()?;
        let found = state.sealed.iter().position(|(p, _)| p.id == point);
        let found = found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no point {point}")))?;
        Ok(state.manifests[found].clone())
    }

    async fn hashes(&self, _: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let state = self.reach()?;
        let at = state.machine.included().position(|d| &d.id == disk);
        let bytes = at.and_then(|at| state.working[at].get(run.start as usize..run.end() as usize));
        let past = || Error::invalid("run", format!("{run:?}"), "inside the disk", "ask for less");
        Ok(bytes.ok_or_else(past)?.chunks(HASH_BLOCK as usize).map(hash).collect())
    }

    async fn machines(&self) -> Result<Vec<MachineId>> {
        Ok(vec![self.reach()?.machine.id().clone()])
    }
    async fn prepare(&self, _: &Op, _: &Machine, _: &Seed, _: &Settings) -> Result<()> {
        unused()
    }
    async fn open(&self, _: &MachineId, _: PointId) -> Result<Disks> {
        unused()
    }
    async fn changed(&self, _: &MachineId, _: Option<PointId>, _: PointId) -> Result<Option<ChangeSet>> {
        unused()
    }
    async fn pin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        unused()
    }
    async fn unpin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        unused()
    }
    async fn prune(&self, _: &Op, _: &MachineId, _: &[PointId]) -> Result<Vec<PointId>> {
        unused()
    }
    async fn delete(&self, _: &Op, _: &MachineId) -> Result<()> {
        unused()
    }
    async fn remember(&self, _: &Op, _: &MachineId, _: &PhaseRecord) -> Result<()> {
        unused()
    }
    async fn recall(&self, _: &MachineId) -> Result<Option<PhaseRecord>> {
        unused()
    }
}
