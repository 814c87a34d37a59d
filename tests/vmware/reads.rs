//! What a delta over HTTPS asks the server for, beside the least that would do.

use crate::ground::{is_here, open};
use crate::process::Mode;
use crate::world::World;
use serde_json::json;
use site_recovery::*;
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer as Mover;
use site_recovery_testkit::suite::{op, pattern};
use std::sync::Arc;

const GAP: u64 = 256 << 10;
/// One request brings so much at most.
const MOST: u64 = 4 << 20;
const GRAIN: u64 = 64 << 10;

/// Requests that would do for these grains: what lies near is read through.
fn least(mut grains: Vec<u64>) -> u64 {
    grains.sort_unstable();
    grains.dedup();
    let (mut requests, mut from, mut to) = (0, 0, 0);
    for grain in grains {
        let end = (grain + 1) * GRAIN;
        if requests == 0 || grain * GRAIN > to + GAP || end - from > MOST {
            (requests, from) = (requests + 1, grain * GRAIN);
        }
        to = end;
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_is_one_request_for_each_run_with_what_lies_near_read_through() {
    if !is_here() {
        return;
    }
    let world = World::start(Mode::VCenter, open).await.unwrap();
    // As storage that gives out disks of running machines, so that neither is attached.
    world.sim.tell("settings", json!({ "folder_locked": false })).await;
    let name = world.machine("web", &[32 << 10]).await;
    let machine = world.enrol(&name, "m-web").await;
    let site = open(&world.sim, world.dir.path().join("state")).open().await.unwrap();
    let source: Arc<dyn Source> = Arc::new(site.clone());
    let replica: Arc<dyn Replica> = Arc::new(
        Points::directory("points".into(), world.dir.path().join("points"), Arc::new(SystemClock)).unwrap(),
    );
    let mover = Mover::builder("process-server").build().await.unwrap();
    replica.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await.unwrap();
    let item = Item::new(machine.clone(), op("x").epoch, Policy::default(), "out", "back");
    let cycle = async |key: &str, basis: Basis| {
        let of = [machine.instance.clone()];
        let capture = source.capture(&op(key), &of, Consistency::Crash).await.unwrap();
        let control = Control { unit: "u".into(), members: vec![machine.id().clone()], item: item.clone() };
        let what = Shipment { capture: capture.clone(), machine: machine.id().clone(), basis, control };
        world.sim.tell("calls", json!({ "reset": true })).await;
        let shipped = mover.ship(&op(&format!("{key}/ship")), &what, &source, &replica).await.unwrap();
        let calls = world.sim.tell("calls", json!({})).await;
        assert!(matches!(shipped, Shipped::Sealed { .. }), "{shipped:?}");
        source.release(&op(&format!("{key}/release")), &capture, machine.id(), Fate::Sealed).await.unwrap();
        (calls["folder_reads"].as_u64().unwrap(), calls["folder_bytes"].as_u64().unwrap())
    };
    cycle("first", Basis::Compare).await;
    // Some near each other, some far: by a fixed order of their own.
    let mut grains = vec![];
    let mut at = 1_u64;
    for n in 0..120_u64 {
        at = (at * 1_103_515_245 + 12_345) % 512;
        grains.push(at);
        world.write(&name, 0, at * GRAIN + n % 16 * 4096, &pattern(n, 4096)).await;
    }
    let least = least(grains);
    let (reads, bytes) = cycle("delta", Basis::Delta).await;
    println!("{reads} requests with the probe, {least} would do; {bytes} bytes");
    // The probe, and runs that were asked for after those near them.
    assert!(reads <= 1 + least * 3 / 2, "{reads} requests, where {least} would do");
    let newest = replica.points(machine.id()).await.unwrap().pop().unwrap();
    let disks = replica.open(machine.id(), newest.id).await.unwrap();
    let disk = &disks[&machine.disks[0].id];
    let pool = Pool::new(64 << 20);
    assert!(disk.read(Run::new(0, disk.size()), &pool).await.unwrap() == world.content(&name, 0).await);
}
