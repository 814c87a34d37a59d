//! All machines of a container, for one who has nothing else left.

use crate::ground::{BLOCK, Ground, bytes, op, until};
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;
use std::time::Duration;

/// `web` and `db`, each with a timeline.
async fn two() -> Ground {
    let mut ground = Ground::new().await;
    let web = ground.machine.clone();
    ground.machine = site_recovery_testkit::suite::machine("db");
    ground.prepare("prepare-db").await;
    ground.machine = web;
    ground
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_9_one_whose_state_is_damaged_is_listed_and_hides_no_other() {
    let ground = two().await;
    ground.spoil("m/db/state").await;
    let machines = ground.store.machines().await.expect("listed");
    assert_eq!(machines, ["db".into(), "web".into()]);
    let error = ground.store.points(&"db".into()).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(
        error.to_string().contains("m/db/state") || format!("{error:?}").contains("m/db/state"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_4_they_are_listed_while_one_is_in_the_middle_of_a_call() {
    let ground = two().await;
    let point = ground.sealed("one", vec![bytes("system", 0, BLOCK, 1)]).await;
    let document = Match::any().method("PUT").path_contains("/state");
    let held = ground.blobs.faults().next(document, Fault::Late(Gate::new()));
    let key = op("pin");
    let mut pin = ground.store.pin(&key, ground.id(), point.id, "why");
    until(held, &mut pin).await;
    let machines = tokio::time::timeout(Duration::from_secs(20), ground.store.machines()).await;
    assert_eq!(machines.expect("at once").expect("listed"), ["db".into(), "web".into()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_deleted_is_none_any_more() {
    let ground = two().await;
    ground.store.delete(&op("delete"), &"db".into()).await.expect("deleted");
    assert_eq!(ground.store.machines().await.expect("listed"), ["web".into()]);
}
