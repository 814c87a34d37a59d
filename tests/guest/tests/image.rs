//! The guest's image is what tests and examples take it for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use site_recovery_guest::{Firmware, Lan, Machine, Qemu, Running, image, inspect, peers, record};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use tempfile::TempDir;

/// A boot is interpreted, on a machine that may have much else to do.
const BOOT: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 3] = ["qemu-system-x86_64", "e2fsck", "debugfs"];

struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        fs::copy(image(), ground.disk()).unwrap();
        ground
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn disk(&self) -> PathBuf {
        self.path().join("disk.raw")
    }

    fn machine(&self, name: &str, words: &str) -> Machine {
        Machine { words: words.to_owned(), ..Machine::new(name, self.path()) }
    }

    fn start(&self, machine: &Machine) -> Running {
        machine.start(&self.disk(), "raw").unwrap()
    }

    /// What the agent or the monitor answers to each command.
    fn ask(&self, socket: &str, commands: &[&str]) -> Vec<String> {
        let stream = UnixStream::connect(self.path().join(socket)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let answer = |command: &&str| {
            writeln!(&stream, "{{\"execute\":\"{command}\"}}").unwrap();
            // The monitor greets, and tells of events.
            lines
                .find(|line| line.as_ref().is_ok_and(|l| l.contains("return") || l.contains("error")))
                .unwrap()
                .unwrap()
        };
        commands.iter().map(answer).collect()
    }
}

fn line(running: &Running, wanted: &str) {
    running.console.wait_for(BOOT, |line| line == wanted).unwrap();
}

/// Until it has written this many more.
fn more(running: &Running, records: u64) {
    let wanted = running.console.acknowledged() + records;
    line(running, &format!("ACK {wanted}"));
}

fn kill_and_look(qemu: Qemu) {
    let ground = Ground::new();
    let mut running = ground.start(&Machine { qemu, ..ground.machine("A", "") });
    line(&running, "ACK 20");
    running.kill().unwrap();
    let acknowledged = running.console.acknowledged();
    let found = inspect(&ground.disk()).unwrap();
    assert!(found.needs_recovery && found.replay_clean && found.quiet.is_none());
    let count = found.records.len() as u64;
    assert!(
        (acknowledged..=acknowledged + 1).contains(&count),
        "{count} records, {acknowledged} acknowledged"
    );
    assert!(found.records.iter().all(|r| r.site == 'A' && r.cause == 0));
}

#[test]
fn what_a_killed_guest_acknowledged_is_on_its_disk() {
    if peers("a guest that is killed", &PROGRAMS) {
        kill_and_look(Qemu::installed());
    }
}

#[test]
fn the_old_qemu_runs_it_too() {
    if !peers("a guest on QEMU 7.2", &PROGRAMS) {
        return;
    }
    match Qemu::old() {
        Some(qemu) => kill_and_look(qemu),
        None => {
            println!("SKIPPED a guest on QEMU 7.2: it is absent");
            assert!(
                std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"),
                "QEMU 7.2 is required"
            );
        }
    }
}

/// Frozen by the agent, shut down by the agent, and then run on another site.
#[test]
fn a_frozen_guest_is_quiet_and_one_that_was_shut_down_goes_on() {
    if !peers("a guest that is frozen", &PROGRAMS) {
        return;
    }
    let ground = Ground::new();
    let mut running = ground.start(&ground.machine("A", "hook"));
    line(&running, "ACK 5");
    assert_eq!(
        ground.ask("agent", &["guest-ping", "guest-fsfreeze-freeze"]),
        [r#"{"return": {}}"#, r#"{"return": 1}"#]
    );
    let frozen = ground.path().join("frozen.raw");
    fs::copy(ground.disk(), &frozen).unwrap();
    let found = inspect(&frozen).unwrap();
    assert!(!found.needs_recovery && found.replay_clean);
    assert_eq!(found.quiet, Some(found.records.len() as u64), "the hook came first");
    assert_eq!(ground.ask("agent", &["guest-fsfreeze-thaw"]), [r#"{"return": 1}"#]);
    more(&running, 5);

    let stream = UnixStream::connect(ground.path().join("agent")).unwrap();
    // Not answered.
    writeln!(&stream, r#"{{"execute":"guest-shutdown"}}"#).unwrap();
    assert!(running.wait_end(BOOT).unwrap().unwrap().success());
    let said = running.console.lines();
    for wanted in ["HOOK freeze", "HOOK thaw", "SHUTDOWN agent", "STOPPED"] {
        assert!(said.iter().any(|line| line == wanted), "{wanted}: {said:?}");
    }
    let first = inspect(&ground.disk()).unwrap();
    assert!(!first.needs_recovery && first.replay_clean && first.quiet.is_none());
    let count = first.records.len() as u64;
    assert!((running.console.acknowledged()..=running.console.acknowledged() + 1).contains(&count));

    let mut running = ground.start(&ground.machine("B", ""));
    line(&running, &format!("RESUME {count}"));
    line(&running, &format!("ACK {}", count + 5));
    ground.ask("agent", &["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]);
    more(&running, 1);
    running.kill().unwrap();
    assert!(!running.console.lines().iter().any(|line| line.starts_with("HOOK")), "there was no hook");
    let second = inspect(&ground.disk()).unwrap().records;
    assert_eq!(second[..first.records.len()], first.records);
    assert!(second.iter().all(|r| r.site == if r.number < count { 'A' } else { 'B' }));
}

struct Tpm(Child);

impl Tpm {
    fn start(dir: &Path) -> Self {
        let state = format!("dir={}", dir.display());
        let control = format!("type=unixio,path={}/tpm", dir.display());
        let arguments =
            ["socket", "--tpm2", "--flags", "startup-clear", "--tpmstate", &state, "--ctrl", &control];
        let tpm = Self(Command::new("swtpm").args(arguments).spawn().unwrap());
        let made = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            dir.join("tpm").exists()
        });
        assert!(made, "swtpm does not listen");
        tpm
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// By UEFI and with a TPM, whose states outlive it; shut down by the power button.
#[test]
fn firmware_and_tpm_count_the_starts() {
    if !peers("a guest with UEFI and TPM", &[&PROGRAMS[..], &["swtpm"]].concat()) {
        return;
    }
    let ground = Ground::new();
    let variables = ground.path().join("variables.fd");
    fs::copy(Firmware::NEW_VARIABLES, &variables).unwrap();
    let machine = Machine { firmware: Firmware::Uefi(variables), ..ground.machine("A", "") };
    let mut resets = vec![];
    for start in 1..=2 {
        let _ = fs::remove_file(ground.path().join("tpm"));
        let _tpm = Tpm::start(ground.path());
        let mut command = machine.command(&ground.disk(), "raw");
        command.args(["-chardev", &format!("socket,id=tpm,path={}/tpm", ground.path().display())]);
        command.args("-tpmdev emulator,id=tpm0,chardev=tpm -device tpm-tis,tpmdev=tpm0".split(' '));
        let mut running = machine.run(command).unwrap();
        running.console.wait_for(BOOT, |line| line.starts_with("ACK ")).unwrap();
        line(&running, &format!("EFI yes starts={start}"));
        line(&running, "SECUREBOOT off");
        let tpm = running.console.wait_for(SOON, |line| line.starts_with("TPM 2 resets=")).unwrap();
        resets.push(tpm[13..].parse::<u32>().unwrap());
        ground.ask("qmp", &["qmp_capabilities", "system_powerdown"]);
        line(&running, "SHUTDOWN button");
        assert!(running.wait_end(BOOT).unwrap().unwrap().success());
        assert!(!inspect(&ground.disk()).unwrap().needs_recovery);
    }
    assert!(resets[0] < resets[1], "{resets:?}");
}

/// Two guests that tell each other what is durable, one of them with a second disk; a network of two ports.
#[test]
fn guests_know_of_each_other_no_more_than_what_is_durable() {
    if !peers("two guests on a network", &PROGRAMS) {
        return;
    }
    let (a, b) = (Ground::new(), Ground::new());
    let mut lan = Lan::new(a.path());
    let second = a.path().join("second.raw");
    fs::File::create(&second).unwrap().set_len(1 << 20).unwrap();
    let start = |ground: &Ground, words: &str, options: &[String]| {
        let machine = ground.machine("A-one", words);
        let mut command = machine.command(&ground.disk(), "raw");
        command.args(options);
        machine.run(command).unwrap()
    };
    let mut options = lan.port("one").unwrap();
    options.extend([
        "-blockdev".to_owned(),
        format!("driver=raw,node-name=disk1,file.driver=file,file.filename={}", second.display()),
        "-device".to_owned(),
        "virtio-blk-pci,drive=disk1,id=vdb0".to_owned(),
    ]);
    let mut one = start(&a, "ip=10.0.0.1 peer=10.0.0.2 second=/dev/vdb", &options);
    let mut two = start(&b, "ip=10.0.0.2 peer=10.0.0.1", &lan.port("two").unwrap());
    line(&one, "ACK 5");
    line(&two, "ACK 5");
    let pong = lan.ping([10, 0, 0, 1].into(), "hello", SOON).unwrap();
    assert!(pong.starts_with("PONG hello A-one "), "{pong}");
    assert_eq!(lan.ping([10, 0, 0, 3].into(), "nobody", Duration::from_secs(2)), None);
    more(&one, 5);
    more(&two, 5);
    // In the other order, the first would know what the second has not yet kept.
    one.kill().unwrap();
    two.kill().unwrap();
    let heard = lan.heard();
    for port in ["one", "two"] {
        assert!(
            heard.iter().any(|h| h.port == port && h.text.starts_with("BEACON A-one ")),
            "{port}: {heard:?}"
        );
    }
    let (one, two) = (inspect(&a.disk()).unwrap().records, inspect(&b.disk()).unwrap().records);
    let cause = |records: &[record::Record]| records.last().unwrap().cause as usize;
    assert!(cause(&one) > 0 && cause(&one) <= two.len(), "{} of {}", cause(&one), two.len());
    assert!(cause(&two) > 0, "{}", cause(&two));
    let both = record::read_start(&fs::read(second).unwrap());
    assert!((one.len()..=one.len() + 1).contains(&both.len()), "{} and {}", one.len(), both.len());
    assert_eq!(both[..one.len()], one);
}
