//! What others do to a machine in care, and what a crashed run of ours leaves: snapshots, disks, and disks at the appliance.

use super::kept::{GRAIN, Kept};
use super::world::{KIB, World};
use crate::{MODE, open};
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite;

#[tokio::test(flavor = "multi_thread")]
async fn d4_somebodys_snapshots_between_two_captures_hide_nothing() {
    let Some(here) = Kept::new().await else { return };
    let before = here.truth().await;
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.write(0, 3).await;
    here.snapshot("theirs").await;
    here.write(0, 4).await;
    here.snapshot("theirs too").await;
    here.write(0, 6).await;
    here.world.told("snapshot-remove", &here.name, json!({ "name": "theirs" })).await;
    here.write(0, 7).await;
    let second = here.capture("second").await;
    assert_eq!(here.delta(&second, &since, &before).await[0], [3, 4, 6, 7]);
    let (middle, since) = (here.truth().await, here.cursor(&second));
    here.world.told("snapshot-remove", &here.name, json!({ "name": "theirs too" })).await;
    here.release(&second).await;
    here.write(0, 8).await;
    let third = here.capture("third").await;
    assert_eq!(here.delta(&third, &since, &middle).await[0], [8]);
    here.release(&third).await;
    assert!(here.world.snapshots(&here.name).await.is_empty());
    assert_eq!(here.world.disk_files(&here.name).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_orphans_of_a_crashed_run_go_and_nobody_elses_snapshot_does() {
    let Some(mut here) = Kept::new().await else { return };
    let (attached, files) = (here.attached().await, here.world.everything().await);
    here.snapshot("theirs").await;
    let crashed = here.capture("crashed").await;
    let held = here.capture("held").await;
    let then = here.truth().await;
    drop(here.disks(&crashed).await.unwrap());
    here.write(0, 5).await;
    // Between the two steps by which tracking begins.
    here.snapshot("sr-tracking").await;
    here.snapshot("sr-tracking of theirs").await;
    here.world.reopen().await;
    let sweep = suite::op("sweep");
    let gone = here.site().sweep(&sweep, here.instance(), &[suite::op("held").key]).await.unwrap();
    assert_eq!(gone, [suite::op("crashed").key]);
    let left = here.world.snapshots(&here.name).await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&"theirs".into()) && left.contains(&"sr-tracking of theirs".into()), "{left:?}");
    assert_eq!(here.attached().await, attached, "the crashed run's disks are at the appliance");
    here.reads_right(&held, &then).await;
    here.site().sweep(&suite::op("sweep again"), here.instance(), &[]).await.unwrap();
    let truth = here.truth().await;
    for name in ["theirs", "sr-tracking of theirs"] {
        here.world.told("snapshot-remove", &here.name, json!({ "name": name })).await;
    }
    assert_eq!(here.attached().await, attached);
    assert_eq!(here.world.everything().await, files, "files are left");
    assert!(here.truth().await == truth, "the machine's bytes are others");
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_capture_whose_snapshot_somebody_removed_leaves_nothing() {
    for by in ["release", "sweep"] {
        let Some(mut here) = Kept::new().await else { return };
        let (attached, files) = (here.attached().await, here.world.everything().await);
        let capture = here.capture("one").await;
        let since = here.cursor(&capture);
        let disks = here.disks(&capture).await.unwrap();
        assert_eq!(here.attached().await.len(), attached.len() + 2);
        here.write(0, 5).await;
        let [name] = &here.world.snapshots(&here.name).await[..] else { panic!("one snapshot") };
        here.world.told("snapshot-remove", &here.name, json!({ "name": name })).await;
        let error = here.disks(&capture).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&here.name), "{error}");
        let error = here.site().changes(&capture, here.machine.id(), &since).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        drop(disks);
        let truth = here.truth().await;
        if by == "release" {
            here.release(&capture).await;
            here.release(&capture).await;
        } else {
            here.world.reopen().await;
            here.site().sweep(&suite::op("sweep"), here.instance(), &[]).await.unwrap();
        }
        assert_eq!(here.attached().await, attached, "{by}");
        assert_eq!(here.world.everything().await, files, "{by}: files are left");
        assert!(here.truth().await == truth, "{by}");
        // The cursor is that of an instant, not of a snapshot.
        here.write(0, 9).await;
        let next = here.capture("two").await;
        assert!(matches!(here.changes(&next, &since).await, Changes::Known(_)));
        here.release(&next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_disk_in_the_place_of_another_has_no_delta() {
    let Some(here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    let key = here.world.disk_files(&here.name).await[1].0;
    here.world.told("disk-remove", &here.name, json!({ "key": key, "keep": false })).await;
    here.world.told("disk-add", &here.name, json!({ "bytes": 128 * KIB })).await;
    here.write(1, 1).await;
    let (truth, second) = (here.truth().await, here.capture("second").await);
    here.lost(&second, &since).await;
    // Whether it counts as the old one or is left out until it is enrolled: no byte of the old one is told as its own.
    let told = &here.member(&second).machine;
    let disks = here.disks(&second).await.unwrap();
    for (n, spec) in told.disks.iter().enumerate().filter(|(_, spec)| spec.included) {
        let bytes = super::kept::bytes_of(&disks[&spec.id], Run::new(0, spec.size)).await.unwrap();
        assert!(bytes == truth[n], "disk {n}");
    }
    here.release(&second).await;
    let mut machine = here.world.discovered(&here.name).await;
    machine.disks.iter_mut().for_each(|disk| disk.included = true);
    here.site().enrol(&suite::op("again"), &machine).await.unwrap();
    let third = here.capture("third").await;
    here.lost(&third, &since).await;
    here.reads_right(&third, &truth).await;
    here.release(&third).await;
    let fourth = here.capture("fourth").await;
    assert_eq!(here.delta(&fourth, &here.cursor(&fourth), &truth).await, [vec![], Vec::<u64>::new()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_disks_that_come_and_go_between_captures() {
    let Some(here) = Kept::new().await else { return };
    let before = here.truth().await;
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.world.told("disk-add", &here.name, json!({ "bytes": 256 * KIB })).await;
    here.write(0, 4).await;
    here.write(2, 1).await;
    // It is told, and left out until it is enrolled; the others go on.
    let second = here.capture("second").await;
    let told: Vec<bool> = here.member(&second).machine.disks.iter().map(|d| d.included).collect();
    assert_eq!(told, [true, true, false]);
    assert_eq!(here.disks(&second).await.unwrap().len(), 2);
    assert_eq!(here.delta(&second, &since, &before).await, [vec![4], vec![]]);
    here.release(&second).await;
    let mut machine = here.world.discovered(&here.name).await;
    machine.disks[2].included = true;
    here.site().enrol(&suite::op("again"), &machine).await.unwrap();
    let (truth, third) = (here.truth().await, here.capture("third").await);
    let reason = here.lost(&third, &since).await;
    assert!(reason.contains("added"), "{reason}");
    here.reads_right(&third, &truth).await;
    let again = here.cursor(&third);
    here.release(&third).await;
    // One goes again.
    let key = here.world.disk_files(&here.name).await[1].0;
    here.world.told("disk-remove", &here.name, json!({ "key": key, "keep": false })).await;
    let fourth = here.capture("fourth").await;
    let reason = here.lost(&fourth, &again).await;
    assert!(reason.contains("taken out"), "{reason}");
    let left: Vec<DiskId> = here.member(&fourth).machine.included().map(|d| d.id.clone()).collect();
    assert_eq!(left, [machine.disks[0].id.clone(), machine.disks[2].id.clone()]);
    here.reads_right(&fourth, &here.truth().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_are_in_no_snapshot_are_never_included() {
    let Some(world) = World::start(MODE, open).await else { return };
    let body = json!({
        "name": "db", "datastore": "LocalDS_0", "on": true, "disks": [131072, 131072, 131072],
        "modes": ["", "independent_persistent", "persistent/shared"],
    });
    world.sim.tell("machine-create", body).await;
    let all = world.eyes.machines(&world.eyes.content().root_folder).await.unwrap();
    let db = all.into_iter().find(|m| m.name == "db").unwrap();
    let name = db.instance_uuid.unwrap().to_ascii_lowercase();
    let found = world.discovered(&name).await;
    assert_eq!(found.disks.iter().map(|d| d.included).collect::<Vec<_>>(), [true, false, false]);
    for disk in [1, 2] {
        let mut machine = found.clone();
        machine.instance.machine = "m-db".into();
        machine.disks[disk].included = true;
        let error = world.site.enrol(&suite::op("enrol"), &machine).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("disk.included")));
        assert!(error.to_string().contains(&found.disks[disk].id.0), "{error}");
    }
    assert!(world.snapshots(&name).await.is_empty());
    world.write(&name, 0, GRAIN, &[4; 4096]).await;
    let machine = world.enrol(&name, "m-db").await;
    let here = Kept { world, machine, name };
    let (truth, capture) = (here.truth().await, here.capture("one").await);
    here.reads_right(&capture, &truth[..1].to_vec()).await;
}
