//! What outlives an engine: a subscription of fakes with somebody else's machine in it, the side that `web` comes from, and the
//! directories of all else.

use crate::cloud;
use crate::here::{Here, Stands};
use crate::left::Theirs;
use site_recovery::state::{Direction, Phase};
use site_recovery::{
    Deadlines, ItemHandle, Job, Journal, Leg, MachineId, Policy, Pool, ProtectRequest, Replica, Result, Run,
    SystemClock, Vault,
};
use site_recovery_azure::PageBlobs;
use site_recovery_azure_arm::Arm;
use site_recovery_journal::SqliteJournal;
use site_recovery_master_target::MasterTarget;
use site_recovery_process_server::ProcessServer;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) const OUT: Direction = Direction::PrimaryToRecovery;
pub(crate) const BACK: Direction = Direction::RecoveryToPrimary;
pub(crate) const PAGE: u64 = 4096;

pub(crate) type Content = Vec<Vec<u8>>;

/// What an engine's journal is put behind.
pub(crate) type Behind<'a> = &'a dyn Fn(Arc<dyn Journal>) -> Arc<dyn Journal>;

pub(crate) struct Ground {
    cloud: Arc<cloud::World>,
    stands: Stands,
    theirs: Arc<Theirs>,
    dir: TempDir,
    /// Of the fakes, which live on when an engine dies with its own.
    _runtime: Runtime,
}

/// An engine and its parts.
pub(crate) struct Life {
    pub(crate) here: Here,
    pub(crate) cloud: Arc<cloud::World>,
    pub(crate) arm: Arm,
    pub(crate) points: Arc<PageBlobs>,
    pub(crate) master_target: Arc<MasterTarget>,
    pub(crate) vault: Vault,
    pub(crate) theirs: Arc<Theirs>,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

impl Ground {
    /// With a directory on the other side.
    pub(crate) fn new() -> Self {
        Self::made(cloud::World::new(), async |dir| Some(Stands::directory(dir).await))
            .expect("a directory is always there")
    }

    /// The same, with the account in another region than the group: disks are uploaded, not imported.
    pub(crate) fn far() -> Self {
        Self::made(cloud::World::far(), async |dir| Some(Stands::directory(dir).await))
            .expect("a directory is always there")
    }

    /// With a guest on this disk in the directory.
    pub(crate) fn of_a_guest(disk: &Path) -> Self {
        Self::made(cloud::World::new(), async |dir| Some(Stands::guest(dir, disk).await))
            .expect("a directory is always there")
    }

    /// With a server of VMware's on the other side, where its simulator is there.
    pub(crate) fn with_a_server() -> Option<Self> {
        Self::made(cloud::World::new(), async |_| Stands::server().await)
    }

    /// How often a claim would have waited for requests of engines that are gone.
    pub(crate) fn claims_that_waited(&self) -> u64 {
        self.cloud.time.skipped()
    }

    fn made(
        cloud: impl Future<Output = cloud::World>,
        stands: impl AsyncFnOnce(&Path) -> Option<Stands>,
    ) -> Option<Self> {
        let runtime = runtime();
        // In memory where that can be: these engines are killed, and the power stays on.
        let memory = Path::new("/dev/shm");
        let below = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(below).unwrap();
        let (cloud, stands) = runtime.block_on(async {
            let stands = stands(dir.path()).await?;
            let cloud = cloud.await;
            cloud.make("theirs", &[2 << 20, 1 << 20]).await;
            Some((Arc::new(cloud), stands))
        })?;
        let theirs = Arc::new(Theirs::of(&cloud));
        Some(Self { cloud, stands, theirs, dir, _runtime: runtime })
    }

    /// The whole life of an engine.
    pub(crate) fn live<T>(&self, what: impl AsyncFnOnce(&Life) -> T) -> T {
        self.live_behind(&|journal| journal, what)
    }

    /// The same, over a journal of a kind. All that it had begun ends with its runtime, as in a process that is killed.
    pub(crate) fn live_behind<T>(&self, behind: Behind<'_>, what: impl AsyncFnOnce(&Life) -> T) -> T {
        runtime().block_on(async {
            let life = self.life(behind).await.unwrap();
            what(&life).await
        })
    }

    async fn life(&self, behind: Behind<'_>) -> Result<Life> {
        let (dir, clock) = (self.dir.path(), Arc::new(SystemClock));
        let here = self.stands.opened(dir).await?;
        let (azure, points, arm, _) = self.cloud.again().await;
        let process_server =
            ProcessServer::builder("process-server").spool(dir.join("spool")).spool_limit(1 << 30);
        let process_server = Arc::new(process_server.build().await?);
        let points = Arc::new(points);
        let retention = dir.join("retention");
        let master_target =
            Arc::new(MasterTarget::open("master-target", here.landing(), retention, clock).await?);
        let journal = SqliteJournal::open(dir.join("journal.db")).await?;
        let target = Arc::new(azure);
        let deadlines = Deadlines { retry_after: Duration::ZERO, tries: 2, ..Deadlines::default() };
        let vault = Vault::builder()
            .out(Leg::out(here.source(), process_server.clone(), points.clone(), target.clone()))
            .back(Leg::back(target, process_server, master_target.clone()))
            .journal(behind(Arc::new(journal)))
            .deadlines(deadlines)
            .build()
            .await?;
        let (cloud, theirs) = (self.cloud.clone(), self.theirs.clone());
        let life = Life { here, cloud, arm, points, master_target, vault, theirs };
        life.time_passes();
        Ok(life)
    }
}

impl Life {
    pub(crate) fn web(&self) -> Result<ItemHandle> {
        self.vault.find(self.here.web())
    }

    pub(crate) fn phase(&self) -> Phase {
        self.web().unwrap().state().unwrap().phase
    }

    /// Azure takes seven snapshots of a disk in five minutes.
    pub(crate) fn time_passes(&self) {
        self.cloud.passes(cloud::SPAN);
    }

    pub(crate) async fn protect(&self) -> Result<()> {
        let policy = Policy::every(Duration::from_secs(300));
        let web = self.vault.protect(ProtectRequest::machine(self.here.web()).policy(policy)).await?;
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
            OUT => self.here.write(disk, page * PAGE, &bytes).await,
            BACK => {
                let name = self.in_the_cloud().expect("it stands in the cloud");
                let disk = &self.cloud.disks_of(&name)[disk];
                let written = self.cloud.manager.machine(&name).write(disk, page * PAGE, &bytes);
                let refused = |e| {
                    site_recovery::Error::new(site_recovery::ErrorKind::Refused, "it is off").caused_by(e)
                };
                written.map_err(refused)
            }
        }
    }

    /// What the machine is called in the cloud, where it stands there.
    pub(crate) fn in_the_cloud(&self) -> Option<String> {
        let item = self.web().ok()?.item().ok()?;
        let stands = |i: &&site_recovery::Instance| i.site.as_str() == "azure" && !item.kept.contains(i);
        item.instances.iter().find(stands).map(|i| i.name.clone())
    }

    pub(crate) fn runs_in_the_cloud(&self) -> bool {
        self.in_the_cloud().is_some_and(|name| self.cloud.runs(&name))
    }

    /// The bytes of an instance in the cloud, past the adapter; without what its disks are rounded up by.
    pub(crate) fn bytes_of(&self, instance: &str) -> Content {
        let disks = &self.web().unwrap().item().unwrap().machine.disks;
        let cut = |(n, disk): (usize, &site_recovery::DiskSpec)| {
            let mut content = self.cloud.content(instance, n);
            let behind = content.split_off(disk.size as usize);
            assert!(behind.iter().all(|byte| *byte == 0), "{instance}: bytes behind the end of {}", disk.id);
            content
        };
        disks.iter().enumerate().map(cut).collect()
    }

    /// The bytes of the machine at a side, past the adapters.
    pub(crate) async fn bytes(&self, direction: Direction) -> Content {
        match direction {
            OUT => self.here.content().await,
            BACK => self.bytes_of(&self.in_the_cloud().expect("it stands in the cloud")),
        }
    }

    pub(crate) async fn both_sides_are_the_same(&self, when: &str) {
        assert!(self.bytes(OUT).await == self.bytes(BACK).await, "{when}: the sides differ");
    }

    /// The bytes of the newest point of a replica, in the order of the machine's disks.
    pub(crate) async fn newest(&self, replica: &Arc<dyn Replica>, machine: &MachineId) -> Content {
        let newest = replica.points(machine).await.unwrap().pop().unwrap();
        let pool = Pool::new(8 << 20);
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

/// A page that is like no other.
pub(crate) fn pattern(seed: u64) -> Vec<u8> {
    (0..PAGE / 8)
        .flat_map(|i| ((seed << 16 | i) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}
