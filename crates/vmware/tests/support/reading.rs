//! By what the disks of a capture are read, and what that costs.

use super::world::World;
use crate::{MODE, open};
use site_recovery::*;
use site_recovery_testkit::suite::{self, op};
use site_recovery_vmware::{Builder, Means, Site};
use std::collections::BTreeMap;

/// A machine that runs and is enrolled; nothing where the simulator is absent.
async fn enrolled(disks: &[u64]) -> Option<(World, Machine)> {
    let world = World::start(MODE, open).await?;
    let web = world.machine("web", disks).await;
    for disk in 0..disks.len() {
        world.write(&web, disk, 8192, &suite::pattern(disk as u64, 20_000)).await;
    }
    let machine = world.enrol(&web, "m-web").await;
    Some((world, machine))
}

/// The same site, without the machine in which it runs.
async fn elsewhere(world: &World, with: impl FnOnce(Builder) -> Builder) -> Site {
    with(open(&world.sim, world.dir.path().join("state"))).open().await.unwrap()
}

async fn capture(site: &Site, machine: &Machine, key: &str) -> Capture {
    site.capture(&op(key), std::slice::from_ref(&machine.instance), Consistency::Crash).await.unwrap()
}

async fn read(disk: &std::sync::Arc<dyn Disk>) -> Vec<u8> {
    let pool = Pool::new(8 << 20);
    disk.read(Run::new(0, disk.size()), &pool).await.unwrap().to_vec()
}

async fn all_as_frozen(site: &Site, machine: &Machine, capture: &Capture, truth: &[Vec<u8>], means: Means) {
    let disks = site.disks(&op("read"), capture, machine.id()).await.unwrap();
    for (spec, bytes) in machine.disks.iter().zip(truth) {
        assert!(read(&disks[&spec.id]).await == *bytes, "{} is not as it was frozen", spec.id);
        assert_eq!(site.means(&machine.instance)[&spec.id], means, "{}", spec.id);
    }
}

async fn truth(world: &World, machine: &Machine) -> Vec<Vec<u8>> {
    let mut all = vec![];
    for disk in 0..machine.disks.len() {
        all.push(world.content(&machine.instance.name, disk).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_off_is_read_from_its_datastore() {
    let Some((world, machine)) = enrolled(&[256, 128]).await else { return };
    world.stop(&machine.instance.name).await;
    let site = elsewhere(&world, |site| site).await;
    let truth = truth(&world, &machine).await;
    let capture = capture(&site, &machine, "off").await;
    world.sim.tell("calls", serde_json::json!({ "reset": true })).await;
    all_as_frozen(&site, &machine, &capture, &truth, Means::DatastoreHttps).await;
    let calls = world.sim.tell("calls", serde_json::json!({})).await;
    assert!(calls["folder_reads"].as_u64().unwrap() >= 4, "a probe and a read each: {calls}");
    site.release(&op("release"), &capture, machine.id(), Fate::Sealed).await.unwrap();
    assert!(world.snapshots(&machine.instance.name).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_and_that_nothing_reads_is_said_with_what_to_do() {
    let Some((world, machine)) = enrolled(&[256]).await else { return };
    let site = elsewhere(&world, |site| site).await;
    let capture = capture(&site, &machine, "locked").await;
    let error = site.disks(&op("read"), &capture, machine.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("appliance") && error.to_string().contains("in use"), "{error}");
    assert_eq!(error.fact("disk"), Some(machine.disks[0].id.as_str()));
    site.release(&op("release"), &capture, machine.id(), Fate::Abandoned).await.unwrap();
    assert!(world.snapshots(&machine.instance.name).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_comes_by_a_lease_and_as_it_was_frozen() {
    let Some((world, machine)) = enrolled(&[256, 128]).await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let site = elsewhere(&world, |site| site.leases(scratch.path())).await;
    let truth = truth(&world, &machine).await;
    let capture = capture(&site, &machine, "lease").await;
    world.write(&machine.instance.name, 0, 0, &[9; 4096]).await;
    all_as_frozen(&site, &machine, &capture, &truth, Means::Lease).await;
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing stays there");
    site.release(&op("release"), &capture, machine.id(), Fate::Sealed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_disk_that_stands_on_another_file_is_not_read_from_its_own_alone() {
    let Some((world, machine)) = enrolled(&[256]).await else { return };
    let name = &machine.instance.name;
    world.told("snapshot", name, serde_json::json!({ "name": "theirs" })).await;
    world.write(name, 0, 0, &[5; 4096]).await;
    world.stop(name).await;
    world.sim.tell("settings", serde_json::json!({ "folder_delta": true })).await;
    let site = elsewhere(&world, |site| site).await;
    let capture = capture(&site, &machine, "chain").await;
    let error = site.disks(&op("read"), &capture, machine.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let attached = capture.clone();
    all_as_frozen(&world.site, &machine, &attached, &truth(&world, &machine).await, Means::HotAdd).await;
}

/// Calls of one delta, by method.
async fn delta(world: &World, machine: &Machine, since: &Cursor, key: &str) -> BTreeMap<String, u64> {
    world.sim.tell("calls", serde_json::json!({ "reset": true })).await;
    let site = &world.site;
    let capture = capture(site, machine, key).await;
    let changes = site.changes(&capture, machine.id(), since).await.unwrap();
    assert!(matches!(&changes, Changes::Known(known) if !known.is_empty()), "{changes:?}");
    site.disks(&op(key), &capture, machine.id()).await.unwrap();
    site.release(&op(key), &capture, machine.id(), Fate::Sealed).await.unwrap();
    let calls = world.sim.tell("calls", serde_json::json!({})).await;
    serde_json::from_value(calls["soap"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_costs_the_same_calls_however_many_disks_but_one_per_page_of_each() {
    let mut seen = vec![];
    for disks in [&[1024_u64] as &[u64], &[1024, 1024, 1024]] {
        let Some((world, machine)) = enrolled(disks).await else { return };
        let first = capture(&world.site, &machine, "first").await;
        let since = first.members[0].cursor.clone().unwrap();
        world.site.release(&op("first"), &first, machine.id(), Fate::Sealed).await.unwrap();
        for page in 0..3 {
            for disk in 0..disks.len() {
                world
                    .write(&machine.instance.name, disk, page * 192 * 1024, &suite::pattern(page, 4096))
                    .await;
            }
        }
        for page in [2000, 1] {
            world.sim.tell("settings", serde_json::json!({ "page": page })).await;
            let calls = delta(&world, &machine, &since, &format!("delta-{page}")).await;
            let queries = calls["QueryChangedDiskAreas"];
            let rest: u64 = calls.values().sum::<u64>() - queries;
            println!("{} disks, pages of {page}: {queries} + {rest} calls, {calls:?}", disks.len());
            seen.push((disks.len() as u64, page, queries, rest));
        }
    }
    let [one, one_paged, three, three_paged] = seen[..] else { panic!("a case is missing: {seen:?}") };
    assert_eq!((one.2, three.2), (1, 3), "one query for each disk");
    assert_eq!((one_paged.2, three_paged.2), (3, 9), "one for each page of each disk");
    // Whatever waits for a task may ask once more.
    assert!(three.3 <= one.3 + 4, "{} calls with three disks, {} with one", three.3, one.3);
    assert!(one.3 <= 72, "{} calls", one.3);
}
