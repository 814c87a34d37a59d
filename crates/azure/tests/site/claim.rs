//! ROL-8 and SRC-12: once `claim` has returned, nothing that was asked for before begins or ends.

use crate::given::{boot, enrolled, made, op, op_at, permit, recovery};
use crate::world::{World, says};
use fake_arm::{Fault, What};
use fake_blob::{Gate, Match};
use site_recovery::*;
use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

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
async fn rol_8_a_request_that_is_not_accepted_within_the_window_is_given_up() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = made(&world, &what).await;
    let hasty = world.within(Duration::from_millis(50)).await;
    world.manager.fault(Fault::next("PUT", "/networkInterfaces/", What::Hang));
    let key = op("boot");
    let leave = permit(&key, &what, &armed).await;
    let error = hasty.boot(&key, &what, &armed, leave).await.expect_err("it is not accepted");
    says(&error, ErrorKind::Unavailable, &["has not accepted it within 50ms"]);
    assert_eq!(error.fact("outcome"), Some("unknown"));
    assert!(!world.runs(&armed.instance.name));
    world.manager.mend();
    boot(&world, &what, &armed).await;
    assert!(world.runs(&armed.instance.name), "the same call goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_8_when_claim_returns_a_request_that_was_under_way_before_has_ended() {
    let mut world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = made(&world, &what).await;
    let older = world.site.clone();
    let held = world.manager.fault(Fault::next("PUT", "/virtualMachines/", What::Hang));
    let key = op("boot");
    let leave = permit(&key, &what, &armed).await;
    let mut booting = pin!(older.boot(&key, &what, &armed, leave));
    // Until Resource Manager has the request: the look at the register is past.
    while held.count() == 0 {
        let turn = timeout(Duration::from_millis(5), booting.as_mut()).await;
        assert!(turn.is_err(), "{turn:?}");
    }
    world.reopen().await;
    let ended = Cell::new(false);
    let booting = async {
        let booted = booting.await;
        ended.set(true);
        booted
    };
    let claiming = async {
        world.site.claim(&op_at("claim", 2), what.machine.id()).await.expect("claimed");
        assert!(ended.get(), "claim has returned, and an older request is under way");
    };
    let (booted, ()) = tokio::join!(booting, claiming);
    says(&booted.expect_err("it was not accepted"), ErrorKind::Unavailable, &["has not accepted it within"]);
    assert!(!world.runs(&armed.instance.name));
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
            let turn = timeout(Duration::from_millis(5), fence.as_mut()).await;
            assert!(turn.is_err(), "{turn:?}");
        }
    }
    assert_eq!(asked.count(), 1);
    world.site.claim(&op_at("claim", 2), machine.id()).await.expect("claimed");
    assert_eq!(world.manager.under_way(), 0, "a shutdown is outstanding, and claim has returned");
}
