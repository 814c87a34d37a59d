//! A directory with machines, the site over it, and what is read of it around the adapter.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "each test file uses a part"
)]

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_local::LocalSite;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub const KIB: u64 = 1024;
pub const ROOT: u64 = 300 * KIB;
pub const DATA: u64 = 1024 * KIB + 512;

/// Moves on by a step whenever it is asked; sleeps for real.
#[derive(Debug)]
pub struct StepClock {
    now: AtomicU64,
    step: Duration,
}

impl StepClock {
    pub fn of(step: Duration) -> Arc<Self> {
        Arc::new(Self { now: AtomicU64::new(1_000_000), step })
    }
}

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.fetch_add(self.step.as_millis() as u64, Ordering::SeqCst))
    }
    fn sleep(&self, span: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        SystemClock.sleep(span)
    }
}

pub struct World {
    pub dir: TempDir,
    pub site: LocalSite,
}

impl World {
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let dir = TempDir::new().unwrap();
        let site = LocalSite::open("here".into(), dir.path(), clock).unwrap();
        Self { dir, site }
    }

    /// The same directory, opened anew: what another process, or this one after a crash, sees.
    pub fn again(&self) -> LocalSite {
        LocalSite::open("here".into(), self.dir.path(), Arc::new(SystemClock)).unwrap()
    }

    pub fn path(&self, rest: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(rest)
    }

    pub fn bytes(&self, rest: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.path(rest)).unwrap()
    }

    /// A machine with a system disk and a data disk; the disks hold a little, the rest is holes.
    pub fn machine(&self, name: &str) {
        self.machine_with(name, "");
    }

    pub fn machine_with(&self, name: &str, commands: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        let commands =
            if commands.is_empty() { String::new() } else { format!(", \"commands\": {{{commands}}}") };
        let text = format!(
            r#"{{ "disks": [{{"id": "root", "file": "root.raw"}}, {{"id": "data", "file": "data.raw"}}],
                 "nics": [{{"id": "n0", "network": "lan"}}] {commands} }}"#
        );
        fs::write(self.path(name).join("machine.json"), text).unwrap();
        for (disk, size) in [("root", ROOT), ("data", DATA)] {
            let file = fs::File::create(self.path(name).join(format!("{disk}.raw"))).unwrap();
            file.set_len(size).unwrap();
        }
        self.put(name, "root", 5000, b"a root file system");
        self.put(name, "data", DATA - 7, b"the end");
    }

    /// Writes as the guest, without the adapter.
    pub fn put(&self, name: &str, disk: &str, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let path = self.path(name).join(format!("{disk}.raw"));
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    pub fn put_raw(&self, file: impl AsRef<Path>, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(self.path(file)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    pub async fn enrolled(&self, name: &str) -> Instance {
        self.machine(name);
        self.enrol(name).await
    }

    pub async fn enrol(&self, name: &str) -> Instance {
        let mut machine = self.found(name).await;
        machine.instance.machine = MachineId(format!("m-{name}"));
        self.site.enrol(&op("enrol"), &machine).await.unwrap();
        machine.instance
    }

    pub async fn found(&self, name: &str) -> Machine {
        let all = self.site.discover().await.unwrap();
        all.into_iter().find(|m| m.instance.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// What a person would see of its power.
    pub fn is_on(&self, name: &str) -> bool {
        let path = self.path(name).join(".site-recovery/power.json");
        fs::read_to_string(path).is_ok_and(|t| t.contains("\"on\""))
    }

    /// Every name below the site's directory that holds `part`.
    pub fn leftovers(&self, part: &str) -> Vec<PathBuf> {
        let mut all = vec![self.dir.path().to_owned()];
        let mut found = vec![];
        while let Some(dir) = all.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_string_lossy().contains(part) {
                    found.push(path.clone());
                }
                if path.is_dir() {
                    all.push(path);
                }
            }
        }
        found
    }
}

pub fn op(key: &str) -> Op {
    op_at(key, 1, "engine")
}

pub fn op_at(key: &str, number: u64, owner: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number, owner: owner.into() } }
}

pub fn pool() -> Pool {
    Pool::new(32 << 20)
}

/// Beside the test, on threads of its own.
pub fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(task)
}

pub async fn read_all(disk: &dyn Disk) -> Vec<u8> {
    disk.read(Run::new(0, disk.size()), &pool()).await.unwrap().to_vec()
}

/// A proof for an item of this one machine, as core makes it.
pub async fn permit(op: &Op, instance: &Instance) -> BootPermit {
    let machine = Machine {
        instance: instance.clone(),
        title: None,
        disks: vec![],
        nics: vec![],
        cpus: 1,
        memory: 1,
        firmware: Firmware::Bios,
        os: OsFamily::Other,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    };
    let item = Item::new(machine, op.epoch.clone(), Policy::default(), "out", "back");
    let none = Sources::new();
    BootPermit::Fenced(Fenced::prove(op, &item, Some(instance), &none, Duration::ZERO).await.unwrap())
}

pub async fn capture(world: &World, key: &str, of: &[Instance]) -> Capture {
    world.site.capture(&op(key), of, Consistency::Crash).await.unwrap()
}

pub async fn image(site: &LocalSite, capture: &Capture, of: &Instance) -> BTreeMap<DiskId, Vec<u8>> {
    let mut image = BTreeMap::new();
    for (id, disk) in site.disks(&op("read"), capture, &of.machine).await.unwrap() {
        image.insert(id, read_all(disk.as_ref()).await);
    }
    image
}

pub fn known(changes: Changes) -> ChangeSet {
    match changes {
        Changes::Known(set) => set,
        Changes::Lost { reason } => panic!("lost: {reason}"),
    }
}

/// Small seeded numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next(256) as u8).collect()
    }
}

#[derive(Debug)]
struct MemoryDisk(Vec<u8>, Arc<Mutex<Option<u64>>>);

#[async_trait]
impl Disk for MemoryDisk {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let pieces = range.pieces(10_000);
        Ok(pieces
            .map(|run| {
                let zero = self.0[run.start as usize..run.end() as usize].iter().all(|b| *b == 0);
                Extent { run, fill: if zero { Fill::Zero } else { Fill::Data } }
            })
            .collect())
    }
    async fn read(&self, run: Run, _: &Pool) -> Result<Bytes> {
        if self.1.lock().unwrap().is_some_and(|limit| run.end() > limit) {
            return Err(Error::new(ErrorKind::Unavailable, "the store is away"));
        }
        Ok(Bytes::copy_from_slice(&self.0[run.start as usize..run.end() as usize]))
    }
}

/// A replica that has one point.
#[derive(Debug)]
pub struct OnePoint {
    pub disks: BTreeMap<DiskId, Vec<u8>>,
    /// Reads past this offset fail.
    pub breaks_at: Arc<Mutex<Option<u64>>>,
    /// Opened instead of its own.
    pub instead: Disks,
}

impl OnePoint {
    pub fn of(disks: BTreeMap<DiskId, Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { disks, breaks_at: Arc::default(), instead: Disks::new() })
    }
}

fn no<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "this replica only opens its point"))
}

#[async_trait]
impl Role for OnePoint {
    fn name(&self) -> RoleName {
        "store".into()
    }
    fn capability(&self) -> Capability {
        Capability::default()
    }
    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        no()
    }
}

#[async_trait]
impl Replica for OnePoint {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        no()
    }
    async fn prepare(&self, _: &Op, _: &Machine, _: &Seed, _: &Settings) -> Result<()> {
        no()
    }
    async fn head(&self, _: &MachineId) -> Result<Head> {
        no()
    }
    async fn begin(&self, _: &Op, _: &Machine, _: &CutId, _: &ChangeSet) -> Result<Ingest> {
        no()
    }
    async fn write(&self, _: &Ingest, _: u64, _: Vec<Record>) -> Result<Landed> {
        no()
    }
    async fn seal(&self, _: &Ingest, _: &Manifest, _: Complete) -> Result<Point> {
        no()
    }
    async fn points(&self, _: &MachineId) -> Result<Vec<Point>> {
        no()
    }
    async fn manifest(&self, _: &MachineId, _: PointId) -> Result<Manifest> {
        no()
    }
    async fn open(&self, _: &MachineId, _: PointId) -> Result<Disks> {
        let disk = |(id, bytes): (&DiskId, &Vec<u8>)| {
            let disk = MemoryDisk(bytes.clone(), Arc::clone(&self.breaks_at));
            (id.clone(), Arc::new(disk) as Arc<dyn Disk>)
        };
        let mut disks: Disks = self.disks.iter().map(disk).collect();
        disks.extend(self.instead.clone());
        Ok(disks)
    }
    async fn hashes(&self, _: &MachineId, _: &DiskId, _: Run) -> Result<Vec<Hash>> {
        no()
    }
    async fn changed(&self, _: &MachineId, _: Option<PointId>, _: PointId) -> Result<Option<ChangeSet>> {
        no()
    }
    async fn pin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        no()
    }
    async fn unpin(&self, _: &Op, _: &MachineId, _: PointId, _: &str) -> Result<()> {
        no()
    }
    async fn prune(&self, _: &Op, _: &MachineId, _: &[PointId]) -> Result<Vec<PointId>> {
        no()
    }
    async fn delete(&self, _: &Op, _: &MachineId) -> Result<()> {
        no()
    }
    async fn remember(&self, _: &Op, _: &MachineId, _: &PhaseRecord) -> Result<()> {
        no()
    }
    async fn recall(&self, _: &MachineId) -> Result<Option<PhaseRecord>> {
        no()
    }
}
