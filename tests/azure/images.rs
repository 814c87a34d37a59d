//! What Azure is given to import, by the eyes of QEMU: a fixed VHD that holds the machine's disk.

use crate::circle::fail_over;
use crate::cloud::{ACCOUNT, CONTAINER};
use crate::ground::{BACK, Ground, OUT};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `qemu-img` says, which ends well.
fn qemu_img(args: &[&str]) -> String {
    let out = Command::new("qemu-img").args(args).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "qemu-img {args:?}: {said}");
    said
}

/// A VHD of whole mebibytes with these bytes in it, and zeros behind.
fn is_a_vhd_of(vhd: &Path, bytes: &[u8], dir: &Path) {
    let (vhd, raw) = (vhd.to_str().unwrap(), dir.join("raw"));
    let told: serde_json::Value =
        serde_json::from_str(&qemu_img(&["info", "-f", "vpc", "--output", "json", vhd])).unwrap();
    let size = told["virtual-size"].as_u64().unwrap();
    assert_eq!(size, (bytes.len() as u64).next_multiple_of(1 << 20), "{told}");
    fs::write(&raw, bytes).unwrap();
    // Equal up to zeros at the end.
    qemu_img(&["compare", "-f", "vpc", "-F", "raw", vhd, raw.to_str().unwrap()]);
    let out = dir.join("converted");
    qemu_img(&["convert", "-f", "vpc", "-O", "raw", vhd, out.to_str().unwrap()]);
    let mut converted = fs::read(out).unwrap();
    let behind = converted.split_off(bytes.len());
    assert!(converted == bytes && behind.iter().all(|byte| *byte == 0), "{vhd}: other bytes");
}

#[test]
fn d9_qemu_reads_the_same_disks_from_the_replica_and_from_what_was_imported() {
    if !site_recovery_guest::peers("images of Azure by qemu-img", &["qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    Ground::new().live(async |life| {
        life.protect().await.unwrap();
        fail_over(life, OUT).await.unwrap();
        let (here, item) = (life.bytes(OUT).await, life.web().unwrap().item().unwrap());
        let blobs = life.cloud.blobs.blobs(ACCOUNT, CONTAINER);
        let imported = life.cloud.disks_of(&life.in_the_cloud().unwrap());
        for (n, disk) in item.machine.disks.iter().enumerate() {
            let is_its =
                |name: &&String| name.contains(&format!("/disk/{}-", disk.id)) && name.ends_with(".vhd");
            let replica = blobs.iter().find(is_its).expect("a page blob");
            let replica = life.cloud.blobs.blob(ACCOUNT, CONTAINER, replica).unwrap().image.unwrap();
            let managed = life.cloud.manager.disk(&imported[n]).unwrap().with_footer();
            for (image, what) in [(replica, "replica"), (managed, "managed")] {
                let vhd = dir.path().join(format!("{what}-{n}.vhd"));
                image.to_file(&vhd).unwrap();
                is_a_vhd_of(&vhd, &here[n], dir.path());
            }
        }
        assert!(life.bytes(BACK).await == here, "the sides differ");
    });
}
