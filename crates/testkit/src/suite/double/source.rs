use super::super::content::{Image, blank, differing};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    BootPermit, Capability, Capture, ChangeSet, Changes, Consistency, Cursor, CutId, Disk, Disks, Error,
    ErrorKind, Extent, Fate, Fill, Generation, Instance, Lifted, Machine, MachineId, Member, Op, OpKey, Pool,
    Power, Result, Role, RoleName, Run, Source, Start, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One machine, its captures, and what changed between them.
#[derive(Debug)]
pub(crate) struct TinySource {
    state: Mutex<State>,
    /// Bytes that were read of all disks.
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    now: Image,
    captures: Vec<(CutId, Image)>,
    /// Why changes are unknown.
    lost: Option<String>,
    tracks: bool,
}

impl TinySource {
    pub(crate) fn new(machine: Machine) -> Arc<Self> {
        let now = blank(&machine);
        let state = State { machine, now, captures: vec![], lost: None, tracks: true };
        Arc::new(Self { state: Mutex::new(state), read: Arc::default() })
    }

    pub(crate) fn write(&self, disk: usize, at: usize, bytes: &[u8]) {
        self.state().now[disk][at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn now(&self) -> Image {
        self.state().now.clone()
    }

    /// From now on no changes are known, for this reason.
    pub(crate) fn lose(&self, reason: &str) {
        self.state().lost = Some(reason.into());
    }

    /// From now on captures have no cursor.
    pub(crate) fn stop_tracking(&self) {
        self.state().tracks = false;
    }

    /// Bytes that were read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// An instant, without the ceremony.
    pub(crate) fn cut(&self, number: u64) -> Capture {
        let mut state = self.state();
        let cut = CutId(format!("cut-{number}"));
        let now = state.now.clone();
        state.captures.push((cut.clone(), now));
        let token = (state.captures.len() as u64).to_le_bytes().to_vec();
        let cursor = state.tracks.then_some(Cursor { generation: Generation(0), token });
        Capture {
            cut,
            taken: Timestamp(number * 1_000),
            consistency: Consistency::Crash,
            quiesce_failed: None,
            members: vec![Member { machine: state.machine.clone(), cursor, sidecars: vec![] }],
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a process server has no business with this method"))
}

#[async_trait]
impl Role for TinySource {
    fn name(&self) -> RoleName {
        "tiny-source".into()
    }

    fn capability(&self) -> Capability {
        Capability { tracks: self.state().tracks, ..Capability::default() }
    }

    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Source for TinySource {
    async fn changes(&self, capture: &Capture, _: &MachineId, since: &Cursor) -> Result<Changes> {
        let state = self.state();
        if let Some(reason) = &state.lost {
            return Ok(Changes::Lost { reason: reason.clone() });
        }
        let number = since.token.as_slice().try_into().map_or(0, u64::from_le_bytes) as usize;
        let from = number.checked_sub(1).and_then(|at| state.captures.get(at));
        let to = state.captures.iter().find(|(cut, _)| cut == &capture.cut);
        let (Some((_, from)), Some((_, to))) = (from, to) else {
            return Ok(Changes::Lost { reason: "no such position".into() });
        };
        let differs: ChangeSet = differing(&state.machine, from, to);
        Ok(Changes::Known(differs.aligned(4096, &state.machine.disks)))
    }

    async fn disks(&self, _: &Op, capture: &Capture, _: &MachineId) -> Result<Disks> {
        let state = self.state();
        let found = state.captures.iter().find(|(cut, _)| cut == &capture.cut);
        let (_, image) = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such capture"))?;
        let mut disks: Disks = BTreeMap::new();
        for (spec, bytes) in state.machine.included().zip(image) {
            let disk = TinyDisk { bytes: bytes.clone(), read: Arc::clone(&self.read) };
            disks.insert(spec.id.clone(), Arc::new(disk));
        }
        Ok(disks)
    }

    async fn discover(&self) -> Result<Vec<Machine>> {
        unused()
    }
    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        unused()
    }
    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        unused()
    }
    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        unused()
    }
    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        unused()
    }
    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        unused()
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        unused()
    }
    async fn fence(&self, _: &Op, _: &Instance, _: std::time::Duration) -> Result<()> {
        unused()
    }
    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        unused()
    }
}

#[derive(Debug)]
struct TinyDisk {
    bytes: Vec<u8>,
    read: Arc<AtomicU64>,
}

#[async_trait]
impl Disk for TinyDisk {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let run = range.intersection(Run::new(0, self.size()));
        Ok(run.into_iter().map(|run| Extent { run, fill: Fill::Data }).collect())
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let Some(bytes) = self.bytes.get(run.start as usize..run.end() as usize) else {
            return Err(Error::invalid("run", format!("{run:?}"), "inside the disk", "read less"));
        };
        let mut block = pool.take(bytes.len()).await?;
        block.copy_from_slice(bytes);
        self.read.fetch_add(run.len, Ordering::Relaxed);
        Ok(block.freeze())
    }
}
