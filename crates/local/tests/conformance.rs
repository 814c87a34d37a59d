//! The suites of the roles, run on a directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::{
    self, LandingSiteFixture, RecoverySiteFixture, SourceFixture, TargetFixture,
};
use site_recovery_testkit::world::MemoryReplica;
use std::fs;
use std::sync::Arc;
use support::World;

/// A directory with two machines that run.
struct AtSource(World);

#[async_trait]
impl SourceFixture for AtSource {
    async fn new() -> Self {
        let world = World::new();
        for name in ["web", "db"] {
            world.machine(name);
            world.site.switch_on(name).await.unwrap();
        }
        Self(world)
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.site.clone())
    }
    async fn reopen(&mut self) {
        self.0.site = self.0.again();
    }
    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }
    async fn write(&self, name: &str, disk: usize, at: u64, content: &[u8]) {
        let label = ["root", "data"][disk];
        if !self.0.is_on(name) {
            return self.0.put(name, label, at, content);
        }
        // A guest that takes the lock: one that does not may be caught in the middle of a write.
        let data = bytes::Bytes::copy_from_slice(content);
        self.0.site.write_disk(name, &label.into(), at, data).await.unwrap();
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.0.bytes(format!("{name}/{}.raw", ["root", "data"][disk]))
    }
    async fn is_running(&self, name: &str) -> bool {
        self.0.is_on(name)
    }
    async fn captures(&self, name: &str) -> usize {
        fs::read_dir(self.0.path(name).join(".site-recovery/captures")).map_or(0, Iterator::count)
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.0.site.switch_on(name).await.is_ok()
    }
    async fn stop_outside(&self, name: &str) {
        self.0.site.switch_off(name).await.unwrap();
    }
    async fn spoil(&self, name: &str) -> bool {
        fs::write(self.0.path(name).join("machine.json"), "{").unwrap();
        true
    }
    async fn remove_outside(&self, name: &str) -> bool {
        fs::remove_dir_all(self.0.path(name)).unwrap();
        true
    }
    async fn lose_tracking(&self, name: &str) -> bool {
        fs::remove_dir_all(self.0.path(name).join(".site-recovery/tracking")).is_ok()
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        let path = self.0.path(name).join(["root.raw", "data.raw"][disk]);
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(size).unwrap();
        true
    }
}

mod source {
    use super::*;
    site_recovery_testkit::source_suite!(AtSource);
}

/// An empty directory beside a machine that a person brought, and a replica in memory.
struct AtTarget {
    world: World,
    replica: MemoryReplica,
}

impl AtTarget {
    fn disk(&self, name: &str, disk: usize) -> std::path::PathBuf {
        disk_of(&self.world, name, disk)
    }
}

/// The file of a machine's disk, by its place in the description.
fn disk_of(world: &World, name: &str, disk: usize) -> std::path::PathBuf {
    let text = fs::read(world.path(name).join("machine.json")).unwrap();
    let described: serde_json::Value = serde_json::from_slice(&text).unwrap();
    world.path(name).join(described["disks"][disk]["file"].as_str().unwrap())
}

fn everything(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.dir.path()).unwrap();
    names.map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| n != ".site-recovery").collect()
}

#[async_trait]
impl RecoverySiteFixture for AtTarget {
    async fn new() -> Self {
        let world = World::new();
        world.machine("theirs");
        Self { world, replica: MemoryReplica::new("store", ManualClock::new()) }
    }
    fn site(&self) -> Arc<dyn RecoverySite> {
        Arc::new(self.world.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.world.site.clone())
    }
    fn replica(&self) -> Arc<dyn Replica> {
        Arc::new(self.replica.clone())
    }
    async fn reopen(&mut self) {
        self.world.site = self.world.again();
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let path = self.disk(name, disk);
        self.world.put_raw(&path, at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        fs::read(self.disk(name, disk)).unwrap()
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        let state = fs::read(self.world.path(name).join(".site-recovery/power.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let network = state["network"].as_str().unwrap_or("production");
        if self.world.is_on(name) { vec![network.to_owned()] } else { vec![] }
    }
    async fn everything(&self) -> Vec<String> {
        everything(&self.world)
    }
    async fn stop_outside(&self, name: &str) {
        self.world.site.switch_off(name).await.unwrap();
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
        Arc::new(self.world.site.clone())
    }
}

mod target {
    use super::*;
    site_recovery_testkit::target_suite!(AtTarget);
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!(AtTarget);
    }
}

/// A directory with a machine that runs and is enrolled.
struct AtLanding {
    world: World,
    machine: Machine,
}

#[async_trait]
impl LandingSiteFixture for AtLanding {
    async fn new() -> Self {
        let world = World::new();
        world.machine("web");
        world.site.switch_on("web").await.unwrap();
        let mut machine = world.found("web").await;
        machine.instance.machine = "m-web".into();
        world.site.enrol(&suite::op("enrol"), &machine).await.unwrap();
        Self { machine: world.found("web").await, world }
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        Arc::new(self.world.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.world.site.clone())
    }
    async fn reopen(&mut self) {
        self.world.site = self.world.again();
    }
    fn existing(&self) -> Machine {
        self.machine.clone()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let path = disk_of(&self.world, name, disk);
        self.world.put_raw(&path, at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        fs::read(disk_of(&self.world, name, disk)).unwrap()
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn everything(&self) -> Vec<String> {
        everything(&self.world)
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.world.site.start_outside(name).await.is_ok()
    }
    async fn stop_outside(&self, name: &str) {
        self.world.site.switch_off(name).await.unwrap();
    }
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!(AtLanding);
}
