//! A disk that grows: its blob does, and the footer behind its content moves.

use crate::ground::{BLOCK, Ground, bytes, op, set, until};
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;

const MIB: u64 = 1 << 20;

/// `system` of 1 MiB with a point; and a begin at 2 MiB that nobody waits for, whose request number `nth` is still on the way.
async fn growing(nth: usize) -> (Ground, Gate) {
    let mut ground = Ground::new().await;
    ground.sealed("one", vec![bytes("system", 0, 4096, 1)]).await;
    ground.machine.disks[0].size = 2 * MIB;
    let (gate, plan) = (Gate::new(), set("system", MIB, BLOCK));
    let request = Match::any().method("PUT").path_contains("/disk/").after(nth);
    let held = ground.blobs.faults().next(request, Fault::Late(gate.clone()));
    let (key, cut) = (op("two"), "two".into());
    until(held, &mut ground.store.begin(&key, &ground.machine, &cut, &plan)).await;
    (ground, gate)
}

/// Lets the late request through, after the disk has grown to `size` and was written to where it grew.
async fn must_hold(mut ground: Ground, gate: Gate, size: u64) {
    ground.machine.disks[0].size = size;
    let (start, len) = (MIB, size - MIB);
    let plan = set("system", start, len);
    let ingest = ground.begin("two", &plan).await;
    let records = [bytes("system", start, BLOCK, 7), bytes("system", size - BLOCK, BLOCK, 8)];
    ground.store.write(&ingest, 0, records.to_vec()).await.expect("acknowledged");
    gate.open();
    gate.through().reach(1).await;
    let point = ground.seal(&ingest, &plan, &records).await.expect("a point");
    let found = ground.read(&point, "system", Run::new(start, len)).await;
    let mut expected = vec![0; len as usize];
    expected[..BLOCK as usize].fill(7);
    expected[(len - BLOCK) as usize..].fill(8);
    let differs = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert_eq!(differs, 0, "{differs} bytes are not what was acknowledged, or zeros");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_10_no_late_request_of_a_growth_takes_bytes_of_the_grown_disk() {
    // Its number, its size, the new footer, and the clear of the old one.
    for nth in 0..4 {
        let (ground, gate) = growing(nth).await;
        must_hold(ground, gate, 2 * MIB).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_10_a_growth_that_was_broken_off_leaves_nothing_inside_a_larger_disk() {
    for nth in 0..4 {
        let (ground, gate) = growing(nth).await;
        must_hold(ground, gate, 4 * MIB).await;
    }
}

/// Another process has the new size already, and a late one must not take it back.
#[tokio::test(flavor = "multi_thread")]
async fn rep_10_the_image_of_a_point_is_as_large_as_its_disk() {
    let (mut ground, gate) = growing(1).await;
    ground.machine.disks[0].size = 4 * MIB;
    let point = ground.sealed("two", vec![bytes("system", 4 * MIB - BLOCK, BLOCK, 8)]).await;
    gate.open();
    gate.through().reach(1).await;
    let next = ground.sealed("three", vec![bytes("system", 0, BLOCK, 3)]).await;
    for point in [point, next] {
        let end = ground.read(&point, "system", Run::new(4 * MIB - BLOCK, BLOCK)).await;
        assert!(end.iter().all(|byte| *byte == 8), "the end of point {}", point.id);
    }
}
