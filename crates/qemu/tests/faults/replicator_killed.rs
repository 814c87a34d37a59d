//! The process that captures is killed, at any moment of many captures in a row.
//!
//! The process is this test's own program, run once more with the case [`the_replicator`] alone.

use crate::protected::*;
use crate::support::*;
use serde_json::Value;
use site_recovery::*;
use site_recovery_testkit::clock::SeededRandom;
use site_recovery_testkit::suite::pattern;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set for the process that is killed: the directory of the world, and where it puts what it sealed.
const WORLD: &str = "SITE_RECOVERY_KILLED_WORLD";
const ROUNDS: u64 = 30;
const AT_MOST: Duration = Duration::from_secs(18);
const PAUSE: Duration = Duration::from_millis(500);

/// Captures, reads and releases for ever, as a replicator does; the last point that it sealed is in `sealed.json`.
#[test]
#[ignore = "is run by others, to be killed"]
fn the_replicator() {
    let Ok(dir) = std::env::var(WORLD) else { return };
    let (dir, round) = dir.rsplit_once(',').unwrap();
    on_qemu(async {
        let dir = Path::new(dir);
        let site = builder(&dir.join("site")).pause_limit(PAUSE).open().await.unwrap();
        let instance = site.discover().await.unwrap().remove(0).instance;
        println!("ready");
        std::io::stdout().flush().unwrap();
        for number in 0.. {
            let op = op(&format!("round {round}, capture {number}"));
            let capture =
                site.capture(&op, std::slice::from_ref(&instance), Consistency::Crash).await.unwrap();
            let disks = site.disks(&op, &capture, &instance.machine).await.unwrap();
            let member = capture.member(&instance.machine).unwrap();
            let fate = [Fate::Sealed, Fate::Spooled, Fate::Abandoned][number % 3];
            for (n, spec) in member.machine.included().enumerate() {
                let bytes = whole(&disks[&spec.id]).await.unwrap();
                fs::write(dir.join(format!("sealed-{number}-{n}")), bytes).unwrap();
            }
            if fate == Fate::Sealed {
                let text = serde_json::to_vec(&(number, member.cursor.clone().unwrap())).unwrap();
                fs::write(dir.join("sealed.new"), text).unwrap();
                fs::rename(dir.join("sealed.new"), dir.join("sealed.json")).unwrap();
            }
            drop(disks);
            site.release(&op, &capture, &instance.machine, fate).await.unwrap();
        }
    });
}

/// The process; dropped, it is killed.
struct Replicator(Child);

impl Replicator {
    fn start(dir: &Path, round: u64) -> Self {
        let _first_of_its_round = fs::remove_file(dir.join("sealed.json"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["replicator_killed::the_replicator", "--exact", "--ignored", "--nocapture"])
            .env(WORLD, format!("{},{round}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let ready = said.lines().map_while(std::result::Result::ok).any(|line| line.contains("ready"));
        assert!(ready, "the replicator did not start");
        Self(child)
    }

    fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the replicator failed before it was killed");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        let _over_already = self.0.kill();
        let _over = self.0.wait();
    }
}

/// What it had sealed last, where it sealed anything.
fn sealed(dir: &Path) -> Option<Sealed> {
    let text = fs::read(dir.join("sealed.json")).ok()?;
    let (number, cursor): (u64, Cursor) = serde_json::from_slice(&text).unwrap();
    let image = (0..2).map(|n| fs::read(dir.join(format!("sealed-{number}-{n}"))).unwrap()).collect();
    Some(Sealed { cursor, image })
}

/// What a capture that was broken off has left: nothing, nodes alone, or exports.
fn left(world: &World) -> &'static str {
    let mut monitor = world.monitor("web").unwrap();
    let exports = monitor.call("query-block-exports", Value::Null).unwrap();
    let nodes = monitor.call("query-named-block-nodes", serde_json::json!({ "flat": true })).unwrap();
    let ours = nodes.as_array().unwrap().iter().any(|n| n["node-name"].as_str().unwrap().starts_with("dr-"));
    match (exports.as_array().unwrap().is_empty(), ours) {
        (true, false) => "nothing",
        (true, true) => "nodes",
        (false, _) => "exports",
    }
}

#[test]
fn o1_a_replicator_killed_at_any_moment_leaves_a_guest_that_runs_and_a_delta_that_is_right() {
    on_qemu(async {
        let seed = std::env::var("SITE_RECOVERY_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("SITE_RECOVERY_SEED={seed}");
        let random = SeededRandom::new(seed);
        let mut protected = Protected::running_in(World::told(|b, _| b.pause_limit(PAUSE)).await).await;
        let (begun, mut after) = (now(), std::collections::BTreeMap::<&str, u32>::new());
        let mut rounds = 0;
        let inside = |after: &std::collections::BTreeMap<&str, u32>| after.keys().any(|k| *k != "nothing");
        while rounds < ROUNDS && (begun.elapsed() < AT_MOST || !inside(&after)) {
            rounds += 1;
            let world = &protected.world;
            let base = protected.seal(&format!("base {rounds}")).await;
            let replicator = Replicator::start(world.dir.path(), rounds);
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for at in 0.. {
                        if over.load(Ordering::SeqCst) {
                            break;
                        }
                        let disk = at % 2;
                        world.put(
                            "web",
                            disk,
                            (at as u64 * 7 % 64) * 4096,
                            &pattern(rounds * 1000 + at as u64, 4096),
                        );
                    }
                });
                std::thread::sleep(Duration::from_millis(random.below(300)));
                replicator.kill();
                over.store(true, Ordering::SeqCst);
            });
            let killed = now();
            until("the guest executes", || world.is_on("web"));
            let paused = killed.elapsed();
            assert!(paused < PAUSE + Duration::from_secs(5), "the guest stood still for {paused:?}");
            *after.entry(left(world)).or_default() += 1;

            let since = sealed(world.dir.path()).unwrap_or(base);
            protected = protected.reopened().await;
            protected.site().sweep(&op(&format!("sweep {rounds}")), &protected.instance, &[]).await.unwrap();
            protected.is_as_before();
            let delta = protected.seal_delta(&format!("delta {rounds}"), &since).await;
            delta.expect("QEMU lives, so nothing of its tracking is lost");
        }
        println!("killed {rounds} times; left: {after:?}");
        assert!(inside(&after), "it was never killed inside a capture");
    });
}
