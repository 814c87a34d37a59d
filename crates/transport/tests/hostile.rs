//! Peers that break the rules, on both sides: they are cut off, nobody else is harmed, and nothing is left behind.
//! `SEED=<n> cargo test --test hostile` replays one seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use site_recovery_transport::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use support::odd::*;
use support::shipping::{Rng, seeds};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BRIEF: Duration = Duration::from_millis(300);

fn limits() -> Limits {
    Limits { connection_bytes: 4 << 20, connection_requests: 8, ..Limits::default() }
}

async fn odd_server(hand: &ByHand, odd: Odd, limits: Limits) -> Server {
    let builder = Server::builder(hand.tls.server.clone()).store(Arc::new(odd)).limits(limits);
    builder.listen(loopback()).await.unwrap()
}

async fn is_well(hand: &ByHand, server: &Server) {
    let store = remote(&hand.tls, server.address()).lazy(Capability::default()).unwrap();
    let answer = tokio::time::timeout(SOON, store.points(&"web".into())).await.expect("in time");
    assert!(answer.unwrap().is_empty());
}

/// Panics of tasks do not reach the test that caused them; this counts those that were not meant.
fn panics() -> usize {
    static COUNTED: AtomicUsize = AtomicUsize::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let meant = info.payload_as_str().is_some_and(|said| said.contains("as it should"));
            COUNTED.fetch_add(usize::from(!meant), SeqCst);
            before(info);
        }));
    });
    COUNTED.load(SeqCst)
}

fn call(text: &str) -> Vec<u8> {
    frame(4, 1, text.as_bytes())
}

fn write(id: u64, payload: usize) -> Vec<u8> {
    let ingest =
        br#"{"op":{"key":"k","epoch":{"number":1,"owner":"e"}},"machine":"web","session":1,"resume":{}}"#;
    let mut head = (ingest.len() as u32).to_le_bytes().to_vec();
    head.extend(ingest);
    head.extend(0_u64.to_le_bytes());
    head.extend(1_u32.to_le_bytes());
    head.extend([4, 0]);
    head.extend(b"root");
    head.extend(1_u32.to_le_bytes());
    head.extend((1_u32 << 24).to_le_bytes());
    head.extend((payload as u32).to_le_bytes());
    head.extend(0_u64.to_le_bytes());
    head.extend((payload as u64).to_le_bytes());
    let checksum =
        Record { disk: "d".into(), run: Run::new(0, 0), checksum: 0, payload: Payload::Zero }.checksum;
    head.extend(checksum.to_le_bytes());
    let mut body = (head.len() as u32).to_le_bytes().to_vec();
    body.extend(head);
    body.extend(vec![7; payload]);
    frame(5, id, &body)
}

fn place(id: u64, handle: u64, start: u64, len: u64) -> Vec<u8> {
    let body = [&handle.to_le_bytes()[..], &[0; 4], &start.to_le_bytes(), &len.to_le_bytes()].concat();
    frame(6, id, &body)
}

const OPEN: &str = r#"{"Open":{"handle":1,"what":{"Point":{"machine":"web","point":1}},"cut":null}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_the_rules_is_cut_off() {
    let before = panics();
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd::default(), limits()).await;
    let huge = [&[4, 0, 0, 0][..], &u32::MAX.to_le_bytes(), &[0; 8]].concat();
    let mut wrong_head = write(1, 10);
    wrong_head[16] = 0xff;
    wrong_head[17] = 0xff;
    let endless = r#"{"Hashes":{"machine":"web","disk":"d","run":{"start":18446744073709551615,"len":2}}}"#;
    let cases = [
        ("an unknown kind", vec![99; 16]),
        ("reserved bytes", [&[4, 1][..], &[0; 14]].concat()),
        ("a huge length", huge),
        ("a frame of the server's", frame(10, 1, b"{}")),
        ("a second hello", hello("x", 9, (1, 1))),
        ("a beat with a body", frame(0, 0, b"x")),
        ("a call that is none", call(r#"{"Explode":{}}"#)),
        ("no JSON", call("\u{fffd}")),
        ("deep JSON", call(&"[".repeat(100_000))),
        ("a run without an end", call(endless)),
        ("a write whose head is longer than the frame", wrong_head),
        ("a write without a head", frame(5, 1, &[1, 0])),
        ("a place that is too short", frame(6, 1, &[0; 27])),
        ("a read without an end", place(1, 1, u64::MAX, 9)),
        ("a read that is too long", place(1, 1, 0, 1 << 40)),
        ("one request twice", [write(1, 10), write(1, 10)].concat()),
        ("more requests than granted", (1..=9).flat_map(|id| write(id, 10)).collect()),
        ("more bytes than granted", (1..=5).flat_map(|id| write(id, 1 << 20)).collect()),
    ];
    for (number, (what, bytes)) in cases.iter().enumerate() {
        let mut peer = hand.client(server.address()).await;
        peer.enter(&format!("case-{number}"), 1).await;
        // It may hang up before all is said.
        let _ = peer.say(bytes).await;
        tokio::time::timeout(SOON, peer.ends()).await.unwrap_or_else(|_| panic!("{what} is put up with"));
    }
    is_well(&hand, &server).await;
    server.stop(SOON).await;
    assert_eq!(panics(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_conversations_of_a_client_harm_nobody() {
    let before = panics();
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd::default(), Limits { stall: BRIEF * 4, ..limits() }).await;
    let right = [
        hello("right", 1, (1, 1)),
        call(OPEN),
        place(2, 1, 4096, 65_536),
        write(3, 5000),
        frame(8, 3, b""),
        frame(4, 4, br#"{"Points":{"machine":"web"}}"#),
        frame(9, 1, b""),
    ]
    .concat();
    for seed in seeds(120) {
        let mut rng = Rng::of(seed);
        let mut bytes = right.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, rng.below(256) as u8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut peer = hand.client(server.address()).await;
        let _ = peer.say(&bytes).await;
        let _ = peer.0.shutdown().await;
        tokio::time::timeout(SOON, peer.ends()).await.unwrap_or_else(|_| panic!("seed {seed} never ends"));
    }
    is_well(&hand, &server).await;
    let stopped = tokio::time::timeout(SOON, server.stop(SOON)).await.expect("in time");
    assert_eq!(stopped.cut, 0);
    assert_eq!(panics(), before);
}

#[tokio::test]
async fn who_says_nothing_or_half_of_it_is_hung_up_on() {
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd::default(), Limits { handshake: BRIEF, ..limits() }).await;
    for said in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[22, 3, 1, 2, 0]] {
        let mut plain = TcpStream::connect(server.address()).await.unwrap();
        plain.write_all(said).await.unwrap();
        let ended = async { while plain.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(SOON, ended).await.expect("hung up on");
    }
    let mut quiet = hand.client(server.address()).await;
    quiet.ends().await;
    server.stop(SOON).await;
    let server = odd_server(&hand, Odd::default(), Limits { stall: BRIEF * 4, ..limits() }).await;
    for (number, half) in [&write(1, 100_000)[..60_000], &write(1, 10)[..9], &[]].into_iter().enumerate() {
        let mut peer = hand.client(server.address()).await;
        peer.enter(&format!("half-{number}"), 1).await;
        peer.say(half).await.unwrap();
        peer.ends().await;
    }
    is_well(&hand, &server).await;
    server.stop(SOON).await;
}

#[tokio::test]
async fn strangers_that_never_say_who_they_are_keep_nobody_out() {
    let hand = ByHand::new();
    // Nobody is hung up on for being slow.
    let limits = Limits { connections: 1, strangers: 3, handshake: SOON * 10, ..limits() };
    let server = odd_server(&hand, Odd::default(), limits).await;
    let mut strangers = vec![];
    for _ in 0..8 {
        let mut stranger = TcpStream::connect(server.address()).await.unwrap();
        stranger.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        strangers.push(stranger);
    }
    // The oldest make room.
    for stranger in &mut strangers[..5] {
        let ended = tokio::time::timeout(SOON, stranger.read(&mut [0; 64])).await.expect("hung up on");
        assert!(!ended.is_ok_and(|read| read > 0));
    }
    let store = remote(&hand.tls, server.address()).connect();
    let store = tokio::time::timeout(SOON, store).await.expect("in time").unwrap();
    assert!(store.points(&"web".into()).await.unwrap().is_empty());
    let error = remote(&hand.tls, server.address()).connect().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.is_temporary(), "{error}");
    assert_eq!(error.fact("limit"), Some("Limits::connections"), "{error}");
    for _ in 0..8 {
        strangers.push(TcpStream::connect(server.address()).await.unwrap());
    }
    assert!(store.points(&"web".into()).await.unwrap().is_empty(), "who is in stays in");
    drop(store);
    let stopped = tokio::time::timeout(SOON, server.stop(SOON)).await.expect("in time");
    assert_eq!(stopped.cut, 0);
}

#[tokio::test]
async fn what_was_done_is_never_told_as_refused() {
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd { points: 200_000, ..Odd::default() }, limits()).await;
    let store = remote(&hand.tls, server.address()).longest_answer(1 << 20).connect().await.unwrap();
    let op = support::shipping::op("prune");
    let error = store.prune(&op, &"web".into(), &[PointId(1)]).await.unwrap_err();
    // The points are gone, and which cannot be said.
    assert!(error.kind() == ErrorKind::Unavailable && !error.is_temporary(), "{error}");
    assert_eq!(error.fact("limit"), Some("RemoteBuilder::longest_answer"));
    drop(store);
    let store = remote(&hand.tls, server.address()).connect().await.unwrap();
    assert_eq!(store.prune(&op, &"web".into(), &[PointId(1)]).await.unwrap().len(), 200_000);
    drop(store);
    server.stop(SOON).await;
}

/// A year of points, one a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_any_length_comes_in_short_frames() {
    const POINTS: u64 = 518_400;
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd { points: POINTS, ..Odd::default() }, limits()).await;
    let store = remote(&hand.tls, server.address()).connect().await.unwrap();
    let web = "web".into();
    let points = tokio::time::timeout(SOON * 4, store.points(&web)).await.expect("in time").unwrap();
    assert_eq!(points.len() as u64, POINTS);
    let long = serde_json::to_vec(&points[0]).unwrap().len() as u64 * POINTS;
    assert!(long > limits().connection_bytes as u64, "{long} bytes are more than one frame");
    assert!(points.iter().zip(0..).all(|(found, number)| *found == point(&web, number)));
    let mut peer = hand.client(server.address()).await;
    peer.enter("by hand", 1).await;
    peer.say(&call(r#"{"Points":{"machine":"web"}}"#)).await.unwrap();
    for number in 0..20 {
        let (kind, id, body) = peer.hear().await.unwrap();
        assert!((kind, id) == (12, 1) && body.len() < 300 << 10, "{number}: {} bytes of {kind}", body.len());
    }
    drop((store, peer));
    server.stop(SOON).await;
}

#[tokio::test]
async fn a_client_that_beats_and_never_asks_is_idle() {
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd::default(), Limits { idle: BRIEF, ..limits() }).await;
    let mut peer = hand.client(server.address()).await;
    peer.enter("idle", 1).await;
    peer.ends().await;
    // A client of ours comes back without its caller's noticing.
    let store = remote(&hand.tls, server.address()).connect().await.unwrap();
    tokio::time::timeout(BRIEF * 3, std::future::pending::<()>()).await.unwrap_err();
    assert!(store.points(&"web".into()).await.unwrap().is_empty());
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_no_answers_takes_no_more_than_its_memory() {
    let hand = ByHand::new();
    let odd = Odd::default();
    let (held, most) = (Arc::clone(&odd.held), Arc::clone(&odd.most));
    let limits = Limits { connection_requests: 4096, stall: BRIEF * 5, ..limits() };
    let server = odd_server(&hand, odd, limits).await;
    let mut peer = hand.client(server.address()).await;
    peer.enter("slow", 1).await;
    peer.say(&call(OPEN)).await.unwrap();
    for id in 2..100 {
        peer.say(&place(id, 1, 0, 1 << 20)).await.unwrap();
    }
    let freed = async {
        // Until the sockets are full, answers come and go.
        while most.load(SeqCst) < 2 << 20 || held.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, freed).await.expect("it is cut off");
    assert!(
        most.load(SeqCst) <= limits.connection_bytes as i64,
        "{most:?} bytes held, at most {}",
        limits.connection_bytes
    );
    is_well(&hand, &server).await;
    server.stop(SOON).await;
}

#[tokio::test]
async fn a_newer_connection_of_a_client_ends_the_older_and_waits_for_it() {
    let hand = ByHand::new();
    let odd = Odd::default();
    let writing = Arc::clone(&odd.writing);
    let server = odd_server(&hand, odd, limits()).await;
    let mut older = hand.client(server.address()).await;
    older.enter("same", 1).await;
    older.say(&write(1, 10)).await.unwrap();
    while writing.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut newer = hand.client(server.address()).await;
    newer.enter("same", 2).await;
    assert_eq!(
        writing.load(SeqCst),
        0,
        "what the older one began is dropped before the newer one is welcome"
    );
    older.ends().await;
    let mut late = hand.client(server.address()).await;
    late.say(&hello("same", 1, (1, 1))).await.unwrap();
    assert_eq!(late.hear().await.unwrap().0, 3, "an older one comes too late");
    drop((older, newer, late));
    server.stop(SOON).await;
}

#[tokio::test]
async fn o9_an_unknown_newer_version_is_refused_with_both_named() {
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd::default(), limits()).await;
    let mut peer = hand.client(server.address()).await;
    peer.say(&hello("newer", 1, (7, 9))).await.unwrap();
    let (kind, _, body) = peer.hear().await.unwrap();
    let said = String::from_utf8(body).unwrap();
    assert!(
        kind == 3 && said.contains("1 to 1") && said.contains("7 to 9") && said.contains("Unsupported"),
        "{said}"
    );
    peer.ends().await;
    // One that speaks older ones, too, is understood.
    let mut peer = hand.client(server.address()).await;
    peer.say(&hello("both", 1, (1, 9))).await.unwrap();
    assert_eq!(peer.hear().await.unwrap().0, 2);
    drop(peer);
    server.stop(SOON).await;

    let listener = TcpListener::bind(loopback()).await.unwrap();
    let store = remote(&hand.tls, listener.local_addr().unwrap()).lazy(Capability::default()).unwrap();
    let serve = async {
        let mut peer = hand.server(&listener).await;
        peer.hear().await.unwrap();
        peer.say(&welcome(4)).await.unwrap();
        peer
    };
    let (_peer, answer) = tokio::join!(serve, store.machines());
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("1 to 1") && error.message().contains("4 to 4"), "{error}");
}

#[tokio::test]
async fn a_server_that_breaks_the_rules_or_falls_silent_is_unavailable_in_the_bound() {
    let before = panics();
    let hand = ByHand::new();
    let huge = [&[10, 0, 0, 0][..], &u32::MAX.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let cases = [
        ("silence", vec![]),
        ("half a header", vec![10, 0, 0]),
        ("an unknown kind", vec![77; 16]),
        ("an answer to nothing", frame(10, 99, b"[]")),
        ("a part of nothing", frame(12, 99, b"[]")),
        ("a list without an end", frame(12, 1, b"[]")),
        ("a huge answer", huge),
        ("a frame of a client's", call(OPEN)),
        ("an error that is none", frame(11, 1, b"oops")),
    ];
    for (what, bytes) in cases {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let builder = remote(&hand.tls, listener.local_addr().unwrap()).stall(BRIEF).patience(BRIEF * 2);
        let store = builder.lazy(Capability::default()).unwrap();
        let serve = async {
            loop {
                let mut peer = hand.server(&listener).await;
                if peer.hear().await.is_err() || peer.say(&welcome(1)).await.is_err() {
                    continue;
                }
                let _ = peer.hear().await;
                let _ = peer.say(&bytes).await;
                while peer.hear().await.is_ok() {}
            }
        };
        let error = tokio::select! {
            () = serve => unreachable!(),
            answer = tokio::time::timeout(SOON, store.machines()) => {
                answer.unwrap_or_else(|_| panic!("{what}: no bound")).expect_err(what)
            }
        };
        assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{what}: {error}");
    }
    assert_eq!(panics(), before);
}

#[tokio::test]
async fn what_is_too_long_and_what_panics_is_told_and_the_connection_lives() {
    let hand = ByHand::new();
    let server = odd_server(&hand, Odd { machines: 20_000, ..Odd::default() }, limits()).await;
    let store = remote(&hand.tls, server.address()).longest_answer(1 << 20).connect().await.unwrap();
    let error = store.machines().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.fact("limit").is_some(), "{error}");
    let error = store.head(&"web".into()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.message().contains("panicked"), "{error}");
    let ingest =
        Ingest { op: support::shipping::op("k"), machine: "web".into(), session: 1, resume: Landed::new() };
    let payload = Payload::Plain(vec![0; 5 << 20].into());
    let records = vec![Record { disk: "d".into(), run: Run::new(0, 5 << 20), checksum: 0, payload }];
    let error = store.write(&ingest, 0, records).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("records")), "{error}");
    let remedies = ["smaller batches", "Limits::connection_bytes"];
    assert!(remedies.iter().all(|remedy| error.message().contains(remedy)), "{error}");
    let runs = (0..150_000_u64).map(|n| (DiskId::from("d"), Run::new(n << 20, 4096)));
    let (op, machine, changes) =
        (support::shipping::op("k"), manifest(&"web".into()).machine, runs.collect());
    let begun = store.begin(&op, &machine, &"c".into(), &changes).await;
    let cursor = Cursor { generation: Generation(0), token: vec![] };
    let seed = Seed::Known { at: None, landing: None, cursor, differs: changes };
    let prepared = store.prepare(&op, &machine, &seed, &Settings::default()).await;
    for (field, error) in [("plan", begun.unwrap_err()), ("seed", prepared.unwrap_err())] {
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some(field)), "{error}");
        let said = error.message();
        assert!(said.contains("Limits::connection_bytes") && !said.contains("batches"), "{said}");
    }
    let error =
        remote(&hand.tls, server.address()).lazy(Capability { tracks: false, ..Capability::default() });
    let error = error.unwrap().points(&"web".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "another capability: {error}");
    let nobody = RemoteStore::builder(server.address().to_string(), "nobody".into(), hand.tls.client.clone());
    let error = nobody.connect().await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("nobody"), "{error}");
    drop(store);
    server.stop(SOON).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_is_dropped_on_the_other_side_and_nothing_is_left() {
    let hand = ByHand::new();
    let odd = Odd::default();
    let writing = Arc::clone(&odd.writing);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let server = odd_server(&hand, odd, limits()).await;
    let store = remote(&hand.tls, server.address()).connect().await.unwrap();
    let ingest =
        Ingest { op: support::shipping::op("k"), machine: "web".into(), session: 1, resume: Landed::new() };
    {
        let mut write = std::pin::pin!(store.write(&ingest, 0, vec![]));
        while writing.load(SeqCst) == 0 {
            assert!(futures_util::poll!(write.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
    let dropped = async {
        while writing.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, dropped).await.expect("the far call is dropped, too");
    assert!(store.points(&"web".into()).await.unwrap().is_empty(), "its place is free again");
    // A call that never ends holds a stop up for no longer than its bound.
    let mut write = store.write(&ingest, 1, vec![]);
    while writing.load(SeqCst) == 0 {
        assert!(futures_util::poll!(write.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stop(BRIEF).await.cut, 1);
    assert_eq!(writing.load(SeqCst), 0);
    drop(write);
    drop(store);
    let gone = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("no task is left on either side");
}
