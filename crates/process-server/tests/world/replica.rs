use super::machine_id;
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_record::{Keyring, Unpacker, hash};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// One timeline that works in place.
#[derive(Debug, Default)]
pub struct MemoryReplica {
    state: Mutex<State>,
    /// One call at a time, from the first moment of the call to the last.
    line: tokio::sync::Mutex<()>,
    /// Told when [`Fault::HangAfter`] has struck.
    pub hangs: Notify,
}

/// What goes wrong, until another one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// No answer to anything.
    Away,
    /// After this many batches: no answer to anything.
    AwayAfter(u64),
    /// Like `AwayAfter`, but the last batch lands and its reply is lost.
    ReplyLostAfter(u64),
    /// No answer to the seal, before or after it was done.
    AwayAtSeal { done: bool },
    /// No answer to the seal: it is done in the middle of the next `begin`.
    SealsLate,
    /// After this many batches the next one never returns.
    HangAfter(u64),
    /// A bit of the next data record flips on the way.
    BitFlip,
}

#[derive(Debug, Default)]
struct State {
    working: BTreeMap<DiskId, Vec<u8>>,
    points: Vec<(Point, Manifest, BTreeMap<DiskId, Vec<u8>>)>,
    touched: ChangeSet,
    ingest: Option<Open>,
    sessions: u64,
    fault: Fault,
    crossed: Vec<(DiskId, Run, bool)>,
    form: Option<Form>,
    late: Vec<(DiskId, Run)>,
    late_seal: Option<Manifest>,
    pause: Duration,
}

#[derive(Debug)]
struct Open {
    key: OpKey,
    cut: CutId,
    plan: ChangeSet,
    session: u64,
    landed: ChangeSet,
    batches: BTreeSet<u64>,
    records: u64,
    digest: u64,
}

impl Open {
    /// Per disk, below what all of the plan has landed.
    fn resume(&self) -> Landed {
        let below = |(disk, runs): (&DiskId, &[Run])| {
            let missing = |run: &&Run| !self.landed.contains(disk, **run);
            let Some(gap) = runs.iter().find(missing) else {
                return (disk.clone(), runs.last().unwrap().end());
            };
            let part = self.landed.runs(disk).iter().find(|l| l.start <= gap.start && l.end() > gap.start);
            (disk.clone(), part.map_or(gap.start, Run::end))
        };
        self.plan.disks().filter(|(_, runs)| !runs.is_empty()).map(below).collect()
    }
}

impl State {
    fn seal(&mut self, manifest: &Manifest) -> Point {
        let point = Point {
            id: PointId(self.points.len() as u64 + 1),
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
        let disks = self.working.clone();
        self.points.push((point.clone(), manifest.clone(), disks));
        self.touched = ChangeSet::new();
        self.ingest = None;
        point
    }
}

impl MemoryReplica {
    pub fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub fn takes(&self, form: Form) {
        self.state.lock().unwrap().form = Some(form);
    }

    /// Reading for hashes takes this long.
    pub fn read_slowly(&self, pause: Duration) {
        self.state.lock().unwrap().pause = pause;
    }

    /// Runs that crossed since the last call, and whether they had bytes.
    pub fn crossed(&self) -> Vec<(DiskId, Run, bool)> {
        std::mem::take(&mut self.state.lock().unwrap().crossed)
    }

    pub fn sealed(&self) -> Vec<(CutId, BTreeMap<DiskId, Vec<u8>>)> {
        let state = self.state.lock().unwrap();
        state.points.iter().map(|(p, _, disks)| (p.cut.clone(), disks.clone())).collect()
    }

    /// Lands this run, full of nines, in the middle of the next `begin`: a batch of an earlier ingest that hung until then.
    pub fn lands_late(&self, disk: &str, run: Run) {
        self.state.lock().unwrap().late.push((disk.into(), run));
    }

    /// Another hand in the working copy: a byte that the timeline knows nothing of.
    pub fn rot(&self, disk: &str, at: u64) {
        self.state.lock().unwrap().working.get_mut(&DiskId::from(disk)).unwrap()[at as usize] ^= 0xff;
    }

    fn reach(&self) -> Result<std::sync::MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap();
        let batches = state.ingest.as_ref().map_or(0, |i| i.batches.len() as u64);
        match state.fault {
            Fault::Away => Err(silence()),
            Fault::AwayAfter(n) | Fault::ReplyLostAfter(n) if batches >= n => Err(silence()),
            _ => Ok(state),
        }
    }
}

fn silence() -> Error {
    Error::new(ErrorKind::Unavailable, "no answer")
}

#[async_trait]
impl Role for MemoryReplica {
    fn name(&self) -> RoleName {
        "replica".into()
    }
    fn capability(&self) -> Capability {
        let takes = self.state.lock().unwrap().form.unwrap_or(Form::Plain);
        Capability { takes, ..Capability::default() }
    }
    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Replica for MemoryReplica {
    async fn head(&self, _: &MachineId) -> Result<Head> {
        let state = self.reach()?;
        let newest = state.points.last();
        let (point, cursor) = (newest.map(|p| p.0.id), newest.and_then(|p| p.1.cursor.clone()));
        Ok(match point {
            Some(point) if state.touched.is_empty() => Head::Sealed { point, cursor },
            None if state.touched.is_empty() => Head::Empty,
            _ => Head::Unsettled { point, cursor, touched: state.touched.clone() },
        })
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        let mut state = self.reach()?;
        state.sessions += 1;
        let session = state.sessions;
        for disk in machine.included() {
            state.working.entry(disk.id.clone()).or_default().resize(disk.size as usize, 0);
        }
        state.working.retain(|id, _| machine.included().any(|d| &d.id == id));
        for (disk, run) in std::mem::take(&mut state.late) {
            state.working.get_mut(&disk).unwrap()[run.start as usize..run.end() as usize].fill(9);
            state.touched.add(&disk, run);
        }
        if let Some(manifest) = state.late_seal.take() {
            state.seal(&manifest);
        }
        let resume = match state.ingest.take() {
            Some(open) if open.key == op.key => open.resume(),
            _ => Landed::new(),
        };
        // What has landed above, out of turn, comes again.
        let below = |(disk, end): (&DiskId, &u64)| (disk.clone(), Run::new(0, *end));
        let landed = resume.iter().map(below).collect();
        state.ingest = Some(Open {
            key: op.key.clone(),
            cut: cut.clone(),
            plan: plan.clone(),
            session,
            landed,
            batches: BTreeSet::new(),
            records: 0,
            digest: 0,
        });
        Ok(Ingest { op: op.clone(), machine: machine.id().clone(), session, resume })
    }

    async fn write(&self, ingest: &Ingest, batch: u64, mut records: Vec<Record>) -> Result<Landed> {
        // Batches overtake each other, as on a network.
        for _ in 0..batch % 3 * 8 {
            tokio::task::yield_now().await;
        }
        let _line = self.line.lock().await;
        let hangs = matches!(self.state.lock().unwrap().fault, Fault::HangAfter(n) if batch >= n);
        if hangs {
            self.hangs.notify_one();
            std::future::pending::<()>().await;
        }
        let mut state = self.reach()?;
        if state.fault == Fault::BitFlip {
            for record in &mut records {
                if let Payload::Plain(bytes) | Payload::Sealed(bytes) = &mut record.payload {
                    let mut spoilt = bytes.to_vec();
                    *spoilt.last_mut().unwrap() ^= 1;
                    *bytes = spoilt.into();
                }
            }
        }
        let State { ingest: open, working, touched, crossed, .. } = &mut *state;
        let open = open.as_mut().filter(|o| o.session == ingest.session).expect("an open session");
        assert!(
            open.batches.iter().next_back().is_none_or(|last| batch <= last + 4),
            "no more than 4 at once"
        );
        let unpacker = Unpacker::new(Keyring::new());
        let shown = |record: &Record| unpacker.unpack(&ingest.machine, record);
        let plain = records.iter().map(shown).collect::<Result<Vec<_>>>()?;
        for (record, plain) in records.iter().zip(plain) {
            let Run { start, len } = record.run;
            let disk = working.get_mut(&record.disk).expect("a disk of the machine");
            assert!(open.plan.contains(&record.disk, record.run), "outside of the plan: {record:?}");
            assert!(start % ALIGNMENT == 0 && (len % ALIGNMENT == 0 || start + len == disk.len() as u64));
            let again = |run: &Run| run.intersection(record.run).is_some();
            assert!(!open.landed.runs(&record.disk).iter().any(again), "{record:?} comes again");
            assert!(
                start / HASH_BLOCK == (start + len - 1) / HASH_BLOCK || plain.is_none(),
                "within a block"
            );
            let into = &mut disk[start as usize..(start + len) as usize];
            match &plain {
                Some(plain) => into.copy_from_slice(plain),
                None => into.fill(0),
            }
            touched.add(&record.disk, record.run);
            open.landed.add(&record.disk, record.run);
            open.digest = fold(open.digest, record);
            open.records += 1;
            crossed.push((record.disk.clone(), record.run, plain.is_some()));
        }
        assert!(open.batches.insert(batch), "batch {batch} comes again");
        let (landed, batches) = (open.resume(), open.batches.len() as u64);
        match state.fault {
            Fault::ReplyLostAfter(n) if batches >= n => Err(silence()),
            _ => Ok(landed),
        }
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        let mut state = self.reach()?;
        if state.fault == (Fault::AwayAtSeal { done: false }) {
            return Err(silence());
        }
        if let Some((same, ..)) = state.points.iter().find(|(p, ..)| p.cut == manifest.cut) {
            return Ok(same.clone());
        }
        let open = state.ingest.as_ref().filter(|o| o.session == ingest.session).expect("an open session");
        assert_eq!(open.cut, manifest.cut);
        assert_eq!((open.records, open.digest), (complete.records(), complete.digest()), "count and digest");
        if state.fault == Fault::SealsLate {
            state.late_seal = Some(manifest.clone());
            return Err(silence());
        }
        let point = state.seal(manifest);
        match state.fault {
            Fault::AwayAtSeal { done: true } => Err(silence()),
            _ => Ok(point),
        }
    }

    async fn points(&self, _: &MachineId) -> Result<Vec<Point>> {
        Ok(self.reach()?.points.iter().map(|p| p.0.clone()).collect())
    }

    async fn manifest(&self, _: &MachineId, point: PointId) -> Result<Manifest> {
        let state = self.reach()?;
        let found = state.points.iter().find(|p| p.0.id == point);
        found.map(|p| p.1.clone()).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such point"))
    }

    async fn hashes(&self, _: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let _line = self.line.lock().await;
        let pause = self.state.lock().unwrap().pause;
        tokio::task::spawn_blocking(move || std::thread::sleep(pause)).await.unwrap();
        let state = self.reach()?;
        assert_eq!(run.start % HASH_BLOCK, 0, "hashes are of whole blocks");
        let block = |r: Run| hash(&state.working[disk][r.start as usize..r.end() as usize]);
        Ok(run.pieces(HASH_BLOCK).map(block).collect())
    }

    async fn machines(&self) -> Result<Vec<MachineId>> {
        Ok(vec![machine_id()])
    }
    async fn prepare(&self, _: &Op, _: &Machine, _: &Seed, _: &Settings) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn open(&self, _: &MachineId, _: PointId) -> Result<Disks> {
        unreachable!("no process server asks for this")
    }
    async fn changed(&self, _: &MachineId, _: Option<PointId>, _: PointId) -> Result<Option<ChangeSet>> {
        unreachable!("no process server asks for this")
    }
    async fn pin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn unpin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn prune(&self, _: &Op, _: &MachineId, _: &[PointId]) -> Result<Vec<PointId>> {
        unreachable!("no process server asks for this")
    }
    async fn delete(&self, _: &Op, _: &MachineId) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn remember(&self, _: &Op, _: &MachineId, _: &PhaseRecord) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn recall(&self, _: &MachineId) -> Result<Option<PhaseRecord>> {
        unreachable!("no process server asks for this")
    }
}
