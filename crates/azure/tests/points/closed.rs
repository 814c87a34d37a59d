//! A session that was closed, and the one that was opened after it.

use crate::ground::{BLOCK, Ground, bytes, set, until, zeros};
use fake_blob::{Fault, Gate, Hits, Match};
use site_recovery::*;

#[tokio::test(flavor = "multi_thread")]
async fn rep_4_zeros_of_a_session_that_another_process_closed_are_refused() {
    let mut ground = Ground::new().await;
    let plan = set("system", 0, 2 * BLOCK);
    let ingest = ground.begin("one", &plan).await;
    let another = ground.another().await;
    let first = std::mem::replace(&mut ground.store, another);
    ground.begin("two", &plan).await;
    let records = vec![zeros("system", 0, BLOCK), zeros("system", BLOCK, BLOCK)];
    let written = first.write(&ingest, 0, records).await.expect_err("a closed session took a batch");
    assert_eq!(written.kind(), ErrorKind::Refused, "{written}");
}

/// The one that is open goes on counting what it has under way.
#[tokio::test(flavor = "multi_thread")]
async fn rep_8_a_late_write_of_a_closed_session_takes_nothing_from_the_open_one() {
    let ground = Ground::new().await;
    let plan = set("system", 0, 3 * BLOCK);
    let records = [0, 1, 2].map(|n| bytes("system", n * BLOCK, BLOCK, n as u8 + 1));
    let closed = ground.begin("one", &plan).await;
    let (held, late_gate) = next_page(&ground);
    let mut late = ground.store.write(&closed, 0, vec![records[1].clone()]);
    until(held, &mut late).await;
    let ingest = ground.begin("two", &plan).await;
    let (held, open_gate) = next_page(&ground);
    let mut open = ground.store.write(&ingest, 0, vec![records[0].clone()]);
    until(held, &mut open).await;
    late_gate.open();
    let error = late.await.expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    ground.store.write(&ingest, 1, records[1..].to_vec()).await.expect("landed");
    open_gate.open();
    open.await.expect("landed");
    let point = ground.seal(&ingest, &plan, &records).await.expect("a point");
    for (n, record) in records.iter().enumerate() {
        let found = ground.read(&point, "system", record.run).await;
        assert!(found.iter().all(|byte| *byte == n as u8 + 1), "block {n}");
    }
}

/// The next page that is written waits at the gate.
fn next_page(ground: &Ground) -> (Hits, Gate) {
    let gate = Gate::new();
    let page = Match::any().method("PUT").comp("page");
    (ground.blobs.faults().next(page, Fault::Late(gate.clone())), gate)
}
