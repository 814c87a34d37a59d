//! What calls that fail leave behind does not stay.

use crate::ground::{BLOCK, Ground, bytes, set};
use site_recovery::*;

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
