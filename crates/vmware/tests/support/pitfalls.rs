//! Change tracking as VMware's documents warn of it. In each case a delta is known and holds all that differs, or it is lost and
//! the whole reads right: bytes are compared with the guest's, read around the adapter.

use super::kept::{GRAIN, Kept, bytes_of};
use super::world::KIB;
use crate::{MODE, open};
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite;

/// What the first copy of a disk reads, in grains.
async fn first_copy_reads(here: &Kept, capture: &Capture) -> Vec<u64> {
    let disks = here.disks(capture).await.unwrap();
    let spec = here.machine.included().next().unwrap();
    let extents = disks[&spec.id].extents(Run::new(0, spec.size)).await.unwrap();
    let data = extents.iter().filter(|e| e.fill == Fill::Data).map(|e| e.run);
    data.flat_map(|run| run.start / GRAIN..run.end().div_ceil(GRAIN)).collect()
}

/// Without an appliance the disk is a flat file over HTTPS, of which nobody but VMware tells where data is.
async fn over_https() -> Option<Kept> {
    let mut here = Kept::new().await?;
    here.world.stop(&here.name).await;
    here.world.site = open(&here.world.sim, here.world.dir.path().join("state")).open().await.unwrap();
    Some(here)
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_what_is_in_use_is_believed_where_tracking_knows_it() {
    let Some(here) = over_https().await else { return };
    let truth = here.truth().await;
    let capture = here.capture("one").await;
    let _ = here.world.sim.tell("calls", json!({ "reset": true })).await;
    here.reads_right(&capture, &truth).await;
    assert_eq!(first_copy_reads(&here, &capture).await, [0, 9]);
    let calls = here.world.sim.tell("calls", json!({})).await;
    let read = calls["folder_bytes"].as_u64().unwrap_or(u64::MAX);
    assert!(read < 512 * KIB, "a disk that is almost empty was read whole: {calls}");
    // A look at less than a part of the disk asks VMware nothing.
    here.world.sim.tell("calls", json!({ "reset": true })).await;
    let disks = here.disks(&capture).await.unwrap();
    let spec = here.machine.included().next().unwrap();
    let extents = disks[&spec.id].extents(Run::new(0, 4096)).await.unwrap();
    assert_eq!(extents, [Extent { run: Run::new(0, 4096), fill: Fill::Data }]);
    let calls = here.world.sim.tell("calls", json!({})).await;
    assert!(calls["soap"].get("QueryChangedDiskAreas").is_none(), "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_once_a_point_is_sealed_a_comparison_reads_all() {
    let Some(here) = over_https().await else { return };
    let first = here.capture("one").await;
    assert_eq!(first_copy_reads(&here, &first).await, [0, 9]);
    here.release(&first).await;
    let next = here.capture("two").await;
    assert_eq!(first_copy_reads(&here, &next).await, (0..16).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_what_is_in_use_is_not_believed_from_a_server_that_does_not_know() {
    let Some(here) = over_https().await else { return };
    let truth = here.truth().await;
    let capture = here.capture("one").await;
    let whole: Vec<u64> = (0..16).collect();
    for allocated in ["fault", "whole"] {
        here.settings(json!({ "allocated": allocated })).await;
        assert_eq!(first_copy_reads(&here, &capture).await, whole, "{allocated}");
        here.reads_right(&capture, &truth).await;
    }
    here.settings(json!({ "allocated": "areas", "zero_answers": 2 })).await;
    assert_eq!(first_copy_reads(&here, &capture).await, whole);
    here.settings(json!({ "zero_answers": 0 })).await;
    // NFS, vSAN and vVols answer something, and mean something else by it.
    here.world.sim.tell("datastore", json!({ "name": "LocalDS_0", "type": "NFS" })).await;
    assert_eq!(first_copy_reads(&here, &capture).await, whole);
    here.world.sim.tell("datastore", json!({ "name": "LocalDS_0", "type": "VMFS" })).await;
    assert_eq!(first_copy_reads(&here, &capture).await, [0, 9]);
    here.world.told("cbt-reset", &here.name, json!({})).await;
    let next = here.capture("two").await;
    let disks = here.disks(&next).await;
    // Two captures: the second one stands on the first, and no delta is read over HTTPS.
    assert_eq!(disks.unwrap_err().kind(), ErrorKind::Unsupported);
    here.release(&capture).await;
    assert_eq!(first_copy_reads(&here, &next).await, whole, "tracking was begun anew by we do not know whom");
    here.reads_right(&next, &truth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_what_is_in_use_is_not_believed_with_snapshots_from_before_tracking() {
    let Some(world) = super::world::World::start(MODE, open).await else { return };
    let name = world.machine("web", &[1024]).await;
    world.write(&name, 0, 3 * GRAIN, &[3; 4096]).await;
    world.told("snapshot", &name, json!({ "name": "theirs" })).await;
    world.write(&name, 0, 5 * GRAIN, &[5; 4096]).await;
    // The simulator refuses the question then. The worst server answers it, and leaves out what the snapshot holds.
    let machine = world.enrol(&name, "m-web").await;
    assert_eq!(machine.guest.snapshots, Some(1), "somebody's snapshots are told");
    let here = Kept { world, machine, name };
    let truth = here.truth().await;
    let capture = here.capture("one").await;
    let empty = "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body>\
        <QueryChangedDiskAreasResponse xmlns=\"urn:vim25\"><returnval><startOffset>0</startOffset><length>1048576</length>\
        <changedArea><start>327680</start><length>65536</length></changedArea></returnval>\
        </QueryChangedDiskAreasResponse></soapenv:Body></soapenv:Envelope>";
    let lie = json!({ "path": "/sdk", "holds": "QueryChangedDiskAreas", "kind": "body", "body": empty, "count": 0 });
    here.world.sim.tell("http-fault", lie).await;
    here.reads_right(&capture, &truth).await;
    here.world.sim.tell("clear", json!({})).await;
    here.release(&capture).await;
    // What changes from here on is known all the same, also while theirs goes.
    let before = here.truth().await;
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.write(0, 7).await;
    here.world.told("snapshot-remove", &here.name, json!({ "name": "theirs" })).await;
    here.write(0, 8).await;
    let second = here.capture("second").await;
    assert_eq!(here.delta(&second, &since, &before).await, [[7, 8]]);
    here.release(&second).await;
    assert!(here.world.snapshots(&here.name).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_pages_are_put_together() {
    let Some(here) = Kept::new().await else { return };
    let before = here.truth().await;
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    for grain in [1, 3, 5, 8, 15] {
        here.write(0, grain).await;
    }
    here.write(1, 1).await;
    here.settings(json!({ "page": 1 })).await;
    let second = here.capture("second").await;
    assert_eq!(here.delta(&second, &since, &before).await, [vec![1, 3, 5, 8, 15], vec![1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_an_answer_of_no_length_is_no_answer() {
    let Some(here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.write(0, 4).await;
    let (truth, second) = (here.truth().await, here.capture("second").await);
    here.settings(json!({ "zero_answers": 1 })).await;
    let reason = here.lost(&second, &since).await;
    assert!(reason.contains("no length"), "{reason}");
    here.reads_right(&second, &truth).await;
    // The next question is answered: nothing was forgotten.
    assert!(matches!(here.changes(&second, &since).await, Changes::Known(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_fault_is_no_answer() {
    let Some(here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.write(0, 4).await;
    let (truth, second) = (here.truth().await, here.capture("second").await);
    for (fault, fields) in [
        ("FileFault", json!({ "file": "[LocalDS_0] web/web-000003.vmdk" })),
        ("InvalidArgument", json!({ "invalidProperty": "changeId" })),
        ("InvalidArgument", json!({ "invalidProperty": "deviceKey" })),
        ("NotSupported", json!({})),
        ("SystemError", json!({ "reason": "any" })),
    ] {
        let body = json!({ "method": "QueryChangedDiskAreas", "fault": fault, "fields": fields, "count": 1 });
        here.world.sim.tell("call-fault", body).await;
        let reason = here.lost(&second, &since).await;
        assert!(reason.contains("does not say what changed"), "{fault}: {reason}");
        here.world.sim.tell("clear", json!({})).await;
    }
    here.reads_right(&second, &truth).await;
    // A right that is lacking is none of tracking's faults: it is mended, and nothing compared.
    let fields = json!({ "privilegeId": "VirtualMachine.Provisioning.DiskRandomRead" });
    let body =
        json!({ "method": "QueryChangedDiskAreas", "fault": "NoPermission", "fields": fields, "count": 1 });
    here.world.sim.tell("call-fault", body).await;
    let error = here.site().changes(&second, here.machine.id(), &since).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("DiskRandomRead"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_tracking_that_was_begun_anew_knows_nothing_of_before() {
    for accident in ["cbt-reset", "power-loss"] {
        let Some(here) = Kept::new().await else { return };
        let first = here.capture("first").await;
        let since = here.cursor(&first);
        here.release(&first).await;
        here.write(0, 4).await;
        here.world.told(accident, &here.name, json!({})).await;
        if accident == "power-loss" {
            assert!(here.world.power(&here.name, "on").await);
        }
        here.write(0, 6).await;
        let (truth, second) = (here.truth().await, here.capture("second").await);
        let reason = here.lost(&second, &since).await;
        assert!(reason.contains("begun anew"), "{accident}: {reason}");
        here.reads_right(&second, &truth).await;
        // From there on it goes on.
        let again = here.cursor(&second);
        here.release(&second).await;
        here.write(0, 11).await;
        let third = here.capture("third").await;
        assert_eq!(here.delta(&third, &again, &truth).await[0], [11], "{accident}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_cursor_from_before_a_revert_is_lost() {
    // Also where tracking goes on as if nothing had been, and tells nobody what the revert itself changed.
    for worst in [false, true] {
        let Some(here) = Kept::new().await else { return };
        if worst {
            here.settings(json!({ "reset_on_revert": false, "revert_untold": true })).await;
        }
        here.snapshot("theirs").await;
        here.write(0, 4).await;
        let first = here.capture("first").await;
        let since = here.cursor(&first);
        here.release(&first).await;
        here.write(0, 6).await;
        here.revert("theirs").await;
        let (truth, second) = (here.truth().await, here.capture("second").await);
        let reason = here.lost(&second, &since).await;
        assert!(reason.contains("reverted"), "{reason}");
        here.reads_right(&second, &truth).await;
        let again = here.cursor(&second);
        here.release(&second).await;
        here.write(0, 11).await;
        let third = here.capture("third").await;
        assert_eq!(here.delta(&third, &again, &truth).await[0], [11]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_cursor_from_before_a_resize_is_lost() {
    let Some(here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    let key = here.world.disk_files(&here.name).await[0].0;
    here.world.told("disk-grow", &here.name, json!({ "key": key, "bytes": 2048 * KIB })).await;
    here.world.write(&here.name, 0, 1536 * KIB, &[9; 4096]).await;
    let (truth, second) = (here.truth().await, here.capture("second").await);
    assert_eq!(here.member(&second).machine.disks[0].size, 2048 * KIB);
    let reason = here.lost(&second, &since).await;
    assert!(reason.contains("1048576") && reason.contains("2097152"), "{reason}");
    here.reads_right(&second, &truth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_machine_whose_hardware_tracks_nothing_is_compared() {
    let Some(world) = super::world::World::start(MODE, open).await else { return };
    let body = json!({ "name": "old", "datastore": "LocalDS_0", "disks": [262144], "version": "vmx-04", "on": true });
    world.sim.tell("machine-create", body).await;
    let all = world.eyes.machines(&world.eyes.content().root_folder).await.unwrap();
    let old = all.into_iter().find(|m| m.name == "old").unwrap();
    let name = old.instance_uuid.unwrap().to_ascii_lowercase();
    let machine = world.enrol(&name, "m-old").await;
    let here = Kept { world, machine, name };
    for round in 0..2 {
        here.write(0, round).await;
        let (truth, capture) = (here.truth().await, here.capture(&format!("{round}")).await);
        assert_eq!(here.member(&capture).cursor, None, "who has no cursor is compared");
        here.reads_right(&capture, &truth).await;
        here.release(&capture).await;
    }
    assert!(here.world.snapshots(&here.name).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_capture_that_was_taken_over_another_one_has_no_delta() {
    let Some(here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    here.write(0, 4).await;
    let (between, second) = (here.truth().await, here.capture("second").await);
    let reason = here.lost(&second, &here.cursor(&first)).await;
    assert!(reason.contains("another capture stood"), "{reason}");
    here.reads_right(&second, &between).await;
    // Also once the older one is gone: the order in which they were taken counts.
    here.release(&first).await;
    here.lost(&second, &here.cursor(&first)).await;
    here.release(&second).await;
    here.write(0, 6).await;
    let third = here.capture("third").await;
    assert_eq!(here.delta(&third, &here.cursor(&second), &between).await[0], [6]);
    assert_eq!(
        here.world.snapshots(&here.name).await.len(),
        1,
        "the older one goes before the next is taken"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_tracking_that_somebody_switched_off_is_switched_on_again() {
    let Some(here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.write(0, 4).await;
    let spec = site_recovery_vim::ConfigSpec { change_tracking: Some(false), ..Default::default() };
    here.world.reconfigure(&here.name, spec).await;
    // It ends with a snapshot that comes and goes.
    here.snapshot("theirs").await;
    here.world.told("snapshot-remove", &here.name, json!({ "name": "theirs" })).await;
    here.write(0, 5).await;
    let (truth, second) = (here.truth().await, here.capture("second").await);
    assert_eq!(here.member(&second).cursor, None);
    here.lost(&second, &since).await;
    here.reads_right(&second, &truth).await;
    here.release(&second).await;
    let (before, third) = (here.truth().await, here.capture("third").await);
    here.lost(&third, &since).await;
    let again = here.cursor(&third);
    here.release(&third).await;
    here.write(0, 12).await;
    let fourth = here.capture("fourth").await;
    assert_eq!(here.delta(&fourth, &again, &before).await[0], [12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_disks_that_were_landed_on_have_no_delta() {
    let Some(mut here) = Kept::new().await else { return };
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first).await;
    here.site().fence(&suite::op("fence"), here.instance(), std::time::Duration::ZERO).await.unwrap();
    let settings = Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
    let existing = Some(here.instance().clone());
    let site = here.site().clone();
    let landed = site.attach(&suite::op("attach"), &here.machine, existing, &settings).await.unwrap();
    let disk = site.disk(&landed, &here.machine.disks[0].id).await.unwrap();
    disk.write(6 * GRAIN, bytes::Bytes::from(vec![6; 4096])).await.unwrap();
    disk.flush().await.unwrap();
    drop(disk);
    // Nobody armed it: the way back was given up.
    site.detach(&suite::op("detach"), &landed).await.unwrap();
    here.world.reopen().await;
    let (truth, second) = (here.truth().await, here.capture("second").await);
    here.lost(&second, &since).await;
    here.reads_right(&second, &truth).await;
    let disks = here.disks(&second).await.unwrap();
    let page = bytes_of(&disks[&here.machine.disks[0].id], Run::new(6 * GRAIN, 4096)).await.unwrap();
    assert_eq!(page, [6; 4096]);
}
