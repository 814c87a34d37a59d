//! Our client of a guest agent, with peers by script.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use site_recovery_qmp::*;
use std::sync::mpsc;
use support::*;

const NOTHING: Value = Value::Null;
const FREEZE: &str = "guest-fsfreeze-freeze";
const THAW: &str = "guest-fsfreeze-thaw";

fn returned(value: Value) -> String {
    format!("{}\n", json!({"return": value}))
}

fn refused(class: &str, desc: &str) -> String {
    format!("{}\n", json!({"error": {"class": class, "desc": desc}}))
}

fn limits() -> Limits {
    Limits { answer: SHORT, ..patient() }
}

#[test]
fn whatever_an_earlier_client_left_behind_is_thrown_away() {
    let peer = ScriptedPeer::new(|mut client| {
        let id = client.asked_to_synchronise();
        client.say(returned(json!(id)));
        client.say(refused("CommandNotFound", "of an earlier client"));
        client.say([b"\xff", returned(json!(id ^ 1)).as_bytes()].concat());
        client.say(format!("nonsense\n\n[1]\n{}\n", "x".repeat(100_000)));
        client.say(refused("GenericError", "JSON parse error"));
        // The rest of a line that was never ended.
        client.say("{\"return\": {\"ha");
        client.say([b"\xff", returned(json!(id)).as_bytes()].concat());
        assert_eq!(client.command(), json!({"execute": "guest-ping"}));
        client.say("{\"hello\": \"from a newer one\"}\r\n");
        client.say("{\"return\": {}, \"took\": 3}\r\n");
    });
    let mut agent = Agent::connect(&peer.socket, Limits { line: 5000, ..patient() }).unwrap();
    assert_eq!(agent.call("guest-ping", NOTHING).unwrap(), json!({}));
    peer.end();
}

#[test]
fn silence_means_that_no_agent_runs() {
    let peer = ScriptedPeer::new(|mut client| drop(client.until_gone()));
    let error = Agent::connect(&peer.socket, Limits { greeting: SHORT, ..patient() }).unwrap_err();
    assert!(matches!(&error, Error::Silent { .. }), "{error}");
    assert!(error.to_string().contains("start qemu-guest-agent in the guest"), "{error}");
    peer.end();
}

#[test]
fn a_guest_that_never_ends_talking_holds_up_nobody() {
    let peer = ScriptedPeer::new(|mut client| client.say_for_ever("{\"return\": 1}\n"));
    let error = Agent::connect(&peer.socket, Limits { greeting: SHORT, ..patient() }).unwrap_err();
    assert!(matches!(&error, Error::Silent { .. }), "{error}");
    peer.end();
    let peer = ScriptedPeer::new(|mut client| client.say_for_ever("x"));
    let small = Limits { greeting: SHORT, line: 5000, ..patient() };
    let error = Agent::connect(&peer.socket, small).unwrap_err();
    assert!(matches!(&error, Error::Silent { .. }), "{error}");
    peer.end();
}

#[test]
fn others_than_an_agent_are_told_apart() {
    let peer = ScriptedPeer::new(|mut client| {
        client.say(GREETING);
        client.until_gone();
    });
    let error = Agent::connect(&peer.socket, patient()).unwrap_err();
    assert!(matches!(&error, Error::Stranger { wanted: "a guest agent", .. }), "{error}");
    assert!(error.to_string().contains("“{\"QMP\": "), "{error}");
    peer.end();

    let peer = ScriptedPeer::new(|mut client| {
        client.asked_to_synchronise();
        client.say(refused("CommandNotFound", "Command guest-sync-delimited has been disabled"));
        client.until_gone();
    });
    let error = Agent::connect(&peer.socket, Limits::default()).unwrap_err();
    assert!(error.refusal().unwrap().description.ends_with("has been disabled"), "{error}");
    peer.end();

    let peer = ScriptedPeer::new(|mut client| assert!(client.asked_to_synchronise() > 0));
    let error = Agent::connect(&peer.socket, patient()).unwrap_err();
    assert!(matches!(&error, Error::Broken { .. }), "{error}");
    peer.end();
}

#[test]
fn a_late_answer_is_nobody_elses() {
    let peer = ScriptedPeer::agent(|mut client| {
        client.asked("guest-exec");
        let id = client.asked_to_synchronise();
        client.say(returned(json!("late")));
        client.in_step(id);
        client.asked("guest-ping");
        client.say(returned(json!("in time")));
    });
    let mut agent = Agent::connect(&peer.socket, hasty()).unwrap();
    let error = agent.call("guest-exec", json!({"path": "hunter2"})).unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what == "answer to guest-exec"), "{error}");
    assert!(!format!("{error:?} {agent:?}").contains("hunter2"));
    assert_eq!(agent.call("guest-ping", NOTHING).unwrap(), json!("in time"));
    peer.end();
}

#[test]
fn garbage_is_named_and_got_over() {
    for (garbage, named) in [
        ("hunter2".to_owned(), "a line of 7 bytes that is not JSON"),
        ("x".repeat(10_000), "a line of more than 5000 bytes"),
        ("[]".to_owned(), "no JSON object"),
    ] {
        let peer = ScriptedPeer::agent(move |mut client| {
            client.asked("guest-ping");
            client.say(garbage + "\n");
            client.synchronise();
            client.asked("guest-ping");
            client.say(returned(json!({})));
        });
        let mut agent = Agent::connect(&peer.socket, Limits { line: 5000, ..patient() }).unwrap();
        let error = agent.call("guest-ping", NOTHING).unwrap_err();
        assert!(matches!(&error, Error::Garbage { .. }) && error.to_string().contains(named), "{error}");
        agent.call("guest-ping", NOTHING).unwrap();
        peer.end();
    }
}

#[test]
fn a_freeze_and_its_thaw_are_counted() {
    let peer = ScriptedPeer::agent(|mut client| {
        for (command, answer) in [
            (FREEZE, json!(3)),
            ("guest-fsfreeze-status", json!("frozen")),
            (THAW, json!(3)),
            ("guest-fsfreeze-status", json!("thawed")),
            ("guest-fsfreeze-status", json!("thawing, a bit")),
        ] {
            client.asked(command);
            client.say(returned(answer));
        }
    });
    let mut agent = Agent::connect(&peer.socket, patient()).unwrap();
    assert_eq!(agent.freeze(LONG).unwrap(), 3);
    assert!(agent.frozen().unwrap());
    assert_eq!(agent.thaw().unwrap(), 3);
    assert!(!agent.frozen().unwrap());
    assert!(matches!(agent.frozen(), Err(Error::Garbage { .. })));
    peer.end();
}

#[test]
fn a_freeze_that_comes_late_is_followed_by_its_thaw() {
    let (gave_up, wait) = mpsc::channel();
    let peer = ScriptedPeer::agent(move |mut client| {
        client.asked(FREEZE);
        wait.recv_timeout(LONG).unwrap();
        // Here the guest has frozen; the thaw is there without anybody's asking.
        client.say(returned(json!(2)));
        let thaw = client.line();
        assert_eq!(serde_json::from_slice::<Value>(&thaw[1..]).unwrap()["execute"], THAW);
        assert_eq!(thaw[0], 0xff, "what was left of the freeze is thrown away");
        client.say(refused("GenericError", "JSON parse error"));
        client.say(returned(json!(2)));
        client.synchronise();
        client.asked(THAW);
        client.say(returned(json!(0)));
    });
    let mut agent = Agent::connect(&peer.socket, patient()).unwrap();
    let error = agent.freeze(SHORT).unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what.ends_with(FREEZE)), "{error}");
    gave_up.send(()).unwrap();
    assert_eq!(agent.thaw().unwrap(), 0);
    peer.end();
}

#[test]
fn a_freeze_that_was_answered_with_garbage_is_thawed_and_one_that_was_refused_is_not() {
    let peer = ScriptedPeer::agent(|mut client| {
        client.asked(FREEZE);
        client.say(returned(json!("three")));
        assert!(client.line().ends_with(br#"{"execute":"guest-fsfreeze-thaw"}"#));
        client.say(returned(json!(3)));
        client.synchronise();
        client.asked(FREEZE);
        client.say(refused("GenericError", "the hook failed"));
        assert_eq!(client.until_gone(), b"");
    });
    let mut agent = Agent::connect(&peer.socket, patient()).unwrap();
    assert!(matches!(agent.freeze(LONG), Err(Error::Garbage { .. })));
    let error = agent.freeze(LONG).unwrap_err();
    assert_eq!(error.to_string(), "guest-fsfreeze-freeze was refused: the hook failed (GenericError)");
    drop(agent);
    peer.end();
}

#[test]
fn nothing_is_frozen_by_an_agent_that_does_not_answer_but_it_is_told_to_thaw() {
    let peer = ScriptedPeer::agent(|mut client| {
        client.asked("guest-ping");
        client.asked_to_synchronise();
        client.asked_to_synchronise();
        client.asked(THAW);
        assert_eq!(client.until_gone(), b"");
    });
    let limits = Limits { answer: SHORT, ..Limits::default() };
    let mut agent = Agent::connect(&peer.socket, limits).unwrap();
    assert!(matches!(agent.call("guest-ping", NOTHING), Err(Error::Silent { .. })));
    let error = agent.freeze(LONG).unwrap_err();
    assert!(matches!(&error, Error::Silent { what, .. } if what == "sign of a guest agent"), "{error}");
    assert!(matches!(agent.thaw(), Err(Error::Silent { .. })));
    drop(agent);
    peer.end();
}

#[test]
fn a_shut_down_has_no_answer_but_an_error() {
    // It is on its way.
    let peer = ScriptedPeer::agent(|mut client| {
        assert_eq!(client.command()["arguments"], json!({"mode": "powerdown"}));
        let asked = client.command();
        client.say([b"\xff", returned(asked["arguments"]["id"].clone()).as_bytes()].concat());
        client.asked("guest-ping");
        client.say(returned(json!({})));
    });
    let mut agent = Agent::connect(&peer.socket, patient()).unwrap();
    agent.shut_down().unwrap();
    agent.call("guest-ping", NOTHING).unwrap();
    peer.end();

    // It is gone at once.
    let peer = ScriptedPeer::agent(|mut client| drop(client.asked("guest-shutdown")));
    Agent::connect(&peer.socket, patient()).unwrap().shut_down().unwrap();
    peer.end();

    // It says nothing more.
    let peer = ScriptedPeer::agent(|mut client| drop(client.until_gone()));
    Agent::connect(&peer.socket, limits()).unwrap().shut_down().unwrap();
    peer.end();

    // It will not.
    let peer = ScriptedPeer::agent(|mut client| {
        client.asked("guest-shutdown");
        client.say(refused("GenericError", "child process has failed to shutdown"));
        let asked = client.command();
        client.say([b"\xff", returned(asked["arguments"]["id"].clone()).as_bytes()].concat());
        client.synchronise();
        client.asked("guest-ping");
        client.say(returned(json!({})));
    });
    let mut agent = Agent::connect(&peer.socket, patient()).unwrap();
    let error = agent.shut_down().unwrap_err();
    assert!(matches!(&error, Error::Refused { command, .. } if command == "guest-shutdown"), "{error}");
    agent.call("guest-ping", NOTHING).unwrap();
    peer.end();
}
