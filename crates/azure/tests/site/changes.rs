//! Addresses of snapshots: those that have ended, and those that are left behind.

use crate::given::{enrolled, op};
use crate::world::{GROUP, World};
use fake_arm::Fault;
use site_recovery::*;
use site_recovery_azure_arm::Access;
use std::time::Duration;

/// `web`, a cursor, and a capture after it.
async fn captured(world: &World) -> (Machine, Cursor, Capture) {
    let machine = enrolled(world).await;
    let (instance, site) = ([machine.instance.clone()], &world.site);
    let first = site.capture(&op("one"), &instance, Consistency::Crash).await.expect("captured");
    site.release(&op("release"), &first, machine.id(), Fate::Sealed).await.expect("released");
    world.write("web", 0, 0, &[9; 4096]);
    let second = site.capture(&op("two"), &instance, Consistency::Crash).await.expect("captured");
    let since = first.member(machine.id()).expect("a member").cursor.clone().expect("a cursor");
    (machine, since, second)
}

/// Snapshots that somebody has an address of.
fn open(world: &World) -> Vec<String> {
    let all = world.manager.world().into_iter().filter(|thing| thing.kind == "Microsoft.Compute/snapshots");
    all.filter(|t| t.body["properties"]["diskState"] == "ActiveSAS").map(|t| t.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn src_7_changes_are_told_after_the_address_of_a_long_capture_has_ended() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    let first = world.site.changes(&capture, machine.id(), &since).await.expect("told");
    world.manager.advance(Duration::from_secs(7 * 3600));
    world.blobs.pass(Duration::from_secs(7 * 3600));
    let again = world.site.changes(&capture, machine.id(), &since).await.expect("told");
    assert_eq!(again, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_fail_leave_no_address_of_the_older_snapshot() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    world.manager.fault(Fault { nth: 2, ..Fault::status("POST", "/beginGetAccess", 409, "Conflict") });
    world.site.changes(&capture, machine.id(), &since).await.expect_err("refused");
    assert_eq!(open(&world), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_makes_addresses_void_that_a_process_which_is_gone_has_had() {
    let world = World::new().await;
    let (machine, ..) = captured(&world).await;
    for name in world.names("Microsoft.Compute/snapshots") {
        let granted = world.arm.snapshots(GROUP).grant(&name, Access::Read, 3600).await.expect("asked for");
        granted.done().await.expect("granted");
    }
    assert_eq!(open(&world).len(), 4);
    world.site.sweep(&op("sweep"), &machine.instance, &[]).await.expect("swept");
    assert_eq!(open(&world), [""; 0]);
}
