//! The ground for tests with several hosts does what it says, and nothing is left of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "hosts_ground/disks.rs"]
mod disks;
mod hosts;
#[path = "hosts_ground/lines.rs"]
mod lines;

use hosts::*;
use site_recovery::{Clock, SystemClock};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const PORT: u16 = 7000;
/// How long nothing has to come, where nothing may come.
const SILENCE: Duration = Duration::from_millis(400);
/// Bytes that are poured at once.
const POURED: usize = 2 << 20;
/// Bits per second that they need seconds for.
const LIMIT: u64 = 8_000_000;

/// This program once more, in a host or killed: what it does there.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var("SITE_RECOVERY_HOSTS_ROLE") else { return };
    let words: Vec<&str> = role.split(' ').collect();
    match words[..] {
        ["echo"] => echo(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap()),
        ["ask", address, words] => {
            let mut to = TcpStream::connect(address).unwrap();
            assert_eq!(ask(&mut to, words), words);
            println!("answered");
        }
        ["pour", address] => println!("poured in {} ms", pour(address.parse().unwrap()).as_millis()),
        ["die"] => {
            let ground = Ground::new("the_killed_run");
            with_all_there_is(&ground, || {
                eprintln!("ground: {}", ground.name());
                thread::sleep(Duration::from_secs(600));
            });
        }
        ["sweep"] => drop(Ground::new("the_next_run")),
        _ => panic!("nobody knows how to {role}"),
    }
}

fn other(mut command: std::process::Command, role: &str) -> std::process::Command {
    command.args(["--exact", "the_other_process", "--nocapture"]).env("SITE_RECOVERY_HOSTS_ROLE", role);
    command
}

fn start(host: &Host, role: &str) -> Process {
    let command = host.command::<&str>(std::env::current_exe().unwrap(), &[]);
    host.start(other(command, role), role.split(' ').next().unwrap())
}

/// Sends back what comes, to each that connects.
fn echo(listener: TcpListener) {
    println!("listening");
    for stream in listener.incoming().map_while(Result::ok) {
        thread::spawn(move || {
            let (mut from, mut to, mut piece) = (&stream, &stream, vec![0; 1 << 16]);
            while let Ok(length @ 1..) = from.read(&mut piece) {
                if length < 100 {
                    println!("heard {}", String::from_utf8_lossy(&piece[..length]));
                }
                if to.write_all(&piece[..length]).is_err() {
                    return;
                }
            }
        });
    }
}

fn ask(stream: &mut TcpStream, words: &str) -> String {
    stream.write_all(words.as_bytes()).unwrap();
    let mut answer = vec![0; words.len()];
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// How long it takes until all that was sent is back.
fn pour(address: SocketAddr) -> Duration {
    let began = SystemClock.now();
    let stream = TcpStream::connect(address).unwrap();
    let (mut sent, mut back) = (&stream, &stream);
    thread::scope(|scope| {
        scope.spawn(move || sent.write_all(&vec![7; POURED]).unwrap());
        back.read_exact(&mut vec![0; POURED]).unwrap();
    });
    SystemClock.now().since(began)
}

/// An echo in a host, and a connection to it.
fn echo_in(host: &Host) -> (Process, TcpStream) {
    let mut echo = start(host, "echo");
    echo.says("listening");
    (echo, TcpStream::connect((host.ip(), PORT)).unwrap())
}

#[track_caller]
fn is_silent(stream: &TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let heard = (&*stream).read(&mut [0; 64]);
    let kind = heard.as_ref().map_err(std::io::Error::kind).err();
    assert!(matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{heard:?}");
}

#[track_caller]
fn is_reset(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = stream.read_to_end(&mut vec![]);
    assert_eq!(heard.map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
}

#[test]
fn hosts_reach_each_other_and_the_test() {
    if !peers("hosts", &[]) {
        return;
    }
    let ground = Ground::new("hosts_reach_each_other_and_the_test");
    let (web, db) = (ground.host("web-1"), ground.host("db-1"));
    assert_eq!(web.run::<&str>("hostname", &[]).trim(), "web-1");
    let (_echo, mut to_web) = echo_in(&web);
    assert_eq!(ask(&mut to_web, "from-the-test"), "from-the-test");
    let mut asking = start(&db, &format!("ask {}:{PORT} from-db", web.ip()));
    assert!(asking.wait().success(), "{}", asking.output());
    assert!(asking.output().contains("answered"));

    let listener = TcpListener::bind((ground.ip(), 0)).unwrap();
    let here = listener.local_addr().unwrap();
    thread::spawn(move || echo(listener));
    assert!(start(&db, &format!("ask {here} hello")).wait().success());
    // A host has its own addresses and ports.
    assert!(!start(&db, &format!("ask 127.0.0.1:{PORT} hello")).wait().success());
    assert!(web.try_run("false", &["x"]).is_err());
}

#[test]
fn a_host_dies_with_all_that_runs_in_it() {
    if !peers("the death of a host", &[]) {
        return;
    }
    let ground = Ground::new("a_host_dies_with_all_that_runs_in_it");
    let web = ground.host("web-1");
    let (mut echo, mut stream) = echo_in(&web);
    // A daemon, whose parent is gone.
    let said = web.run("sh", &["-c", "sleep 600 >/dev/null 2>&1 & echo $!"]);
    let daemon = said.trim().parse().unwrap();
    assert!(is_running(daemon));
    assert!(Path::new("/proc").join(echo.id().to_string()).exists(), "its id is the program's own");
    web.kill_all();
    assert!(!is_running(daemon));
    assert!(!echo.wait().success());
    is_reset_or_closed(&mut stream);
    // The host itself lives on, as one that was started again.
    let (_echo, mut stream) = echo_in(&web);
    assert_eq!(ask(&mut stream, "again"), "again");
    let id = _echo.id();
    drop(web);
    assert!(!is_running(id));
    assert_eq!(left(ground.name()).iter().filter(|what| what.contains("web-1")).count(), 0);
}

#[track_caller]
fn is_reset_or_closed(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = stream.read(&mut [0; 64]);
    assert!(
        matches!(heard.as_ref().map_err(|e| e.kind()), Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{heard:?}"
    );
}

#[test]
fn a_limit_is_felt_each_way_and_taken_away() {
    if !peers("links with a limit", &[]) {
        return;
    }
    let ground = Ground::new("a_limit_is_felt_each_way_and_taken_away");
    let (slow, fast) = (ground.host("slow"), ground.host("fast"));
    // At least, as both ways run at once; and a bucket is full at the start.
    let least = Duration::from_millis(POURED as u64 * 8 * 1000 / LIMIT * 8 / 10);
    slow.limit(LIMIT);
    let (_slow, _) = echo_in(&slow);
    let (_fast, _) = echo_in(&fast);
    let took = pour((slow.ip(), PORT).into());
    assert!(took >= least, "{took:?} of {least:?}");
    let took = pour((fast.ip(), PORT).into());
    assert!(took < least / 2, "{took:?} without a limit");

    slow.unlimited();
    let took = pour((slow.ip(), PORT).into());
    assert!(took < least / 2, "{took:?} after the limit");
}

#[test]
fn what_is_cut_off_is_silent_until_it_is_restored() {
    if !peers("partitions", &[]) {
        return;
    }
    let ground = Ground::new("what_is_cut_off_is_silent_until_it_is_restored");
    let (web, db) = (ground.host("web-1"), ground.host("db-1"));
    let (_web, mut to_web) = echo_in(&web);
    let (_db, mut to_db) = echo_in(&db);
    let carrier = || web.try_run("cat", &["/sys/class/net/eth0/carrier"]).unwrap().trim() == "1";

    let cuts: [(&str, &dyn Fn()); 2] = [("hole", &|| web.black_hole()), ("cable", &|| web.unplug())];
    for (name, cut) in cuts {
        assert_eq!(ask(&mut to_web, "before"), "before");
        cut();
        until("a carrier, or none", || carrier() == (name == "hole"));
        to_web.write_all(b"lost").unwrap();
        is_silent(&to_web);
        let address = (web.ip(), PORT).into();
        let refused = TcpStream::connect_timeout(&address, SILENCE).unwrap_err();
        assert_ne!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&mut to_db, "others talk"), "others talk");
        web.restore();
        let mut answer = [0; 4];
        to_web.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        to_web.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"lost", "what was sent meanwhile comes at last");
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn a_partition_may_be_of_one_side_alone() {
    if !peers("one-sided partitions", &[]) {
        return;
    }
    let ground = Ground::new("a_partition_may_be_of_one_side_alone");
    let web = ground.host("web-1");
    let (mut echo, mut stream) = echo_in(&web);
    assert_eq!(ask(&mut stream, "before"), "before");

    web.loses(ground.ip());
    stream.write_all(b"one way").unwrap();
    echo.says("heard one way");
    is_silent(&stream);
    web.reaches(ground.ip());
    let mut answer = [0; 7];
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_exact(&mut answer).unwrap();

    ground.loses(web.ip());
    stream.write_all(b"the other way").unwrap();
    is_silent(&stream);
    assert!(!echo.output().contains("heard the other way"));
    ground.reaches(web.ip());
    echo.says("heard the other way");
}

/// Everything that a ground has, while `work` runs.
fn with_all_there_is(ground: &Ground, work: impl FnOnce()) {
    let (web, store) = (ground.host("web-1"), ground.store(512 * MIB));
    let disk = store.disk("data", 16 * MIB);
    disk.format();
    let mount = disk.mount(&web, "data");
    let mut writer = Writer::start(&web, &[&mount], Duration::from_millis(1));
    writer.until(5);
    web.limit(LIMIT);
    web.black_hole();
    // The writer waits in the kernel.
    let _frozen = mount.freeze();
    work();
}

fn kinds(of: &[String]) -> Vec<&str> {
    let mut kinds: Vec<&str> = of.iter().filter_map(|what| what.split(' ').next()).collect();
    kinds.dedup();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

const ALL_KINDS: [&str; 6] = ["directory", "interface", "loop", "mount", "namespace", "process"];

#[test]
fn nothing_is_left_at_the_end_and_after_a_panic() {
    if !peers("what a ground leaves", &[]) {
        return;
    }
    for panics in [false, true] {
        let ground = Ground::new("nothing_is_left_at_the_end_and_after_a_panic");
        let (name, mut there) = (ground.name().to_owned(), vec![]);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let ground = ground;
            with_all_there_is(&ground, || {
                there = left(ground.name());
                assert!(!panics, "on purpose");
            });
        }));
        assert_eq!(outcome.is_err(), panics);
        assert_eq!(kinds(&there), ALL_KINDS, "{there:?}");
        assert_eq!(left(&name), [""; 0]);
        let processes = there.iter().filter_map(|what| what.strip_prefix("process ")?.split(' ').next());
        processes.for_each(|id| assert!(!is_running(id.parse().unwrap()), "process {id}"));
    }
}

#[test]
fn the_next_run_takes_down_what_a_killed_one_left() {
    if !peers("what a killed run leaves", &[]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let this = || std::process::Command::new(std::env::current_exe().unwrap());
    let mut killed = Process::start(other(this(), "die"), &dir.path().join("killed.log"));
    killed.says("ground: ");
    until("a whole line", || killed.output().contains("-0\n"));
    let said = killed.output();
    let name = said.split("ground: ").nth(1).unwrap().lines().next().unwrap();
    killed.kill();
    assert_eq!(kinds(&left(name)), ALL_KINDS);
    let mut next = Process::start(other(this(), "sweep"), &dir.path().join("next.log"));
    assert!(next.wait().success(), "{}", next.output());
    assert_eq!(left(name), [""; 0]);
}

#[test]
fn programs_of_this_workspace_are_built() {
    let records = Binary { package: "site-recovery-guest", name: "records" };
    let [first, again] = [(); 2].map(|()| build(&[records]).remove(0));
    assert_eq!(first, again);
    let output = std::process::Command::new(first).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("records FILE"), "{said}");
}
