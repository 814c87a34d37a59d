//! Handles of landing disks that are given out in the very moment in which a branch is made or merged: what is written by
//! them goes above the branch, or nowhere.

use crate::landed::Landed;
use crate::support::*;
use bytes::Bytes;
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::suite::pattern;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROUNDS: u64 = 12;
const WRITTEN: usize = 4096;

/// What an image holds, whatever stands above it.
fn bytes(image: &Path) -> Vec<u8> {
    let to = image.with_file_name("raw");
    run("qemu-img", &["convert", "-U", "-f", "qcow2", "-O", "raw", text_of(image), text_of(&to)]);
    let found = fs::read(&to).unwrap();
    fs::remove_file(to).unwrap();
    found
}

/// Whether it says that it wrote.
async fn writes(disk: &Arc<dyn DiskMut>, seed: u64) -> bool {
    disk.write(0, Bytes::from(pattern(seed, WRITTEN))).await.is_ok() && disk.flush().await.is_ok()
}

fn own(landed: &Landed) -> PathBuf {
    landed.world.path("web/fenced/root.qcow2")
}

#[test]
fn lnd1_a_handle_from_the_moment_of_a_branch_never_writes_below_it() {
    on_qemu(async {
        let landed = Landed::attached().await;
        let (site, instance) = (&landed.world.site, &landed.instance);
        let (mut given, mut wrote) = (0, 0);
        for round in 1..=ROUNDS {
            landed.again(&format!("attach {round}")).await;
            // In every other round a daemon stands already.
            if round % 2 == 0 {
                landed.disk(0).await.unwrap();
            }
            let before = bytes(&own(&landed));
            let key = op(&format!("branch {round}"));
            let (disk, branched) = tokio::join!(landed.disk(0), site.branch(&key, instance));
            branched.unwrap();
            if let Ok(disk) = disk {
                given += 1;
                let says = writes(&disk, round).await;
                wrote += u32::from(says);
                let above = bytes(&landed.world.image("web", 0));
                assert!(!says || above[..WRITTEN] == pattern(round, WRITTEN), "round {round}: it is lost");
            }
            assert!(bytes(&own(&landed)) == before, "round {round}: it was written below the branch");
            landed.merge(&format!("merge {round}")).await.unwrap();
        }
        println!("{given} of {ROUNDS} handles were given, {wrote} wrote above");
        assert!(given > 0, "none was ever given");
    });
}

#[test]
fn lnd1_a_daemon_from_before_the_branch_is_not_written_through() {
    on_qemu(async {
        let landed = Landed::attached().await;
        let old = landed.disk(0).await.unwrap();
        let before = bytes(&own(&landed));
        // A branch is noted while the daemon stands on the images from before it.
        for disk in ["root", "data"] {
            let own = landed.world.path(format!("web/fenced/{disk}.qcow2"));
            let above = format!("{}.branch", own.display());
            run(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-F",
                    "qcow2",
                    "-u",
                    "-b",
                    text_of(&own),
                    &above,
                    &if disk == "root" { ROOT } else { DATA }.to_string(),
                ],
            );
        }
        let path = landed.world.path("web/.site-recovery/landing.json");
        let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        text["branch"] = json!({ "generation": 1, "armed": null });
        fs::write(path, text.to_string()).unwrap();

        let new = landed.disk(0).await.unwrap();
        assert!(writes(&new, 7).await);
        assert!(!writes(&old, 8).await, "a handle from before the branch still writes");
        assert!(bytes(&landed.world.image("web", 0))[..WRITTEN] == pattern(7, WRITTEN), "it is lost");
        assert!(bytes(&own(&landed)) == before, "it was written below the branch");
    });
}
