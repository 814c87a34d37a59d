//! The story of a server.

use crate::hall::*;
use crate::hardware::{Hardware, image};
use site_recovery::state::Direction;
use site_recovery::*;
use site_recovery_examples::live::{Guest, copy_out, inspect};
use site_recovery_guest::{Inspected, peers};
use std::fs;
use std::path::Path;
use std::process::Command;
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
const DISK_BYTES: u64 = 161 << 20;

/// Whether the server's image is here, too.
fn is_here(what: &str) -> bool {
    if !peers(what, &PROGRAMS) {
        return false;
    }
    if image("server.raw").is_file() {
        return true;
    }
    println!("SKIPPED {what}: the server's image (tests/run --setup) is absent");
    assert!(
        std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"),
        "the server's image is required"
    );
    false
}

fn guest(hardware: &Hardware) -> Guest {
    Guest::of(hardware.console().path().to_owned())
}

async fn says(guest: &Guest, wanted: &str) {
    let found = |lines: &[String]| lines.iter().find(|line| line.starts_with(wanted)).cloned();
    guest.wait_for(wanted, found).await.unwrap_or_else(|e| panic!("{e}\n{}", told(guest)));
}

/// Its console, without what the writer says.
fn told(guest: &Guest) -> String {
    let mut lines = guest.lines();
    lines.retain(|line| !line.starts_with("ACK "));
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_d4_d5_a_server_above_dm_era_is_protected_drilled_fails_over_and_comes_back_to_its_bare_disk() {
    if !is_here("a physical server above dm-era") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let hall = Hall::new(dir.path()).await;
    let _machines = Recovered(dir.path());
    let story = Story { dir: dir.path(), hall: &hall, began: SystemClock.now() };
    let a = story.installed().await;
    let keeper = hall.keeper();
    let vault = hall.vault(&keeper).await;
    let web = story.protected(&vault, &a).await;
    story.three_deltas(&vault, &web, &a).await;
    story.drill(&web, &a).await;
    let b = story.fails_over(&web, &a).await;
    story.comes_back(&vault, &web, &b).await;
    drop(vault);
    hall.stop().await;
}

struct Story<'a> {
    dir: &'a Path,
    hall: &'a Hall,
    began: Timestamp,
}

impl Story<'_> {
    fn tell(&self, what: &str) {
        println!("{:4.0} s: {what}", SystemClock.now().since(self.began).as_secs_f64());
    }

    async fn installed(&self) -> Guest {
        self.hall.install(false).await;
        self.hall.hardware.switch_on();
        let a = guest(&self.hall.hardware);
        for said in ["BELOW era", "INSTALLED", "AGENT SERVES"] {
            says(&a, said).await;
        }
        a.writes(20).await.unwrap();
        self.tell("the server runs above its stack, and its agent has joined");
        a
    }

    async fn protected(&self, vault: &Vault, a: &Guest) -> ItemHandle {
        let site = [("serial", "B-web"), ("console", "on")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let settings = Settings { site: site.into(), ..Settings::default() };
        let policy = Policy::every(Duration::from_secs(3600));
        let request = ProtectRequest::machine(SERVER).policy(policy).settings(settings);
        let web = vault.protect(request).await.unwrap();
        web.until_done().await.unwrap_or_else(|e| panic!("{e:?}\n{}", told(a)));
        self.tell("protected");
        web
    }

    async fn three_deltas(&self, vault: &Vault, web: &ItemHandle, a: &Guest) {
        let mut before = self.hall.scanned().await;
        for delta in 1..=3 {
            a.writes(30).await.unwrap();
            let acknowledged = a.acknowledged();
            vault.take_point(web.id(), Consistency::FileSystem).await.unwrap();
            let scanned = self.hall.scanned().await;
            let read = scanned - before;
            before = scanned;
            let point = web.points().await.unwrap().pop().unwrap();
            self.tell(&format!("delta {delta}: {read} of {DISK_BYTES} bytes were read"));
            assert_eq!(point.consistency, Consistency::FileSystem);
            assert!(
                read > 0 && read < DISK_BYTES / 8,
                "{read} bytes were read for delta {delta}\n{}",
                told(a)
            );
            let found = self.opened(web, point.id).await;
            assert!(!found.needs_recovery, "it was frozen, above the device that was suspended");
            assert!(found.records.len() as u64 >= acknowledged, "{} of {acknowledged}", found.records.len());
        }
    }

    async fn drill(&self, web: &ItemHandle, a: &Guest) {
        let before = a.acknowledged();
        web.test_failover(DrillRequest::default()).await.unwrap().done().await.unwrap();
        let drill = web.item().unwrap().drill.unwrap().armed.unwrap();
        let there = self.recovered(&drill.instance);
        assert!(there.resumed().await.unwrap() > 0);
        there.writes(10).await.unwrap();
        web.clean_up_test().await.unwrap().done().await.unwrap();
        a.writes(10).await.unwrap();
        assert_eq!(self.hall.hardware.starts(), 1);
        assert!(a.acknowledged() > before);
        self.tell("drilled, and the server wrote on meanwhile");
    }

    async fn fails_over(&self, web: &ItemHandle, a: &Guest) -> Guest {
        let sealed =
            self.opened(web, web.points().await.unwrap().pop().unwrap().id).await.records.len() as u64;
        let force = Force { operator: "jane".into(), reason: "the hall burns".into() };
        let request = FailoverRequest::unplanned(Direction::PrimaryToRecovery, force);
        let request = FailoverRequest { grace: Duration::ZERO, ..request };
        web.failover(request).await.unwrap().done().await.unwrap();
        assert!(!self.hall.hardware.is_on(), "it is fenced");
        let last = a.acknowledged();
        let b = self.recovered(web.item().unwrap().active());
        let resumed = b.resumed().await.unwrap();
        assert!((sealed..=last + 1).contains(&resumed), "{resumed} of {sealed} to {last}");
        b.writes(30).await.unwrap();
        web.commit(Default::default()).await.unwrap().done().await.unwrap();
        self.tell(&format!(
            "failed over: {resumed} of {last} records are there, {sealed} were in the newest point"
        ));
        b
    }

    async fn comes_back(&self, vault: &Vault, web: &ItemHandle, b: &Guest) {
        let hardware = &self.hall.hardware;
        self.hall.install(true).await;
        hardware.switch_on();
        says(&guest(hardware), "RESCUE SERVES").await;
        self.tell("its rescue system runs");
        let request = ReprotectRequest {
            other_side_loses: true,
            settings: Some(Settings::default()),
            ..ReprotectRequest::default()
        };
        web.reprotect(request).await.unwrap().done().await.unwrap();
        self.tell("reprotected");
        b.writes(30).await.unwrap();
        vault.replicate_now(web.id()).await.unwrap();
        let request = FailoverRequest::planned(Direction::RecoveryToPrimary);
        web.failover(request).await.unwrap().done().await.unwrap();
        let last = b.acknowledged();
        let a = guest(hardware);
        says(&a, "AGENT SERVES").await;
        let resumed = a.resumed().await.unwrap();
        assert!(resumed >= last, "{resumed} of {last}");
        a.writes(20).await.unwrap();
        web.commit(Default::default()).await.unwrap().done().await.unwrap();
        self.tell("failed back, to its own disk");
        assert_eq!(hardware.starts(), 3, "its disk, its rescue system, its disk");
        let acknowledged = a.acknowledged();
        hardware.cut();
        let found = inspect(&hardware.disk()).await.unwrap();
        assert!(found.records.len() as u64 >= acknowledged);
        let mut sites: Vec<char> = found.records.iter().map(|r| r.site).collect();
        sites.dedup();
        assert_eq!(sites, ['A', 'B', 'A'], "one log, without a gap");
        self.tell("done");
    }

    fn recovered(&self, instance: &Instance) -> Guest {
        Guest::of(self.dir.join(CLOUD).join(&instance.name).join("console.log"))
    }

    async fn opened(&self, web: &ItemHandle, point: PointId) -> Inspected {
        let disks = self.hall.points.open(web.id(), point).await.unwrap();
        let copy = self.dir.join("point.raw");
        copy_out(disks.values().next().unwrap(), &copy).await.unwrap();
        inspect(&copy).await.unwrap()
    }
}

/// What runs at the recovery site; ended with the test.
struct Recovered<'a>(&'a Path);

impl Drop for Recovered<'_> {
    fn drop(&mut self) {
        let run = self.0.join(CLOUD).join(".site-recovery/run");
        for place in fs::read_dir(&run).into_iter().flatten().flatten() {
            for file in ["pid", "s-pid"].map(|name| place.path().join(name)) {
                let pid = fs::read_to_string(&file).unwrap_or_default();
                let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
                if String::from_utf8_lossy(&line).contains(&*file.to_string_lossy()) {
                    let _gone_already = Command::new("kill").args(["-9", pid.trim()]).status();
                }
            }
        }
    }
}
