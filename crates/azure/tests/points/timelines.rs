//! A timeline that was deleted, and the one that was opened after it under the same name.

use crate::ground::{BLOCK, Ground, bytes, op};
use site_recovery::Replica;

/// The new one begins with zeros, and says nothing of where the old one had bytes.
#[tokio::test(flavor = "multi_thread")]
async fn rep_12_nobody_knows_what_differs_from_a_point_of_a_timeline_that_was_deleted() {
    let ground = Ground::new().await;
    let old = ground.sealed("one", vec![bytes("system", 0, BLOCK, 1)]).await;
    ground.store.delete(&op("delete"), ground.id()).await.expect("deleted");
    ground.prepare("prepare-again").await;
    let second = ground.sealed("two", vec![bytes("system", BLOCK, BLOCK, 2)]).await;
    let third = ground.sealed("three", vec![bytes("system", 2 * BLOCK, BLOCK, 3)]).await;
    let store = &ground.store;
    for (from, to) in [(Some(old.id), third.id), (Some(third.id), old.id), (None, old.id)] {
        let changed = store.changed(ground.id(), from, to).await.expect("asked");
        assert_eq!(changed, None, "from {from:?} to {to}");
    }
    store.prune(&op("prune"), ground.id(), &[second.id]).await.expect("dropped");
    let changed = store.changed(ground.id(), Some(second.id), third.id).await.expect("asked");
    assert_eq!(changed.expect("its own").bytes(), 2 * BLOCK, "of its own timeline it knows, dropped or not");
    let changed = store.changed(ground.id(), None, third.id).await.expect("asked");
    assert_eq!(changed.expect("its own").bytes(), 2 * BLOCK);
}
