//! Peers that break the rules, at both sides. `SEED=<n> cargo test --test hostile` replays one seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use site_recovery_nbd::{Address, Export, Limits, RemoteDisk, Server, Stopped};
use site_recovery_testkit::clock::ManualClock;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const SIZE: u64 = MIB;
/// Long beyond what anything here takes, and short enough for a test that fails.
const SOON: Duration = Duration::from_secs(20);

async fn server(dir: &Path, limits: Limits) -> Server {
    server_by(Arc::new(SystemClock), dir, limits).await
}

async fn server_by(clock: Arc<dyn Clock>, dir: &Path, limits: Limits) -> Server {
    let export = Export::with_overlay("x", Arc::new(image(SIZE, 1)), dir, MIB).unwrap();
    let builder = Server::builder().export(export).limits(limits).clock(clock);
    builder.listen(Address::Unix(dir.join("s.sock"))).await.unwrap()
}

fn seeds(most: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=most).collect(),
    }
}

/// A few bytes changed, dropped, doubled or cut off.
fn mutate(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + rng.next(4) {
        let at = rng.next(bytes.len().max(1) as u64) as usize;
        match rng.next(6) {
            _ if bytes.is_empty() => bytes.push(rng.next(256) as u8),
            0 => bytes[at] ^= 1 << rng.next(8),
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80][rng.next(4) as usize],
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, rng.next(256) as u8),
            4 => bytes.truncate(at),
            _ => {
                let end = (at + rng.next(40) as usize).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// Counts panics from now on: those of a task do not reach the test that caused them.
fn panics() -> impl Fn() -> usize {
    static COUNTED: AtomicUsize = AtomicUsize::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            COUNTED.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
    });
    || COUNTED.load(Ordering::SeqCst)
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    [b"IHAVEOPT", &number.to_be_bytes()[..], &(data.len() as u32).to_be_bytes(), data].concat()
}

fn request(command: u16, cookie: u64, offset: u64, len: u32, data: &[u8]) -> Vec<u8> {
    let head =
        [&0x2560_9513u32.to_be_bytes()[..], &[0, 0], &command.to_be_bytes(), &cookie.to_be_bytes()].concat();
    [&head[..], &offset.to_be_bytes(), &len.to_be_bytes(), data].concat()
}

/// All that a client can say, in a way that is right.
fn conversation() -> Vec<Vec<u8>> {
    let name = [0, 0, 0, 1, b'x'];
    let meta = [&name[..], &[0, 0, 0, 1, 0, 0, 0, 15], b"base:allocation"].concat();
    let go = [&name[..], &[0, 1, 0, 3]].concat();
    vec![
        vec![0, 0, 0, 3],
        option(3, &[]),
        option(8, &[]),
        option(9, &[&name[..], &[0, 0, 0, 0]].concat()),
        option(10, &meta),
        option(6, &go),
        option(7, &go),
        request(0, 1, 0, 65_536, &[]),
        request(7, 2, 0, 1 << 20, &[]),
        request(1, 3, 5000, 7, b"written"),
        request(6, 4, 100, 9000, &[]),
        request(4, 5, 65_536, 65_536, &[]),
        request(3, 6, 0, 0, &[]),
        request(0, 7, 1_048_000, 576, &[]),
        request(2, 8, 0, 0, &[]),
    ]
}

async fn is_well(server: &Server) {
    let remote = RemoteDisk::builder(server.address().clone(), "x").connections(1).connect().await.unwrap();
    assert_eq!(contents(&remote).await.len() as u64, SIZE);
}

/// Says all of it, hangs up on that side, and hears the server out.
async fn say(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let heard = async {
        let mut stream = UnixStream::connect(path).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut heard = vec![];
        let said = async {
            // It may have cut us off already.
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let (_, read) = tokio::join!(said, reader.read_to_end(&mut heard));
        let _ = read;
        heard
    };
    tokio::time::timeout(SOON, heard).await.expect("the server lets go")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_of_a_client_harm_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), Limits::default()).await;
    let path = dir.path().join("s.sock");
    let (right, panics) = (conversation(), panics());
    let heard = say(&path, &right.concat()).await;
    assert!(
        heard.windows(4).filter(|w| *w == 0x668e_33efu32.to_be_bytes()).count() >= 7,
        "the plain way works"
    );
    for seed in seeds(600) {
        let mut rng = Rng::of(seed);
        let bytes = match rng.next(3) {
            0 => (0..rng.next(400)).map(|_| rng.next(256) as u8).collect(),
            1 => {
                let mut parts = right.clone();
                let at = rng.next(parts.len() as u64) as usize;
                parts[at] = mutate(&mut rng, &parts[at]);
                parts.concat()
            }
            _ => mutate(&mut rng, &right.concat()),
        };
        println!("SEED={seed}");
        say(&path, &bytes).await;
    }
    is_well(&server).await;
    // The last that hung up may be one that it has not noticed yet.
    assert!(server.stop(SOON).await.cut <= 1);
    assert_eq!(panics(), 0);
}

/// What an honest server says to a client that reads 64 KiB, as recorded from ours.
async fn recorded(dir: &Path) -> Vec<u8> {
    let server = server(dir, Limits::default()).await;
    let name = [0, 0, 0, 1, b'x'];
    let meta = [&name[..], &[0, 0, 0, 1, 0, 0, 0, 15], b"base:allocation"].concat();
    let go = [&name[..], &[0, 1, 0, 3]].concat();
    let said = [
        vec![0, 0, 0, 3],
        option(8, &[]),
        option(10, &meta),
        option(7, &go),
        request(7, 1, 0, SIZE as u32, &[]),
        request(0, 2, 0, 65_536, &[]),
        request(2, 3, 0, 0, &[]),
    ];
    let heard = say(&dir.join("s.sock"), &said.concat()).await;
    server.stop(SOON).await;
    heard
}

/// Where the handshake of the record ends, and how many bytes our client says in it.
const SAID: usize = 89;

fn handshake_end(recorded: &[u8]) -> usize {
    recorded.windows(4).position(|w| w == 0x668e_33efu32.to_be_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_of_a_server_harm_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let right = recorded(dir.path()).await;
    let (greeting, answers) = right.split_at(handshake_end(&right));
    let expected = image(SIZE, 1).bytes;
    let pool = Pool::new(MIB as usize);
    let (mut ends, panics) = ([0, 0], panics());
    for seed in [0].into_iter().chain(seeds(600)) {
        println!("SEED={seed}");
        let mut rng = Rng::of(seed);
        // Lies in the handshake, or in the answers afterwards; in their heads above all, where it hurts most.
        let (first, then) = match (seed, rng.next(4)) {
            (0, _) => (greeting.to_vec(), Some(answers.to_vec())),
            (_, 0) => {
                let garbage: Vec<u8> = (0..rng.next(400)).map(|_| rng.next(256) as u8).collect();
                ([&greeting[..18], &garbage].concat(), None)
            }
            (_, 1) => (mutate(&mut rng, greeting), None),
            (_, 2) => {
                let mut answers = answers.to_vec();
                let at = rng.next(answers.len().min(200) as u64) as usize;
                answers[at] ^= 1 << rng.next(8);
                (greeting.to_vec(), Some(answers))
            }
            _ => (greeting.to_vec(), Some(mutate(&mut rng, answers))),
        };
        let path = dir.path().join(format!("{seed}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        let liar = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let _ = writer.write_all(&first).await;
            if let Some(then) = then {
                let mut both_requests = vec![0; SAID + 2 * 28];
                reader.read_exact(&mut both_requests).await.unwrap();
                let _ = writer.write_all(&then).await;
            }
            let _ = writer.shutdown().await;
            let _ = reader.read_to_end(&mut vec![]).await;
        };
        let honest = async {
            let builder = RemoteDisk::builder(Address::Unix(path.clone()), "x").connections(1);
            let remote = builder.timeout(SOON / 4).connect().await?;
            // The record answers these two, with these numbers.
            let (extents, bytes) = tokio::join!(
                biased;
                remote.extents(Run::new(0, SIZE)),
                remote.read(Run::new(0, 65_536), &pool)
            );
            extents?;
            bytes
        };
        let both = async { tokio::join!(liar, honest).1 };
        match tokio::time::timeout(SOON, both).await.expect("the client lets go") {
            Ok(bytes) => {
                assert_eq!(bytes.len(), 65_536);
                assert!(seed != 0 || bytes == expected[..65_536], "the record is right");
                ends[0] += 1;
            }
            Err(error) => {
                assert!(seed != 0 && !error.message().is_empty(), "a named error: {error}");
                ends[1] += 1;
            }
        }
        std::fs::remove_file(path).unwrap();
    }
    println!("{ends:?} of [answers, errors]");
    assert!(std::env::var("SEED").is_ok() || ends[1] > 300, "most lies are found: {ends:?}");
    assert_eq!(pool.take(pool.size()).await.unwrap().len(), MIB as usize, "all memory came back");
    assert_eq!(panics(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_cut_off() {
    let (dir, clock, limits) = (tempfile::tempdir().unwrap(), ManualClock::new(), Limits::default());
    let server = server_by(Arc::new(clock.clone()), dir.path(), limits).await;
    let conversation = conversation();
    let until_go = conversation[..7].concat();
    let half = [&until_go[..], &conversation[7][..20]].concat();
    // In the handshake, between requests, and in the middle of one.
    let cases = [
        (vec![], limits.handshake),
        (vec![0, 0], limits.handshake),
        (until_go, limits.idle),
        (half, limits.stall),
    ];
    for (bytes, span) in cases {
        let cut = async {
            let mut stream = UnixStream::connect(dir.path().join("s.sock")).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let (mut heard, mut last) = (vec![], [0; 20]);
            while bytes.len() > 2 && !heard.ends_with(&ACKNOWLEDGED) {
                let n = stream.read(&mut last).await.unwrap();
                heard.extend(&last[..n]);
            }
            let before = clock.now();
            // A socket that is closed over bytes that nobody has read says so.
            if let Err(error) = as_time_flies(&clock, stream.read_to_end(&mut heard)).await {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
            assert!(clock.now().since(before) >= span, "too early, with {} bytes", bytes.len());
        };
        tokio::time::timeout(SOON, cut).await.expect("who says nothing is cut off");
    }
    server.stop(SOON).await;
}

/// The last that a server says in answer to `GO`.
const ACKNOWLEDGED: [u8; 12] = [0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0];

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), Limits { connections: 2, ..Limits::default() }).await;
    let path = dir.path().join("s.sock");
    let greeted = async || {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let greeting = stream.read_u64().await;
        (stream, greeting.is_ok())
    };
    let crowd = [greeted().await, greeted().await, greeted().await];
    assert_eq!(crowd.each_ref().map(|(_, greeted)| *greeted), [true, true, false]);
    drop(crowd);
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_answers_takes_no_more_than_its_share() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, disk) = (ManualClock::new(), Arc::new(filled(vec![7; SIZE as usize])));
    let limits = Limits { memory: 4 << 20, requests: 8, ..Limits::default() };
    let builder = Server::builder().export(Export::read_only("x", disk.clone())).limits(limits);
    let builder = builder.clock(Arc::new(clock.clone()));
    let server = builder.listen(Address::Unix(dir.path().join("s.sock"))).await.unwrap();
    let path = dir.path().join("s.sock");
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(&conversation()[..7].concat()).await.unwrap();
    // Far more answers than the socket holds; writing ends when the server has cut us off.
    let reads: Vec<u8> = (0..10_000).flat_map(|cookie| request(0, cookie, 0, SIZE as u32, &[])).collect();
    let cut = tokio::time::timeout(SOON, async {
        let mut written = Box::pin(stream.write_all(&reads));
        tokio::select! {
            biased;
            _ = &mut written => panic!("the server takes requests without end"),
            () = is_well(&server) => {}
        }
        as_time_flies(&clock, written).await.expect_err("cut off");
        is_well(&server).await;
    });
    cut.await.expect("it is cut off, and others are served");
    let reads = disk.reads.load(Ordering::SeqCst);
    assert!((1..20).contains(&reads), "{reads} MiB were read, of 10,000 that were asked for");
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_byte_is_an_error_of_its_own_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Image { bad: Some(300_000), ..filled(vec![7; SIZE as usize]) };
    let server = Server::builder().export(Export::read_only("", Arc::new(disk)));
    let server = server.listen(Address::Unix(dir.path().join("s.sock"))).await.unwrap();
    let remote = RemoteDisk::builder(server.address().clone(), "").connections(1).connect().await.unwrap();
    let pool = Pool::new(MIB as usize);
    let error = remote.read(Run::new(299_999, 10), &pool).await.expect_err("it is damaged");
    assert!(error.to_string().contains("this byte is damaged"), "{error}");
    assert_eq!(remote.read(Run::new(0, 4096), &pool).await.unwrap()[..], [7; 4096]);
    assert_eq!(
        remote.read(Run::new(0, SIZE + 1), &pool).await.expect_err("past the end").kind(),
        ErrorKind::Invalid
    );
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_or_falls_silent_fails_all_that_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let heard = recorded(dir.path()).await;
    let end = handshake_end(&heard);
    for silent in [true, false] {
        let path = dir.path().join(format!("{silent}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&heard[..end]).await.unwrap();
            let mut request = vec![0; SAID + 28];
            // The client may have had enough before.
            let _ = stream.read_exact(&mut request).await;
            if silent {
                // Until the client has had enough.
                let _ = stream.read_to_end(&mut vec![]).await;
            }
        };
        let asked = async {
            let clock = ManualClock::new();
            let builder = RemoteDisk::builder(Address::Unix(path.clone()), "x").connections(1);
            let remote = builder.clock(Arc::new(clock.clone())).connect().await.unwrap();
            let pool = Pool::new(MIB as usize);
            let read = |at| remote.read(Run::new(at, 4096), &pool);
            let both = async { tokio::join!(read(0), read(4096)) };
            let (a, b) = if silent { as_time_flies(&clock, both).await } else { both.await };
            let c = read(8192).await;
            for outcome in [a, b, c] {
                let error = outcome.expect_err("nobody answers");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.is_temporary(), "{error}");
            }
            assert_eq!(pool.take(pool.size()).await.unwrap().len(), MIB as usize, "all memory came back");
        };
        tokio::time::timeout(SOON, async { tokio::join!(peer, asked) }).await.expect("in bounded time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_bounded_and_takes_the_socket_along() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path(), Limits::default()).await;
    let remote = RemoteDisk::builder(server.address().clone(), "x").connect().await.unwrap();
    assert_eq!(remote.connections(), 4);
    let twice = Server::builder().export(Export::read_only("x", Arc::new(image(SIZE, 1))));
    let error = twice.listen(server.address().clone()).await.expect_err("the socket exists");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(server.stop(SOON).await, Stopped { cut: 0 });
    assert!(!dir.path().join("s.sock").exists());
    let error = remote.read(Run::new(0, 512), &Pool::new(4096)).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn what_would_be_open_to_everybody_is_refused() {
    let everywhere = Address::Tcp("0.0.0.0:0".parse().unwrap());
    let export = || Export::read_only("x", Arc::new(image(SIZE, 1)));
    let error =
        Server::builder().export(export()).listen(everywhere).await.expect_err("without certificates");
    assert_eq!(error.fact("field"), Some("address"));
    let error = Server::builder().listen(Address::loopback()).await.expect_err("nothing to serve");
    assert_eq!(error.fact("field"), Some("exports"));
    let twice = Server::builder().export(export()).export(export()).listen(Address::loopback());
    assert_eq!(twice.await.expect_err("one name twice").fact("field"), Some("export.name"));
}
