//! A guest outlives what goes wrong around it: a replicator that is killed in the middle of a quiesced capture, hooks that
//! fail and hang, and the end of the server that a recovered guest reads from.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod live;

use live::other::{Other, role, say};
use live::*;
use serde_json::{Value, json};
use site_recovery::state::Direction;
use site_recovery::{
    Clock, Consistency, Cutover, FailoverRequest, Force, OnUnfenced, Shutdown, SystemClock, Vault,
};
use site_recovery_examples::live::{Emulator, Guest, GuestOptions, LiveStage, Machines, inspect, tool};
use site_recovery_guest::peers;
use site_recovery_qmp::{Agent, Limits};
use std::path::Path;
use std::time::Duration;

const NAME: &str = "web";
/// The longest that the guest may stay frozen.
const FREEZE: Duration = Duration::from_secs(5);
/// How long a read waits for a point whose server is gone, and QEMU for anything.
const WAITS: Duration = Duration::from_secs(20);
/// Beside a limit: what a busy machine takes to get to anything.
const SLACK: Duration = Duration::from_secs(30);
/// How often the replicator is killed.
const KILLS: u64 = 7;

const REPLICATE: &str = "replicate";
const FAIL_OVER: &str = "fail-over";

/// The other process: replicates for ever, or fails over and then serves the point, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Some((role, dir)) = role() else { return };
    let (_stage, vault) = open(&dir).await;
    let web = vault.find(NAME).unwrap();
    if role == FAIL_OVER {
        let gone = OnUnfenced::Continue(Force::by("the test", "the host is gone"));
        let cutover = Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced: gone };
        let planned = FailoverRequest::planned(Direction::PrimaryToRecovery);
        web.failover(FailoverRequest { cutover, ..planned }).await.unwrap().done().await.unwrap();
        say("failed over");
        std::future::pending::<()>().await;
    }
    loop {
        vault.take_point(web.id(), Consistency::Application).await.unwrap();
        say("sealed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn o1_a_guest_outlives_what_fails_around_it() {
    if !peers("a guest whose replicator is killed", &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (stage, vault) = open(dir).await;
    let options = GuestOptions { words: "delay=20 hook".into(), second: true, ..GuestOptions::default() };
    let (a, b) = (stage.add_guest(NAME, &options).await.unwrap(), stage.guest("cloud", NAME));
    a.writes(10).await.unwrap();
    drop(protect(&vault, &stage, NAME).await);
    drop(vault);
    let machines = stage.leave();

    the_replicator_is_killed(dir, &machines, &a).await;
    hooks_fail_and_hang(dir, &machines, &a).await;
    machines.kill("here", NAME).await.unwrap();
    the_points_server_ends(dir, &machines, &b).await;
}

async fn open(dir: &Path) -> (LiveStage, Vault) {
    let emulator = Emulator::default();
    let stage = LiveStage::open_with(dir, &emulator, |_, site| {
        site.freeze_limit(FREEZE).patience(WAITS).hydrate_after(PATIENCE * 10)
    });
    let stage = stage.await.unwrap();
    let vault = stage.builder().await.unwrap().build().await.unwrap();
    (stage, vault)
}

/// Closes what was opened. The machines run on: who opened first ends them.
fn close((stage, vault): (LiveStage, Vault)) {
    drop(vault);
    std::mem::forget(stage.leave());
}

/// At random moments after a point and after the guest was asked to be quiet; once it only stops, and is killed then.
async fn the_replicator_is_killed(dir: &Path, machines: &Machines, a: &Guest) {
    let mut random = 0x005e_ed0f_dead_u64;
    for round in 0..KILLS {
        let mut other = Other::start(REPLICATE, dir);
        other.says("sealed").await;
        let (what, most) = if round % 2 == 0 { ("a freeze", 500) } else { ("a point", 4000) };
        if round % 2 == 0 {
            let froze = |lines: &[String]| lines.iter().find(|l| *l == "HOOK freeze").cloned();
            a.clone().from_here().wait_for("a freeze", froze).await.unwrap();
        }
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let later = Duration::from_millis((random >> 33) % most);
        SystemClock.sleep(later).await;
        println!("round {round}: killed {later:?} after {what}");
        if round == 2 {
            other.stop();
            goes_on(a).await;
        }
        drop(other);
        goes_on(a).await;

        // A new engine finds what the old one left.
        let (stage, vault) = open(dir).await;
        vault.watch_now().await.unwrap();
        nothing_is_left(machines);
        assert!(!agent(machines).frozen().unwrap(), "somebody left it frozen");
        goes_on(a).await;
        if round + 1 == KILLS {
            let points = vault.find(NAME).unwrap().points().await.unwrap();
            let quiesced = points.iter().filter(|p| p.consistency == Consistency::Application).count();
            println!("{quiesced} of {} points were quiesced", points.len());
            assert!(quiesced > 0);
        }
        close((stage, vault));
    }
}

/// The point is less than was asked for, health says why, and the guest writes all the while.
async fn hooks_fail_and_hang(dir: &Path, machines: &Machines, a: &Guest) {
    let (stage, vault) = open(dir).await;
    let web = vault.find(NAME).unwrap();
    // The agent does nothing else while a hook hangs, so that is the last.
    for how in ["fail", "hang"] {
        set_hook(&mut agent(machines), how);
        let (before, began) = (a.acknowledged(), SystemClock.now());
        vault.take_point(web.id(), Consistency::Application).await.unwrap();
        let took = SystemClock.now().since(began);
        println!("hook={how}: {} records within {took:?}", a.acknowledged() - before);
        assert_eq!(web.points().await.unwrap().pop().unwrap().consistency, Consistency::Crash, "{how}");
        let health = web.summary().unwrap().health;
        let told = health.findings.iter().find(|f| f.code == "quiesce").expect("health tells");
        assert!(told.cause.contains("the freeze failed"), "{how}: {}", told.cause);
        assert!(a.acknowledged() > before, "{how}: it stood still for {took:?}");
        goes_on(a).await;
        nothing_is_left(machines);
    }
    drop(web);
    close((stage, vault));
}

/// The guest is paused, never told of an error, and goes on when another process serves the point.
async fn the_points_server_ends(dir: &Path, machines: &Machines, b: &Guest) {
    let mut other = Other::start(FAIL_OVER, dir);
    other.says("failed over").await;
    let resumed = b.resumed().await.unwrap();
    assert!(resumed > 0);
    b.writes(5).await.unwrap();
    drop(other);
    let status = || machines.ask("cloud", NAME, "query-status", Value::Null).unwrap()["status"].clone();
    until("the guest is paused", || status() == "io-error").await;
    let stood = b.acknowledged();

    let (stage, vault) = open(dir).await;
    let began = SystemClock.now();
    while b.acknowledged() < stood + 20 {
        assert!(SystemClock.now().since(began) < PATIENCE, "it does not go on: {}", status());
        vault.watch_now().await.unwrap();
        SystemClock.sleep(Duration::from_millis(100)).await;
    }
    let lines = b.lines();
    let told = |l: &&String| ["I/O error", "EXT4-fs error", "CORRUPT"].iter().any(|e| l.contains(e));
    assert_eq!(lines.iter().find(told), None, "the guest was told of it");

    // It stands alone at last, with all that it has promised.
    vault.find(NAME).unwrap().commit(Default::default()).await.unwrap().done().await.unwrap();
    b.writes(5).await.unwrap();
    machines.kill("cloud", NAME).await.unwrap();
    close((stage, vault));
    let (acknowledged, copy) = (b.acknowledged(), dir.join("copy.raw"));
    let (image, convert) = (image(dir, "cloud", NAME, 0), ["convert", "-O", "raw"].map(str::as_ref));
    tool("qemu-img", convert.into_iter().chain([image.as_os_str(), copy.as_os_str()])).unwrap();
    let records = inspect(&copy).await.unwrap().records;
    assert!(records.len() as u64 >= acknowledged, "{} of {acknowledged}", records.len());
    assert_eq!(records[resumed as usize].site, 'B');
}

/// The guest writes, now or as soon as it may.
async fn goes_on(guest: &Guest) {
    let (from, began) = (guest.acknowledged(), SystemClock.now());
    while guest.acknowledged() < from + 2 {
        if SystemClock.now().since(began) > FREEZE + SLACK {
            let lines = guest.lines();
            panic!("it stands still after {:?}", &lines[lines.len().saturating_sub(6)..]);
        }
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
}

/// Neither filters nor exports of ours are in the machine, and its disks are in their places.
fn nothing_is_left(machines: &Machines) {
    let ask = |command, arguments| machines.ask("here", NAME, command, arguments).unwrap();
    let nodes = ask("query-named-block-nodes", json!({ "flat": true }));
    let names = nodes.as_array().unwrap().iter().filter_map(|n| n["node-name"].as_str());
    assert_eq!(names.filter(|n| n.starts_with("dr-")).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(ask("query-block-exports", Value::Null), json!([]));
    let drives = ask("query-block", Value::Null);
    let drives = drives.as_array().unwrap().iter().filter_map(|b| b["inserted"]["node-name"].as_str());
    assert_eq!(drives.collect::<Vec<_>>(), ["d0", "d1"]);
}

fn agent(machines: &Machines) -> Agent {
    let limits = Limits { greeting: PATIENCE, answer: PATIENCE, ..Limits::default() };
    Agent::connect(&machines.process("here", NAME).unwrap().1.join("agent"), limits).unwrap()
}

/// What the guest's hook does from now on.
fn set_hook(agent: &mut Agent, how: &str) {
    let text = match how {
        "fail" => "ZmFpbAo=",
        "hang" => "aGFuZwo=",
        _ => panic!("{how} has no text"),
    };
    let handle = agent.call("guest-file-open", json!({ "path": "/run/hook", "mode": "w" })).unwrap();
    agent.call("guest-file-write", json!({ "handle": handle, "buf-b64": text })).unwrap();
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
}
