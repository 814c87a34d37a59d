//! Our clients, with QEMU, its storage daemon and its guest agent.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use site_recovery_qmp::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use support::*;

const NOTHING: Value = Value::Null;
const QEMU: &str = "qemu-system-x86_64";
const DAEMON: &str = "qemu-storage-daemon";
const AGENT: &str = "qemu-ga";

/// A machine with nothing in it, which waits for its start.
fn qemu() -> Program {
    let monitor = "unix:{socket},server=on,wait=off";
    let machine = ["-machine", "none", "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none"];
    Program::start(QEMU, &[&machine[..], &["-S", "-qmp", monitor]].concat())
}

fn storage_daemon() -> Program {
    let socket = "socket,id=monitor,path={socket},server=on,wait=off";
    Program::start(DAEMON, &["--chardev", socket, "--monitor", "chardev=monitor"])
}

fn is_named(event: &'static str) -> impl FnMut(&Event) -> bool {
    move |e| e.name == event
}

/// Says the version that the program says of itself.
fn says_its_version(program: &str, monitor: &Monitor) {
    let output = std::process::Command::new(program).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let version = format!(" version {}", monitor.version());
    assert!(said.lines().next().unwrap().contains(&version), "{said}: no {version}");
}

/// QEMU ends as it was told, and the connection with it.
fn quits(mut monitor: Monitor, mut program: Program) -> Vec<Event> {
    assert!(matches!(monitor.wait_closed(SHORT), Err(Error::Silent { .. })));
    assert_eq!(monitor.call("quit", NOTHING).unwrap(), json!({}));
    monitor.wait_closed(LONG).unwrap();
    assert!(program.ended_well());
    assert!(matches!(monitor.call("query-version", NOTHING), Err(Error::Broken { .. })));
    let gone = Monitor::connect(&program.socket, patient()).unwrap_err();
    assert!(matches!(gone, Error::Absent { .. }), "{gone}");
    monitor.take_events()
}

#[test]
fn qemu_is_commanded() {
    if !peers("our client and QEMU's monitor", &[QEMU]) {
        return;
    }
    let program = qemu();
    let mut monitor = Monitor::connect(&program.socket, patient()).unwrap();
    says_its_version(QEMU, &monitor);
    let status = monitor.call("query-status", NOTHING).unwrap();
    assert_eq!((&status["running"], &status["status"]), (&json!(false), &json!("prelaunch")));

    let answers = monitor
        .call_each(&[
            ("cont", NOTHING),
            ("qom-get", json!({"path": "/no/such", "property": "drive"})),
            ("stop", json!({})),
            ("query-status", NOTHING),
        ])
        .unwrap();
    assert_eq!((&answers[0], &answers[2]), (&Ok(json!({})), &Ok(json!({}))));
    assert_eq!(answers[1].as_ref().unwrap_err().class, "DeviceNotFound");
    assert_eq!(answers[3].as_ref().unwrap()["status"], "paused");
    // The later one first: the other is kept.
    let stop = monitor.wait_for(LONG, is_named("STOP")).unwrap();
    let resume = monitor.wait_for(LONG, is_named("RESUME")).unwrap();
    assert!(resume.at.unwrap() <= stop.at.unwrap(), "{resume:?} {stop:?}");
    assert!(matches!(monitor.wait_for(SHORT, is_named("STOP")), Err(Error::Silent { .. })));

    let error = monitor.call("no-such-command", json!({"secret": "hunter2"})).unwrap_err();
    assert!(error.refusal().unwrap().is_unknown_command(), "{error}");
    let error = monitor.call("query-status", json!({"hunter2": 1})).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    // The deepest that is sent is read.
    let deep = (0..998).fold(json!([]), |inner, _| json!([inner]));
    let error = monitor.call("query-status", json!({"deep": deep})).unwrap_err();
    assert!(error.refusal().unwrap().description.contains("unexpected"), "{error}");
    let deeper = json!({"deep": [deep]});
    assert!(matches!(monitor.call("query-status", deeper), Err(Error::Invalid { field: "arguments", .. })));

    let events = quits(monitor, program);
    assert!(events.iter().any(|e| e.name == "SHUTDOWN" && e.data["reason"] == "host-qmp-quit"), "{events:?}");
}

#[test]
fn many_commands_at_once_are_all_answered() {
    if !peers("our client and a long line of commands to QEMU", &[QEMU]) {
        return;
    }
    let program = qemu();
    let mut monitor = Monitor::connect(&program.socket, patient()).unwrap();
    // Some megabytes of answers, and more commands than fit between two sockets.
    let padding = "x".repeat(1000);
    let commands: Vec<(&str, Value)> = (0..600)
        .map(|at| match at % 30 {
            0 => ("query-qmp-schema", NOTHING),
            1 => ("no-such-command", json!({"padding": padding})),
            _ => ("query-version", NOTHING),
        })
        .collect();
    let answers = monitor.call_each(&commands).unwrap();
    assert_eq!(answers.len(), 600);
    for (at, answer) in answers.iter().enumerate() {
        match at % 30 {
            0 => assert!(answer.as_ref().unwrap().as_array().unwrap().len() > 500),
            1 => assert!(answer.as_ref().unwrap_err().is_unknown_command()),
            _ => assert!(answer.as_ref().unwrap()["qemu"].is_object()),
        }
    }
    quits(monitor, program);
}

#[test]
fn a_second_client_of_one_socket_is_not_held_up() {
    if !peers("a second client of QEMU's monitor", &[QEMU]) {
        return;
    }
    let program = qemu();
    let first = Monitor::connect(&program.socket, patient()).unwrap();
    // Those that gave up fill the queue of the socket, where the system would let the next ones wait for ever.
    for _ in 0..5 {
        let error = Monitor::connect(&program.socket, Limits { greeting: SHORT, ..patient() }).unwrap_err();
        assert!(matches!(&error, Error::Silent { what, .. } if what == "greeting"), "{error}");
        assert!(error.to_string().contains("-qmp socket of its own"), "{error}");
    }
    drop(first);
    let mut next = Monitor::connect(&program.socket, patient()).unwrap();
    next.call("query-status", NOTHING).unwrap();
    quits(next, program);
}

#[test]
fn a_client_that_was_cut_off_leaves_nothing_to_the_next_one() {
    if !peers("the next client of QEMU's monitor", &[QEMU]) {
        return;
    }
    let program = qemu();
    let commands =
        |command: &str| format!("{{\"execute\": \"{command}\", \"id\": 7}}\n").repeat(20).into_bytes();
    let words = [
        b"\xff\nnonsense\n{}\n{\"execute\": 3, \"id\": 1}\n".to_vec(),
        commands("query-status"),
        commands("query-qmp-schema"),
        b"{\"execute\": \"query-qmp-sch".to_vec(),
    ];
    for (at, words) in words.iter().cycle().take(32).enumerate() {
        let mut cut_off = UnixStream::connect(&program.socket).unwrap();
        // QEMU may be at any point with it, or have closed it itself.
        if at / 4 % 2 == 0 {
            let _ = cut_off.read(&mut [0]);
        }
        if at / 8 % 2 == 0 {
            let _ = cut_off.write_all(b"{\"execute\": \"qmp_capabilities\"}\n");
        }
        let _ = cut_off.write_all(words);
        drop(cut_off);
        let mut next = Monitor::connect(&program.socket, patient()).unwrap();
        let answers = next.call_each(&[("query-status", NOTHING), ("no-such-command", NOTHING)]).unwrap();
        assert_eq!(answers[0].as_ref().unwrap()["status"], "prelaunch");
        assert!(answers[1].as_ref().unwrap_err().is_unknown_command(), "{answers:?}");
    }
    quits(Monitor::connect(&program.socket, patient()).unwrap(), program);
}

#[test]
fn a_qemu_that_is_killed_is_broken() {
    if !peers("our client and a QEMU that is killed", &[QEMU]) {
        return;
    }
    let program = qemu();
    let mut monitor = Monitor::connect(&program.socket, patient()).unwrap();
    drop(program);
    let error = monitor.call("query-status", NOTHING).unwrap_err();
    assert!(matches!(&error, Error::Broken { .. }), "{error}");
    monitor.wait_closed(LONG).unwrap();
}

#[test]
fn the_storage_daemon_is_commanded() {
    if !peers("our client and the monitor of the storage daemon", &[DAEMON]) {
        return;
    }
    let program = storage_daemon();
    let mut monitor = Monitor::connect(&program.socket, patient()).unwrap();
    says_its_version(DAEMON, &monitor);
    let node = json!({"driver": "null-co", "node-name": "dr-null", "size": 1 << 20});
    monitor.call("blockdev-add", node.clone()).unwrap();
    let nodes = monitor.call("query-named-block-nodes", json!({"flat": true})).unwrap();
    assert_eq!(nodes[0]["node-name"], "dr-null");
    let error = monitor.call("blockdev-add", node).unwrap_err();
    assert_eq!(error.refusal().unwrap().class, "GenericError");

    let socket = program.socket.with_file_name("nbd.sock");
    let address = json!({"type": "unix", "data": {"path": socket}});
    let export = json!({"type": "nbd", "id": "dr-exp", "node-name": "dr-null", "name": "disk"});
    let answers = monitor
        .call_each(&[
            ("nbd-server-start", json!({"addr": address})),
            ("block-export-add", export),
            ("block-export-del", json!({"id": "dr-exp"})),
        ])
        .unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let gone = monitor.wait_for(LONG, |e| e.data["id"] == "dr-exp").unwrap();
    assert_eq!(gone.name, "BLOCK_EXPORT_DELETED");
    quits(monitor, program);
}

#[test]
fn the_monitor_for_people_and_a_guest_without_agent_are_told_apart() {
    if !peers("other sockets of QEMU", &[QEMU]) {
        return;
    }
    let machine =
        ["-machine", "pc", "-accel", "tcg", "-m", "16", "-nodefaults", "-no-user-config", "-display"];
    let agent = ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"];
    let program = Program::start(
        QEMU,
        &[
            &machine[..],
            &["none", "-S", "-monitor", "unix:{dir}/hmp.sock,server=on,wait=off"],
            &["-chardev", "socket,id=agent,path={dir}/agent.sock,server=on,wait=off"],
            &["-device", "virtio-serial-pci", agent[0], agent[1]],
            &["-qmp", "unix:{socket},server=on,wait=off"],
        ]
        .concat(),
    );
    let limits = Limits::default();
    let error = Monitor::connect(&program.socket.with_file_name("hmp.sock"), limits).unwrap_err();
    assert!(matches!(&error, Error::Stranger { said, .. } if said.contains("monitor")), "{error}");
    let socket = program.socket.with_file_name("agent.sock");
    let short = Limits { greeting: SHORT, ..limits };
    let error = Agent::connect(&socket, short).unwrap_err();
    assert!(
        matches!(&error, Error::Silent { .. }) && error.to_string().contains("qemu-guest-agent"),
        "{error}"
    );
    let error = Agent::connect(&program.socket, limits).unwrap_err();
    assert!(matches!(&error, Error::Stranger { .. }), "{error}");
    let monitor = Monitor::connect(&program.socket, patient()).unwrap();
    quits(monitor, program);
}

/// On this very host: what could change it is switched off, and not called.
fn agent() -> Program {
    let off = "guest-fsfreeze-freeze,guest-fsfreeze-freeze-list,guest-fsfreeze-thaw,guest-shutdown,\
               guest-suspend-disk,guest-suspend-ram,guest-suspend-hybrid,guest-exec,guest-set-time,guest-get-time";
    let listen = ["-m", "unix-listen", "-p", "{socket}"];
    Program::start(AGENT, &[&listen[..], &["-t", "{dir}", "-f", "{dir}/pid", "-b", off]].concat())
}

#[test]
fn a_guest_agent_answers_and_refuses() {
    if !peers("our client and the guest agent (package qemu-guest-agent)", &[AGENT]) {
        return;
    }
    let program = agent();
    let mut agent = Agent::connect(&program.socket, patient()).unwrap();
    assert_eq!(agent.call("guest-ping", NOTHING).unwrap(), json!({}));
    assert!(!agent.frozen().unwrap());

    let error = agent.call("no-such-command", NOTHING).unwrap_err();
    assert!(error.refusal().unwrap().is_unknown_command(), "{error}");
    let error = agent.call("guest-get-time", NOTHING).unwrap_err();
    assert!(error.refusal().unwrap().description.contains("disabled"), "{error}");
}

#[test]
fn a_guest_agent_is_brought_back_in_step() {
    if !peers("our client and a guest agent out of step (package qemu-guest-agent)", &[AGENT]) {
        return;
    }
    let program = agent();
    let mut late = 0;
    // On a busy machine all may be there before anybody looks.
    for _ in 0..50 {
        if late > 0 {
            break;
        }
        for micros in [0, 200, 500, 1000, 2000, 5000] {
            // The answers come too late, or just in time; one that is late is never taken for the next one.
            let answer = std::time::Duration::from_micros(micros);
            let mut agent = Agent::connect(&program.socket, Limits { answer, ..patient() }).unwrap();
            for _ in 0..10 {
                for (command, is_its_own) in [
                    ("guest-get-osinfo", (|v| v["kernel-release"].is_string()) as fn(&Value) -> bool),
                    ("guest-ping", |v| v == &json!({})),
                ] {
                    match agent.call(command, NOTHING) {
                        Ok(said) => assert!(is_its_own(&said), "{command}: {said}"),
                        Err(error) => {
                            assert!(matches!(error, Error::Silent { .. }), "{error}");
                            late += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(late > 0, "no answer was late");
    let mut agent = Agent::connect(&program.socket, patient()).unwrap();
    assert_eq!(agent.call("guest-ping", NOTHING).unwrap(), json!({}));
    // A client that leaves half a command behind, and one that comes after it.
    let copy = agent.socket().try_clone_to_owned().unwrap();
    rustix::io::write(&copy, b"{\"execute\": \"guest-pi").unwrap();
    drop((agent, copy));
    let mut agent = Agent::connect(&program.socket, patient()).unwrap();
    assert_eq!(agent.call("guest-ping", NOTHING).unwrap(), json!({}));
    // One client at a time is served.
    let second = Agent::connect(&program.socket, Limits { greeting: SHORT, ..patient() }).unwrap_err();
    assert!(matches!(second, Error::Silent { .. }), "{second}");
    assert_eq!(agent.call("guest-ping", NOTHING).unwrap(), json!({}));
}
