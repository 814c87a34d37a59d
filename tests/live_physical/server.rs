//! The story of a server.

use crate::hall::*;
use crate::hardware::{Hardware, image};
use site_recovery::state::{Direction, DrillState};
use site_recovery::*;
use site_recovery_examples::live::{Guest, Machines, copy_out, inspect};
use site_recovery_guest::peers;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const PROGRAMS: [&str; 9] = [
    "qemu-system-x86_64",
    "qemu-img",
    "qemu-storage-daemon",
    "e2fsck",
    "debugfs",
    "dmsetup",
    "era_invalidate",
    "strip",
    "tar",
];
const DISK_BYTES: u64 = 320 << 20;

/// Whether the server's image is here, too.
fn is_here(what: &str) -> bool {
    if !peers(what, &PROGRAMS) {
        return false;
    }
    if image("server.raw").is_file() {
        return true;
    }
    println!("SKIPPED {what}: the server's image (tests/run --setup) is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "the server's image is required");
    false
}

fn guest(hardware: &Hardware) -> Guest {
    Guest::of(hardware.console().path().to_owned())
}

async fn says(guest: &Guest, wanted: &str) {
    let found = |lines: &[String]| lines.iter().find(|line| line.starts_with(wanted)).cloned();
    guest.wait_for(wanted, found).await.unwrap_or_else(|e| panic!("{e}\n{}", guest.lines().join("\n")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_above_dm_era_is_protected_and_recovered() {
    if !is_here("a physical server above dm-era") {
        return;
    }
    let began = SystemClock.now();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let hall = Hall::new(dir).await;
    hall.install(false).await;
    hall.hardware.switch_on();
    let a = guest(&hall.hardware);
    says(&a, "BELOW era").await;
    says(&a, "INSTALLED").await;
    says(&a, "AGENT SERVES").await;
    a.writes(20).await.unwrap();
    println!("{:.0} s: it runs, and its agent joined", seconds(began));
    let _ = Arc::clone(&hall.hardware);
    let keeper = hall.keeper();
    let vault = hall.vault(&keeper, nowhere(dir).await).await;
    let policy = Policy::every(Duration::from_secs(3600));
    let settings = Settings {
        site: [("serial", "B-web"), ("console", "on")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Settings::default()
    };
    let web = vault.protect(ProtectRequest::machine(SERVER).policy(policy).settings(settings)).await.unwrap();
    web.until_done().await.unwrap_or_else(|e| panic!("{e:?}\n{}", a.lines().join("\n")));
    println!("{:.0} s: protected", seconds(began));
    let mut scanned = hall.scanned().await;
    for round in 1..=3 {
        a.writes(30).await.unwrap();
        let acknowledged = a.acknowledged();
        vault.take_point(web.id(), Consistency::FileSystem).await.unwrap();
        let now = hall.scanned().await;
        let read = now - scanned;
        scanned = now;
        let point = web.points().await.unwrap().pop().unwrap();
        println!("{:.0} s: delta {round}, {read} bytes read, {:?}", seconds(began), point.consistency);
        assert_eq!(point.consistency, Consistency::FileSystem, "delta {round}");
        assert!(read > 0 && read < DISK_BYTES / 8, "{read} bytes of {DISK_BYTES} were read for delta {round}");
        let found = opened(&hall, &web, point.id, dir).await;
        assert!(!found.needs_recovery, "it was frozen");
        assert!(found.records.len() as u64 >= acknowledged, "{} of {acknowledged}", found.records.len());
    }
    drop(vault);
    hall.stop().await;
    let _ = (Direction::PrimaryToRecovery, DrillState::WaitingForCompletion);
}

async fn opened(hall: &Hall, web: &ItemHandle, point: PointId, dir: &Path) -> site_recovery_guest::Inspected {
    let disks = hall.points.open(web.id(), point).await.unwrap();
    let copy = dir.join("point.raw");
    copy_out(disks.values().next().unwrap(), &copy).await.unwrap();
    inspect(&copy).await.unwrap()
}

fn seconds(since: Timestamp) -> f64 {
    SystemClock.now().since(since).as_secs_f64()
}

const _: Option<Machines> = None;
