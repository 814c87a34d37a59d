//! What stays in the container, and what a scrub finds there.

use crate::server;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_azure::PageBlobs;
use site_recovery_azure_blob::Container;
use site_recovery_record::hash;
use site_recovery_testkit::suite::op;
use std::sync::Arc;

const SIZE: u64 = (1 << 20) + 512;

fn machine() -> Machine {
    let json = serde_json::json!({
        "instance": { "machine": "web", "site": "here", "name": "web", "generation": 0 },
        "disks": [{ "id": "d", "size": SIZE, "role": "System", "included": true }], "nics": [],
        "cpus": 1, "memory": 1 << 30, "firmware": "Bios", "os": "Linux", "platform": "Virtual",
        "guest": { "os_name": null, "boot_drivers": null, "dhcp": null, "agent": null, "snapshots": null },
    });
    serde_json::from_value(json).expect("a machine")
}

async fn opened(container: &Container) -> PageBlobs {
    PageBlobs::open("page-blobs".into(), container.clone(), Arc::new(SystemClock)).await.expect("it opens")
}

fn manifest(cut: &str) -> Manifest {
    let epoch = op("any").epoch;
    let item = Item::new(machine(), epoch, Policy::default(), "page-blobs", "back");
    let control = Control { unit: "web".into(), members: vec!["web".into()], item };
    Manifest {
        machine: machine(),
        members: vec!["web".into()],
        cut: cut.into(),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control,
    }
}

/// Lands these bytes at 64 KiB times `block`, and stops before the seal.
async fn landed(store: &PageBlobs, cut: &str, block: u64, bytes: &[u8]) -> (Ingest, Complete) {
    let run = Run::new(block * HASH_BLOCK, bytes.len() as u64);
    let plan: ChangeSet = [("d".into(), run)].into_iter().collect();
    let ingest = store.begin(&op(cut), &machine(), &cut.into(), &plan).await.expect("begun");
    let bytes = Bytes::copy_from_slice(bytes);
    let record = Record { disk: "d".into(), run, checksum: hash(&bytes), payload: Payload::Plain(bytes) };
    store.write(&ingest, 0, vec![record.clone()]).await.expect("landed");
    let mut tally = Tally::new(&plan);
    tally.landed(&record);
    (ingest, tally.finish().expect("whole"))
}

async fn sealed(store: &PageBlobs, cut: &str, block: u64, byte: u8) -> Point {
    let (ingest, complete) = landed(store, cut, block, &vec![byte; HASH_BLOCK as usize]).await;
    store.seal(&ingest, &manifest(cut), complete).await.expect("sealed")
}

#[tokio::test]
async fn d8_points_that_come_and_go_for_long_leave_few_blobs_and_every_hash() {
    if !server::is_here() {
        return;
    }
    let container = server::container().await;
    let store = opened(&container).await;
    store.prepare(&op("prepare"), &machine(), &Seed::Fresh, &Settings::default()).await.expect("prepared");
    let id = MachineId::from("web");
    let first = sealed(&store, "first", 15, 9).await;
    store.pin(&op("pin"), &id, first.id, "kept").await.expect("pinned");
    let mut before = first.id;
    for number in 0..80_u64 {
        let point = sealed(&store, &format!("cut-{number}"), number % 16, number as u8).await;
        if before != first.id {
            let key = op(&format!("drop-{number}"));
            assert_eq!(store.prune(&key, &id, &[before]).await.expect("pruned"), [before]);
        }
        before = point.id;
    }
    let listed = container.list("m/").await.expect("listed");
    assert!(
        listed.len() < 80,
        "{} blobs and snapshots are left of 81 points, of which 2 are kept",
        listed.len()
    );

    let store = opened(&container).await;
    let changed = store.changed(&id, Some(first.id), before).await.expect("asked").expect("known");
    assert_eq!(changed.bytes(), SIZE.min(16 * HASH_BLOCK), "all that landed since the first");
    for point in [first.id, before] {
        assert_eq!(store.scrub(&id, point).await.expect("scrubbed"), vec![], "point {point}");
        let disks = store.open(&id, point).await.expect("opens");
        let bytes = disks[&DiskId::from("d")].read(Run::new(15 * HASH_BLOCK, 4096), &Pool::new(8192)).await;
        let expected = if point == first.id { 9 } else { 79 };
        assert!(bytes.expect("read").iter().all(|byte| *byte == expected), "point {point}");
    }
    store.delete(&op("delete"), &id).await.expect("deleted");
    let left: Vec<_> = container.list("m/").await.expect("listed").into_iter().map(|l| l.name).collect();
    assert_eq!(left, ["m/web/state"], "the register stays");
}

/// Whoever has the account's rights can write past us. Each block that landed whole is known, also after points between were
/// dropped and folded.
#[tokio::test]
async fn rps_2_a_byte_that_somebody_else_has_changed_is_found() {
    if !server::is_here() {
        return;
    }
    let container = server::container().await;
    let store = opened(&container).await;
    store.prepare(&op("prepare"), &machine(), &Seed::Fresh, &Settings::default()).await.expect("prepared");
    let id = MachineId::from("web");
    sealed(&store, "first", 3, 7).await;
    let (ingest, complete) = landed(&store, "second", 5, &vec![8; HASH_BLOCK as usize]).await;
    let disk = container.list("m/web/disk/").await.expect("listed").pop().expect("a blob").name;
    let page = Bytes::from(vec![1; 512]);
    container.pages(&disk).write(3 * HASH_BLOCK + 512, page, ingest.session).await.expect("written");
    let point = store.seal(&ingest, &manifest("second"), complete).await.expect("sealed");
    let found = store.scrub(&id, point.id).await.expect("scrubbed");
    let [finding] = &found[..] else { panic!("one block is damaged: {found:?}") };
    assert!(finding.blocks() && finding.cause.contains("disk d"), "{finding:?}");
    assert!(finding.cause.contains(&(3 * HASH_BLOCK).to_string()), "{finding:?}");
}
