//! A seal that fails in its middle, and what becomes of its snapshots.

use crate::ground::{BLOCK, Ground, bytes, set};
use fake_blob::{Fault, Match};
use site_recovery::*;

/// The next seal does not come to its document.
fn breaks(ground: &Ground) {
    let document = Match::any().method("PUT").path_contains("/point/");
    ground.blobs.faults().next(document, Fault::DropBeforeEffect);
}

fn must_have_one_snapshot_for_each_point(ground: &Ground, points: usize) {
    for blob in ground.names("/disk/") {
        let snapshots = ground.snapshots(&blob);
        assert_eq!(snapshots, points, "{points} points, and {snapshots} snapshots of {blob}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_10_a_point_holds_what_was_written_after_a_seal_that_failed() {
    let ground = Ground::new().await;
    let plan = set("system", 0, 2 * BLOCK);
    let ingest = ground.begin("one", &plan).await;
    let first = bytes("system", 0, BLOCK, 1);
    ground.store.write(&ingest, 0, vec![first.clone()]).await.expect("landed");
    breaks(&ground);
    assert!(ground.seal(&ingest, &plan, std::slice::from_ref(&first)).await.is_err());
    let second = bytes("system", BLOCK, BLOCK, 2);
    ground.store.write(&ingest, 1, vec![second.clone()]).await.expect("acknowledged");
    let point = ground.seal(&ingest, &plan, &[first, second]).await.expect("a point");
    let found = ground.read(&point, "system", Run::new(0, 2 * BLOCK)).await;
    let (one, two) = found.split_at(BLOCK as usize);
    assert!(
        one.iter().all(|byte| *byte == 1) && two.iter().all(|byte| *byte == 2),
        "less than was acknowledged"
    );
    must_have_one_snapshot_for_each_point(&ground, 1);
}

/// By the snapshots that the first try has made.
#[tokio::test(flavor = "multi_thread")]
async fn rol_1_a_seal_that_failed_is_made_by_its_repeat() {
    let ground = Ground::new().await;
    let (plan, records) = (set("system", 0, BLOCK), [bytes("system", 0, BLOCK, 1)]);
    let ingest = ground.begin("one", &plan).await;
    ground.store.write(&ingest, 0, records.to_vec()).await.expect("landed");
    breaks(&ground);
    assert!(ground.seal(&ingest, &plan, &records).await.is_err());
    let point = ground.seal(&ingest, &plan, &records).await.expect("a point");
    assert!(ground.read(&point, "system", Run::new(0, BLOCK)).await.iter().all(|byte| *byte == 1));
    must_have_one_snapshot_for_each_point(&ground, 1);
}
