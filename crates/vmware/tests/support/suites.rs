//! The suites of the roles on a site of VMware's.

use super::world::World;
use crate::{MODE, open};
use async_trait::async_trait;
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite::{LandingSiteFixture, SourceFixture};
use std::sync::Arc;

/// Makes a `#[test]` of every case where the simulator is here.
macro_rules! case_on_simulator {
    ($fixture:ty, $suite:ident, $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                if crate::support::process::program().is_some() {
                    site_recovery_testkit::suite::run(site_recovery_testkit::suite::$suite::$case::<$fixture>());
                }
            }
        )+
    };
}

/// Two machines that run.
struct AtSource {
    world: World,
    names: [String; 2],
}

#[async_trait]
impl SourceFixture for AtSource {
    async fn new() -> Self {
        let world = World::start(MODE, open).await.expect("looked for before");
        let names = [world.machine("web", &[256, 128]).await, world.machine("db", &[128]).await];
        Self { world, names }
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.world.site.clone())
    }
    async fn reopen(&mut self) {
        self.world.reopen().await;
    }
    fn machines(&self) -> [String; 2] {
        self.names.clone()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.world.write(name, disk, at, bytes).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.world.content(name, disk).await
    }
    async fn is_running(&self, name: &str) -> bool {
        let called = if name == self.names[0] { "web" } else { "db" };
        self.world.is_running(called).await
    }
    async fn captures(&self, name: &str) -> usize {
        self.world.snapshots(name).await.len()
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.world.power(name, "on").await
    }
    async fn stop_outside(&self, name: &str) {
        self.world.stop(name).await;
    }
    async fn spoil(&self, name: &str) -> bool {
        self.world.spoil(name).await;
        true
    }
    async fn remove_outside(&self, name: &str) -> bool {
        self.world.told("machine-destroy", name, json!({})).await;
        true
    }
    async fn snapshot_outside(&self, name: &str) -> bool {
        self.world.told("snapshot", name, json!({ "name": "theirs" })).await;
        true
    }
    async fn lose_tracking(&self, name: &str) -> bool {
        self.world.told("cbt-reset", name, json!({})).await;
        true
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        let key = self.world.disk_files(name).await[disk].0;
        self.world.told("disk-grow", name, json!({ "key": key, "bytes": size })).await;
        true
    }
    async fn silence(&self, silent: bool) -> bool {
        self.world.silence(silent).await;
        true
    }
    async fn deafen(&self, _: &str) -> bool {
        self.world.deafen().await;
        true
    }
    async fn was_asked(&self, name: &str) -> bool {
        self.world.was_asked(name).await
    }
    async fn hear(&self, name: &str) {
        self.world.hear(name).await;
    }
}

mod source {
    use super::*;
    site_recovery_testkit::source_suite!([case_on_simulator] AtSource);
}

/// A machine that runs and is enrolled.
struct AtLanding {
    world: World,
    machine: Machine,
}

#[async_trait]
impl LandingSiteFixture for AtLanding {
    async fn new() -> Self {
        let world = World::start(MODE, open).await.expect("looked for before");
        let name = world.machine("web", &[256, 128]).await;
        for disk in 0..2 {
            world.write(&name, disk, 4096, &[7; 4096]).await;
        }
        let machine = world.enrol(&name, "m-web").await;
        Self { world, machine }
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        Arc::new(self.world.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.world.site.clone())
    }
    async fn reopen(&mut self) {
        self.world.reopen().await;
    }
    fn existing(&self) -> Machine {
        self.machine.clone()
    }
    fn settings(&self) -> Settings {
        Settings { datastore: Some("LocalDS_1".into()), name: Some("web-back".into()), ..Settings::default() }
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.world.write(name, disk, at, bytes).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.world.content(name, disk).await
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.runs(name).await
    }
    async fn everything(&self) -> Vec<String> {
        self.world.everything().await
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.world.power(name, "on").await
    }
    async fn stop_outside(&self, name: &str) {
        self.world.stop(name).await;
    }
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!([case_on_simulator] AtLanding);
}
