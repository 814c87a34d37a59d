//! SIT-1: what boot would refuse is found before.

use crate::given::op;
use crate::world::World;
use site_recovery::*;
use site_recovery_testkit::suite;

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_disk_that_no_page_blob_holds_is_found_before() {
    let world = World::new().await;
    let mut machine = suite::machine("web");
    machine.disks[1].size = 9 << 40;
    let found = world.site.check(&machine, &Settings::default()).await.expect("checked");
    let prepared = world.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await;
    assert!(prepared.is_ok() || found.iter().any(|f| f.blocks()), "nothing found, and then {prepared:?}");
}
