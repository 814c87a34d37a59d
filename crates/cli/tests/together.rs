//! Several commands at the same time, commands that are interrupted, and commands that die.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use support::{Daemon, Gate, Ground, ended, signal, soon};

/// A machine whose shutdown waits at a gate: before the pivot of a planned failover.
fn held_before_the_pivot() -> (Ground, Gate) {
    let ground = Ground::new();
    let gate = Gate::make(ground.path("here/web"), "stop");
    ground.machine_with("web", 1, &format!(r#"{{ "stop": {} }}"#, Gate::command("stop")));
    ground.run("protect web").with(0);
    (ground, gate)
}

/// A machine whose start waits at a gate: past the pivot of its failback.
fn held_past_the_pivot() -> (Ground, Gate) {
    let ground = Ground::new();
    let gate = Gate::make(ground.path("here/web"), "start");
    ground.machine_with("web", 1, &format!(r#"{{ "start": {} }}"#, Gate::command("start")));
    for words in ["protect web", "failover web", "commit web --yes", "reprotect web"] {
        ground.run(words).with(0);
    }
    (ground, gate)
}

/// Lines of standard error, as they come.
fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok)
}

fn out(mut child: Child) -> (i32, String) {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (child.wait().unwrap().code().unwrap_or(-1), text)
}

#[test]
fn whoever_works_does_what_others_ask_meanwhile() {
    let (ground, gate) = held_before_the_pivot();
    let over = ground.start("failover web");
    gate.reached();
    assert_eq!(ground.phase("web"), "PlannedFailoverInitiated");
    let listed = ground.run("list --json").with(0).json();
    assert_eq!(listed["items"][0]["job"], "PlannedFailover");
    // A second operation is told that it is too early, not that somebody has the lock.
    let refused = ground.run("drill web").with(3);
    assert!(refused.err.ends_with("allowed now: cancel\n"), "{}", refused.err);
    let socket = std::fs::metadata(ground.path("state/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(ground.path("state")).unwrap().permissions().mode() & 0o777, 0o700);
    gate.open();
    ended(over).with(0);
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
    assert!(!ground.path("state/control.sock").exists());
}

#[test]
fn an_operation_of_another_command_goes_on_when_its_holder_is_done() {
    let (ground, gate) = held_before_the_pivot();
    ground.machine("db", 1);
    let over = ground.start("failover web");
    gate.reached();
    // Done by the process of the failover, which is held all the time.
    ground.run("protect db").with(0);
    ground.run("failover db").with(0);
    gate.open();
    ended(over).with(0);
    for machine in ["web", "db"] {
        assert_eq!(ground.disks("cloud", machine), ground.disks("here", machine));
    }
}

#[test]
fn a_lost_terminal_does_not_end_a_failover() {
    let (ground, gate) = held_before_the_pivot();
    let over = ground.start("failover web");
    gate.reached();
    signal(&over, Signal::HUP);
    gate.open();
    ended(over).with(0);
    assert_eq!(ground.phase("web"), "PlannedFailoverCompleted");
}

#[test]
fn ctrl_c_once_before_the_pivot_turns_back() {
    let (ground, gate) = held_before_the_pivot();
    let mut over = ground.start("failover web");
    let mut lines = told(&mut over);
    gate.reached();
    signal(&over, Signal::INT);
    assert!(lines.any(|line| line.starts_with("asked to turn back")));
    gate.open();
    let rest: Vec<String> = lines.collect();
    let (code, text) = out(over);
    assert_eq!(code, 1, "{text} {rest:?}");
    assert!(text.contains("UNDONE"), "{text}");
    assert_eq!(ground.phase("web"), "Protected");
    assert!(!ground.path("cloud/web").exists());
}

#[test]
fn ctrl_c_once_past_the_pivot_says_so_and_waits_for_the_end() {
    let (ground, gate) = held_past_the_pivot();
    let mut back = ground.start("failback web");
    let mut lines = told(&mut back);
    gate.reached();
    signal(&back, Signal::INT);
    assert!(lines.any(|line| line.starts_with("it cannot turn back any more")));
    gate.open();
    let rest: Vec<String> = lines.collect();
    let (code, text) = out(back);
    assert_eq!(code, 0, "{text} {rest:?}");
    assert_eq!(ground.disks("here", "web"), ground.disks("cloud", "web"));
}

#[test]
fn ctrl_c_twice_leaves_at_once_and_the_next_start_goes_on() {
    let (ground, gate) = held_before_the_pivot();
    let mut over = ground.start("failover web");
    let mut lines = told(&mut over);
    gate.reached();
    signal(&over, Signal::INT);
    assert!(lines.any(|line| line.starts_with("asked to turn back")));
    signal(&over, Signal::INT);
    assert!(lines.any(|line| line.starts_with("left at once")));
    let (code, _) = out(over);
    assert_eq!(code, 130);
    // The first one may have had its way already.
    if ground.run("list").with(0).out.contains("CancelFailoverInProgress") {
        gate.open();
        let next = ground.run("replicate web").with(0);
        assert!(next.err.contains("resuming PlannedFailover of web-"), "{}", next.err);
        assert_eq!(ground.phase("web"), "Protected");
        assert!(!ground.path("cloud/web").exists());
    } else {
        goes_on(&ground, &gate);
    }
}

#[test]
fn o3_killed_in_the_middle_the_next_start_resumes_and_says_so() {
    let (ground, gate) = held_before_the_pivot();
    let mut over = ground.start("failover web");
    gate.reached();
    over.kill().unwrap();
    over.wait().unwrap();
    goes_on(&ground, &gate);
}

/// What an interrupted failover left: who looks on changes nothing, who works goes on with it first.
fn goes_on(ground: &Ground, gate: &Gate) {
    // The shell that the dead command had started waits still.
    gate.open();
    let looked = ground.run("list").with(0);
    assert!(looked.err.contains("1 jobs were interrupted"), "{}", looked.err);
    assert!(looked.out.contains("PlannedFailoverInitiated"), "{}", looked.out);
    let next = ground.start("commit web --yes");
    gate.reached();
    gate.open();
    let next = ended(next).with(0);
    assert!(next.err.contains("resuming PlannedFailover of web-"), "{}", next.err);
    assert!(next.err.contains("resumed PlannedFailover of web-"), "{}", next.err);
    assert_eq!(ground.phase("web"), "CommitFailoverCompleted");
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
}

#[test]
fn a_daemon_replicates_serves_others_and_a_second_one_is_refused() {
    let ground = Ground::new();
    let file = ground.path("site-recovery.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings.replace("interval = \"5m\"", "interval = \"1s\"")).unwrap();
    ground.machine("web", 1);
    let daemon = Daemon::start(&ground);
    let second = ground.run("run").with(6);
    assert!(second.err.contains(&format!("process {}", daemon.id())), "{}", second.err);

    ground.run("protect web").with(0);
    ground.write("here", "web", 0, "seen by the daemon alone");
    // Point 1 is of protection; the next ones are the daemon's.
    let points = || ground.run("points web --json").with(0).json()["points"].as_array().unwrap().len();
    soon("a third point", || points() >= 3);
    ground.run("failover web --unplanned --yes --reason drill").with(0);
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));

    let told = daemon.stop();
    assert!(told.contains("stopping"), "{told}");
    assert_eq!(ground.phase("web"), "UnplannedFailoverCompleted");
}

#[test]
fn a_job_of_a_daemon_goes_on_when_whoever_asked_is_gone() {
    let (ground, gate) = held_before_the_pivot();
    let daemon = Daemon::start(&ground);
    let mut over = ground.start("failover web");
    gate.reached();
    over.kill().unwrap();
    over.wait().unwrap();
    assert_eq!(ground.phase("web"), "PlannedFailoverInitiated");
    gate.open();
    soon("the failover's end", || ground.phase("web") == "PlannedFailoverCompleted");
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
    daemon.stop();
}

#[test]
fn metrics_are_served_on_loopback() {
    let ground = Ground::new();
    let file = ground.path("site-recovery.toml");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings.replace("metrics = \"off\"", &format!("metrics = \"{free}\""))).unwrap();
    ground.machine("web", 1);
    let daemon = Daemon::start(&ground);
    ground.run("protect web").with(0);
    let mut text = String::new();
    let mut stream = std::net::TcpStream::connect(free).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("site_recovery_points_sealed_total{machine=\"web-"), "{text}");
    daemon.stop();
}
