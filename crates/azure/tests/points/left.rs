//! What calls that fail leave behind does not stay.

use crate::ground::{BLOCK, Ground, bytes, op, set};
use fake_blob::{Fault, Match};
use site_recovery::*;
use std::collections::BTreeSet;

/// The next state is not written.
fn breaks(ground: &Ground) {
    let state = Match::any().method("PUT").path_contains("/state");
    ground.blobs.faults().next(state, Fault::DropBeforeEffect);
}

/// A seal that came to its snapshots, and no further.
async fn broken_seal(ground: &Ground) {
    let (plan, records) = (set("system", 0, BLOCK), [bytes("system", 0, BLOCK, 9)]);
    let ingest = ground.begin("broken", &plan).await;
    ground.store.write(&ingest, 0, records.to_vec()).await.expect("landed");
    breaks(ground);
    assert!(ground.seal(&ingest, &plan, &records).await.is_err());
    assert!(ground.names("/disk/").iter().any(|blob| ground.snapshots(blob) > 0), "it has made some");
}

/// A begin with a disk more, that came to the blob of it and its plan, and no further.
async fn broken_begin(ground: &Ground) {
    let mut machine = ground.machine.clone();
    machine.disks[1].id = "more".into();
    breaks(ground);
    let begun = ground.store.begin(&op("more"), &machine, &"more".into(), &set("more", 0, BLOCK)).await;
    assert!(begun.is_err());
    assert_eq!(ground.names("/disk/more").len(), 1, "it has made a blob");
}

/// Two disks with one snapshot for each point, the points' documents, and nothing else.
fn must_be_clean(ground: &Ground, points: usize) {
    let disks = ground.names("/disk/");
    assert_eq!(disks.len(), 2, "{disks:?}");
    for blob in disks {
        let snapshots = ground.snapshots(&blob);
        assert_eq!(snapshots, points, "{points} points, and {snapshots} snapshots of {blob}");
    }
    let (documents, plans) = (ground.names("/point/"), ground.names("/plan/"));
    assert!(documents.len() == points && plans.is_empty(), "{documents:?}, {plans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_the_next_seal_takes_it_away() {
    let ground = Ground::new().await;
    broken_seal(&ground).await;
    broken_begin(&ground).await;
    let point = ground.sealed("whole", vec![bytes("system", 0, BLOCK, 1)]).await;
    must_be_clean(&ground, 1);
    assert!(ground.read(&point, "system", Run::new(0, BLOCK)).await.iter().all(|byte| *byte == 1));
    assert_eq!(ground.scrubbed(&point).await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_of_a_process_that_has_ended_the_next_prune_takes_it_away() {
    let mut ground = Ground::new().await;
    broken_seal(&ground).await;
    broken_begin(&ground).await;
    ground.store = ground.another().await;
    let first = ground.sealed("whole", vec![bytes("system", 0, BLOCK, 1)]).await;
    let point = ground.sealed("next", vec![bytes("system", BLOCK, BLOCK, 2)]).await;
    let dropped = ground.store.prune(&op("prune"), ground.id(), &[first.id]).await.expect("pruned");
    assert_eq!(dropped, [first.id]);
    let named = ground.state()["timeline"]["points"][0]["inherits"][0].as_str().expect("a name").to_owned();
    let documents: BTreeSet<_> = ground.names("/point/").into_iter().collect();
    assert!(
        documents.len() == 2 && documents.contains(&named),
        "its own, and what it inherits: {documents:?}"
    );
    let disks = ground.names("/disk/");
    assert!(disks.len() == 2 && disks.iter().all(|blob| ground.snapshots(blob) == 1), "{disks:?}");
    assert_eq!(ground.scrubbed(&point).await, vec![]);
}

/// Its seal may be about to name them: what was sealed by it then is whole.
#[tokio::test(flavor = "multi_thread")]
async fn rep_7_snapshots_of_the_session_that_is_open_stay() {
    let ground = Ground::new().await;
    let first = ground.sealed("first", vec![bytes("system", BLOCK, BLOCK, 1)]).await;
    ground.sealed("second", vec![bytes("system", BLOCK, BLOCK, 2)]).await;
    let (plan, records) = (set("system", 0, BLOCK), [bytes("system", 0, BLOCK, 3)]);
    let ingest = ground.begin("third", &plan).await;
    ground.store.write(&ingest, 0, records.to_vec()).await.expect("landed");
    breaks(&ground);
    assert!(ground.seal(&ingest, &plan, &records).await.is_err());
    let count = |ground: &Ground| ground.names("/disk/").iter().map(|b| ground.snapshots(b)).sum::<usize>();
    assert_eq!(count(&ground), 6, "two disks, two points, and those of a third");
    let another = ground.another().await;
    another.prune(&op("prune"), ground.id(), &[first.id]).await.expect("pruned");
    assert_eq!(count(&ground), 4);
    let point = ground.seal(&ingest, &plan, &records).await.expect("a point");
    assert!(ground.read(&point, "system", Run::new(0, BLOCK)).await.iter().all(|byte| *byte == 3));
    assert_eq!(count(&ground), 4, "made once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_leaves_something_says_so_and_its_repeat_takes_it() {
    let ground = Ground::new().await;
    ground.sealed("one", vec![bytes("system", 0, BLOCK, 1)]).await;
    let deletion = Match::any().method("DELETE").path_contains("/disk/");
    let denied = Fault::Status { code: 403, azure_code: "AuthorizationFailure", retry_after: None };
    ground.blobs.faults().next(deletion, denied);
    let error = ground.store.delete(&op("delete"), ground.id()).await.expect_err("a disk is left");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(ground.names("m/web/").len(), 2, "the register and a disk");
    ground.store.delete(&op("delete"), ground.id()).await.expect("deleted");
    assert_eq!(ground.names("m/web/"), ["m/web/state"]);
}

/// Each of many ingests that came to nothing may have written what it was to write.
#[tokio::test(flavor = "multi_thread")]
async fn d8_ingests_that_come_to_nothing_for_long_leave_few_blobs_and_all_that_they_may_have_written() {
    let ground = Ground::new().await;
    let first = ground.sealed("first", vec![bytes("system", 0, BLOCK, 1)]).await;
    let places = ground.machine.disks[0].size / 4096;
    for number in 0..40 {
        let plan = set("system", number % places * 4096, 4096);
        let ingest = ground.begin(&format!("cut-{number}"), &plan).await;
        let record = bytes("system", number % places * 4096, 4096, number as u8 + 2);
        ground.store.write(&ingest, 0, vec![record]).await.expect("landed");
    }
    let (plans, notes) = (ground.names("/plan/"), ground.names("/note/"));
    assert!(plans.len() < 12 && notes.len() < 13, "{} plans, {} notes", plans.len(), notes.len());
    let all = Run::new(0, 40.min(places) * 4096);
    let Head::Unsettled { touched, .. } = ground.store.head(ground.id()).await.expect("asked") else {
        panic!("nothing was sealed");
    };
    assert!(touched.contains(&"system".into(), all), "{touched:?}");
    let point = ground.sealed("last", vec![bytes("system", 0, 4096, 99)]).await;
    assert!(ground.changed(&first, &point).await.contains(&"system".into(), all));
    assert_eq!(ground.scrubbed(&point).await, vec![]);
    must_be_clean(&ground, 2);
    assert!(ground.names("/note/").len() == 2, "{:?}", ground.names("/note/"));
}

/// One that begins again and again goes on from where it was, with one plan.
#[tokio::test(flavor = "multi_thread")]
async fn d8_an_ingest_that_begins_again_and_again_leaves_few_blobs() {
    let ground = Ground::new().await;
    let plan = ChangeSet::whole(ground.machine.included());
    let mut records = vec![];
    for number in 0..30 {
        let ingest = ground.begin("again", &plan).await;
        let mark = ingest.resume.get(&"system".into()).copied().unwrap_or(0);
        assert!(number == 0 || mark == number * 4096 || number > 16, "{mark} at {number}");
        let record = bytes("system", number * 4096, 4096, number as u8 + 1);
        ground.store.write(&ingest, 0, vec![record.clone()]).await.expect("landed");
        records.push(record);
    }
    assert_eq!(ground.names("/plan/").len(), 1);
    let carried = ground.state()["timeline"]["carried"].as_array().expect("a list").len();
    assert!(carried < 26, "{carried} sessions are carried");
    let ingest = ground.begin("again", &plan).await;
    ground.store.write(&ingest, 0, records.clone()).await.expect("landed");
    let point = ground.seal(&ingest, &plan, &records).await.expect("a point");
    for record in &records {
        let found = ground.read(&point, "system", record.run).await;
        assert_eq!(u64::from(found[0]), record.run.start / 4096 + 1);
    }
    assert_eq!(ground.scrubbed(&point).await, vec![]);
    must_be_clean(&ground, 1);
}
