//! A scrub of a point takes hours. Nobody waits for it, and what others do meanwhile does not make it tell of damage.

use crate::ground::{BLOCK, Ground, bytes, op, set, until};
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;
use std::time::Duration;

/// Long, for what is answered at once.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn rol_4_a_scrub_that_nobody_polls_keeps_nobody_from_the_points() {
    let ground = Ground::new().await;
    let point = ground.sealed("one", vec![bytes("system", 0, BLOCK, 1)]).await;
    // Of the disk, and before that of what is known of it.
    for (path, comp) in [("/disk/", ""), ("/note/", "")] {
        let request = Match::any().method("GET").path_contains(path).comp(comp);
        let held = ground.blobs.faults().next(request, Fault::Late(Gate::new()));
        let mut scrub = ground.store.scrub(ground.id(), point.id);
        until(held, &mut scrub).await;
        let opened = tokio::time::timeout(SOON, ground.store.open(ground.id(), point.id)).await;
        assert!(opened.is_ok(), "the point cannot be opened while it is scrubbed, at {path}");
    }
}

/// While a scrub reads, older points are dropped, and what they knew is folded into one.
#[tokio::test(flavor = "multi_thread")]
async fn rps_2_points_that_are_dropped_meanwhile_make_no_finding() {
    let ground = Ground::new().await;
    let mut points = vec![];
    for number in 0..40_u8 {
        points.push(ground.sealed(&format!("cut-{number}"), vec![bytes("system", 0, BLOCK, number)]).await);
    }
    let newest = points.pop().expect("a point");
    let gate = Gate::new();
    let note = Match::any().method("GET").path_contains("/note/").after(3);
    let held = ground.blobs.faults().next(note, Fault::Late(gate.clone()));
    let mut scrub = ground.store.scrub(ground.id(), newest.id);
    until(held, &mut scrub).await;
    let drop: Vec<_> = points.iter().map(|point| point.id).collect();
    let dropped = ground.store.prune(&op("drop"), ground.id(), &drop).await.expect("dropped");
    assert_eq!(dropped, drop);
    assert_eq!(ground.names("/fold/").len(), 1, "they are folded");
    gate.open();
    assert_eq!(scrub.await.expect("scrubbed"), vec![]);
}

/// What was known of its last block was of the part that there was.
#[tokio::test(flavor = "multi_thread")]
async fn rps_2_a_disk_that_grew_from_an_odd_end_gives_no_finding() {
    let mut ground = Ground::new().await;
    let size = ground.machine.disks[1].size;
    assert!(!size.is_multiple_of(BLOCK), "an odd end");
    let last = size / BLOCK * BLOCK;
    let end = bytes("data", last, size - last, 3);
    ground.sealed("one", vec![end.clone()]).await;
    // Landed, and not sealed before it grows.
    let plan = set("data", last, size - last);
    let ingest = ground.begin("two", &plan).await;
    ground.store.write(&ingest, 0, vec![end]).await.expect("landed");
    ground.machine.disks[1].size = 4 * BLOCK;
    let ingest = ground.begin("two", &plan).await;
    let point = ground.seal(&ingest, &plan, &[]).await.expect("a point");
    assert_eq!(ground.scrubbed(&point).await, vec![]);
    let point = ground.sealed("three", vec![bytes("data", last, BLOCK, 4)]).await;
    assert_eq!(ground.scrubbed(&point).await, vec![]);
    let disk = ground.names("/disk/data").pop().expect("a blob");
    let ingest = ground.begin("four", &set("data", 0, BLOCK)).await;
    ground.damage(&disk, last, ingest.session).await;
    let point = ground.seal(&ingest, &set("data", 0, BLOCK), &[]).await.expect("a point");
    assert_eq!(ground.scrubbed(&point).await.len(), 1, "the whole block is known now");
}
