//! Against VMware's own simulator with our extensions: it sends a disk as a real host does, but nothing here was compared with one.

use super::process::{Mode, Sim};
use super::whole;
use crate::read::nfc::by_lease;
use serde_json::json;
use site_recovery::{ErrorKind, SystemClock};
use site_recovery_vim::{Machine, Moref, Vim};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const BOTH: [Mode; 2] = [Mode::VCenter, Mode::Esxi];

async fn connect(sim: &Sim) -> Vim {
    Vim::connect(&sim.settings, Arc::new(SystemClock)).await.unwrap()
}

async fn first(vim: &Vim) -> Machine {
    let mut all = vim.machines(&vim.content().root_folder).await.unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    vim.machine(&all[0].moref).await.unwrap()
}

async fn snapshot(vim: &Vim, machine: &Machine) -> Moref {
    vim.create_snapshot(&machine.moref, "dr", "", false).await.unwrap().object(LONG).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_each_disk_of_a_running_machine_is_read_by_a_lease_as_its_snapshot_holds_it() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = connect(&sim).await;
        let machine = first(&vim).await;
        sim.tell("disk-add", json!({ "machine": machine.name, "bytes": 4 << 20 })).await;
        let disks = sim.tell("disks", json!({ "machine": machine.name })).await;
        let write = async |key: &serde_json::Value, offset: u64, data: &str| {
            let body = json!({ "machine": machine.name, "key": key, "offset": offset, "data": data });
            sim.tell("guest-write", body).await;
        };
        let keys: Vec<_> = disks.as_array().unwrap().iter().map(|d| d["key"].clone()).collect();
        assert_eq!(keys.len(), 2);
        write(&keys[0], 0, "Zmlyc3Q=").await;
        write(&keys[0], 1_000_000, &"QUJD".repeat(60_000)).await;
        write(&keys[0], (4 << 20) - 4, "bGFzdA==").await;
        // The same size, other bytes: the two must not be taken for each other.
        write(&keys[1], 70_000, "b3RoZXI=").await;
        let snapshot = snapshot(&vim, &machine).await;
        let devices = vim.snapshot_devices(&snapshot).await.unwrap();
        for (disk, key) in devices.disks.iter().zip(&keys) {
            write(key, 300_000, "bGF0ZXI=").await;
            let flat = disk.backing.file.as_ref().unwrap();
            let flat = sim.datastores[flat.datastore()].join(flat.path().replace(".vmdk", "-flat.vmdk"));
            let frozen = std::fs::read(flat).unwrap();
            assert!(frozen.iter().any(|b| *b != 0) && !frozen.windows(5).any(|w| w == b"later"));

            let scratch = tempfile::tempdir().unwrap();
            let capacity = disk.capacity;
            let fetched = by_lease(&vim, &snapshot, disk.key, capacity, scratch.path(), LONG).await.unwrap();
            assert!(whole(&fetched).await == frozen, "{mode:?}, {:?}", disk.label);
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "the file has no name");
        }
        let scratch = tempfile::tempdir().unwrap();
        let wrong = async |disk, capacity| {
            by_lease(&vim, &snapshot, disk, capacity, scratch.path(), LONG).await.unwrap_err().kind()
        };
        assert_eq!(wrong(9, 4 << 20).await, ErrorKind::NotFound);
        assert_eq!(wrong(devices.disks[0].key, 8 << 20).await, ErrorKind::Conflict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_stream_that_is_cut_or_spoiled_is_an_error_and_the_lease_does_not_stay() {
    for mode in BOTH {
        let Some(sim) = Sim::start(mode) else { return };
        let vim = connect(&sim).await;
        let machine = first(&vim).await;
        sim.tell(
            "guest-write",
            json!({ "machine": machine.name, "key": 0, "offset": 9, "data": "QUJD".repeat(9_000) }),
        )
        .await;
        let snapshot = snapshot(&vim, &machine).await;
        let disk = vim.snapshot_devices(&snapshot).await.unwrap().disks.remove(0);
        let scratch = tempfile::tempdir().unwrap();
        let fetch = || by_lease(&vim, &snapshot, disk.key, disk.capacity, scratch.path(), LONG);
        for (fault, wanted) in [
            (json!({ "kind": "reset" }), ErrorKind::Unavailable),
            (json!({ "kind": "truncate", "bytes": 70_000 }), ErrorKind::Corrupt),
            (json!({ "kind": "status", "status": 503 }), ErrorKind::Unavailable),
            (json!({ "kind": "body", "status": 200, "body": "<html>" }), ErrorKind::Corrupt),
        ] {
            let mut rule = fault.clone();
            rule["path"] = json!("/nfc");
            rule["count"] = json!(1);
            sim.tell("http-fault", rule).await;
            let error = fetch().await.unwrap_err();
            assert_eq!(error.kind(), wanted, "{fault}: {error}");
        }
        // What was wrong has left nothing that would be in the way.
        let fetched = fetch().await.unwrap();
        assert_eq!(&whole(&fetched).await[9..12], b"ABC");
        vim.remove_snapshot(&snapshot).await.unwrap().wait(LONG).await.unwrap();
        assert!(fetch().await.is_err());
        assert_eq!(&whole(&fetched).await[9..12], b"ABC", "what was fetched stays");
    }
}
