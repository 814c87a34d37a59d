//! Our client of a monitor, with peers by script.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use site_recovery_qmp::*;
use std::io::ErrorKind;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::mpsc;
use support::*;

const NOTHING: Value = Value::Null;

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| &*event.name).collect()
}

fn event(name: &str) -> String {
    format!("{}\n", json!({"event": name}))
}

#[test]
fn what_is_new_is_passed_by_and_events_are_kept() {
    let peer = ScriptedPeer::monitor(|mut client| {
        client.say("{\"event\": \"STOP\", \"data\": {\"why\": [1]}, \"timestamp\": {\"seconds\": 5, \"microseconds\": 7}}\r\n");
        let asked = client.command();
        assert_eq!(asked["execute"], "query-status");
        assert!(asked.get("arguments").is_none(), "{asked}");
        let id = &asked["id"];
        client.say("{\"banner\": \"of QEMU 99\", \"id\": null}\n");
        client.say("{\"event\": \"NEVER_HEARD_OF\", \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}, \"hue\": 3}\n");
        client.say(format!("{}\n", json!({"return": {"status": "running"}, "id": id, "took": "1 ms"})));
        let asked = client.command();
        assert_eq!(asked["arguments"], json!({"node": "disk0"}));
        client.answer(&asked["id"], json!([]));
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    assert_eq!(monitor.version(), Version { major: 99, minor: 2, micro: 1 });
    assert_eq!(monitor.version().to_string(), "99.2.1");
    assert!(monitor.version() > Version { major: 7, minor: 200, micro: 200 });
    assert_eq!(monitor.call("query-status", NOTHING).unwrap(), json!({"status": "running"}));
    assert_eq!(monitor.call("query-it", json!({"node": "disk0"})).unwrap(), json!([]));
    let events = monitor.take_events();
    assert_eq!(names(&events), ["STOP", "NEVER_HEARD_OF"]);
    assert_eq!((&events[0].data, events[0].at.unwrap().as_micros()), (&json!({"why": [1]}), 5_000_007));
    assert_eq!((&events[1].data, events[1].at), (&NOTHING, None));
    assert_eq!(monitor.take_events(), []);
    peer.end();
}

#[test]
fn answers_find_their_commands_in_any_order() {
    let peer = ScriptedPeer::monitor(|mut client| {
        // All three are there before the first is answered.
        let ids = ["one", "two", "three"].map(|command| client.asked(command));
        client.answer(&ids[2], json!(3));
        client.say(event("BETWEEN"));
        client.say(format!(
            "{}\n",
            json!({"id": ids[1], "error": {"class": "DeviceNotFound", "desc": "no two", "hint": 1}})
        ));
        client.answer(&ids[2], json!("a second answer"));
        client.answer(&json!(u64::MAX), json!("to nobody"));
        client.answer(&json!("text"), json!("to nobody"));
        client.answer(&ids[0], json!(1));
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    let answers = monitor.call_each(&[("one", NOTHING), ("two", json!({})), ("three", NOTHING)]).unwrap();
    let no_two = Refusal { class: "DeviceNotFound".into(), description: "no two".into() };
    assert_eq!(answers, [Ok(json!(1)), Err(no_two), Ok(json!(3))]);
    assert_eq!(names(&monitor.take_events()), ["BETWEEN"]);
    assert_eq!(monitor.call_each(&[]).unwrap(), []);
    peer.end();
}

#[test]
fn a_late_answer_is_nobody_elses() {
    let peer = ScriptedPeer::monitor(|mut client| {
        let slow = client.asked("slow");
        let next = client.asked("next");
        client.answer(&slow, json!("of the slow one"));
        client.answer(&next, json!("of the next one"));
    });
    let mut monitor = Monitor::connect(&peer.socket, hasty()).unwrap();
    let late = monitor.call("slow", json!({"secret": "hunter2"})).unwrap_err();
    assert!(matches!(&late, Error::Silent { what, span, .. } if what == "answer to slow" && *span == SECOND));
    assert!(late.to_string().contains("it may have been done"), "{late}");
    assert_eq!(monitor.call("next", NOTHING).unwrap(), json!("of the next one"));
    peer.end();
}

#[test]
fn refusals_are_told_with_the_command_and_without_its_arguments() {
    let peer = ScriptedPeer::monitor(|mut client| {
        for desc in ["no such node", "a\u{1b}[31m\nlong 'story' ".repeat(100).as_str()] {
            let id = client.asked("blockdev-del");
            let error = json!({"class": "GenericError", "desc": desc});
            client.say(format!("{}\n", json!({"error": error, "id": id})));
        }
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    let secret = || json!({"node-name": "dr-1", "password": "hunter2"});
    let refused = monitor.call("blockdev-del", secret()).unwrap_err();
    assert_eq!(refused.to_string(), "blockdev-del was refused: no such node (GenericError)");
    assert_eq!(refused.refusal().unwrap().class, "GenericError");
    assert!(!refused.refusal().unwrap().is_unknown_command());
    assert!(!format!("{refused:?} {monitor:?}").contains("hunter2"));
    let refused = monitor.call("blockdev-del", secret()).unwrap_err().to_string();
    assert!(refused.len() < 1000 && !refused.contains(['\n', '\u{1b}']), "{refused}");
    assert!(refused.contains("\\nlong 'story' a\\u{1b}[31m"), "{refused}");
    peer.end();
}

#[test]
fn what_was_meant_for_an_earlier_client_is_passed_by() {
    let peer = ScriptedPeer::new(|mut client| {
        client.say("f of an answer\"}\r\n{\"return\": {}, \"id\": 1}\n");
        client.say(GREETING);
        let id = client.asked("qmp_capabilities");
        client.say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n");
        // Its own negotiation was done after this one's greeting.
        let error = json!({"class": "CommandNotFound", "desc": "negotiation is already complete"});
        client.say(format!("{}\n", json!({"error": error, "id": id})));
        let id = client.asked("query-version");
        client.answer(&id, json!({}));
        let id = client.asked("fine");
        client.say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n");
        client.answer(&id, json!(true));
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    assert_eq!(monitor.call("fine", NOTHING).unwrap(), json!(true));
    peer.end();
}

#[test]
fn a_monitor_that_does_not_open_is_told() {
    let peer = ScriptedPeer::new(|mut client| {
        client.say(GREETING);
        for command in ["qmp_capabilities", "query-version"] {
            let id = client.asked(command);
            let error = json!({"class": "CommandNotFound", "desc": "Expecting capabilities negotiation"});
            client.say(format!("{}\n", json!({"error": error, "id": id})));
        }
    });
    let error = Monitor::connect(&peer.socket, patient()).unwrap_err();
    assert!(error.refusal().unwrap().description.starts_with("Expecting"), "{error}");
    peer.end();
}

#[test]
fn arguments_that_qemu_would_not_read_are_not_sent() {
    let peer = ScriptedPeer::monitor(|mut client| assert_eq!(client.until_gone(), b""));
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    let deep = (0..1000).fold(json!({"hunter2": 1}), |inner, _| json!({"in": [inner]}));
    for arguments in [json!(["hunter2"]), json!("hunter2"), json!(7), json!(true), deep] {
        let error = monitor.call_each(&[("fine", NOTHING), ("wrong", arguments)]).unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "arguments", .. }), "{error}");
        let said = format!("{error} {error:?}");
        assert!(said.contains("wrong") && !said.contains("hunter2"), "{said}");
    }
    drop(monitor);
    peer.end();
}

#[test]
fn garbage_is_named_without_its_bytes_and_ends_the_connection() {
    let deep = "[".repeat(100_000);
    let many = format!("{{\"return\": [{}0]}}", "0,".repeat(1 << 18));
    for (garbage, named) in [
        ("hunter2", "a line of 7 bytes that is not JSON"),
        ("{\"return\": \"hunter2\", \"id\": 1", "not JSON, at byte"),
        ("\"hunter2\"", "no JSON object"),
        ("[1]", "no JSON object"),
        ("", "not JSON"),
        (&deep, "is not JSON"),
        (&many, "more than 262144 values"),
        ("{\"event\": 3}", "an event without a name"),
        ("{\"error\": \"hunter2\"}", "an error without class"),
        ("{\"QMP\": \"hunter2\"}", "a greeting without a version"),
    ] {
        let line = format!("{garbage}\n{}", event("AFTER"));
        let peer = ScriptedPeer::monitor(move |mut client| {
            client.asked("it");
            client.say(event("BEFORE"));
            client.say(line);
            assert_eq!(client.until_gone(), b"");
        });
        let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
        let error = monitor.call("it", NOTHING).unwrap_err();
        assert!(matches!(&error, Error::Garbage { .. }), "{error}");
        let said = format!("{error} {error:?}");
        assert!(said.contains(named) && !said.contains("hunter2"), "{said}");
        let error = monitor.call("it", NOTHING).unwrap_err();
        assert!(matches!(&error, Error::Broken { .. }) && error.to_string().contains("given up"), "{error}");
        assert!(matches!(monitor.wait_for(LONG, |_| false), Err(Error::Broken { .. })));
        assert_eq!(monitor.wait_for(LONG, |e| e.name == "BEFORE").unwrap().name, "BEFORE");
        drop(monitor);
        peer.end();
    }
}

#[test]
fn a_line_is_taken_up_to_its_limit_and_no_further() {
    let limits = Limits { line: 1000, ..patient() };
    let peer = ScriptedPeer::monitor(|mut client| {
        let id = client.asked("fits");
        let bare = format!("{}", json!({"return": "", "id": id})).len();
        client.answer(&id, "x".repeat(1000 - bare).into());
        client.asked("too-long");
        client.say_for_ever("x");
    });
    let mut monitor = Monitor::connect(&peer.socket, limits).unwrap();
    assert!(monitor.call("fits", NOTHING).unwrap().as_str().unwrap().len() > 900);
    let error = monitor.call("too-long", NOTHING).unwrap_err();
    assert!(error.to_string().contains("said a line of more than 1000 bytes"), "{error}");
    let error = monitor.call("more", NOTHING).unwrap_err();
    assert!(matches!(&error, Error::Broken { .. }), "{error}");
    drop(monitor);
    peer.end();
}

#[test]
fn silence_before_the_greeting_names_the_other_client() {
    let peer = ScriptedPeer::new(|mut client| assert_eq!(client.until_gone(), b""));
    let error = Monitor::connect(&peer.socket, Limits { greeting: SHORT, ..patient() }).unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what == "greeting"), "{error}");
    assert!(error.to_string().contains("give the library a -qmp socket of its own"), "{error}");
    peer.end();

    // Nor does a queue that is full hold anybody up for ever.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("full.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = UnixStream::connect(&socket).unwrap();
    let error = Monitor::connect(&socket, Limits { greeting: SHORT, ..patient() }).unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what == "greeting"), "{error}");
    drop(first);
}

#[test]
fn strangers_are_told_by_their_first_words() {
    let cases = [
        ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        ("login: ", "“login: ”"),
        ("\u{1b}[2J\n", "\\u{1b}[2J"),
        ("{\"return\": {}}\n", "{\"return\": {}}"),
        (
            "QEMU 10.0.2 monitor - type 'help' for more information\r\n(qemu) ",
            "QEMU 10.0.2 monitor - type 'help'",
        ),
    ];
    let check = |words: &'static str, said: &str| {
        let peer = ScriptedPeer::new(move |mut client| {
            client.say(words);
            assert_eq!(client.until_gone(), b"");
        });
        let error = Monitor::connect(&peer.socket, Limits::default()).unwrap_err();
        assert!(matches!(&error, Error::Stranger { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        peer.end();
    };
    // Each takes all the time there is for a greeting.
    std::thread::scope(|scope| {
        for (words, said) in cases {
            scope.spawn(move || check(words, said));
        }
    });
    let peer = ScriptedPeer::new(|mut client| client.say_for_ever("never a line"));
    let error = Monitor::connect(&peer.socket, Limits { line: 4096, ..patient() }).unwrap_err();
    assert!(matches!(&error, Error::Stranger { .. }) && error.to_string().len() < 300, "{error}");
    peer.end();
}

#[test]
fn a_peer_that_closes_is_broken_and_what_it_said_before_is_kept() {
    let peer = ScriptedPeer::monitor(|mut client| {
        client.asked("quit");
        client.say(event("SHUTDOWN"));
        client.say("{\"return\": {}, \"id\"");
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    let error = monitor.call("quit", NOTHING).unwrap_err();
    let Error::Broken { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::UnexpectedEof, "{error}");
    peer.end();
    for _ in 0..2 {
        assert!(matches!(monitor.call("more", NOTHING), Err(Error::Broken { .. })));
        monitor.wait_closed(SHORT).unwrap();
    }
    assert_eq!(monitor.wait_for(SHORT, |_| true).unwrap().name, "SHUTDOWN");
    assert!(matches!(monitor.wait_for(LONG, |_| true), Err(Error::Broken { .. })));
}

#[test]
fn a_peer_that_closes_at_once_is_tried_some_times() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("peer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let script = std::thread::spawn(move || {
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
        Client::of(listener.accept().unwrap().0).greet();
        for _ in 0..3 {
            drop(listener.accept().unwrap());
        }
        // A fourth one is not to come.
        listener.set_nonblocking(true).unwrap();
        listener
    });
    Monitor::connect(&socket, patient()).unwrap();
    let error = Monitor::connect(&socket, patient()).unwrap_err();
    assert!(matches!(&error, Error::Broken { .. }), "{error}");
    let listener = script.join().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_peer_that_never_ends_talking_holds_up_nobody() {
    let limits = Limits { events: 10, ..hasty() };
    let peer = ScriptedPeer::monitor(|mut client| client.say_for_ever(&event("AGAIN")));
    let mut monitor = Monitor::connect(&peer.socket, limits).unwrap();
    let error = monitor.call("it", NOTHING).unwrap_err();
    assert!(matches!(&error, Error::Silent { .. }), "{error}");
    assert!(matches!(monitor.wait_for(SHORT, |e| e.name == "OTHER"), Err(Error::Silent { .. })));
    assert!(matches!(monitor.wait_closed(SHORT), Err(Error::Silent { .. })));
    assert_eq!(monitor.take_events().len(), 10);
    drop(monitor);
    peer.end();
}

#[test]
fn a_peer_that_talks_before_it_listens_is_listened_to() {
    let peer = ScriptedPeer::monitor(|mut client| {
        // More than the system holds between two sockets.
        client.say((0..2000).map(|n| event(&format!("{n:01000}"))).collect::<String>());
        let asked = client.command();
        assert_eq!(asked["arguments"]["bytes"].as_str().unwrap().len(), 4 << 20);
        client.answer(&asked["id"], json!({}));
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    monitor.call("big", json!({"bytes": "y".repeat(4 << 20)})).unwrap();
    let kept = monitor.take_events();
    let numbers: Vec<usize> = kept.iter().map(|e| e.name.parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(2000 - 1024..2000), "the oldest are dropped, and no other");
    peer.end();
}

#[test]
fn a_command_that_was_cut_short_spoils_no_other() {
    let (gave_up, wait) = mpsc::channel();
    let peer = ScriptedPeer::monitor(move |mut client| {
        wait.recv_timeout(LONG).unwrap();
        let taken = client.until_gone();
        assert!(taken.starts_with(b"{") && !taken.ends_with(b"\n"));
    });
    let mut monitor = Monitor::connect(&peer.socket, hasty()).unwrap();
    let big = json!({"bytes": "y".repeat(8 << 20)});
    let error = monitor.call("big", big).unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what == "ear for big"), "{error}");
    gave_up.send(()).unwrap();
    let error = monitor.call("next", NOTHING).unwrap_err();
    assert!(matches!(&error, Error::Broken { .. }), "{error}");
    drop(monitor);
    peer.end();
}

#[test]
fn the_wanted_event_is_taken_and_the_others_stay() {
    let peer = ScriptedPeer::monitor(|mut client| {
        client.say(["A", "B", "A", "C"].map(event).concat());
        let id = client.asked("go");
        client.answer(&id, json!({}));
        client.say(["D", "B"].map(event).concat());
        assert_eq!(client.until_gone(), b"");
    });
    let mut monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    assert_eq!(monitor.wait_for(LONG, |e| e.name == "C").unwrap().name, "C");
    monitor.call("go", NOTHING).unwrap();
    assert_eq!(monitor.wait_for(LONG, |e| e.name == "D").unwrap().name, "D");
    for _ in 0..2 {
        assert_eq!(monitor.wait_for(LONG, |e| e.name == "B").unwrap().name, "B");
    }
    let error = monitor.wait_for(SHORT, |e| e.name == "B").unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what == "such event"), "{error}");
    assert_eq!(names(&monitor.take_events()), ["A", "A"]);
    drop(monitor);
    peer.end();
}

#[test]
fn the_end_of_a_peer_is_waited_for_past_garbage() {
    let limits = Limits { line: 5000, ..patient() };
    let peer = ScriptedPeer::monitor(|mut client| {
        client.asked("quit");
        client.say(event("SHUTDOWN"));
        client.say(format!("nonsense\n{}\n", "x".repeat(100_000)));
    });
    let mut monitor = Monitor::connect(&peer.socket, limits).unwrap();
    assert!(matches!(monitor.wait_closed(SHORT), Err(Error::Silent { .. })));
    assert!(matches!(monitor.call("quit", NOTHING), Err(Error::Garbage { .. })));
    monitor.wait_closed(LONG).unwrap();
    assert_eq!(names(&monitor.take_events()), ["SHUTDOWN"]);
    peer.end();
}

#[test]
fn a_copy_of_the_connection_holds_it_open() {
    let (dropped, wait) = mpsc::channel();
    let peer = ScriptedPeer::monitor(move |mut client| {
        wait.recv_timeout(LONG).unwrap();
        client.say(event("STILL_THERE"));
        assert_eq!(client.until_gone(), b"");
    });
    let monitor = Monitor::connect(&peer.socket, patient()).unwrap();
    let copy = UnixStream::from(monitor.socket().try_clone_to_owned().unwrap());
    drop(monitor);
    dropped.send(()).unwrap();
    copy.set_read_timeout(Some(LONG)).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&copy), &mut line).unwrap();
    assert_eq!(line, event("STILL_THERE"));
    drop(copy);
    peer.end();
}

#[test]
fn a_path_that_leads_nowhere_is_told_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let long = at(&"n".repeat(107 - dir.path().as_os_str().len()));
    assert_eq!(long.as_os_str().len(), 108);
    for wrong in [long.clone(), "".into(), at("a\0b")] {
        let error = Monitor::connect(&wrong, patient()).unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "socket", .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("1 to 107 bytes") && said.contains("a short symbolic link"), "{said}");
    }
    // One byte less is fine, and so is the remedy.
    let longest = at(&"n".repeat(106 - dir.path().as_os_str().len()));
    assert_eq!(longest.as_os_str().len(), 107);
    let listener = UnixListener::bind(&longest).unwrap();
    let greeting = Limits { greeting: SHORT, ..patient() };
    assert!(matches!(Monitor::connect(&longest, greeting), Err(Error::Silent { .. })));
    let deep = at(&"d".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    std::fs::hard_link(&longest, deep.join("qmp.sock")).unwrap();
    std::os::unix::fs::symlink(deep.join("qmp.sock"), at("short")).unwrap();
    assert!(matches!(Monitor::connect(&at("short"), greeting), Err(Error::Silent { .. })));

    drop(listener);
    std::fs::write(at("file"), "").unwrap();
    for nobody in [longest, at("none"), at("none/none"), at("file"), at("file/none")] {
        let error = Monitor::connect(&nobody, patient()).unwrap_err();
        assert!(matches!(&error, Error::Absent { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("nobody listens on {}", nobody.display())), "{error}");
    }
    let _datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
    let error = Monitor::connect(&at("datagrams"), patient()).unwrap_err();
    assert!(matches!(&error, Error::Stranger { .. }), "{error}");
}
