//! Block devices of the appliance, found by what `/sys/block` says; here by folders that look like it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use site_recovery::ErrorKind;
use site_recovery_vmware::{AttachedDisk, BlockDevices, DeviceResolver};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

const UUID: &str = "6000c29e-1111-2222-3333-444455556666";

/// A disk as Linux shows it: its device is a link to its address at the controller.
fn plug(sys: &Path, name: &str, address: &str, wwid: Option<&str>) {
    let device = sys.join("devices").join(address);
    fs::create_dir_all(&device).unwrap();
    if let Some(wwid) = wwid {
        fs::write(device.join("wwid"), format!("{wwid}\n")).unwrap();
    }
    fs::create_dir_all(sys.join("block").join(name)).unwrap();
    symlink(&device, sys.join("block").join(name).join("device")).unwrap();
}

fn ground() -> (TempDir, BlockDevices) {
    let dir = tempfile::tempdir().unwrap();
    let devices = BlockDevices::below(dir.path().join("block"), "/dev");
    (dir, devices)
}

fn attached(unit: u32) -> AttachedDisk {
    let file = "[one] web/web.vmdk".parse().unwrap();
    AttachedDisk { uuid: UUID.into(), bus: 0, unit, file, size: 1 << 20 }
}

#[tokio::test]
async fn a_disk_is_found_by_its_identifier_however_it_is_written() {
    for wwid in [
        "naa.6000c29e111122223333444455556666",
        "naa.6000C29E111122223333444455556666",
        "eui.6000c29e111122223333444455556666",
    ] {
        let (dir, devices) = ground();
        plug(dir.path(), "sda", "2:0:0:0", None);
        plug(dir.path(), "sdb", "2:0:1:0", Some("naa.6000c29e111122223333444455557777"));
        plug(dir.path(), "sdc", "2:0:2:0", Some(wwid));
        let found = devices.resolve(&attached(2)).await.unwrap();
        assert_eq!(found.as_deref(), Some(Path::new("/dev/sdc")), "{wwid}");
    }
}

#[tokio::test]
async fn one_that_is_not_seen_yet_is_no_error() {
    let (dir, devices) = ground();
    plug(dir.path(), "sda", "2:0:0:0", Some("naa.6000c29e111122223333444455557777"));
    assert_eq!(devices.resolve(&attached(1)).await.unwrap(), None);
}

#[tokio::test]
async fn several_states_of_one_disk_are_told_apart_by_their_places_or_not_at_all() {
    let (dir, devices) = ground();
    let wwid = Some("naa.6000c29e111122223333444455556666");
    plug(dir.path(), "sdb", "2:0:1:0", wwid);
    plug(dir.path(), "sdc", "2:0:2:0", wwid);
    assert_eq!(devices.resolve(&attached(2)).await.unwrap().as_deref(), Some(Path::new("/dev/sdc")));
    plug(dir.path(), "sdd", "3:0:2:0", wwid);
    let error = devices.resolve(&attached(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("sdc") && error.message().contains("sdd"), "{error}");
}

#[tokio::test]
async fn d4_an_older_state_that_alone_is_seen_is_not_taken_for_the_disk() {
    let (dir, devices) = ground();
    let wwid = Some("naa.6000c29e111122223333444455556666");
    plug(dir.path(), "sdb", "2:0:1:0", wwid);
    assert_eq!(devices.resolve(&attached(2)).await.unwrap(), None);
    plug(dir.path(), "sdc", "2:0:2:0", wwid);
    assert_eq!(devices.resolve(&attached(2)).await.unwrap().as_deref(), Some(Path::new("/dev/sdc")));
}
