//! The way back while answers are lost: each disk and each machine is made once, and all of it goes again.

use super::faults::again;
use super::kept::Kept;
use super::world::until;
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::suite;
use std::time::Duration;

const TROUBLES: [&str; 2] = ["short", "reset"];

async fn lose(here: &Kept, kind: &str, method: &str, skip: u64) {
    let body: Value = json!({
        "path": "/sdk", "holds": format!("<{method}"), "kind": kind, "bytes": 40, "skip": skip, "count": 1,
    });
    here.world.sim.tell("http-fault", body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_disk_that_lands_is_added_once_whichever_answer_is_lost() {
    for kind in TROUBLES {
        for skip in 0.. {
            assert!(skip < 30, "there is no end of changes");
            let Some(here) = Kept::new().await else { return };
            let (machine, settings) = with_another_disk(&here).await;
            let attach = suite::op("attach");
            lose(&here, kind, "ReconfigVM_Task", skip).await;
            let existing = || Some(here.instance().clone());
            let landed = again(|| here.site().attach(&attach, &machine, existing(), &settings)).await;
            let beyond_the_last = here.world.faults_left().await > 0;
            here.world.sim.tell("clear", json!({})).await;
            lands_whole(&here, &machine, &landed, &format!("{kind} at {skip}")).await;
            if beyond_the_last {
                assert!(skip > 3, "{kind}: {skip} changes were lost");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_disk_that_lands_is_added_once_wherever_it_was_broken_off() {
    for skip in 0.. {
        assert!(skip < 30, "there is no end of changes");
        let Some(here) = Kept::new().await else { return };
        let (machine, settings) = with_another_disk(&here).await;
        let existing = || Some(here.instance().clone());
        // From that change on none is allowed, as if the process had ended there.
        let denied =
            json!({ "method": "ReconfigVM_Task", "fault": "NoPermission", "skip": skip, "count": 0 });
        here.world.sim.tell("call-fault", denied).await;
        let broken = here.site().attach(&suite::op("attach"), &machine, existing(), &settings).await.is_err();
        here.world.sim.tell("clear", json!({})).await;
        // Another call, by another engine: the key is not that of the one that was broken off.
        let again = suite::op("attach again");
        let landed = here.site().attach(&again, &machine, existing(), &settings).await.unwrap();
        lands_whole(&here, &machine, &landed, &format!("broken off at {skip}")).await;
        if !broken {
            assert!(skip > 3, "it was broken off {skip} times");
            break;
        }
    }
}

/// A machine that is off, and what its copy has beyond it.
async fn with_another_disk(here: &Kept) -> (Machine, Settings) {
    here.site().fence(&suite::op("fence"), here.instance(), Duration::ZERO).await.unwrap();
    let mut machine = here.machine.clone();
    let id = DiskId("came-later".into());
    machine.disks.push(DiskSpec { id, size: 192 << 10, role: DiskRole::Data, included: true });
    (machine, Settings { datastore: Some("LocalDS_1".into()), ..Settings::default() })
}

/// Asserts that there are three disks, all of them at the appliance, that the new one takes bytes, and that they are given back.
async fn lands_whole(here: &Kept, machine: &Machine, landed: &Instance, what: &str) {
    assert_eq!(here.world.disk_files(&here.name).await.len(), 3, "{what}");
    assert_eq!(here.attached().await.len(), 4, "{what}");
    let disk = here.site().disk(landed, &machine.disks[2].id).await.unwrap();
    disk.write(4096, bytes::Bytes::from(vec![8; 512])).await.unwrap();
    disk.flush().await.unwrap();
    drop(disk);
    lose(here, "short", "ReconfigVM_Task", 0).await;
    let detach = suite::op("detach");
    again(|| here.site().detach(&detach, landed)).await;
    here.world.met(what).await;
    assert_eq!(here.attached().await.len(), 1, "{what}: disks are left at the appliance");
    assert_eq!(here.world.content(&here.name, 2).await[4096..4608], [8; 512], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_machine_is_made_once_whichever_answer_is_lost() {
    let Some(here) = Kept::new().await else { return };
    let before = here.world.everything().await;
    let settings = Settings {
        datastore: Some("LocalDS_1".into()),
        name: Some("web-back".into()),
        location: Location::Alternate,
        ..Settings::default()
    };
    for kind in TROUBLES {
        for (method, skip) in [("CreateVM_Task", 0), ("ReconfigVM_Task", 0), ("ReconfigVM_Task", 1)] {
            let key = suite::op(&format!("{kind}-{method}-{skip}"));
            lose(&here, kind, method, skip).await;
            let made = again(|| here.site().attach(&key, &here.machine, None, &settings)).await;
            here.world.met(&format!("{kind} of {method} {skip}")).await;
            let machines = here.world.everything().await.len() - before.len();
            assert_eq!(machines, 5, "{kind} of {method}: a machine and two disks of two files");
            lose(&here, kind, "Destroy_Task", 0).await;
            let remove = suite::op(&format!("remove/{kind}-{method}-{skip}"));
            again(|| here.site().remove(&remove, &made)).await;
            here.world.met(&format!("{kind} of Destroy_Task")).await;
            // The server may be at deleting files still, which is all that was left to it.
            until("the end of its files", async || here.world.everything().await == before).await;
            assert_eq!(here.attached().await.len(), 1, "{kind} of {method}");
        }
    }
}
