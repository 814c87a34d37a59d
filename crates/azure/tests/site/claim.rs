//! ROL-8 and SRC-12: once `claim` has returned, nothing that was asked for before begins or ends.

use crate::given::{enrolled, made, op, op_at, permit, recovery};
use crate::world::World;
use fake_arm::{Fault, What};
use fake_blob::{Gate, Match};
use site_recovery::*;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn rol_8_after_claim_by_another_process_nothing_older_begins() {
    let mut world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = made(&world, &what).await;
    // The older process has passed the register and is about to ask for the machine.
    let older = world.site.clone();
    let gate = Gate::new();
    let mark = Match::any().method("GET").path_contains("/mark/");
    let held = world.blobs.faults().next(mark, fake_blob::Fault::Late(gate.clone()));
    let boot = op("boot");
    let permit = permit(&boot, &what, &armed).await;
    let booting = older.boot(&boot, &what, &armed, permit);
    let claiming = async {
        held.reach(1).await;
        world.reopen().await;
        world.site.claim(&op_at("claim", 2), what.machine.id()).await.expect("claimed");
        gate.open();
    };
    let (booted, ()) = tokio::join!(booting, claiming);
    assert!(booted.as_ref().is_err_and(|e| e.kind() == ErrorKind::StaleEpoch), "{booted:?}");
    assert!(
        !world.runs(&armed.instance.name),
        "an older boot ({booted:?}) started it after claim had returned"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn src_12_a_shutdown_that_was_asked_for_is_over_when_claim_returns() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let asked = world.manager.fault(Fault::next("POST", "/powerOff", What::HangAfterAccept));
    {
        let (key, instance) = (op("fence"), machine.instance.clone());
        let fence = world.site.fence(&key, &instance, Duration::from_secs(600));
        let mut fence = std::pin::pin!(fence);
        // Until Azure has taken the shutdown in; then nobody waits for it any more.
        while world.manager.under_way() == 0 {
            let turn = tokio::time::timeout(Duration::from_millis(5), fence.as_mut()).await;
            assert!(turn.is_err(), "{turn:?}");
        }
    }
    assert_eq!(asked.count(), 1);
    world.site.claim(&op_at("claim", 2), machine.id()).await.expect("claimed");
    assert_eq!(world.manager.under_way(), 0, "a shutdown is outstanding, and claim has returned");
}
