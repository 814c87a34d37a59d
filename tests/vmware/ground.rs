//! What outlives an engine: a server of VMware's, simulated, with a machine `web` on it, or a physical server `web` beside it,
//! and the directories of all else.

use crate::hall::{Hall, SERVER};
use crate::process::{Mode, Sim};
use crate::world::World;
use site_recovery::state::{Direction, Phase};
use site_recovery::{
    Deadlines, ItemHandle, Job, Leg, MachineId, Policy, Pool, ProtectRequest, Replica, Result, Run, Source,
    SystemClock, Vault,
};
use site_recovery_journal::SqliteJournal;
use site_recovery_local::LocalSite;
use site_recovery_master_target::MasterTarget;
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer;
use site_recovery_testkit::crash::{Crash, CrashingJournal};
use site_recovery_vmware::Builder;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const OUT: Direction = Direction::PrimaryToRecovery;
pub(crate) const BACK: Direction = Direction::RecoveryToPrimary;
pub(crate) const PAGE: u64 = 4096;
/// The leg out of what came back as a machine of the server's, where another one came from elsewhere.
pub(crate) const OUT_OF_VMWARE: &str = "out of VMware";
/// In KiB.
const DISKS: [u64; 2] = [512, 260];

pub(crate) type Content = Vec<Vec<u8>>;

pub(crate) struct Ground {
    sim: Arc<Sim>,
    dir: Arc<TempDir>,
    appliance: String,
    hall: Option<Arc<Hall>>,
    /// The machine, as its first site calls it.
    pub(crate) web: String,
}

/// An engine and its parts.
pub(crate) struct Life {
    pub(crate) world: World,
    pub(crate) cloud: LocalSite,
    pub(crate) points: Arc<Points>,
    pub(crate) master_target: Arc<MasterTarget>,
    pub(crate) journal: CrashingJournal,
    pub(crate) vault: Vault,
    pub(crate) hall: Option<Arc<Hall>>,
    pub(crate) web: String,
}

pub(crate) fn open(sim: &Sim, state: PathBuf) -> Builder {
    match sim.mode {
        Mode::VCenter => site_recovery_vsphere::VCenter::new(sim.settings.clone()).site("here".into(), state),
        Mode::Esxi => site_recovery_esxi::site("here".into(), state, sim.settings.clone()),
    }
}

/// Nothing where the simulator is absent; that is said, and fails where it has to be there.
pub(crate) fn is_here() -> bool {
    crate::process::program().is_some()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

impl Ground {
    /// A machine that runs, with bytes on both disks.
    pub(crate) fn new(mode: Mode) -> Self {
        runtime().block_on(async {
            let world = World::start(mode, open).await.expect("looked for before");
            let web = world.machine("web", &DISKS).await;
            for (disk, kib) in DISKS.into_iter().enumerate() {
                let pages = 0..kib * 1024 / PAGE;
                let page = |page: u64| {
                    if page.is_multiple_of(3) { pattern(page + kib) } else { vec![0; PAGE as usize] }
                };
                world.write(&web, disk, 0, &pages.flat_map(page).collect::<Vec<u8>>()).await;
            }
            let (sim, dir, appliance) = (world.sim.clone(), world.dir.clone(), world.appliance.clone());
            Self { sim, dir, appliance, hall: None, web }
        })
    }

    /// A physical server that runs, with bytes on both disks; the server of VMware's has the appliance alone.
    pub(crate) fn physical(mode: Mode) -> Self {
        let hall = Hall::new();
        for (disk, pages) in [(0, 128), (1, 256)] {
            for page in (0..pages).step_by(3) {
                hall.disks.disk(disk).write(page * PAGE, &pattern(page + pages));
            }
        }
        runtime().block_on(async {
            let world = World::start(mode, open).await.expect("looked for before");
            let (sim, dir, appliance) = (world.sim.clone(), world.dir.clone(), world.appliance.clone());
            Self { sim, dir, appliance, hall: Some(Arc::new(hall)), web: SERVER.into() }
        })
    }

    /// The whole life of an engine that dies at `crash`.
    pub(crate) fn live<T>(&self, crash: Crash, what: impl AsyncFnOnce(&Life) -> T) -> T {
        runtime().block_on(async {
            let life = self.life(crash).await.unwrap();
            what(&life).await
        })
    }

    async fn life(&self, crash: Crash) -> Result<Life> {
        let (dir, clock) = (self.dir.path().to_owned(), Arc::new(SystemClock));
        let world = World::over(self.sim.clone(), self.dir.clone(), open, &self.appliance).await;
        let here = Arc::new(world.site.clone());
        let cloud = LocalSite::open("cloud".into(), dir.join("cloud"), clock.clone())?;
        let process_server =
            ProcessServer::builder("process-server").spool(dir.join("spool")).spool_limit(1 << 30);
        let process_server = Arc::new(process_server.build().await?);
        let points = Arc::new(Points::directory("points".into(), dir.join("points"), clock.clone())?);
        let retention = dir.join("retention");
        let master_target =
            Arc::new(MasterTarget::open("master-target", here.clone(), retention, clock).await?);
        let journal = Arc::new(SqliteJournal::open(dir.join("journal.db")).await?);
        let journal = CrashingJournal::new(journal, crash);
        let target = Arc::new(cloud.clone());
        let deadlines = Deadlines { retry_after: Duration::ZERO, tries: 2, ..Deadlines::default() };
        let first: Arc<dyn Source> = match &self.hall {
            Some(hall) => Arc::new(hall.site(&dir)),
            None => here.clone(),
        };
        let vault = Vault::builder()
            .out(Leg::out(first, process_server.clone(), points.clone(), target.clone()))
            .leg(OUT_OF_VMWARE, Leg::out(here, process_server.clone(), points.clone(), target.clone()))
            .back(Leg::back(target, process_server, master_target.clone()))
            .journal(Arc::new(journal.clone()))
            .deadlines(deadlines)
            .build()
            .await?;
        let (hall, web) = (self.hall.clone(), self.web.clone());
        Ok(Life { world, cloud, points, master_target, journal, vault, hall, web })
    }
}

impl Life {
    pub(crate) fn web(&self) -> Result<ItemHandle> {
        self.vault.find(&self.web)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.web().unwrap().state().unwrap().phase
    }

    pub(crate) async fn protect(&self) -> Result<()> {
        let policy = Policy::every(Duration::from_secs(300));
        let web = self.vault.protect(ProtectRequest::machine(self.web.as_str()).policy(policy)).await?;
        web.until_done().await
    }

    /// Goes on with what an engine before this one had begun, to its end.
    pub(crate) async fn resume(&self) {
        for job in self.vault.resume().await.into_values() {
            job.unwrap().wait().await.unwrap();
        }
    }

    /// Writes as the guest does where it runs, at a page that is like no other.
    pub(crate) async fn write(&self, direction: Direction, disk: usize, page: u64) -> Result<()> {
        static WRITTEN: AtomicU64 = AtomicU64::new(7777);
        let bytes = pattern(WRITTEN.fetch_add(1, Ordering::SeqCst));
        match direction {
            OUT => {
                match (&self.hall, self.at_the_server()) {
                    (_, Some(name)) => self.world.write(&name, disk, page * PAGE, &bytes).await,
                    (Some(hall), None) => hall.disks.disk(disk).write(page * PAGE, &bytes),
                    (None, None) => self.world.write(&self.web, disk, page * PAGE, &bytes).await,
                }
                Ok(())
            }
            BACK => {
                let instance = self.in_the_cloud();
                let id = self.web()?.item()?.machine.disks[disk].id.clone();
                self.cloud.write_disk(&instance, &id, page * PAGE, bytes.into()).await
            }
        }
    }

    /// What the machine is called at the server of VMware's, where it stands or stood there last.
    pub(crate) fn at_the_server(&self) -> Option<String> {
        let item = self.web().ok()?.item().ok()?;
        item.instances.iter().rev().find(|i| i.site.as_str() == "here").map(|i| i.name.clone())
    }

    /// What the machine is called in the cloud.
    pub(crate) fn in_the_cloud(&self) -> String {
        let item = self.web().unwrap().item().unwrap();
        let there = item.instances.iter().find(|i| i.site.as_str() == "cloud");
        there.expect("it stands in the cloud").name.clone()
    }

    /// The bytes of the machine at a side, past the adapters.
    pub(crate) async fn bytes(&self, direction: Direction) -> Content {
        if direction == OUT {
            let name = match (&self.hall, self.at_the_server()) {
                (Some(hall), None) => return [0, 1].map(|disk| hall.disks.disk(disk).content()).to_vec(),
                (_, name) => name.unwrap_or_else(|| self.web.clone()),
            };
            return vec![self.world.content(&name, 0).await, self.world.content(&name, 1).await];
        }
        let home = self.world.dir.path().join("cloud").join(self.in_the_cloud());
        let text = fs::read(home.join("machine.json")).unwrap();
        let described: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let file = |disk: &serde_json::Value| fs::read(home.join(disk["file"].as_str().unwrap())).unwrap();
        described["disks"].as_array().unwrap().iter().map(file).collect()
    }

    pub(crate) async fn both_sides_are_the_same(&self, when: &str) {
        assert!(same(&self.bytes(OUT).await, &self.bytes(BACK).await), "{when}: the sides differ");
    }

    /// The bytes of the newest point of a replica, in the order of the machine's disks.
    pub(crate) async fn newest(&self, replica: &Arc<dyn Replica>, machine: &MachineId) -> Content {
        let pool = Pool::new(8 << 20);
        let newest = replica.points(machine).await.unwrap().pop().unwrap();
        let disks = replica.open(machine, newest.id).await.unwrap();
        let mut all = vec![];
        for spec in &self.web().unwrap().item().unwrap().machine.disks {
            let disk = &disks[&spec.id];
            all.push(disk.read(Run::new(0, disk.size()), &pool).await.unwrap().to_vec());
        }
        all
    }
}

pub(crate) async fn done(job: Result<Job>) {
    job.unwrap().done().await.unwrap();
}

/// Whether disks hold the same bytes. One that was made for another may be larger, by zeros of less than one KiB.
pub(crate) fn same(some: &Content, others: &Content) -> bool {
    let alike = |(some, other): (&Vec<u8>, &Vec<u8>)| {
        let (short, long) = if some.len() < other.len() { (some, other) } else { (other, some) };
        let (first, rest) = long.split_at(short.len());
        first == &short[..] && rest.len() < 1024 && rest.iter().all(|byte| *byte == 0)
    };
    some.len() == others.len() && some.iter().zip(others).all(alike)
}

/// A page that is like no other.
pub(crate) fn pattern(seed: u64) -> Vec<u8> {
    (0..PAGE / 8)
        .flat_map(|i| ((seed << 16 | i) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}
