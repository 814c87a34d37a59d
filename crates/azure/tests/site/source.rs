//! Every rule of a source.

use crate::world::{GROUP, REGION, World};
use async_trait::async_trait;
use site_recovery::Source;
use site_recovery_azure_arm::NewSnapshot;
use site_recovery_testkit::suite::source::SourceFixture;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

struct OnFakes(World);

#[async_trait]
impl SourceFixture for OnFakes {
    async fn new() -> Self {
        let world = World::new().await;
        world.make("web", &[2 * MIB, MIB]).await;
        world.make("db", &[MIB]).await;
        Self(world)
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.site.clone())
    }

    async fn reopen(&mut self) {
        self.0.reopen().await;
    }

    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }

    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.0.write(name, disk, at, bytes);
    }

    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.0.content(name, disk)
    }

    async fn is_running(&self, name: &str) -> bool {
        self.0.runs(name)
    }

    /// Snapshots of its disks, but those that are kept as cursors alone.
    async fn captures(&self, name: &str) -> usize {
        let disks = self.0.disks_of(name);
        let of = |thing: &fake_arm::Resource| {
            let source =
                thing.body["properties"]["creationData"]["sourceResourceId"].as_str().unwrap_or_default();
            disks.iter().any(|disk| source.ends_with(disk.as_str()))
                && thing.body["tags"]["sr-kept"].is_null()
        };
        self.0
            .manager
            .world()
            .iter()
            .filter(|t| t.kind == "Microsoft.Compute/snapshots")
            .filter(|t| of(t))
            .count()
    }

    async fn start_outside(&self, name: &str) -> bool {
        self.0.manager.start_from_outside(name).is_ok()
    }

    async fn stop_outside(&self, name: &str) {
        self.0.stop_outside(name).await;
    }

    async fn remove_outside(&self, name: &str) -> bool {
        let mut gone = self.0.disks_of(name);
        gone.push(name.to_owned());
        let world = self.0.manager.world();
        // The machine first: a disk that it has cannot go.
        let kinds = ["Microsoft.Compute/virtualMachines", "Microsoft.Compute/disks"];
        for kind in kinds {
            for thing in world.iter().filter(|thing| thing.kind == kind && gone.contains(&thing.name)) {
                let id = thing.body["id"].as_str().expect("an id");
                self.0.manager.delete_from_outside(id).expect("it goes");
            }
        }
        true
    }

    /// One of its disks is gone.
    async fn spoil(&self, name: &str) -> bool {
        let disk = self.0.disks_of(name).remove(0);
        let world = self.0.manager.world();
        let is_it =
            |thing: &&fake_arm::Resource| thing.kind == "Microsoft.Compute/disks" && thing.name == disk;
        let id = world.iter().find(is_it).and_then(|thing| thing.body["id"].as_str()).expect("a disk");
        self.0.manager.delete_from_outside(id).expect("it goes");
        true
    }

    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        self.0.manager.grow_from_outside(&self.0.disks_of(name)[disk], size).expect("it grows");
        true
    }

    async fn silence(&self, silent: bool) -> bool {
        self.0.manager.silence(silent);
        true
    }

    async fn deafen(&self, name: &str) -> bool {
        self.0.manager.machine(name).deafen().expect("it is there");
        true
    }

    async fn was_asked(&self, name: &str) -> bool {
        self.0.manager.machine(name).was_asked()
    }

    async fn hear(&self, name: &str) {
        self.0.manager.machine(name).hear();
    }

    async fn snapshot_outside(&self, name: &str) -> bool {
        let disk =
            self.0.arm.disks(GROUP).get(&self.0.disks_of(name)[0]).await.expect("asked").expect("there");
        let new = NewSnapshot {
            location: REGION.into(),
            tags: Default::default(),
            source_id: disk.id,
            incremental: true,
        };
        let put = self.0.arm.snapshots(GROUP).put("somebody-else", &new).await.expect("asked for");
        put.done().await.is_ok()
    }

    /// Somebody removes the snapshots.
    async fn lose_tracking(&self, _: &str) -> bool {
        let world = self.0.manager.world();
        for thing in world.iter().filter(|thing| thing.kind == "Microsoft.Compute/snapshots") {
            let id = thing.body["id"].as_str().expect("an id");
            self.0.manager.delete_from_outside(id).expect("it goes");
        }
        true
    }
}

site_recovery_testkit::source_suite!(OnFakes);
