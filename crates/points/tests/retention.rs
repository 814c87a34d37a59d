//! On a store that keeps everything for a time by itself: what is locked is safe from whoever holds the store's keys, and
//! replication goes on.

mod support;

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use site_recovery::*;
use site_recovery_points::Points;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use support::worm::Worm;
use support::*;

#[tokio::test]
async fn c4_a_store_that_keeps_what_it_has_loses_no_point_and_gives_the_space_back_afterwards() {
    let store = Worm::default();
    let points = || {
        let store = Arc::new(store.clone());
        Points::new("store".into(), store, Path::default(), Arc::new(HandClock::default()))
    };
    let (mut image, mut dice, mut history) = (blank(), Dice(7), BTreeMap::new());
    let ours = points();
    prepared(&ours).await.expect("prepared");
    for number in 0..150 {
        let mut plan = churn(&mut image, &mut dice);
        if number == 0 {
            plan = whole();
        }
        let cut = format!("cut-{number}");
        let point = ship(&ours, &op(&cut, 1), &cut, &image, &plan).await.expect("sealed");
        history.insert(point.id, image.clone());
    }
    let locked = PointId(1);
    ours.lock(&op("lock", 1), &id(), locked, Timestamp(1000)).await.expect("locked");
    let (held, before) = (objects(&store).await, ours.points(&id()).await.expect("listed").len());

    // Whoever has the store's keys can delete nothing.
    for object in &held {
        store.delete(object).await.expect_err("the store keeps it");
        store.put(object, vec![0].into()).await.expect_err("the store keeps it");
    }
    // Dropping points goes on by the ledger; what they took stays until the store lets go of it.
    let drop: Vec<PointId> = history.keys().copied().filter(|id| id.0 % 149 != 1).collect();
    for (number, some) in drop.chunks(70).enumerate() {
        // What a call that broke off has written stays, and is as good for its repeat.
        store.stumble();
        ours.prune(&op(&format!("prune {number}"), 1), &id(), some).await.expect_err("no ledger");
        let dropped = ours.prune(&op(&format!("prune {number}"), 1), &id(), some).await.expect("pruned");
        assert_eq!(dropped, some);
    }
    let garbage = garbage_of(&store).await;
    let once: BTreeSet<&String> = garbage.iter().collect();
    assert!(garbage.len() > 100 && once.len() == garbage.len(), "what is garbage is garbage once");
    history.retain(|id, _| !drop.contains(id));
    let again = points();
    assert_eq!(again.points(&id()).await.expect("listed").len(), before - drop.len());
    assert!(history.contains_key(&locked));
    for (point, image) in &history {
        assert_eq!(&image_at(&again, *point).await.expect("opens"), image, "point {point}");
    }
    let there = objects(&store).await;
    assert!(held.iter().all(|object| there.contains(object)), "nothing was deleted");

    let held: BTreeSet<Path> =
        held.into_iter().filter(|path| path.as_ref().contains("-s-")).take(20).collect();
    store.expire_but(held.clone());
    let cut = "after";
    let point = ship(&again, &op(cut, 1), cut, &image, &set(&[("boot", 0, BLOCK)])).await.expect("sealed");
    history.insert(point.id, image);
    for round in 0..20 {
        again.prune(&op(&format!("again {round}"), 1), &id(), &[]).await.expect("pruned");
    }
    let (left, still) = (garbage_of(&store).await, objects(&store).await);
    assert!(left.len() <= held.len(), "what is held does not hold up the rest: {left:?}");
    assert!(held.iter().all(|path| still.contains(path)), "what is held stays");
    let left = objects(&store).await;
    assert!(left.len() * 2 < there.len(), "{} of {} objects are left", left.len(), there.len());
    for (point, image) in &history {
        assert_eq!(&image_at(&points(), *point).await.expect("opens"), image, "point {point}");
    }
}

/// What the newest ledger names to be deleted.
async fn garbage_of(store: &Worm) -> Vec<String> {
    let ledgers = objects(store).await.into_iter().filter(|path| path.as_ref().contains("/ledger/"));
    let newest =
        store.get(&ledgers.max().expect("a ledger")).await.expect("read").bytes().await.expect("read");
    let text = std::str::from_utf8(&newest).expect("text");
    let (_, json) = text.split_once('\n').expect("a checksum");
    let ledger: serde_json::Value = serde_json::from_str(json).expect("JSON");
    ledger["garbage"].as_array().expect("a list").iter().map(ToString::to_string).collect()
}

async fn objects(store: &Worm) -> Vec<Path> {
    let all = store.inner.list(None).map_ok(|meta| meta.location);
    all.try_collect().await.expect("listed")
}
