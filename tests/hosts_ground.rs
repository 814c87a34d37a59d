//! The ground for tests with several hosts does what it says, and nothing is left of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hosts;

use hosts::*;
use site_recovery::{Clock, SystemClock};
use std::fs;
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

/// What sends back what comes, in this process.
fn echo_here() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || echo(listener));
    address
}

fn line() -> (Line, TcpStream) {
    let line = Line::open((Ipv4Addr::LOCALHOST, 0).into(), echo_here());
    let stream = TcpStream::connect(line.address()).unwrap();
    (line, stream)
}

#[test]
fn a_line_is_slow_silent_and_cut() {
    let (line, mut stream) = line();
    assert_eq!(ask(&mut stream, "before"), "before");
    let delay = Duration::from_millis(150);
    line.delay(delay);
    let began = SystemClock.now();
    assert_eq!(ask(&mut stream, "slow"), "slow");
    assert!(SystemClock.now().since(began) >= 2 * delay);
    // Far more than one piece for each delay: all of it is on its way at once.
    let took = pour(line.address());
    assert!(took < 20 * delay, "a delay of {delay:?} is no limit, but {POURED} bytes took {took:?}");
    line.delay(Duration::ZERO);

    line.pause();
    stream.write_all(b"held").unwrap();
    is_silent(&stream);
    let mut new = TcpStream::connect(line.address()).unwrap();
    new.write_all(b"new").unwrap();
    is_silent(&new);
    line.resume();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"held");
    new.read_exact(&mut answer[..3]).unwrap();
    assert_eq!(&answer[..3], b"new");

    line.cut();
    is_reset(&mut stream);
    is_reset(&mut new);
    let mut stream = TcpStream::connect(line.address()).unwrap();
    assert_eq!(ask(&mut stream, "after"), "after");
    // An end is passed on, too.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut vec![]).unwrap(), 0);
}

#[test]
fn a_line_is_cut_after_so_many_bytes() {
    let (line, mut stream) = line();
    let (before, bytes) = (line.passed(), 100_000);
    line.cut_after(bytes);
    let mut writing = stream.try_clone().unwrap();
    let writer = thread::spawn(move || writing.write_all(&vec![7; POURED]));
    is_reset(&mut stream);
    let _cut_off_on_its_way = writer.join().unwrap();
    assert_eq!(line.passed() - before, bytes);
    let mut stream = TcpStream::connect(line.address()).unwrap();
    assert_eq!(ask(&mut stream, "after"), "after");
    let address = line.address();
    drop(line);
    is_reset(&mut stream);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn disks_are_cloned_mounted_and_checked() {
    if !peers("disks", &["filefrag"]) {
        return;
    }
    let ground = Ground::new("disks_are_cloned_mounted_and_checked");
    // The host is there first: it sees what is mounted later.
    let web = ground.host("web-1");
    let store = ground.store(512 * MIB);
    let disk = store.disk("data", 32 * MIB);
    disk.format();
    {
        let mount = disk.mount(&web, "data");
        web.run("cp", &[Path::new("/etc/passwd"), &mount.at().join("copy")]);
        assert_eq!(fs::read(mount.outside().join("copy")).unwrap(), fs::read("/etc/passwd").unwrap());
        assert!(!mount.at().join("copy").exists(), "mounted in the host alone");
        assert!(web.run("ls", &[store.dir()]).contains("data.raw"), "the store is there for each");
        let frozen = mount.freeze();
        let mut touching = web.start_program("touch", &[mount.at().join("touched")]);
        thread::sleep(SILENCE);
        assert_eq!(touching.has_ended(), None, "nobody writes to what is frozen");
        drop(frozen);
        assert!(touching.wait().success());
    }
    fsck(disk.device()).unwrap();
    fsck(disk.image()).unwrap();

    let clone = store.dir().join("clone.raw");
    reflink(disk.image(), &clone);
    let shared = run("filefrag", &["-v".as_ref(), clone.as_os_str()]);
    assert!(shared.contains("shared"), "{shared}");
    let before = fs::read(&clone).unwrap();
    assert_eq!(before, fs::read(disk.image()).unwrap());
    // Zeros over all metadata of the first group but the superblock.
    let mut damaged = before.clone();
    damaged[8192..MIB as usize].fill(0);
    fs::write(disk.image(), &damaged).unwrap();
    assert!(fsck(disk.image()).is_err());
    assert_eq!(fs::read(&clone).unwrap(), before);
    fsck(&clone).unwrap();
}

#[test]
fn d3_a_writers_cut_is_told_from_a_torn_one() {
    if !peers("a writer on two disks", &[]) {
        return;
    }
    let ground = Ground::new("d3_a_writers_cut_is_told_from_a_torn_one");
    let (web, store) = (ground.host("web-1"), ground.store(512 * MIB));
    let (first, second) = (store.disk("first", 16 * MIB), store.disk("second", 16 * MIB));
    first.format();
    second.format();
    let (on_first, on_second) = (first.mount(&web, "first"), second.mount(&web, "second"));
    let mut writer = Writer::start(&web, &[&on_first, &on_second], Duration::from_millis(1));
    let at = |name: &str| store.dir().join(name);
    let clone = |disk: &Disk, name: &str| {
        reflink(disk.image(), &at(name));
        at(name)
    };

    // Before the rings are full, and after.
    for count in [20, tokens::SLOTS as u64 + 10] {
        writer.until(count);
        let (one, two) = (on_first.freeze(), on_second.freeze());
        let acknowledged = writer.acknowledged();
        let images = [clone(&first, "a"), clone(&second, "b")];
        drop((one, two));
        let prefix = check_images(&[&images[0], &images[1]]).unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&prefix.count), "{prefix:?} of {acknowledged}");
        assert!(fsck(&images[0]).is_ok() && fsck(&images[1]).is_ok(), "frozen, so clean");
        writer.until(acknowledged + 3);
    }
    // As after a loss of power: one disk alone is whole, though it was not frozen.
    for _ in 0..3 {
        let acknowledged = writer.acknowledged();
        let prefix = check_images(&[&clone(&first, "a")]).unwrap();
        assert!(prefix.count >= acknowledged, "{prefix:?} of {acknowledged}");
    }
    // Two disks, but not of one time: in either order.
    let (early_first, early_second) = (clone(&first, "early-first"), clone(&second, "early-second"));
    writer.until(writer.acknowledged() + 5);
    let (late_first, late_second) = (clone(&first, "late-first"), clone(&second, "late-second"));
    for images in [[&early_first, &late_second], [&late_first, &early_second]] {
        let complaint = check_images(&images.map(|path| path.as_path())).unwrap_err();
        assert!(complaint.contains("not of one time"), "{complaint}");
    }
}

#[test]
fn d3_a_ring_that_lost_a_write_is_found_out() {
    let ring = |count: u64| {
        let mut ring = vec![0; tokens::SLOTS * tokens::LEN];
        for number in 0..count {
            let at = number as usize % tokens::SLOTS * tokens::LEN;
            ring[at..at + tokens::LEN].copy_from_slice(&tokens::token(0, number));
        }
        ring
    };
    let slots = tokens::SLOTS as u64;
    for count in [0, 1, 5, slots - 1, slots, slots + 1, 3 * slots + 7] {
        let whole = ring(count);
        assert_eq!(tokens::count(0, &whole), Ok(count));
        assert!(count < 2 || tokens::count(1, &whole).is_err(), "another disk's");
        // A token may be on its way to the next slot.
        let next = count as usize % tokens::SLOTS * tokens::LEN;
        let mut torn = whole.clone();
        torn[next..next + 512].copy_from_slice(&tokens::token(0, count)[..512]);
        assert_eq!(tokens::count(0, &torn), Ok(count));
        for back in 2..count.min(slots) {
            let at = (count - back) as usize % tokens::SLOTS * tokens::LEN;
            let mut lost = whole.clone();
            lost[at + 4000] ^= 1;
            assert!(tokens::count(0, &lost).is_err(), "a bit of the token {back} before the end of {count}");
        }
    }
    let half = [&ring(slots + 50)[..40 * tokens::LEN], &ring(slots + 20)[40 * tokens::LEN..]].concat();
    assert!(tokens::count(0, &half).is_err(), "of two times");
    let whole = |count| ring(count);
    let of_second = |count: u64| {
        (0..tokens::SLOTS as u64)
            .flat_map(move |at| if at < count { tokens::token(1, at) } else { vec![0; tokens::LEN] })
    };
    let check = |first, second| check_logs(&[whole(first), of_second(second).collect()]);
    assert_eq!(check(4, 4), Ok(Prefix { count: 4, ahead: 0 }));
    assert_eq!(check(5, 4), Ok(Prefix { count: 4, ahead: 1 }));
    assert!(check(6, 4).is_err() && check(4, 5).is_err());
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
