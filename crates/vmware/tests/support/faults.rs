//! A server in trouble, and strange input: each ends in an error that says what is wrong, or in the very result that there would
//! have been without the trouble, and nothing is left behind.

use super::kept::{GRAIN, Kept, bytes_of};
use super::world::{World, until};
use crate::{MODE, open};
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::suite;
use site_recovery_vim::{Limits, SecretRef, Trust};

/// As it was before: no snapshots, nothing at the appliance, no files.
struct Before {
    attached: std::collections::BTreeMap<String, String>,
    files: Vec<String>,
}

impl Before {
    async fn of(here: &Kept) -> Self {
        Self { attached: here.attached().await, files: here.world.everything().await }
    }

    async fn again(&self, here: &Kept) {
        assert!(here.world.snapshots(&here.name).await.is_empty(), "snapshots are left");
        assert_eq!(here.attached().await, self.attached, "disks are left at the appliance");
        assert_eq!(here.world.everything().await, self.files, "files are left");
    }
}

/// A whole cycle: what it reads is right, and a delta holds what was written.
async fn cycle(here: &Kept, key: &str, grain: u64) {
    let before = here.truth().await;
    let first = here.capture(&format!("{key}-1")).await;
    here.reads_right(&first, &before).await;
    here.release(&first).await;
    here.write(0, grain).await;
    let second = here.capture(&format!("{key}-2")).await;
    let told = here.delta(&second, &here.cursor(&first), &before).await;
    assert_eq!(told, [vec![grain], vec![]], "{key}");
    here.release(&second).await;
}

async fn fault(here: &Kept, body: Value) {
    here.world.sim.tell("http-fault", body).await;
}

async fn clear(here: &Kept) {
    here.world.sim.tell("clear", json!({})).await;
}

async fn opens(world: &World, change: impl FnOnce(&mut site_recovery_vim::Settings)) -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let mut sim = world.sim.settings.clone();
    change(&mut sim);
    crate::open_with(sim, dir.path().join("state")).open().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_wrong_password_and_a_stranger_are_told_at_once() {
    let Some(world) = World::start(MODE, open).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("password");
    std::fs::write(&wrong, "not-the-one").unwrap();
    let error = opens(&world, |s| s.password = SecretRef::File(wrong)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("InvalidLogin"), "{error}");
    let error =
        opens(&world, |s| s.password = SecretRef::File("/nowhere/password".into())).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/password"), "{error}");

    world.sim.tell("calls", json!({ "reset": true })).await;
    let error = opens(&world, |s| s.trust = Trust::Sha256("0".repeat(64))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("certificate"), "{error}");
    let calls = world.sim.tell("calls", json!({})).await;
    assert!(calls["soap"].as_object().is_none_or(|soap| soap.is_empty()), "something was sent: {calls}");
    let error = opens(&world, |s| s.trust = Trust::Sha256("0".repeat(63))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_end_before_any_call_of_a_cycle() {
    let Some(here) = Kept::new().await else { return };
    let before = Before::of(&here).await;
    let truth = here.truth().await;
    let reads = async |key: &str| {
        let capture = here.capture(key).await;
        let read = here.read(&capture).await;
        here.release(&capture).await;
        assert!(read == truth, "{key}");
    };
    // The first one of all does more.
    reads("first").await;
    here.world.sim.tell("calls", json!({ "reset": true })).await;
    reads("untroubled").await;
    let calls = here.world.sim.tell("calls", json!({})).await;
    let calls: u64 = calls["soap"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    // As a fault, of each call in turn; property reads say it as values that are missing, see below.
    for skip in 0.. {
        assert!(skip < 2 * calls, "there is no end of calls");
        let body = json!({ "method": "", "fault": "NotAuthenticated", "skip": skip, "count": 1 });
        here.world.sim.tell("call-fault", body).await;
        reads(&format!("a fault at call {skip}")).await;
        let beyond_the_last = here.world.faults_left().await > 0;
        clear(&here).await;
        if beyond_the_last {
            // Whatever waits for a task may ask once more, or once less.
            assert!(skip + 5 > calls, "the cycle ended after {skip} calls of {calls}");
            break;
        }
    }
    before.again(&here).await;
    // Really, with all that hangs on it: the server forgets the session, also while a task runs.
    here.world.sim.tell("delay", json!({ "task": "CreateSnapshotEx", "ms": 1000 })).await;
    here.world.sim.tell("calls", json!({ "reset": true })).await;
    let expire = async || drop(here.world.sim.tell("sessions-expire", json!({})).await);
    let while_it_is_taken = async {
        until("the call", async || here.world.called("CreateSnapshot_Task").await > 0).await;
        expire().await;
        assert!(here.world.snapshots(&here.name).await.is_empty(), "it is taken already");
    };
    let (capture, ()) = tokio::join!(here.capture("one"), while_it_is_taken);
    expire().await;
    assert!(matches!(here.changes(&capture, &here.cursor(&capture)).await, Changes::Known(_)));
    expire().await;
    here.reads_right(&capture, &here.truth().await).await;
    expire().await;
    here.release(&capture).await;
    before.again(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_end_while_a_disk_is_read_over_https() {
    let Some(mut here) = Kept::new().await else { return };
    here.world.stop(&here.name).await;
    here.world.site = open(&here.world.sim, here.world.dir.path().join("state")).open().await.unwrap();
    let (truth, capture) = (here.truth().await, here.capture("one").await);
    let disks = here.disks(&capture).await.unwrap();
    let disk = &disks[&here.machine.disks[0].id];
    let pool = Pool::new(1 << 20);
    for at in 0..4 {
        here.world.sim.tell("sessions-expire", json!({})).await;
        let run = Run::new(at * GRAIN, GRAIN);
        let bytes = disk.read(run, &pool).await.unwrap();
        assert!(bytes == truth[0][run.start as usize..run.end() as usize], "grain {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_no_use_are_errors_and_pass() {
    let Some(mut here) = Kept::new().await else { return };
    here.world.sim_mut().settings.limits =
        Limits { answer_ms: 700, tries: 2, pause_ms: 1, ..Limits::default() };
    here.world.reopen().await;
    let before = Before::of(&here).await;
    let entity =
        "<!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\">";
    let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">{entity}]><x>&c;</x>");
    let deep = "<a>".repeat(100_000);
    let troubles = [
        ("503", ErrorKind::Unavailable, json!({ "kind": "status", "status": 503 })),
        ("hang", ErrorKind::Unavailable, json!({ "kind": "hang" })),
        ("reset", ErrorKind::Unavailable, json!({ "kind": "reset" })),
        ("short", ErrorKind::Unavailable, json!({ "kind": "short", "bytes": 60 })),
        ("truncated", ErrorKind::Corrupt, json!({ "kind": "truncate", "bytes": 300 })),
        ("bomb", ErrorKind::Corrupt, json!({ "kind": "body", "body": bomb })),
        ("deep", ErrorKind::Corrupt, json!({ "kind": "body", "body": deep })),
        ("no XML", ErrorKind::Corrupt, json!({ "kind": "body", "body": "<html>Welcome" })),
    ];
    for (n, (name, kind, mut body)) in troubles.into_iter().enumerate() {
        body["path"] = "/sdk".into();
        // All that is read.
        let capture = here.capture(&format!("{name}-standing")).await;
        let (since, truth) = (here.cursor(&capture), here.truth().await);
        fault(&here, body.clone()).await;
        let error = here.try_capture(&format!("{name}-other")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        let error = here.disks(&capture).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        let error = here.site().changes(&capture, here.machine.id(), &since).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().len() < 600, "{name}: {error}");
        let error = here.site().power(here.instance()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        clear(&here).await;
        here.reads_right(&capture, &truth).await;
        here.release(&capture).await;
        // The one answer that says what changed: it is lost, or there is no answer; never nothing.
        let mut areas = body.clone();
        areas["holds"] = "QueryChangedDiskAreas".into();
        here.write(0, n as u64).await;
        let capture = here.capture(&format!("{name}-areas")).await;
        fault(&here, areas).await;
        match here.site().changes(&capture, here.machine.id(), &since).await {
            Ok(Changes::Lost { .. }) => assert_eq!(kind, ErrorKind::Corrupt, "{name}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error}"),
            Ok(known) => panic!("{name}: {known:?}"),
        }
        clear(&here).await;
        here.release(&capture).await;
    }
    before.again(&here).await;
    cycle(&here, "after", 13).await;
    before.again(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_change_whose_answer_is_lost_is_made_once() {
    let Some(here) = Kept::new().await else { return };
    let before = Before::of(&here).await;
    let short = json!({ "kind": "short", "bytes": 40 });
    let reset = json!({ "kind": "reset" });
    let garbage = json!({ "kind": "truncate", "bytes": 40 });
    let busy = json!({ "kind": "status", "status": 503 });
    for (n, trouble) in [short, reset, garbage, busy].into_iter().enumerate() {
        for method in ["CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task"] {
            let mut body = trouble.clone();
            let more = json!({ "path": "/sdk", "holds": format!("<{method}"), "count": 1 });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            fault(&here, body).await;
            let key = format!("{n}-{method}");
            let truth = here.truth().await;
            let capture = again(|| here.try_capture(&key)).await;
            assert_eq!(here.world.snapshots(&here.name).await.len(), 1, "{key}");
            let read = again(|| here.disks(&capture)).await;
            let spec = &here.machine.disks[0];
            assert!(bytes_of(&read[&spec.id], Run::new(0, spec.size)).await.unwrap() == truth[0], "{key}");
            drop(read);
            let op = suite::op(&format!("release/{key}"));
            again(|| here.site().release(&op, &capture, here.machine.id(), Fate::Sealed)).await;
            here.world.met(&key).await;
            before.again(&here).await;
        }
        for task in ["createSnapshot", "reconfigVm", "removeSnapshot"] {
            let body = json!({ "task": task, "fault": "Timedout", "count": 1, "after": true });
            here.world.sim.tell("task-fault", body).await;
            let key = format!("{n}-{task}");
            let capture = again(|| here.try_capture(&key)).await;
            assert_eq!(here.world.snapshots(&here.name).await.len(), 1, "{key}");
            let op = suite::op(&format!("release/{key}"));
            again(|| here.site().release(&op, &capture, here.machine.id(), Fate::Sealed)).await;
            here.world.met(&key).await;
            before.again(&here).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_snapshot_whose_answer_is_lost_is_waited_for() {
    let Some(here) = Kept::new().await else { return };
    let before = Before::of(&here).await;
    here.world.sim.tell("delay", json!({ "task": "CreateSnapshotEx", "ms": 700 })).await;
    fault(
        &here,
        json!({ "path": "/sdk", "holds": "<CreateSnapshot_Task", "kind": "short", "bytes": 40, "count": 1 }),
    )
    .await;
    let (truth, capture) = (here.truth().await, here.capture("one").await);
    assert_eq!(
        here.world.snapshots(&here.name).await.len(),
        1,
        "it was asked for again while it was being taken"
    );
    here.reads_right(&capture, &truth).await;
    here.release(&capture).await;
    here.world.met("the lost answer").await;
    before.again(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_task_whose_end_nobody_saw_is_waited_for() {
    let Some(here) = Kept::new().await else { return };
    let before = Before::of(&here).await;
    let tries = here.world.sim.settings.limits.tries;
    let waits = json!({ "path": "/sdk", "holds": "<WaitForUpdatesEx", "kind": "reset", "count": tries });
    for task in ["CreateSnapshotEx", "PowerOff"] {
        here.world.sim.tell("delay", json!({ "task": task, "ms": 700 })).await;
    }

    fault(&here, waits.clone()).await;
    let (truth, capture) = (here.truth().await, here.capture("one").await);
    assert_eq!(here.world.faults_left().await, 0, "the wait was lost to its end");
    here.reads_right(&capture, &truth).await;
    here.release(&capture).await;

    fault(&here, waits).await;
    let grace = std::time::Duration::ZERO;
    here.site().fence(&suite::op("fence"), here.instance(), grace).await.unwrap();
    assert!(!here.world.runs(&here.name).await);
    here.world.met("the wait was lost to its end").await;
    before.again(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_start_whose_answer_is_lost_is_one_start() {
    let Some(here) = Kept::new().await else { return };
    here.world.sim.tell("delay", json!({ "task": "PowerOn", "ms": 300 })).await;
    for (n, trouble) in [
        json!({ "kind": "short", "bytes": 40 }),
        json!({ "kind": "reset" }),
        json!({ "kind": "truncate", "bytes": 40 }),
    ]
    .into_iter()
    .enumerate()
    {
        let fence = suite::op(&format!("fence-{n}"));
        let mut body = trouble.clone();
        body.as_object_mut().unwrap().extend([
            ("path".to_owned(), json!("/sdk")),
            ("holds".to_owned(), json!("<PowerOffVM_Task")),
            ("count".to_owned(), json!(1)),
        ]);
        fault(&here, body.clone()).await;
        again(|| here.site().fence(&fence, here.instance(), std::time::Duration::ZERO)).await;
        assert!(!here.world.runs(&here.name).await);
        let Power::Off { .. } = here.site().power(here.instance()).await.unwrap() else {
            panic!("it is off")
        };

        body["holds"] = "<PowerOnVM_Task".into();
        fault(&here, body).await;
        let starts = here.world.starts(&here.name).await;
        let op = suite::op(&format!("start-{n}"));
        let start = async || {
            let permit = suite::permit(&op, &here.machine).await;
            here.site().unfence(&op, here.instance(), permit, Start::Run).await
        };
        let lifted = again(start).await;
        assert!(lifted.running && here.world.runs(&here.name).await);
        assert_eq!(here.world.starts(&here.name).await, starts + 1, "it was started twice, or not at all");
        // A repeat starts nothing, also once it is off.
        here.world.stop(&here.name).await;
        start().await.unwrap();
        assert!(!here.world.runs(&here.name).await);
        assert!(here.world.power(&here.name, "on").await);
        assert_eq!(here.world.faults_left().await, 0, "{trouble}: both answers were lost");
    }
}

/// As an engine does: the same call again, as long as the trouble is one that passes.
pub(crate) async fn again<T>(call: impl AsyncFn() -> Result<T>) -> T {
    let mut last = None;
    for _ in 0..8 {
        match call().await {
            Ok(done) => return done,
            Err(error) => {
                let passes = error.is_temporary() || error.fact("outcome") == Some("unknown");
                assert!(passes || error.fact("fault").is_some(), "{error}");
                last = Some(error);
            }
        }
    }
    panic!("it does not pass: {}", last.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_answered_exactly_or_not_at_all() {
    let Some(mut here) = Kept::new().await else { return };
    here.world.stop(&here.name).await;
    here.world.sim_mut().settings.limits = Limits { tries: 2, pause_ms: 1, ..Limits::default() };
    here.world.site = open(&here.world.sim, here.world.dir.path().join("state")).open().await.unwrap();
    let (truth, capture) = (here.truth().await, here.capture("one").await);
    let disks = here.disks(&capture).await.unwrap();
    let disk = &disks[&here.machine.disks[0].id];
    let pool = Pool::new(1 << 20);
    let run = Run::new(9 * GRAIN, GRAIN);
    for (name, kind, body) in [
        ("short", ErrorKind::Unavailable, json!({ "kind": "short", "bytes": 100 })),
        ("truncated", ErrorKind::Corrupt, json!({ "kind": "truncate", "bytes": 100 })),
        ("whole", ErrorKind::Unsupported, json!({ "kind": "whole" })),
        ("503", ErrorKind::Unavailable, json!({ "kind": "status", "status": 503 })),
        ("locked", ErrorKind::Busy, json!({ "kind": "status", "status": 500 })),
        ("denied", ErrorKind::Denied, json!({ "kind": "status", "status": 403 })),
        ("gone", ErrorKind::NotFound, json!({ "kind": "status", "status": 404 })),
    ] {
        let mut body = body;
        body["path"] = "/folder".into();
        fault(&here, body).await;
        let error = disk.read(run, &pool).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        if error.kind() != ErrorKind::Unavailable {
            assert!(error.to_string().contains("web-flat.vmdk"), "{name}: {error}");
        }
        // Neither does it begin so, where one byte shows it.
        if !["short", "truncated"].contains(&name) {
            here.disks(&capture).await.unwrap_err();
        }
        clear(&here).await;
        let bytes = disk.read(run, &pool).await.unwrap();
        assert!(bytes == truth[0][run.start as usize..run.end() as usize], "{name}");
    }
    // A cut that passes is no error.
    fault(&here, json!({ "path": "/folder", "kind": "short", "bytes": 100, "count": 1 })).await;
    assert!(disk.read(run, &pool).await.unwrap() == truth[0][run.start as usize..run.end() as usize]);
    let error = disk.read(Run::new(disk.size() - 512, 1024), &pool).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_mid_read_is_unavailable() {
    let Some(mut here) = Kept::new().await else { return };
    here.world.stop(&here.name).await;
    here.world.sim_mut().settings.limits = Limits { tries: 2, pause_ms: 1, ..Limits::default() };
    here.world.site = open(&here.world.sim, here.world.dir.path().join("state")).open().await.unwrap();
    let capture = here.capture("one").await;
    let disks = here.disks(&capture).await.unwrap();
    let disk = std::sync::Arc::clone(&disks[&here.machine.disks[0].id]);
    fault(&here, json!({ "path": "/folder", "kind": "hang", "count": 1 })).await;
    let pool = Pool::new(1 << 20);
    let kill = async {
        until("the request, which hangs", async || here.world.faults_left().await == 0).await;
        here.world.sim_mut().kill();
    };
    let (read, ()) = tokio::join!(disk.read(Run::new(0, GRAIN), &pool), kill);
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = here.site().power(here.instance()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "silence is never off: {error}");
    for error in [
        here.try_capture("two").await.unwrap_err(),
        here.site().sweep(&suite::op("sweep"), here.instance(), &[]).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    // What is claimed while the server is silent counts.
    here.site().claim(&suite::op("claim"), here.machine.id()).await.unwrap();
}
