use super::{Contents, machine_id};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A site with one machine. It tells exactly what differs, which is the least that a source may tell.
#[derive(Debug)]
pub struct Site {
    state: Mutex<State>,
    pub read: Arc<Outstanding>,
}

/// Bytes that were read and are still held by somebody.
#[derive(Debug, Default)]
pub struct Outstanding {
    now: AtomicU64,
    pub most: AtomicU64,
    pub total: AtomicU64,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    disks: BTreeMap<DiskId, Vec<u8>>,
    captures: BTreeMap<CutId, Contents>,
    taken: BTreeMap<CutId, Capture>,
    clock: u64,
    tracks: bool,
    lost: bool,
}

impl Site {
    pub fn new(disks: &[(&str, u64)]) -> Self {
        let spec = |(id, size): &(&str, u64)| DiskSpec {
            id: (*id).into(),
            size: *size,
            role: DiskRole::Data,
            included: true,
        };
        let generation = Generation(0);
        let machine = Machine {
            instance: Instance { machine: machine_id(), site: "site".into(), name: "vm".into(), generation },
            title: None,
            disks: disks.iter().map(spec).collect(),
            nics: vec![],
            cpus: 1,
            memory: 1 << 30,
            firmware: Firmware::Bios,
            os: OsFamily::Linux,
            platform: Platform::Virtual,
            guest: GuestFacts::default(),
        };
        let disks = machine.disks.iter().map(|d| (d.id.clone(), vec![0; d.size as usize])).collect();
        let state = State {
            machine,
            disks,
            captures: BTreeMap::new(),
            taken: BTreeMap::new(),
            clock: 0,
            tracks: true,
            lost: false,
        };
        Self { state: Mutex::new(state), read: Arc::default() }
    }

    pub fn write(&self, disk: &str, start: u64, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let disk = state.disks.get_mut(&DiskId::from(disk)).unwrap();
        disk[start as usize..start as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds a disk, or lets one grow; `changes` says nothing of it.
    pub fn resize(&self, disk: &str, contents: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        let size = contents.len() as u64;
        let id = DiskId::from(disk);
        state.machine.disks.retain(|d| d.id != id);
        state.machine.disks.push(DiskSpec { id: id.clone(), size, role: DiskRole::Data, included: true });
        state.disks.insert(id, contents);
    }

    pub fn include(&self, disk: &str, included: bool) {
        let mut state = self.state.lock().unwrap();
        let disk = state.machine.disks.iter_mut().find(|d| d.id.0 == disk).unwrap();
        disk.included = included;
    }

    pub fn forget_changes(&self, lost: bool) {
        self.state.lock().unwrap().lost = lost;
    }

    pub fn track(&self, tracks: bool) {
        self.state.lock().unwrap().tracks = tracks;
    }

    pub fn take(&self, cut: &str) -> Capture {
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let included: Vec<DiskId> = state.machine.included().map(|d| d.id.clone()).collect();
        let contents =
            included.into_iter().map(|id| (id.clone(), Arc::new(state.disks[&id].clone()))).collect();
        state.captures.insert(cut.into(), contents);
        let token = state.clock.to_le_bytes().to_vec();
        let cursor = state.tracks.then_some(Cursor { generation: Generation(0), token });
        let sidecars = vec![Sidecar { name: "uefi-vars".into(), bytes: vec![1, 2, 3] }];
        let capture = Capture {
            cut: cut.into(),
            taken: Timestamp(state.clock),
            consistency: Consistency::Crash,
            quiesce_failed: None,
            members: vec![Member { machine: state.machine.clone(), cursor, sidecars }],
        };
        state.taken.insert(cut.into(), capture.clone());
        capture
    }

    /// An earlier capture once more, of a machine that has not been resized since.
    pub fn retake(&self, cut: &str) -> Capture {
        self.state.lock().unwrap().taken[&CutId::from(cut)].clone()
    }

    pub fn captured(&self, cut: &CutId) -> Contents {
        self.state.lock().unwrap().captures[cut].clone()
    }
}

fn clock(cursor: &Cursor) -> u64 {
    u64::from_le_bytes(cursor.token.clone().try_into().unwrap())
}

#[async_trait]
impl Role for Site {
    fn name(&self) -> RoleName {
        "site".into()
    }
    fn capability(&self) -> Capability {
        Capability::default()
    }
    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Source for Site {
    async fn changes(&self, capture: &Capture, _: &MachineId, since: &Cursor) -> Result<Changes> {
        let state = self.state.lock().unwrap();
        if state.lost {
            return Ok(Changes::Lost { reason: "the tracking was reset".into() });
        }
        let before = state.taken.values().find(|c| c.taken.0 == clock(since)).expect("a cursor of ours");
        let (before, now) = (&state.captures[&before.cut], &state.captures[&capture.cut]);
        let mut changes = ChangeSet::new();
        for (disk, now) in now {
            let Some(before) = before.get(disk) else { continue };
            let both = Run::new(0, before.len().min(now.len()) as u64);
            let part = |bytes: &Vec<u8>, run: Run| bytes[run.start as usize..run.end() as usize].to_vec();
            let differs = |run: &Run| part(before, *run) != part(now, *run);
            both.pieces(SECTOR).filter(differs).for_each(|run| changes.add(disk, run));
        }
        Ok(Changes::Known(changes))
    }

    async fn disks(&self, _: &Op, capture: &Capture, _: &MachineId) -> Result<Disks> {
        let disk = |(id, bytes)| (id, Arc::new(Memory { bytes, read: self.read.clone() }) as Arc<dyn Disk>);
        Ok(self.captured(&capture.cut).into_iter().map(disk).collect())
    }

    async fn discover(&self) -> Result<Vec<Machine>> {
        unreachable!("no process server asks for this")
    }
    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        unreachable!("no process server asks for this")
    }
    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        unreachable!("no process server asks for this")
    }
    async fn power(&self, _: &Instance) -> Result<Power> {
        unreachable!("no process server asks for this")
    }
    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        unreachable!("no process server asks for this")
    }
    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        unreachable!("no process server asks for this")
    }
}

/// A disk of a capture. Zeros are told to the sector, which is finer than anything on the way.
#[derive(Debug)]
struct Memory {
    bytes: Arc<Vec<u8>>,
    read: Arc<Outstanding>,
}

const SECTOR: u64 = 512;
const ZEROS: [u8; SECTOR as usize] = [0; SECTOR as usize];

#[async_trait]
impl Disk for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let mut extents: Vec<Extent> = vec![];
        for run in range.pieces(SECTOR) {
            let zero = self.bytes[run.start as usize..run.end() as usize] == ZEROS[..run.len as usize];
            let fill = if zero { Fill::Zero } else { Fill::Data };
            match extents.last_mut() {
                Some(last) if last.fill == fill => last.run.len += run.len,
                _ => extents.push(Extent { run, fill }),
            }
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        // Neighbours overtake each other, as on a network.
        for _ in 0..3 - run.start / (64 * 1024) % 4 % 3 {
            tokio::task::yield_now().await;
        }
        let mut block = pool.take(run.len as usize).await?;
        block.copy_from_slice(&self.bytes[run.start as usize..run.end() as usize]);
        let now = self.read.now.fetch_add(run.len, SeqCst) + run.len;
        self.read.most.fetch_max(now, SeqCst);
        self.read.total.fetch_add(run.len, SeqCst);
        Ok(Bytes::from_owner(Counted(block, self.read.clone())))
    }
}

struct Counted(Block, Arc<Outstanding>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len() as u64, SeqCst);
    }
}
