//! What an agent takes of a server's memory, with a disk of 4 TiB.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{GROUND, Ground, Looped, peers};
use site_recovery::*;
use site_recovery_physical::agent::{Agent, Settings};
use site_recovery_testkit::suite::op;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// The watcher ends with what it watches, also where that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// MiB of memory of this process that is no file's.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_sparse_disk_of_4_tib_is_tracked_in_little_memory() {
    if !peers("a disk of 4 TiB", &GROUND) {
        return;
    }
    let ground = Ground::new();
    let disk = ground.disk("web", "root", 4 * TIB);
    for at in [0, TIB, 2 * TIB + 5 * MIB, 4 * TIB - MIB] {
        disk.write(at, &vec![5; MIB as usize]);
    }
    let server = Looped::new("web", &[("wwn-1", Arc::clone(&disk))]);
    let mut settings = Settings::new("hall".into(), "web");
    settings.state = ground.state("web");
    settings.board = ground.state("no-board");
    let (ends, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                most.fetch_max(memory(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _watched = Ends(&ends);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let read = runtime.block_on(async {
            let agent = Agent::open(settings, Arc::clone(&server) as _, Arc::new(SystemClock)).unwrap();
            let mut machine = agent.discover().await.unwrap().remove(0);
            machine.instance.machine = "m-web".into();
            agent.enrol(&op("enrol"), &machine).await.unwrap();
            let of = [agent.discover().await.unwrap().remove(0).instance];
            let mut since = None;
            for round in 0..3_u64 {
                disk.write(3 * TIB + round * MIB, &[7; 4096]);
                let key = format!("capture-{round}");
                let capture = agent.capture(&op(&key), &of, Consistency::Crash).await.unwrap();
                if let Some(since) = &since {
                    let changes = agent.changes(&capture, &of[0].machine, since).await.unwrap();
                    let Changes::Known(told) = changes else { panic!("{changes:?}") };
                    let block = Run::new(3 * TIB + round * MIB, 65536);
                    assert_eq!(told.runs(&machine.disks[0].id), [block]);
                }
                since = capture.members[0].cursor.clone();
                let release = format!("release-{round}");
                agent.release(&op(&release), &capture, &of[0].machine, Fate::Sealed).await.unwrap();
            }
            let rest = memory();
            println!("at rest {rest} MiB of memory, at most {} MiB", most.load(Ordering::Relaxed));
            assert!(rest <= 64, "{rest} MiB at rest");
            agent.scanned()
        });
        assert!(read <= 64 * MIB, "{read} bytes were read of 4 MiB of data");
    });
    let most = most.into_inner();
    assert!(most <= 256, "{most} MiB while it scanned");
}
