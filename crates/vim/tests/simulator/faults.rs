//! A simulator in trouble.

use crate::sim::{BOTH, LONG, Mode, Sim, first};
use serde_json::json;
use site_recovery::ErrorKind;
use site_recovery_vim::{Error, Fault, Lost, SecretRef, Trust, Vim};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_at_any_time_and_nothing_is_done_twice() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        let expire = async || drop(sim.tell("sessions-expire", json!({})).await);
        expire().await;
        assert_eq!(vim.machines(&vim.content().root_folder).await.unwrap().len(), 2);
        expire().await;
        assert!(vim.snapshots(&machine.moref).await.unwrap().is_empty());
        expire().await;
        let task = vim.create_snapshot(&machine.moref, "dr", "", false).await.unwrap();
        expire().await;
        task.wait(LONG).await.unwrap();
        assert_eq!(vim.snapshots(&machine.moref).await.unwrap().len(), 1);

        // In the middle of a wait.
        sim.tell("delay", json!({ "task": "CreateSnapshotEx", "ms": 1500 })).await;
        let task = vim.create_snapshot(&machine.moref, "dr", "", false).await.unwrap();
        let (waited, ()) = tokio::join!(task.wait(LONG), expire());
        waited.unwrap();
        let all: usize = vim.snapshots(&machine.moref).await.unwrap().iter().map(|s| s.all().len()).sum();
        assert_eq!(all, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_calls_and_tasks_keep_their_types() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let vim = sim.connect().await;
    let machine = first(&vim).await.moref;
    let fields = json!({ "privilegeId": "VirtualMachine.State.CreateSnapshot" });
    sim.tell(
        "call-fault",
        json!({ "method": "CreateSnapshot_Task", "fault": "NoPermission", "fields": fields, "count": 1 }),
    )
    .await;
    let error = vim.create_snapshot(&machine, "dr", "", false).await.unwrap_err();
    let Some(Fault::NoPermission { privilege: Some(privilege), .. }) = error.fault() else {
        panic!("{error:?}")
    };
    assert_eq!(
        (privilege.as_str(), error.kind()),
        ("VirtualMachine.State.CreateSnapshot", ErrorKind::Denied)
    );
    sim.tell("task-fault", json!({ "task": "CreateSnapshot", "fault": "TaskInProgress", "count": 1 })).await;
    let task = vim.create_snapshot(&machine, "dr", "", false).await.unwrap();
    let error = task.wait(LONG).await.unwrap_err();
    assert_eq!((error.fault(), error.kind()), (Some(&Fault::TaskInProgress), ErrorKind::Busy));
    assert!(vim.snapshots(&machine).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_change_whose_answer_is_cut_off_was_done_once() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    let vim = sim.connect().await;
    let machine = first(&vim).await.moref;
    let cut =
        json!({ "path": "/sdk", "holds": "CreateSnapshot_Task", "kind": "short", "bytes": 40, "count": 1 });
    sim.tell("http-fault", cut).await;
    let error = vim.create_snapshot(&machine, "dr", "", false).await.unwrap_err();
    assert!(error.may_have_been_done(), "{error:?}");
    // Whoever looks finds it; the server goes on without us.
    let mut found = 0;
    for _ in 0..2_000 {
        found = vim.snapshots(&machine).await.unwrap().len();
        if found > 0 {
            break;
        }
    }
    assert_eq!(found, 1);
    for kind in ["reset", "short"] {
        let body =
            json!({ "path": "/sdk", "holds": "RetrievePropertiesEx", "kind": kind, "bytes": 40, "count": 2 });
        sim.tell("http-fault", body).await;
        assert_eq!(vim.snapshots(&machine).await.unwrap().len(), 1, "a read comes through {kind}");
    }
    let busy = json!({ "path": "/sdk", "holds": "RetrievePropertiesEx", "kind": "status", "status": 503, "count": 0 });
    sim.tell("http-fault", busy).await;
    let error = vim.snapshots(&machine).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_have_not_ended_are_found_by_their_machine() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await.moref;
        vim.power_off(&machine).await.unwrap().wait(LONG).await.unwrap();
        sim.tell("delay", json!({ "task": "CreateSnapshotEx", "ms": 700 })).await;
        let task = vim.create_snapshot(&machine, "dr", "", false).await.unwrap();
        let open = vim.open_tasks(&machine).await.unwrap();
        assert_eq!(open.iter().map(|t| t.moref()).collect::<Vec<_>>(), [task.moref()]);
        open[0].wait(LONG).await.unwrap();
        assert!(vim.open_tasks(&machine).await.unwrap().is_empty());
        assert_eq!(vim.snapshots(&machine).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_strangers_and_wrong_passwords_are_told_apart() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    let mut settings = sim.settings.clone();
    settings.trust = Trust::Sha256("0".repeat(64));
    let error = Vim::connect(&settings, Arc::new(site_recovery::SystemClock)).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Stranger { .. })), "{error:?}");
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("password");
    std::fs::write(&wrong, "canary").unwrap();
    let mut settings = sim.settings.clone();
    settings.password = SecretRef::File(wrong);
    let error = Vim::connect(&settings, Arc::new(site_recovery::SystemClock)).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::InvalidLogin));
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulator_that_is_gone_is_absent() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    let vim = sim.connect().await;
    let machine = first(&vim).await.moref;
    drop(sim);
    assert_eq!(vim.machine(&machine).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
