//! The suites of the roles, run on QEMU processes that execute a BIOS and no system: writes are made through the guest's
//! device, past the adapter.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::{
    self, LandingSiteFixture, RecoverySiteFixture, SourceFixture, TargetFixture,
};
use site_recovery_testkit::world::MemoryReplica;
use std::fs;
use std::sync::Arc;
use support::*;

/// Makes a `#[test]` of every case where QEMU is here.
macro_rules! case_on_qemu {
    ($fixture:ty, $suite:ident, $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                if qemu_is_here() {
                    suite::run(suite::$suite::$case::<$fixture>());
                }
            }
        )+
    };
}

/// Work that waits for processes, off the thread on which the site's own servers run.
async fn aside<T: Send + 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> T + Send + 'static) -> T {
    let world = Arc::clone(world);
    tokio::task::spawn_blocking(move || f(&world)).await.unwrap()
}

/// A directory with two machines that run.
struct AtSource {
    world: Arc<World>,
    site: site_recovery_qemu::QemuSite,
}

#[async_trait]
impl SourceFixture for AtSource {
    async fn new() -> Self {
        let world = World::new().await;
        for name in ["web", "db"] {
            world.running(name).await;
        }
        Self { site: world.site.clone(), world: Arc::new(world) }
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    async fn reopen(&mut self) {
        self.site = self.world.again().await;
    }
    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }
    async fn write(&self, name: &str, disk: usize, at: u64, content: &[u8]) {
        let (name, content) = (name.to_owned(), content.to_vec());
        aside(&self.world, move |w| w.put(&name, disk, at, &content)).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let name = name.to_owned();
        aside(&self.world, move |w| w.content(&name, disk)).await
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn captures(&self, name: &str) -> usize {
        self.world.captures(name)
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.site.power_on(name).await.is_ok()
    }
    async fn stop_outside(&self, name: &str) {
        self.world.switch_off(name);
    }
    async fn spoil(&self, name: &str) -> bool {
        fs::write(self.world.path(name).join("machine.json"), "{").unwrap();
        true
    }
    async fn remove_outside(&self, name: &str) -> bool {
        self.world.kill(name);
        fs::remove_dir_all(self.world.path(name)).unwrap();
        true
    }
    async fn lose_tracking(&self, name: &str) -> bool {
        self.world.kill(name);
        self.site.power_on(name).await.unwrap();
        true
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        let mut monitor = self.world.monitor(name).unwrap();
        let arguments = json!({ "node-name": format!("d{disk}"), "size": size });
        monitor.call("block_resize", arguments).unwrap();
        true
    }
    async fn snapshot_outside(&self, name: &str) -> bool {
        let mut monitor = self.world.monitor(name).unwrap();
        let arguments = json!({ "device": "d0", "name": "theirs" });
        monitor.call("blockdev-snapshot-internal-sync", arguments).unwrap();
        true
    }
}

mod source {
    use super::*;
    site_recovery_testkit::source_suite!([case_on_qemu] AtSource);
}

/// An empty directory beside a machine that a person brought, and a replica in memory.
struct AtTarget {
    world: Arc<World>,
    site: site_recovery_qemu::QemuSite,
    replica: MemoryReplica,
}

#[async_trait]
impl RecoverySiteFixture for AtTarget {
    async fn new() -> Self {
        let world = World::new().await;
        world.machine("theirs");
        let replica = MemoryReplica::new("store", ManualClock::new());
        Self { site: world.site.clone(), world: Arc::new(world), replica }
    }
    fn site(&self) -> Arc<dyn RecoverySite> {
        Arc::new(self.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    fn replica(&self) -> Arc<dyn Replica> {
        Arc::new(self.replica.clone())
    }
    async fn reopen(&mut self) {
        self.site = self.world.again().await;
    }
    fn machine(&self, id: &str) -> Machine {
        let nic = Nic { id: "n0".into(), mac: None, network: Some("lan".into()), addresses: vec![] };
        Machine { nics: vec![nic], memory: 32 << 20, ..suite::machine(id) }
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        aside(&self.world, move |w| w.put(&name, disk, at, &bytes)).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let name = name.to_owned();
        aside(&self.world, move |w| w.content(&name, disk)).await
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        let isolated = |b: &String| b.starts_with("user,restrict=on");
        let backends = self.world.backends(name);
        backends.iter().map(|b| if isolated(b) { "isolated".into() } else { "production".into() }).collect()
    }
    async fn everything(&self) -> Vec<String> {
        self.world.everything()
    }
    async fn stop_outside(&self, name: &str) {
        self.world.switch_off(name);
    }
    async fn brought(&self) -> Option<Instance> {
        Some(self.world.found("theirs").await.instance)
    }
    async fn lose_replica(&self) -> bool {
        self.replica.set_down(true);
        true
    }
}

impl TargetFixture for AtTarget {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.site.clone())
    }
}

mod target {
    use super::*;
    site_recovery_testkit::target_suite!([case_on_qemu] AtTarget);
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!([case_on_qemu] AtTarget);
    }
}

/// A directory with a machine that runs and is enrolled.
struct AtLanding {
    world: Arc<World>,
    site: site_recovery_qemu::QemuSite,
    machine: Machine,
}

#[async_trait]
impl LandingSiteFixture for AtLanding {
    async fn new() -> Self {
        let world = World::new().await;
        world.running("web").await;
        let mut machine = world.found("web").await;
        machine.instance.machine = "m-web".into();
        world.site.enrol(&suite::op("enrol"), &machine).await.unwrap();
        let machine = world.found("web").await;
        Self { site: world.site.clone(), machine, world: Arc::new(world) }
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        Arc::new(self.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    async fn reopen(&mut self) {
        self.site = self.world.again().await;
    }
    fn existing(&self) -> Machine {
        self.machine.clone()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        aside(&self.world, move |w| w.put(&name, disk, at, &bytes)).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let name = name.to_owned();
        aside(&self.world, move |w| w.content(&name, disk)).await
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn everything(&self) -> Vec<String> {
        self.world.everything()
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.site.power_on(name).await.is_ok()
    }
    async fn stop_outside(&self, name: &str) {
        self.world.switch_off(name);
    }
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!([case_on_qemu] AtLanding);
}
