//! Pages may land whose note does not: the request for it is lost, or the process ends before it. Nobody sends them again where
//! they are found equal. They are among the changes all the same, and a scrub holds nothing against them.

use crate::ground::{BLOCK, Ground, bytes, set, until};
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;
use site_recovery_record::hash;

/// A first point, and then a batch whose pages landed and whose note did not.
async fn landed_without_a_note() -> (Ground, Point, Ingest, ChangeSet) {
    let ground = Ground::new().await;
    let first = ground.sealed("one", vec![bytes("system", 0, BLOCK, 1)]).await;
    let plan = ChangeSet::whole(ground.machine.included());
    let ingest = ground.begin("two", &plan).await;
    let note = Match::any().method("PUT").path_contains("/note/");
    ground.blobs.faults().next(note, Fault::DropBeforeEffect);
    let written = ground.store.write(&ingest, 0, vec![bytes("system", 0, BLOCK, 2)]).await;
    assert!(written.is_err(), "its note did not come");
    (ground, first, ingest, plan)
}

/// Seals without sending it again, as one who has found it equal.
async fn must_know_it(ground: &Ground, first: &Point, ingest: &Ingest, plan: &ChangeSet) {
    let block = Run::new(0, BLOCK);
    let hashes = ground.store.hashes(ground.id(), &"system".into(), block).await.expect("hashes");
    assert_eq!(hashes, [hash(&vec![2; BLOCK as usize])], "it is equal: nobody sends it");
    let point = ground.seal(ingest, plan, &[]).await.expect("a point");
    assert!(ground.read(&point, "system", block).await.iter().all(|byte| *byte == 2));
    let changed = ground.changed(first, &point).await;
    assert!(changed.contains(&"system".into(), block), "less than what differs: {changed:?}");
    assert_eq!(ground.scrubbed(&point).await, vec![], "a whole point");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_12_rps_2_where_the_same_operation_begins_again() {
    let (ground, first, _, plan) = landed_without_a_note().await;
    let ingest = ground.begin("two", &plan).await;
    must_know_it(&ground, &first, &ingest, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_12_rps_2_where_the_ingest_goes_on_after_the_failure() {
    let (ground, first, ingest, plan) = landed_without_a_note().await;
    must_know_it(&ground, &first, &ingest, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_12_rps_2_where_another_process_goes_on_with_the_ingest() {
    let (mut ground, first, ingest, plan) = landed_without_a_note().await;
    ground.store = ground.another().await;
    must_know_it(&ground, &first, &ingest, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_12_rps_2_where_nobody_waited_for_the_batch() {
    let ground = Ground::new().await;
    let first = ground.sealed("one", vec![bytes("system", 0, BLOCK, 1)]).await;
    let plan = set("system", 0, BLOCK);
    let ingest = ground.begin("two", &plan).await;
    let (gate, page) = (Gate::new(), Match::any().method("PUT").comp("page"));
    let held = ground.blobs.faults().next(page, Fault::Late(gate.clone()));
    until(held, &mut ground.store.write(&ingest, 0, vec![bytes("system", 0, BLOCK, 2)])).await;
    gate.open();
    gate.through().reach(1).await;
    must_know_it(&ground, &first, &ingest, &plan).await;
}

/// What was noted is known still: of it a scrub tells what somebody else has changed.
#[tokio::test(flavor = "multi_thread")]
async fn rps_2_what_was_noted_beside_it_is_compared() {
    let (ground, _, _, plan) = landed_without_a_note().await;
    let ingest = ground.begin("two", &plan).await;
    let noted = bytes("system", 2 * BLOCK, BLOCK, 4);
    ground.store.write(&ingest, 0, vec![noted.clone()]).await.expect("landed");
    let disk = ground.names("/disk/system").pop().expect("a blob");
    ground.damage(&disk, 2 * BLOCK, ingest.session).await;
    let point = ground.seal(&ingest, &plan, &[noted]).await.expect("a point");
    let found = ground.scrubbed(&point).await;
    let [finding] = &found[..] else { panic!("one block is damaged: {found:?}") };
    assert!(finding.blocks() && finding.cause.contains(&(2 * BLOCK).to_string()), "{finding:?}");
}
