//! Every rule of a recovery site and of a target; those of the site once more where disks are uploaded.

use crate::given::enrolled;
use crate::world::World;
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_testkit::suite::{recovery_site::RecoverySiteFixture, target::TargetFixture};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `FAR`: the account is in another region.
struct OnFakes<const FAR: bool>(World);

#[async_trait]
impl<const FAR: bool> RecoverySiteFixture for OnFakes<FAR> {
    async fn new() -> Self {
        Self(if FAR { World::far().await } else { World::new().await })
    }

    fn site(&self) -> Arc<dyn RecoverySite> {
        Arc::new(self.0.site.clone())
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.0.site.clone())
    }

    fn replica(&self) -> Arc<dyn Replica> {
        Arc::new(self.0.points.clone())
    }

    async fn reopen(&mut self) {
        self.0.reopen().await;
    }

    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.0.write(name, disk, at, bytes);
    }

    /// Without what the image is rounded up by.
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let mut content = self.0.content(name, disk);
        let size = self.machine("web").included().nth(disk).expect("a disk").size;
        assert!(content[size as usize..].iter().all(|byte| *byte == 0), "behind the end of disk {disk}");
        content.truncate(size as usize);
        content
    }

    async fn is_running(&self, name: &str) -> bool {
        self.0.runs(name)
    }

    async fn networks(&self, name: &str) -> Vec<String> {
        let world = self.0.manager.world();
        let machine = world.iter().find(|t| t.kind == "Microsoft.Compute/virtualMachines" && t.name == name);
        let Some(machine) = machine.filter(|_| self.0.runs(name)) else { return vec![] };
        let cards =
            machine.body["properties"]["networkProfile"]["networkInterfaces"].as_array().expect("cards");
        let mut networks = BTreeSet::new();
        for card in cards {
            let id = card["id"].as_str().expect("an id");
            let nic =
                world.iter().find(|t| t.body["id"].as_str().is_some_and(|i| i.eq_ignore_ascii_case(id)));
            let settings = &nic.expect("the card is there").body["properties"]["ipConfigurations"][0];
            let subnet = settings["properties"]["subnet"]["id"].as_str().expect("a subnet");
            let network = subnet.rsplit_once("/subnets/").expect("of a network").0;
            networks.insert(network.rsplit('/').next().expect("a name").to_owned());
        }
        networks.into_iter().collect()
    }

    /// Machines, and disks that no machine has: those of one preparation as one.
    async fn everything(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for thing in self.0.manager.world() {
            let loose = thing.body["managedBy"].is_null();
            match thing.kind.as_str() {
                "Microsoft.Compute/virtualMachines" => {
                    names.insert(thing.name);
                }
                "Microsoft.Compute/disks" if loose => {
                    names.insert(format!("disks of {}", thing.body["tags"]["sr-op"]));
                }
                _ => {}
            }
        }
        names.into_iter().collect()
    }

    async fn stop_outside(&self, name: &str) {
        self.0.stop_outside(name).await;
    }

    /// Its blobs are deleted, and all of their snapshots.
    async fn lose_replica(&self) -> bool {
        for name in self.0.documents().into_iter().filter(|name| name.starts_with("m/")) {
            self.0.container.pages(&name).delete_all().await.expect("deleted");
        }
        let machine = self.machine("web");
        let lost = self.0.points.open(machine.id(), PointId(1)).await;
        assert!(lost.is_err(), "a point is there yet");
        true
    }

    async fn brought(&self) -> Option<Instance> {
        Some(enrolled(&self.0).await.instance)
    }
}

impl TargetFixture for OnFakes<false> {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.0.site.clone())
    }
}

site_recovery_testkit::recovery_site_suite!(OnFakes<false>);
site_recovery_testkit::target_suite!(OnFakes<false>);

mod far {
    use super::OnFakes;

    site_recovery_testkit::recovery_site_suite!(OnFakes<true>);
}
