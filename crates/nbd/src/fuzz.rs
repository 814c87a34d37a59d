//! Any bytes of a peer end in an agreement, an answer or a named fault, on both sides of the handshake and after it.

use crate::address::Stream;
use crate::client::{flight, handshake as client, turns::Turns};
use crate::fault::Fault;
use crate::protocol::*;
use allocation_counter::measure;
use futures_util::FutureExt;
use site_recovery::{Pool, Run};
use site_recovery_testkit::fuzz::{Choices, SPELL, fixed, mutated, write_corpus};
use std::io::Cursor;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// A peer that says these bytes and hangs up, and takes whatever it is told.
fn peer(bytes: &[u8]) -> Box<dyn Stream> {
    Box::new(tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink()))
}

/// The outcome of what waits for nobody, at the price of some times the bytes of the peer, beside `own`.
fn at_once<T>(own: u64, bytes: &[u8], work: impl Future<Output = T>) -> T {
    let mut outcome = None;
    let cost = measure(|| outcome = work.now_or_never()).bytes_max;
    let most = own + 16_384 + 64 * bytes.len() as u64;
    assert!(cost < most, "{cost} bytes of memory for {}", bytes.len());
    outcome.expect("a peer that has said all is waited for by nobody")
}

fn is_named(fault: &Fault) {
    let named = matches!(
        fault,
        Fault::Broken(_)
            | Fault::Protocol(_)
            | Fault::Refused { .. }
            | Fault::Absent(_)
            | Fault::Unflushed(_)
    );
    assert!(named, "{fault}");
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    [&OPTION_MAGIC.to_be_bytes()[..], &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data]
        .concat()
}

fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let head = [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
    [&head[..], &(data.len() as u32).to_be_bytes(), data].concat()
}

/// All that a server says to a client, with structured replies and in the older way.
fn server() -> [Vec<u8>; 2] {
    let greeting = [&NBD_MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &3_u16.to_be_bytes()].concat();
    let (context, ack) = ([&0_u32.to_be_bytes()[..], BASE_ALLOCATION.as_bytes()].concat(), self::reply::ACK);
    let export = [&0_u16.to_be_bytes()[..], &(1_u64 << 20).to_be_bytes(), &1_u16.to_be_bytes()].concat();
    let sizes = [1_u32, 4096, 1 << 25].iter().flat_map(|size| size.to_be_bytes());
    let sizes: Vec<u8> = info::BLOCK_SIZE.to_be_bytes().into_iter().chain(sizes).collect();
    let structured = [
        greeting.clone(),
        reply(option::STRUCTURED_REPLY, ack, &[]),
        reply(option::SET_META_CONTEXT, self::reply::META_CONTEXT, &context),
        reply(option::SET_META_CONTEXT, ack, &[]),
        reply(option::GO, self::reply::INFO, &export),
        reply(option::GO, self::reply::INFO, &sizes),
        reply(option::GO, ack, &[]),
    ];
    let older = [
        greeting,
        reply(option::STRUCTURED_REPLY, self::reply::ERR_UNSUP, b"no"),
        reply(option::GO, self::reply::ERR_UNSUP, &[]),
        [&(1_u64 << 20).to_be_bytes()[..], &1_u16.to_be_bytes()].concat(),
    ];
    [structured.concat(), older.concat()]
}

#[test]
fn any_bytes_of_a_server_are_an_agreement_or_a_named_fault() {
    let right = server();
    for right in &right {
        let (_, agreed) = at_once(0, right, client::agree(peer(right), "x", &[], None)).expect("agreed");
        assert_eq!(agreed.size, 1 << 20);
    }
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&right[0], choices), &mutated(&right[1], choices)] {
            // One reply is read whole before it is understood.
            match at_once(u64::from(LONGEST_OPTION), bytes, client::agree(peer(bytes), "x", &[], None)) {
                Ok((_, agreed)) => {
                    assert!(agreed.smallest.is_power_of_two() && agreed.size <= i64::MAX as u64);
                    assert!(
                        agreed.longest >= agreed.smallest && agreed.longest.is_multiple_of(agreed.smallest)
                    );
                }
                Err(fault) => is_named(&fault),
            }
        }
    };
    fixed(property);
    bolero::check!(name = "server").with_test_time(SPELL).for_each(property);
}

#[test]
fn any_bytes_are_an_option_a_request_fields_or_a_named_fault() {
    let request = Request { flags: 1, command: command::BLOCK_STATUS, cookie: 7, offset: 1 << 40, len: 4096 };
    let named = [0, 0, 0, 1, b'x', 0, 1, 0, 3];
    let option = option(option::GO, &named);
    let property = |choices: &[u8]| {
        for bytes in [choices, &mutated(&request.encode(), choices)] {
            if let Some(Ok(request)) = bytes.first_chunk().map(Request::parse) {
                assert_eq!(request.encode(), bytes[..Request::SIZE]);
            }
        }
        for bytes in [choices, &mutated(&option, choices)] {
            match at_once(u64::from(LONGEST_OPTION), bytes, read_option(&mut &bytes[..])) {
                Ok((number, data)) => assert_eq!(self::option(number, &data), bytes[..16 + data.len()]),
                Err(fault) => is_named(&fault),
            }
        }
        for bytes in [choices, &mutated(&named, choices)] {
            let mut fields = Fields(bytes);
            if let Ok(text) = fields.text() {
                assert!(text.len() <= LONGEST_TEXT);
                let mut again = vec![];
                put_text(&mut again, text);
                assert_eq!([&again, fields.0].concat(), bytes);
            }
        }
    };
    fixed(property);
    bolero::check!(name = "options").with_test_time(SPELL).for_each(property);
}

const READ: u64 = 1;
const STATUS: u64 = 2;
const WRITTEN: u64 = 3;
const FLUSHED: u64 = 4;
const START: u64 = 1 << 20;
const LEN: u64 = 100;

fn chunk(cookie: u64, done: bool, kind: u16, data: &[u8]) -> Vec<u8> {
    let head =
        [&STRUCTURED_REPLY_MAGIC.to_be_bytes()[..], &u16::from(done).to_be_bytes(), &kind.to_be_bytes()];
    [&head.concat()[..], &cookie.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

/// Answers to a read, a block status, a write and a flush, in chunks.
fn answers() -> Vec<u8> {
    let data = [&(START + 40).to_be_bytes()[..], &[7; 60]].concat();
    let hole = [&START.to_be_bytes()[..], &40_u32.to_be_bytes()].concat();
    let status: Vec<u8> = [0_u32, 4096, 0, 4096, 3].iter().flat_map(|n| n.to_be_bytes()).collect();
    [
        chunk(READ, false, chunk::OFFSET_DATA, &data),
        chunk(STATUS, true, chunk::BLOCK_STATUS, &status),
        chunk(READ, true, chunk::OFFSET_HOLE, &hole),
        chunk(WRITTEN, true, chunk::NONE, &[]),
        done(FLUSHED),
    ]
    .concat()
}

fn done(cookie: u64) -> Vec<u8> {
    [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &[0; 4], &cookie.to_be_bytes()].concat()
}

fn simple() -> Vec<u8> {
    [&done(FLUSHED)[..], &done(READ), &[7; LEN as usize], &done(WRITTEN)].concat()
}

/// What a client that asked for all of it makes of these bytes: whether the read was answered, and how it ended.
fn land(bytes: &[u8], structured: bool) -> (Option<Vec<u8>>, Fault) {
    let (flight, slots) = (flight::Flight::default(), Arc::new(Semaphore::new(4)));
    let ask = |want| {
        let (answer, answered) = oneshot::channel();
        let slot = Arc::clone(&slots).try_acquire_owned().expect("four");
        let cookie = flight.board(flight::Pending { want, answer, _slot: slot }).expect("it is well");
        (cookie, answered)
    };
    let mut block = Pool::new(1 << 20).take(LEN as usize + 8).now_or_never().expect("room").expect("room");
    block.fill(0xee);
    let covered = flight::Covered::default();
    let read = flight::Want::Bytes { start: START, part: Run::new(4, LEN), block, covered };
    let (first, read) = ask(read);
    let (second, status) = ask(flight::Want::Status { context: 0, told: vec![] });
    assert_eq!((first, second), (READ, STATUS));
    let (turns, run) = (Turns::default(), Run::new(START, LEN));
    let turn = turns.wait(run).now_or_never().expect("nobody else writes");
    let (third, written) = ask(flight::Want::Written { _turn: Arc::new(turn) });
    let (fourth, flushed) = ask(flight::Want::Flushed);
    assert_eq!((third, fourth), (WRITTEN, FLUSHED));
    let mut stream = bytes;
    // Of errors and block statuses, what was announced is read whole.
    let fault = at_once(8 << 20, bytes, async {
        loop {
            if let Err(fault) = flight.land(&mut stream, structured).await {
                return fault;
            }
        }
    });
    flight.end(Fault::Ended("the peer is through"));
    drop(written.now_or_never().expect("it was ended").expect("as above"));
    drop(flushed.now_or_never().expect("it was ended").expect("as above"));
    turns.wait(run).now_or_never().expect("the turn is over");
    if let Ok(flight::Want::Status { told, .. }) =
        status.now_or_never().expect("it was ended").expect("as above")
    {
        assert!(!told.is_empty() && told.iter().all(|(len, _)| *len > 0));
    }
    let Ok(flight::Want::Bytes { block, .. }) = read.now_or_never().expect("it was ended").expect("as above")
    else {
        return (None, fault);
    };
    assert_eq!(
        (&block[..4], &block[LEN as usize + 4..]),
        (&[0xee; 4][..], &[0xee; 4][..]),
        "only its part is written"
    );
    (Some(block[4..LEN as usize + 4].to_vec()), fault)
}

#[test]
fn any_bytes_are_answers_or_a_named_fault() {
    let (chunks, simple) = (answers(), simple());
    let whole = [vec![0; 40], vec![7; 60]].concat();
    assert_eq!(land(&chunks, true).0, Some(whole));
    assert_eq!(land(&simple, false).0, Some(vec![7; LEN as usize]));
    let property = |choices: &[u8]| {
        let error = [&errno::IO.to_be_bytes()[..], &4_u16.to_be_bytes(), b"gone"].concat();
        let failed = chunk(READ, Choices(choices).below(2) == 0, chunk::ERROR, &error);
        for bytes in
            [choices, &mutated(&chunks, choices), &mutated(&simple, choices), &mutated(&failed, choices)]
        {
            for structured in [true, false] {
                is_named(&land(bytes, structured).1);
            }
        }
    };
    fixed(property);
    bolero::check!(name = "answers").with_test_time(SPELL).for_each(property);
}

#[test]
#[ignore = "writes the corpus anew"]
fn corpus() {
    let write = |target, bytes: &[Vec<u8>]| write_corpus(env!("CARGO_MANIFEST_DIR"), "src", target, bytes);
    write("server", &server());
    write("options", &[option(option::GO, &[0, 0, 0, 1, b'x', 0, 1, 0, 3])]);
    write("answers", &[answers(), simple()]);
}
