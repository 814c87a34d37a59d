//! Several engines at one server, each with its own state directory, and others who change a machine at the same time.

use super::kept::Kept;
use super::world::until;
use crate::open;
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite;
use site_recovery_vim::ConfigSpec;
use site_recovery_vmware::{Appliance, Site};
use std::sync::Arc;
use std::time::Duration;

fn op(owner: &str, number: u64, key: &str) -> Op {
    Op { key: suite::op(&format!("{owner}/{key}")).key, epoch: Epoch { number, owner: owner.into() } }
}

/// A site of the same server that knows nothing of the first one but what stands there.
async fn another(here: &Kept, dir: &tempfile::TempDir) -> Site {
    let appliance = Appliance::new(&here.world.appliance, Arc::new(here.world.files.clone()));
    open(&here.world.sim, dir.path().join("state")).appliance(appliance).open().await.unwrap()
}

/// All that an engine may do to a machine, and what came of it.
async fn everything(site: &Site, here: &Kept, op: impl Fn(&str) -> Op) -> Vec<(&'static str, Result<()>)> {
    let (instance, machine) = (here.instance(), &here.machine);
    let settings = Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
    let of = std::slice::from_ref(instance);
    let existing = Some(instance.clone());
    vec![
        ("enrol", site.enrol(&op("enrol"), machine).await),
        ("capture", site.capture(&op("capture"), of, Consistency::Crash).await.map(drop)),
        ("sweep", site.sweep(&op("sweep"), instance, &[]).await.map(drop)),
        ("fence", site.fence(&op("fence"), instance, Duration::ZERO).await),
        ("attach", site.attach(&op("attach"), machine, existing, &settings).await.map(drop)),
        ("consolidate", site.consolidate(&op("consolidate"), instance).await),
        ("claim", site.claim(&op("claim"), machine.id()).await),
        ("dismiss", site.dismiss(&op("dismiss"), instance).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_an_engine_elsewhere_with_a_lower_epoch_changes_nothing() {
    let Some(here) = Kept::new().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let other = another(&here, &dir).await;
    let of = std::slice::from_ref(here.instance());
    // The second engine takes over: its number is higher.
    let capture = other.capture(&op("b", 7, "one"), of, Consistency::Crash).await.unwrap();
    let version = async || {
        let moref = here.world.moref(&here.name).await;
        here.world.eyes.machine(&moref).await.unwrap().details.unwrap().change_version
    };
    let before = (version().await, here.world.snapshots(&here.name).await, here.attached().await);
    let same_number = |key: &str| op("c", 7, key);
    for (what, done) in everything(here.site(), &here, |key| op("a", 6, key)).await {
        assert_eq!(done.unwrap_err().kind(), ErrorKind::StaleEpoch, "{what}");
    }
    for (what, done) in everything(here.site(), &here, same_number).await {
        assert_eq!(done.unwrap_err().kind(), ErrorKind::StaleEpoch, "{what} with the same number");
    }
    let after = (version().await, here.world.snapshots(&here.name).await, here.attached().await);
    assert_eq!(before, after, "something was changed");
    assert!(here.world.runs(&here.name).await);
    // An engine with a new directory is refused by what stands at the server alone.
    let dir = tempfile::tempdir().unwrap();
    let third = another(&here, &dir).await;
    let error = third.fence(&op("d", 3, "fence"), here.instance(), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleEpoch);
    assert!(error.to_string().contains("held by b at epoch 7"), "{error}");
    // Who is in charge goes on, and the one who was before takes over again with a higher number.
    other.release(&op("b", 7, "release"), &capture, here.machine.id(), Fate::Sealed).await.unwrap();
    let again = here.site().capture(&op("a", 8, "again"), of, Consistency::Crash).await.unwrap();
    let error = other.capture(&op("b", 7, "late"), of, Consistency::Crash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleEpoch);
    here.site().release(&op("a", 8, "release"), &again, here.machine.id(), Fate::Sealed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_what_one_engine_fenced_another_one_finds() {
    let Some(here) = Kept::new().await else { return };
    here.site().fence(&suite::op("fence"), here.instance(), Duration::ZERO).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let other = another(&here, &dir).await;
    let told = other.discover().await.unwrap();
    let found = told.into_iter().find(|m| m.instance.name == here.name).unwrap();
    assert_eq!(found.id(), here.machine.id(), "the mark stands with the machine");
    let stamp = |power: Power| match power {
        Power::Off { start: StartGuard::Tells(stamp) } => stamp,
        other => panic!("{other:?}"),
    };
    let before = stamp(other.power(&found.instance).await.unwrap());
    assert_eq!(before, stamp(here.site().power(here.instance()).await.unwrap()));
    assert!(here.world.power(&here.name, "on").await);
    here.world.stop(&here.name).await;
    let after = stamp(other.power(&found.instance).await.unwrap());
    assert!(before != after, "a start past the fence is not told");
}

/// Somebody changes the machine between our look at it and our change.
#[tokio::test(flavor = "multi_thread")]
async fn o3_a_change_by_somebody_in_between_is_not_lost_and_neither_is_ours() {
    let Some(here) = Kept::new().await else { return };
    let reconfigurations = async || here.world.called("ReconfigVM_Task").await;
    here.world.sim.tell("calls", json!({ "reset": true })).await;
    here.world.sim.tell("delay", json!({ "method": "ReconfigVM_Task", "ms": 400 })).await;
    let of = std::slice::from_ref(here.instance());
    let capture = op("a", 5, "capture");
    let ours = here.site().capture(&capture, of, Consistency::Crash);
    let theirs = async {
        // Our call is there, made up by the version from before, and waits.
        until("our change", async || reconfigurations().await > 0).await;
        assert_eq!(reconfigurations().await, 1, "ours is done already, and not in between");
        here.world.told("disk-add", &here.name, json!({ "bytes": 65536 })).await;
    };
    let (ours, ()) = tokio::join!(ours, theirs);
    let capture = ours.unwrap();
    here.world.sim.tell("clear", json!({})).await;
    assert!(reconfigurations().await >= 3, "our change was not refused, or not made again");
    let told: Vec<bool> = here.member(&capture).machine.disks.iter().map(|d| d.included).collect();
    assert_eq!(told, [true, true, false], "theirs is in the capture, and left out");
    assert_eq!(here.world.disk_files(&here.name).await.len(), 3, "theirs is lost");
    let moref = here.world.moref(&here.name).await;
    let extra = here.world.eyes.machine(&moref).await.unwrap().details.unwrap().extra;
    assert!(extra["site-recovery.epoch"].contains("\"a\""), "ours is lost: {extra:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn o3_many_who_write_at_once_lose_nothing() {
    let Some(here) = Kept::new().await else { return };
    let theirs = async {
        for n in 0..40 {
            let extra = vec![(format!("somebody.{n}"), n.to_string())];
            here.world.reconfigure(&here.name, ConfigSpec { extra, ..ConfigSpec::default() }).await;
        }
    };
    let ours = async {
        for round in 0..6 {
            let of = std::slice::from_ref(here.instance());
            let key = op("suite", 1, &format!("{round}"));
            // Nobody is first for ever: what is refused again and again is an error that passes.
            let mut last = None;
            for _ in 0..8 {
                match here.site().capture(&key, of, Consistency::Crash).await {
                    Ok(capture) => {
                        last = Some(capture);
                        break;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
                }
            }
            let capture = last.expect("it comes through");
            let release = op("suite", 1, &format!("release-{round}"));
            here.site().release(&release, &capture, here.machine.id(), Fate::Sealed).await.unwrap();
        }
    };
    tokio::join!(theirs, ours);
    let moref = here.world.moref(&here.name).await;
    let extra = here.world.eyes.machine(&moref).await.unwrap().details.unwrap().extra;
    for n in 0..40 {
        assert_eq!(extra.get(&format!("somebody.{n}")), Some(&n.to_string()));
    }
    for round in 0..6 {
        let key = op("suite", 1, &format!("{round}")).key.0;
        assert!(extra["site-recovery.tracking"].contains(&key), "capture {round} is not noted");
    }
    assert!(here.world.snapshots(&here.name).await.is_empty());
}
