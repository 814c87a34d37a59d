//! A server with two disks and a writer, its agent, a process server, room for a master target, and a vault that protects it.

use crate::hosts::{Disk, Ground, Host, Prefix, Process, Store, check_images, run};
use crate::program::*;
use crate::switch::Switch;
use crate::world::*;
use site_recovery::state::Direction;
use site_recovery::*;
use site_recovery_physical::site::PhysicalSite;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub const MIB: u64 = 1 << 20;
/// What the file systems leave free at the end of each disk: whoever writes there harms none of them.
pub const BEYOND: u64 = 12 * MIB;
pub const OUT: Direction = Direction::PrimaryToRecovery;
pub const BACK: Direction = Direction::RecoveryToPrimary;

pub struct Scene {
    pub vaulted: Vaulted,
    pub agent: Program,
    pub agent_runs: Option<Process>,
    pub process_server: Program,
    pub process_server_runs: Option<Process>,
    pub server: Arc<Host>,
    pub processing: Host,
    pub landing: Host,
    pub disks: [Disk; 2],
    pub store: Store,
    pub ground: Ground,
}

impl Scene {
    /// Everything but what is mounted and what is vaulted.
    pub async fn new(label: &str) -> Self {
        let ground = Ground::new(label);
        let store = ground.store(2 << 30);
        // The second first, so that mostly the server tells them the other way round.
        let data = store.disk("data", 32 * MIB);
        let disks = [store.disk("system", 48 * MIB), data];
        disks.iter().for_each(|disk| disk.format_before(BEYOND));
        let (server, processing, landing) =
            (Arc::new(ground.host("web")), ground.host("ps"), ground.host("mt"));
        let vaulted = Vaulted::new(&ground).await;
        let agent = agent(&ground, &server, &[disks[0].image(), disks[1].image()]);
        let agent_runs = Some(enrolled(&vaulted, &server, &agent, agent_service()).await);
        let process_server = process_server(&ground, &processing, "ps-1");
        let role = process_server_service("ps-1");
        let process_server_runs = Some(enrolled(&vaulted, &processing, &process_server, role).await);
        Self {
            vaulted,
            agent,
            agent_runs,
            process_server,
            process_server_runs,
            server,
            processing,
            landing,
            disks,
            store,
            ground,
        }
    }

    /// Its switch: off, every process of the host is killed.
    pub fn switch(&self) -> Arc<Switch> {
        let host = Arc::downgrade(&self.server);
        Switch::new(move || host.upgrade().iter().for_each(|host| host.kill_all()), || ())
    }

    /// A vault over the services, with a master target that may not run yet.
    pub async fn vault(&self, keeper: &PhysicalSite) -> Vault {
        let process_server = Arc::new(self.vaulted.process_server(&self.processing, "ps-1").await);
        self.vaulted.vault(keeper, process_server, Arc::new(self.vaulted.master_target(&self.landing))).await
    }

    pub async fn protected(&self, vault: &Vault) -> ItemHandle {
        let policy = Policy::every(Duration::from_secs(300));
        let web = vault.protect(ProtectRequest::machine(SERVER).policy(policy)).await.unwrap();
        web.until_done().await.unwrap();
        web
    }

    /// Writes so much to a file of a file system that the server has mounted by this name, and none of it compresses.
    pub fn write_bulk(&self, mount: &str, mib: u64) {
        let file = format!("of={}/web-{mount}/bulk", self.ground.dir().display());
        self.server.run(
            "dd",
            &["if=/dev/urandom", &file, "bs=1M", &format!("count={mib}"), "conv=fsync", "status=none"],
        );
    }

    /// What a program writes to a disk past any file system.
    pub fn write(&self, disk: usize, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let device = std::fs::OpenOptions::new().write(true).open(self.disks[disk].device()).unwrap();
        device.write_all_at(bytes, at).unwrap();
        device.sync_all().unwrap();
    }

    /// The bytes of a point, in the scene's order.
    pub async fn bytes_of(&self, web: &ItemHandle, point: PointId) -> Vec<Vec<u8>> {
        self.point(web, point).await.iter().map(|image| std::fs::read(image).unwrap()).collect()
    }

    pub async fn newest(&self, web: &ItemHandle) -> PointId {
        self.vaulted.points.points(web.id()).await.unwrap().pop().unwrap().id
    }

    /// A master target on its host, that lands in a directory.
    pub async fn land_in_a_directory(&self) -> (Program, Process) {
        let retention = self.ground.dir().join("retention");
        std::fs::create_dir(&retention).unwrap();
        let landing = format!("[landing.directory]\npath = {:?}", self.landed());
        let program = master_target(&self.ground, &self.landing, &retention, &landing);
        let runs = enrolled(&self.vaulted, &self.landing, &program, master_target_service()).await;
        (program, runs)
    }

    /// That directory.
    pub fn landed(&self) -> PathBuf {
        self.store.dir().join("landing")
    }

    /// Bytes of all disks together.
    pub fn size(&self) -> u64 {
        self.disks.iter().map(|disk| std::fs::metadata(disk.image()).unwrap().len()).sum()
    }

    /// Bytes that had changed, by what points were sealed with since these events were looked at last.
    pub fn changed(&self, events: &mut Events) -> u64 {
        let mut all = 0;
        while let Some(delivery) = events.try_next() {
            let Delivery::Notice(notice) = delivery else { panic!("{delivery:?}") };
            if let NoticeKind::Sealed { changed, .. } = notice.kind {
                all += changed;
            }
        }
        all
    }

    /// What its disks are called, in the order in which this scene has them. The server tells them in that of its devices, and
    /// which numbers those have is chance.
    pub fn disk_ids(&self) -> [DiskId; 2] {
        self.disks.each_ref().map(|disk| DiskId::from(format!("loop:{}", disk.image().display())))
    }

    /// The images of a machine at the vault's site, in the scene's order.
    pub fn recovered(&self, name: &str) -> Vec<PathBuf> {
        self.images_in(&self.vaulted.dir.join("cloud").join(name))
    }

    /// The images of a machine's directory, in the scene's order.
    pub fn images_in(&self, dir: &Path) -> Vec<PathBuf> {
        let described: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("machine.json")).unwrap()).unwrap();
        let disks = described["disks"].as_array().unwrap();
        let image = |id: &DiskId| {
            let disk = disks.iter().find(|disk| disk["id"] == id.as_str()).unwrap();
            dir.join(disk["file"].as_str().unwrap())
        };
        self.disk_ids().iter().map(image).collect()
    }

    /// The disks of a point, as files where they can be cloned, in the scene's order.
    pub async fn point(&self, web: &ItemHandle, point: PointId) -> Vec<PathBuf> {
        let open = self.vaulted.points.open(web.id(), point).await.unwrap();
        let mut images = vec![];
        for (number, id) in self.disk_ids().iter().enumerate() {
            let image = self.store.dir().join(format!("point-{number}.raw"));
            std::fs::write(&image, whole(&open[id]).await).unwrap();
            images.push(image);
        }
        images
    }

    /// What the writer's files hold on images.
    pub fn prefix(&self, images: &[PathBuf]) -> Prefix {
        let copy = |n: usize| self.store.dir().join(format!("looked-at-{n}.raw"));
        let copies: Vec<PathBuf> = (0..images.len()).map(copy).collect();
        for (image, copy) in images.iter().zip(&copies) {
            std::fs::copy(image, copy).unwrap();
        }
        let copies: Vec<&Path> = copies.iter().map(PathBuf::as_path).collect();
        check_images(&copies).unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    /// The bytes of the server's disks, past all caches of theirs.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        let read = |disk: &Disk| {
            run("blockdev", &["--flushbufs".as_ref(), disk.device().as_os_str()]);
            std::fs::read(disk.device()).unwrap()
        };
        self.disks.iter().map(read).collect()
    }
}

/// A cycle that goes on while the test does something else.
#[allow(clippy::disallowed_methods, reason = "a test's own task")]
pub fn cycle(vault: &Vault, web: &ItemHandle) -> tokio::task::JoinHandle<Result<()>> {
    let (vault, id) = (vault.clone(), web.id().clone());
    tokio::spawn(async move { vault.replicate_now(&id).await })
}

/// Says which disk differs, where first, and in how many bytes.
#[track_caller]
pub fn must_be(found: &[Vec<u8>], expected: &[Vec<u8>], what: &str) {
    let sizes = |disks: &[Vec<u8>]| disks.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(found), sizes(expected), "{what}: bytes of its disks");
    for (disk, (found, expected)) in found.iter().zip(expected).enumerate() {
        let mut differing = (0..found.len()).filter(|at| found[*at] != expected[*at]);
        let Some(first) = differing.next() else { continue };
        let last = differing.clone().next_back().unwrap_or(first);
        panic!(
            "{what}: disk {disk} differs in {} bytes of {first}..={last}: {:?} where {:?} is expected",
            differing.count() + 1,
            &found[first..found.len().min(first + 32)],
            &expected[first..found.len().min(first + 32)],
        );
    }
}

/// All bytes of a disk.
pub async fn whole(disk: &Arc<dyn site_recovery::Disk>) -> Vec<u8> {
    let (pool, mut bytes) = (Pool::new(4 << 20), Vec::with_capacity(disk.size() as usize));
    for run in Run::new(0, disk.size()).pieces(1 << 20) {
        bytes.extend_from_slice(&disk.read(run, &pool).await.unwrap());
    }
    bytes
}

pub fn force() -> Force {
    Force { operator: "jane".into(), reason: "the hall burns".into() }
}
