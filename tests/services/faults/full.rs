//! Where the room ends.

use super::through;
use crate::scene::MIB;
use site_recovery::*;
use site_recovery_transport::Pulse;
use std::path::{Path, PathBuf};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_a_spool_volume_that_is_full_holds_up_no_cycle_and_one_that_is_lost_costs_what_it_had() {
    through("spool-full", async |scene, vault, web| {
        // A volume of its own for the spool.
        let disk = scene.store.disk("spool", 32 * MIB);
        disk.format();
        let volume = disk.mount(&scene.processing, "spool");
        scene.process_server_runs.take().unwrap().kill();
        scene.process_server.set("ps-1-spool", "ps-spool");
        scene.process_server.set("spool_bytes = 1073741824\n", "");
        scene.process_server_runs = Some(scene.process_server.start(&scene.processing));
        vault.replicate_now(web.id()).await.unwrap();
        let ps = scene.vaulted.process_server(&scene.processing, "ps-1").await;
        assert_eq!(found(&ps).await, None);

        // Full of what is somebody else's: told, and no matter while the store is there.
        let ballast = ["64k", "1k"].map(|piece| {
            let file = volume.at().join(piece).to_str().unwrap().to_owned();
            let piece = format!("bs={piece}");
            let dd = ["if=/dev/zero", &format!("of={file}"), &piece, "oflag=dsync", "status=none"];
            let filled = scene.processing.try_run("dd", &dd);
            assert!(filled.unwrap_err().contains("No space left"));
            file
        });
        assert_eq!(found(&ps).await, Some(Severity::Critical));
        vault.replicate_now(web.id()).await.unwrap();

        // Room again.
        scene.processing.run("rm", &ballast);
        vault.replicate_now(web.id()).await.unwrap();
        assert_eq!(found(&ps).await, None);

        // But less than what changes while the store is away.
        let room = rustix::fs::statvfs(volume.outside()).unwrap();
        let taken = (room.f_bavail * room.f_frsize - 6 * MIB).to_string();
        scene.processing.run("fallocate", &["-l", &taken, &ballast[0]]);
        scene.write_bulk("data", 10);
        scene.vaulted.serve_no_more().await;
        let error = vault.replicate_now(web.id()).await.expect_err("there is room for it nowhere");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let why = error.fact("not_spooled").unwrap_or_default();
        assert!(why.contains("No space left"), "{why:?} of {error:?}");
        assert_eq!(captures(&volume.outside()), Vec::<PathBuf>::new());

        // With room it is spooled; and lost with the host. The next point has it all, by a delta.
        scene.processing.run("rm", &ballast[..1]);
        let error = vault.replicate_now(web.id()).await.expect_err("the store is away");
        assert!(error.message().contains("is in the spool"), "{error}");
        let kept = captures(&volume.outside());
        let bytes: u64 = kept.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
        assert!(bytes > 10 * MIB, "{bytes} bytes in {kept:?}");
        scene.process_server_runs.take().unwrap().kill();
        scene.processing.run("find", &[volume.at().to_str().unwrap(), "-mindepth", "1", "-delete"]);
        scene.vaulted.serve_again().await;
        scene.process_server_runs = Some(scene.process_server.start(&scene.processing));
    })
    .await;
}

/// How the process server finds its spool.
async fn found(ps: &dyn Pulse) -> Option<Severity> {
    let signs = ps.heard().await.unwrap().signs;
    signs
        .findings
        .iter()
        .find(|finding| finding.code == "process_server.spool")
        .map(|finding| finding.severity)
}

/// Captures in a spool, and what was to become one.
fn captures(below: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut all: Vec<PathBuf> = dirs.iter().flat_map(|dir| captures(dir)).collect();
    all.extend(files.into_iter().filter(|path| path.extension().is_some_and(|end| end != "json")));
    all
}
