//! Any bytes of a peer are lines, messages, answers or a named error, at the price of a bounded memory.

use crate::deadline::Deadline;
use crate::error::{Error, Refusal};
use crate::limits::Limits;
use crate::lines::{Lines, TooLong};
use crate::message::{self, Event, Message, Version};
use crate::wire::Wire;
use crate::{Agent, Monitor};
use allocation_counter::measure;
use serde_json::{Value, json};
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, mutated, write_corpus};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The memory that a byte of a message may cost: an object of its own for each seven of `{"":0},`.
const PRICE: u64 = 128;

/// The result of what costs no more than some times the bytes of the peer.
fn cheap<T>(bytes: &[u8], work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let mut work = Some(work);
    let cost = measure(|| result = work.take().map(|work| work())).bytes_max;
    assert!(cost < 16_384 + PRICE * bytes.len() as u64, "{cost} bytes of memory for {}", bytes.len());
    result.expect("it was called")
}

/// The lines of bytes that come in pieces, without those that are longer than `most`.
fn lines(bytes: &[u8], most: usize, mut piece: impl FnMut() -> usize) -> (Vec<Vec<u8>>, bool) {
    let (mut lines, mut found, mut rest) = (Lines::of_at_most(most), vec![], bytes);
    loop {
        loop {
            match lines.next() {
                Ok(Some(line)) => found.push(line.to_vec()),
                Ok(None) => break,
                Err(TooLong) => {
                    assert_eq!(lines.next(), Err(TooLong), "it stays too long");
                    return (found, true);
                }
            }
        }
        assert!(lines.has_room() && lines.rest().len() <= most);
        if rest.is_empty() {
            return (found, false);
        }
        let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
        lines.push(now);
        rest = later;
    }
}

#[test]
fn lines_are_the_same_in_whatever_pieces_they_come() {
    let property = |choices: &[u8]| {
        let mut chosen = Choices(choices);
        let most = chosen.below(40);
        // Ends of lines are rare among random bytes.
        let bytes: Vec<u8> = choices.iter().map(|b| if b % 7 == 0 { b'\n' } else { *b }).collect();
        let mut wanted: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        let last = wanted.pop().expect("even nothing has one part");
        let long = wanted.iter().position(|line| line.len() > most);
        wanted.truncate(long.unwrap_or(wanted.len()));
        let plain = |line: &&[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        let wanted = (wanted.iter().map(plain).collect::<Vec<_>>(), long.is_some() || last.len() > most);
        assert_eq!(lines(&bytes, most, || usize::MAX), wanted);
        assert_eq!(lines(&bytes, most, || 1), wanted);
        assert_eq!(lines(&bytes, most, || chosen.below(20)), wanted);
    };
    fixed(property);
    bolero::check!(name = "lines").with_test_time(SPELL).for_each(property);
}

fn events() -> Vec<u8> {
    br#"{"timestamp": {"seconds": 1795886734, "microseconds": 168199}, "event": "BLOCK_JOB_COMPLETED", "data": {"device": "dr-hyd", "len": 65536, "offset": 65536, "speed": 0, "type": "stream", "error": null}}"#.to_vec()
}

fn answers() -> Vec<u8> {
    br#"{"return": [{"name": "eth0", "hardware-address": "52:54:00:12:34:56", "ip-addresses": [{"ip-address": "192.0.2.7", "prefix": 24}]}, {"version": "7", "supported_commands": [{"name": "x", "enabled": true}]}], "id": 7}"#.to_vec()
}

fn refusals() -> Vec<u8> {
    br#"{"id": 281474976710655, "error": {"class": "CommandNotFound", "desc": "no \"\ud83d\ude00\""}}"#
        .to_vec()
}

fn greetings() -> Vec<u8> {
    br#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "x"}, "capabilities": ["oob"]}}"#.to_vec()
}

#[test]
fn any_line_is_a_message_or_a_named_error() {
    let (greeting, refusal, event) = (greetings(), refusals(), events());
    assert_eq!(Message::parse(&greeting), Ok(Message::Greeting(Version { major: 10, minor: 0, micro: 2 })));
    let refused = Refusal { class: "CommandNotFound".into(), description: "no \"😀\"".into() };
    let answer = Message::Answer { id: json!((1_u64 << 48) - 1), outcome: Err(refused) };
    assert_eq!(Message::parse(&refusal), Ok(answer));
    assert!(
        matches!(Message::parse(&event), Ok(Message::Event(Event { name, at: Some(_), .. })) if name == "BLOCK_JOB_COMPLETED")
    );
    let property = |choices: &[u8]| {
        for right in [&[][..], &greeting, &refusal, &event, &answers()] {
            let bytes = if right.is_empty() { choices.to_vec() } else { mutated(right, choices) };
            match cheap(&bytes, || Message::parse(&bytes)) {
                Ok(Message::Answer { outcome: Err(refusal), .. }) => {
                    let shown = refusal.to_string();
                    assert!(shown.len() < 10_000 && !shown.contains(char::is_control), "{shown:?}");
                }
                Ok(_) => {}
                Err(what) => assert!(what.starts_with("a") && what.len() < 80, "{what}"),
            }
        }
    };
    fixed(property);
    bolero::check!(name = "messages").with_test_time(SPELL).for_each(property);
}

/// A connection to a peer that says these bytes and hangs up, and takes whatever it is told.
fn wire(bytes: &[u8], limits: &Limits) -> (Wire, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("sockets");
    theirs.write_all(bytes).expect("it is less than a socket holds");
    theirs.shutdown(Shutdown::Write).expect("it is open");
    (Wire::over(ours, Path::new("peer.sock"), limits), theirs)
}

fn is_named(error: &Error) {
    let named = matches!(
        error,
        Error::Broken { .. } | Error::Garbage { .. } | Error::Refused { .. } | Error::Stranger { .. }
    );
    assert!(named, "{error:?}");
    assert!(!error.to_string().contains(char::is_control), "{error:?}");
}

const LIMITS: Limits =
    Limits { greeting: Duration::from_secs(30), answer: Duration::from_secs(30), line: 300, events: 2 };

fn monitor(bytes: &[u8]) -> Result<Vec<Result<Value, Refusal>>, Error> {
    let (wire, _theirs) = wire(bytes, &LIMITS);
    let mut monitor = Monitor::greeted(wire, LIMITS, &mut Deadline::after(LIMITS.greeting), 1)?;
    let answers = monitor.call_each(&[("a", Value::Null), ("b", Value::Null)]);
    let closed = monitor.wait_closed(LIMITS.answer);
    assert!(closed.is_ok(), "{closed:?}");
    assert!(monitor.take_events().len() <= 2);
    answers
}

fn agent(bytes: &[u8]) -> Result<bool, Error> {
    let (wire, _theirs) = wire(bytes, &LIMITS);
    let mut agent = Agent::greeted(wire, LIMITS, &mut Deadline::after(LIMITS.greeting), 1)?;
    let frozen = agent.frozen();
    agent.shut_down()?;
    frozen
}

/// All that a monitor, and an agent, says to this client.
fn conversations() -> [Vec<u8>; 2] {
    let event = br#"{"event": "STOP"}"#.to_vec();
    let monitor = [
        greetings(),
        br#"{"return": {}, "id": 1}"#.to_vec(),
        br#"{"return": {}, "id": 2}"#.to_vec(),
        br#"{"error": {"class": "x", "desc": "y"}, "id": 4}"#.to_vec(),
        event.clone(),
        br#"{"return": [7], "id": 3}"#.to_vec(),
        event,
        vec![],
    ];
    let agent = [
        br#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#.to_vec(),
        b"\xff{\"return\": 2}".to_vec(),
        br#"{"return": "frozen"}"#.to_vec(),
        b"\xff{\"return\": 3}".to_vec(),
        vec![],
    ];
    [monitor.join(&b'\n'), agent.join(&b'\n')]
}

#[test]
fn any_bytes_of_a_peer_are_answers_or_a_named_error() {
    let [by_monitor, by_agent] = conversations();
    let refusal = Refusal { class: "x".into(), description: "y".into() };
    assert_eq!(monitor(&by_monitor).expect("it is right"), [Ok(json!([7])), Err(refusal)]);
    assert!(agent(&by_agent).expect("it is right"));
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&by_monitor, choices), &mutated(&by_agent, choices)] {
            let errors = [monitor(bytes).err(), agent(bytes).err()];
            errors.iter().flatten().for_each(is_named);
        }
    };
    fixed(property);
    bolero::check!(name = "peers").with_test_time(SPELL).for_each(property);
}

#[test]
fn the_costliest_line_is_refused_before_it_is_parsed() {
    let line = |values: &str, times: usize| format!("{{\"return\": [{}0]}}", values.repeat(times));
    let dear = line("{\"\":0},", 1 << 17).into_bytes();
    let mut parsed = None;
    let cost = measure(|| parsed = Some(Message::parse(&dear))).bytes_max;
    assert!(matches!(parsed, Some(Err(_))), "more than 2^18 values");
    assert!(cost < 4096, "{cost} bytes of memory");
    // The dearest that is taken.
    let dear = line("{\"\":0},", (1 << 17) - 2).into_bytes();
    let cost = measure(|| parsed = Some(Message::parse(&dear))).bytes_max;
    assert!(matches!(parsed, Some(Ok(_))));
    assert!(cost < 128 << 20, "{cost} bytes of memory");
}

#[test]
fn waits_of_no_time_and_of_all_time_are_taken() {
    for span in [Duration::ZERO, Duration::MAX] {
        let limits = Limits { greeting: span, answer: span, line: 0, events: 0 };
        let (wire, _theirs) = wire(&greetings(), &limits);
        let error =
            Monitor::greeted(wire, limits, &mut Deadline::after(span), 1).expect_err("nothing is taken");
        assert!(matches!(error, Error::Stranger { .. }), "{error}");
    }
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let write = |target, bytes: &[Vec<u8>]| write_corpus(env!("CARGO_MANIFEST_DIR"), "src", target, bytes);
    write("lines", &[events(), message::command("query-status", &json!({"a": 1}), Some(7))]);
    write("messages", &[greetings(), events(), answers(), refusals()]);
    write("peers", &conversations());
}
