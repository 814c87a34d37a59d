//! The suites of a landing site, and of the master target over it, on plain files and on loop devices.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

use async_trait::async_trait;
use site_recovery::*;
use site_recovery_master_target::MasterTarget;
use site_recovery_physical::bare::{BareDisks, BareServer, Slot, Switched};
use site_recovery_physical::power::Keeps;
use site_recovery_testkit::suite::{
    LandingSiteFixture, MasterTargetFixture, RecoverySiteFixture, ReplicaFixture,
};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use support::*;
use tempfile::TempDir;

const NAME: &str = "web-here";
/// As the machine of the master target's suites.
const DISKS: [(&str, u64); 2] = [("system", 256 << 10), ("data", 17 * 4096 + 1536)];

/// One server with two disks, and a room for what is made.
struct At<const DEVICES: bool, const HELD: bool> {
    dir: TempDir,
    loops: Vec<Loop>,
    hall: Arc<Hall>,
    site: BareDisks,
    master_target: Arc<MasterTarget>,
}

type OnFiles = At<false, false>;
type OnHeldFiles = At<false, true>;
type OnDevices = At<true, false>;

impl<const DEVICES: bool, const HELD: bool> At<DEVICES, HELD> {
    const KEEPS: Keeps = if HELD { HOLDS } else { TELLS };

    async fn fresh(on: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut loops = vec![];
        for (id, size) in DISKS {
            let path = dir.path().join(format!("{id}.img"));
            // A disk of a server is larger than the machine's that lands there.
            disk_file(&path, if DEVICES { size.next_multiple_of(4096) + (128 << 10) } else { size });
            if DEVICES {
                loops.push(Loop::over(&path));
            }
        }
        let hall = Hall::new(Self::KEEPS);
        hall.server(NAME).truth().on = on;
        let site = opened(&dir, &loops, &hall);
        std::fs::create_dir(dir.path().join("retention")).unwrap();
        let master_target = over(&site, &dir).await;
        Self { dir, loops, hall, site, master_target }
    }

    async fn again(&mut self) {
        self.site = opened(&self.dir, &self.loops, &self.hall);
        self.master_target = over(&self.site, &self.dir).await;
    }

    fn existing(&self) -> Machine {
        machine("web", "here", NAME, &DISKS)
    }

    fn path(&self, name: &str, disk: usize) -> PathBuf {
        match name == NAME {
            true if DEVICES => self.loops[disk].path.clone(),
            true => self.dir.path().join(format!("{}.img", DISKS[disk].0)),
            false => self.dir.path().join("room").join(name).join(format!("{}.raw", DISKS[disk].0)),
        }
    }

    fn bytes(&self, name: &str, disk: usize) -> Vec<u8> {
        std::fs::read(self.path(name, disk)).unwrap()
    }

    fn put(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let file = std::fs::File::options().write(true).open(self.path(name, disk)).unwrap();
        file.write_all_at(bytes, at).unwrap();
        file.sync_all().unwrap();
    }

    fn all(&self) -> Vec<String> {
        let room = std::fs::read_dir(self.dir.path().join("room"));
        let made = room.into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap());
        std::iter::once(NAME.to_owned()).chain(made).collect()
    }
}

fn opened(dir: &TempDir, loops: &[Loop], hall: &Arc<Hall>) -> BareDisks {
    let path = |at: usize| match loops.get(at) {
        Some(device) => device.path.clone(),
        None => dir.path().join(format!("{}.img", DISKS[at].0)),
    };
    let slots = DISKS.iter().enumerate().map(|(at, (id, _))| Slot { id: (*id).into(), path: path(at) });
    let starter = Arc::new(Switched(hall.server(NAME)));
    let server = BareServer { name: NAME.into(), slots: slots.collect(), firmware: None, starter };
    let builder = BareDisks::builder("here".into(), dir.path().join("state"), Arc::new(SystemClock));
    builder.server(server).room(dir.path().join("room"), Some(Arc::clone(hall) as _)).open().unwrap()
}

async fn over(site: &BareDisks, dir: &TempDir) -> Arc<MasterTarget> {
    let landing: Arc<dyn LandingSite> = Arc::new(site.clone());
    let retention = dir.path().join("retention");
    Arc::new(MasterTarget::open("here", landing, retention, Arc::new(SystemClock)).await.unwrap())
}

/// What the suites need of the site's source: its register, and that it fences nothing.
#[derive(Debug)]
struct RegisterAlone(site_recovery_register::Register);

mod register_alone;

impl<const DEVICES: bool, const HELD: bool> At<DEVICES, HELD> {
    fn register(&self) -> Arc<dyn Source> {
        Arc::new(RegisterAlone(site_recovery_register::Register::at(self.dir.path().join("state/epochs"))))
    }
}

#[async_trait]
impl<const DEVICES: bool, const HELD: bool> LandingSiteFixture for At<DEVICES, HELD> {
    async fn new() -> Self {
        Self::fresh(true).await
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        Arc::new(self.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        self.register()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
    fn existing(&self) -> Machine {
        self.existing()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.put(name, disk, at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.bytes(name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        self.hall.server(name).runs()
    }
    async fn everything(&self) -> Vec<String> {
        self.all()
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.hall.server(name).press()
    }
    async fn stop_outside(&self, name: &str) {
        self.hall.server(name).unplug();
    }
}

#[async_trait]
impl<const DEVICES: bool, const HELD: bool> MasterTargetFixture for At<DEVICES, HELD> {
    async fn new() -> Self {
        Self::fresh(false).await
    }
    fn master_target(&self) -> Arc<dyn site_recovery::MasterTarget> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
    async fn existing(&self) -> Option<Instance> {
        Some(self.existing().instance)
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.bytes(name, disk)
    }
}

#[async_trait]
impl<const DEVICES: bool, const HELD: bool> ReplicaFixture for At<DEVICES, HELD> {
    async fn new() -> Self {
        Self::fresh(false).await
    }
    fn replica(&self) -> Arc<dyn Replica> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
}

#[async_trait]
impl<const DEVICES: bool, const HELD: bool> RecoverySiteFixture for At<DEVICES, HELD> {
    async fn new() -> Self {
        Self::fresh(false).await
    }
    fn site(&self) -> Arc<dyn RecoverySite> {
        self.master_target.clone()
    }
    fn source(&self) -> Arc<dyn Source> {
        self.register()
    }
    fn replica(&self) -> Arc<dyn Replica> {
        self.master_target.clone()
    }
    async fn reopen(&mut self) {
        self.again().await;
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.put(name, disk, at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.bytes(name, disk)
    }
    async fn is_running(&self, name: &str) -> bool {
        self.hall.server(name).runs()
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        let runs = self.hall.server(name).runs();
        if runs { vec!["production".into()] } else { vec![] }
    }
    async fn everything(&self) -> Vec<String> {
        self.all()
    }
    async fn stop_outside(&self, name: &str) {
        self.hall.server(name).unplug();
    }
    async fn brought(&self) -> Option<Instance> {
        Some(self.existing().instance)
    }
}

mod on_files {
    use super::*;
    site_recovery_testkit::landing_site_suite!(OnFiles);
}

mod on_files_of_a_server_that_is_held {
    use super::*;
    site_recovery_testkit::landing_site_suite!(OnHeldFiles);
}

mod on_devices {
    use super::*;
    site_recovery_testkit::landing_site_suite!(OnDevices);
}

mod master_target {
    use super::*;
    site_recovery_testkit::master_target_suite!(OnFiles);
}

mod replica {
    use super::*;
    site_recovery_testkit::replica_suite!(OnFiles);
}

mod recovery_site {
    use super::*;
    site_recovery_testkit::recovery_site_suite!(OnFiles);
}
