//! Snapshots, changed areas over real bytes, and those bytes over HTTPS.

use crate::sim::{BOTH, LONG, Mode, Sim, first};
use serde_json::json;
use site_recovery::{ErrorKind, Run};
use site_recovery_vim::{ConfigSpec, EVERYTHING, Error, Fault, FileRefusal, Moref, Power, Vim};
use std::os::unix::fs::FileExt;

const GRAIN: u64 = 64 << 10;

async fn track(vim: &Vim, machine: &Moref) {
    let spec = ConfigSpec { change_tracking: Some(true), ..ConfigSpec::default() };
    vim.reconfigure(machine, &spec).await.unwrap().wait(LONG).await.unwrap();
}

async fn snapshot(vim: &Vim, machine: &Moref, name: &str) -> Moref {
    vim.create_snapshot(machine, name, "of a test", true).await.unwrap().object(LONG).await.unwrap()
}

async fn remove(vim: &Vim, snapshot: &Moref) {
    vim.remove_snapshot(snapshot).await.unwrap().wait(LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_what_a_guest_writes_between_two_snapshots_is_told_page_by_page() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        track(&vim, &machine.moref).await;
        // Tracking begins at a stun.
        remove(&vim, &snapshot(&vim, &machine.moref, "stun").await).await;
        sim.write(&machine.name, 0, 9).await;
        let before = snapshot(&vim, &machine.moref, "dr-1").await;
        let disk = vim.snapshot_devices(&before).await.unwrap().disks.remove(0);
        let change_id = disk.backing.change_id.clone().expect("it is tracked");
        let used = vim
            .changed_areas(&machine.moref, Some(&before), disk.key, disk.capacity, EVERYTHING)
            .await
            .unwrap();
        assert_eq!(used, [Run::new(0, GRAIN)]);
        remove(&vim, &before).await;

        sim.tell("settings", json!({ "page": 1 })).await;
        for at in [1, 3, 8] {
            sim.write(&machine.name, at * GRAIN + 5, 9).await;
        }
        let after = snapshot(&vim, &machine.moref, "dr-2").await;
        sim.tell("calls", json!({ "reset": true })).await;
        let changed = vim
            .changed_areas(&machine.moref, Some(&after), disk.key, disk.capacity, &change_id)
            .await
            .unwrap();
        assert_eq!(changed, [1, 3, 8].map(|at| Run::new(at * GRAIN, GRAIN)));
        let calls = sim.tell("calls", json!({})).await;
        assert_eq!(calls["soap"], json!({ "QueryChangedDiskAreas": 3 }), "one for each page");

        // Answers that go nowhere, and ids of nobody.
        sim.tell("settings", json!({ "zero_answers": 1 })).await;
        let areas = async |id: &str| {
            vim.changed_areas(&machine.moref, Some(&after), disk.key, disk.capacity, id).await.unwrap_err()
        };
        assert_eq!(areas(&change_id).await.kind(), ErrorKind::Corrupt);
        let wrong = areas("00 00/1").await;
        assert_eq!(
            wrong.fault(),
            Some(&Fault::InvalidArgument { property: Some("changeId".into()) }),
            "{wrong}"
        );
        sim.tell("cbt-reset", json!({ "machine": machine.name })).await;
        assert!(areas(&change_id).await.fault().is_some());

        let tree = vim.snapshots(&machine.moref).await.unwrap();
        assert_eq!((tree.len(), tree[0].name.as_str(), tree[0].quiesced), (1, "dr-2", true));
        remove(&vim, &after).await;
        assert!(vim.snapshots(&machine.moref).await.unwrap().is_empty());
        let again = async { vim.remove_snapshot(&after).await?.wait(LONG).await };
        assert_eq!(again.await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_tools_is_not_brought_to_rest_nor_shut_down() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    let vim = sim.connect().await;
    let machine = first(&vim).await;
    sim.tell("tools", json!({ "machine": machine.name, "running": false })).await;
    assert!(!vim.machine(&machine.moref).await.unwrap().details.unwrap().tools.running);
    let quiesced = async { vim.create_snapshot(&machine.moref, "dr", "", true).await?.wait(LONG).await };
    let error = quiesced.await.unwrap_err();
    assert!(matches!(error.fault(), Some(Fault::QuiesceFailed | Fault::ToolsUnavailable)), "{error:?}");
    let error = vim.shut_down_guest(&machine.moref).await.unwrap_err();
    assert_eq!(error.fault(), Some(&Fault::ToolsUnavailable));
    assert!(vim.snapshots(&machine.moref).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_bytes_of_a_machine_that_is_off_are_read_as_they_are() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = sim.connect().await;
        let machine = first(&vim).await;
        let disk = machine.details.as_ref().unwrap().devices.disks[0].clone();
        let flat = disk.backing.file.as_ref().unwrap().flat().unwrap();
        let file = vim.file(sim.datacenter(), flat.clone());
        let error = file.read(0, &mut [0]).await.unwrap_err();
        assert!(
            matches!(error, Error::File { why: FileRefusal::Locked(500), .. }),
            "while it runs: {error:?}"
        );

        vim.shut_down_guest(&machine.moref).await.unwrap();
        assert!(vim.wait_for_power(&machine.moref, Power::Off, LONG).await.unwrap());
        let local = std::fs::OpenOptions::new().read(true).write(true).open(sim.local(&flat)).unwrap();
        let bytes: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        local.write_all_at(&bytes, 0).unwrap();
        assert_eq!(file.size().await.unwrap(), 4 << 20);
        let mut buffer = vec![0; (4 << 20) - 1000];
        file.read(777, &mut buffer).await.unwrap();
        assert!(buffer == bytes[777..777 + buffer.len()]);

        let end = file.read(4 << 20, &mut [0]).await.unwrap_err();
        assert!(matches!(end, Error::File { why: FileRefusal::BeyondEnd, .. }), "{end:?}");
        let absent = vim.file(sim.datacenter(), flat.folder().join("none.vmdk").unwrap());
        let absent = absent.size().await.unwrap_err();
        assert!(matches!(absent, Error::File { why: FileRefusal::NotFound, .. }), "{absent:?}");

        // What the network makes of it.
        for (fault, comes) in [("whole", false), ("short", true), ("reset", true), ("truncate", false)] {
            let body = json!({ "path": "/folder", "method": "GET", "kind": fault, "bytes": 10, "count": 1 });
            sim.tell("http-fault", body).await;
            let mut buffer = [0; 4096];
            let read = file.read(4096, &mut buffer).await;
            assert_eq!(read.is_ok(), comes, "{fault}: {read:?}");
            assert!(read.is_err() || buffer == bytes[4096..8192]);
            sim.tell("clear", json!({})).await;
        }
        // The session is gone, and nobody notices.
        sim.tell("sessions-expire", json!({})).await;
        let mut buffer = [0; 16];
        file.read(0, &mut buffer).await.unwrap();
        assert_eq!(buffer, bytes[..16]);
    }
}
