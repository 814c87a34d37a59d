//! A directory with settings and machines, and the command as a person runs it there.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_site-recovery");

/// What a run of the command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// That it ended so.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    /// Its answer as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }
}

/// Two local sites and what stands between them.
pub(crate) struct Ground {
    dir: TempDir,
}

impl Ground {
    /// As `init` makes it.
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("cli-").unwrap();
        let ground = Self { dir };
        ground.run("init").with(0);
        let file = ground.path("site-recovery.toml");
        let settings = fs::read_to_string(&file).unwrap();
        // Daemons of several tests run at the same time.
        fs::write(&file, settings.replace("\"127.0.0.1:9464\"", "\"off\"")).unwrap();
        ground
    }

    /// With settings of one's own, made for the directory that they lie in.
    pub(crate) fn with(settings: impl FnOnce(&Path) -> String) -> Self {
        let dir = TempDir::with_prefix("cli-").unwrap();
        fs::write(dir.path().join("site-recovery.toml"), settings(dir.path())).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A machine here, switched on as a person does, with disks of bytes that say whose they are.
    pub(crate) fn machine(&self, name: &str, mib: usize) {
        self.machine_with(name, mib, "{}");
    }

    pub(crate) fn machine_with(&self, name: &str, mib: usize, commands: &str) {
        let home = self.path("here").join(name);
        fs::create_dir_all(home.join(".site-recovery")).unwrap();
        fs::write(home.join("disk-root.raw"), bytes(name, mib << 20)).unwrap();
        fs::write(home.join("disk-data.raw"), bytes(&format!("{name} data"), 1 << 20)).unwrap();
        let description = format!(
            r#"{{ "os": "linux", "commands": {commands}, "disks": [
                {{ "id": "root", "file": "disk-root.raw" }}, {{ "id": "data", "file": "disk-data.raw" }} ] }}"#
        );
        fs::write(home.join("machine.json"), description).unwrap();
        fs::write(home.join(".site-recovery/power.json"), r#"{ "state": "on", "starts": 1 }"#).unwrap();
    }

    /// Both disks of a machine at a site.
    pub(crate) fn disks(&self, site: &str, machine: &str) -> [Vec<u8>; 2] {
        let home = self.path(site).join(machine);
        ["disk-root.raw", "disk-data.raw"].map(|disk| fs::read(home.join(disk)).unwrap())
    }

    /// Files of a machine's disks at a local site, in their order.
    pub(crate) fn files(&self, site: &str, machine: &str) -> Vec<PathBuf> {
        let home = self.path(site).join(machine);
        let described: Value = serde_json::from_slice(&fs::read(home.join("machine.json")).unwrap()).unwrap();
        let file = |disk: &Value| home.join(disk["file"].as_str().unwrap());
        described["disks"].as_array().unwrap().iter().map(file).collect()
    }

    /// Other settings than those of `init`.
    pub(crate) fn settings(&self, text: &str) {
        fs::write(self.path("site-recovery.toml"), text).unwrap();
    }

    /// Writes to a disk, as its guest does.
    pub(crate) fn write(&self, site: &str, machine: &str, at: u64, text: &str) {
        self.write_to(site, machine, "disk-data.raw", at, text);
    }

    /// The same, to this file of the machine.
    pub(crate) fn write_to(&self, site: &str, machine: &str, file: &str, at: u64, text: &str) {
        use std::os::unix::fs::FileExt;
        let home = self.path(site).join(machine);
        let lock = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.join(".site-recovery/write.lock"))
            .unwrap();
        lock.lock().unwrap();
        let disk = fs::OpenOptions::new().write(true).open(home.join(file)).unwrap();
        disk.write_all_at(text.as_bytes(), at).unwrap();
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words.split(' '))
            .current_dir(self.root())
            .env_remove("SITE_RECOVERY_CONFIG")
            .env("USER", "ana")
            .env_remove("SUDO_USER")
            .env_remove("SITE_RECOVERY_LOG")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Ran {
        let output = self.command(words).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Begins it.
    pub(crate) fn start(&self, words: &str) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The phase of a machine.
    #[track_caller]
    pub(crate) fn phase(&self, machine: &str) -> String {
        let shown = self.run(&format!("show {machine} --json")).with(0).json();
        shown["shown"][0]["phase"].as_str().unwrap().to_owned()
    }
}

/// Runs a command with one more word, which may have blanks in it.
pub(crate) fn with_last(mut command: Command, word: &str) -> Ran {
    command.arg(word);
    ended(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap())
}

/// Looks until it holds, for a minute.
#[track_caller]
pub(crate) fn soon(what: &str, holds: impl Fn() -> bool) {
    let came = (0..1_200).any(|_| {
        holds() || {
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    });
    assert!(came, "{what}: it did not come in a minute");
}

/// Bytes that only this seed gives.
pub(crate) fn bytes(seed: &str, count: usize) -> Vec<u8> {
    let mut state =
        seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(count);
    all
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[track_caller]
pub(crate) fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The daemon, once it runs. What it tells is taken from it all the time. It goes with its test.
pub(crate) struct Daemon {
    process: Child,
    told: Option<JoinHandle<String>>,
}

impl Daemon {
    #[track_caller]
    pub(crate) fn start(ground: &Ground) -> Self {
        let mut process = ground.start("run");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let runs = lines.any(|line| line.contains("running"));
        let told = std::thread::spawn(move || lines.fold(String::new(), |told, line| told + &line + "\n"));
        let daemon = Self { process, told: Some(told) };
        assert!(runs, "the daemon has ended");
        daemon
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it in order. What it has told since it ran.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        signal(&self.process, Signal::TERM);
        let told = self.told.take().unwrap().join().unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "{told}");
        told
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A command of a machine that says that it was reached, and waits until it is let go: by two pipes in its directory.
pub(crate) struct Gate {
    home: PathBuf,
}

impl Gate {
    /// The words for a description, of the pipes `name.held` and `name.gate`.
    pub(crate) fn command(name: &str) -> String {
        format!(
            r#"{{ "run": ["/bin/sh", "-c", "echo reached > {name}.held; cat {name}.gate > /dev/null"], "seconds": 300 }}"#
        )
    }

    pub(crate) fn make(home: PathBuf, name: &str) -> Self {
        fs::create_dir_all(&home).unwrap();
        let gate = Self { home: home.join(name) };
        for path in [gate.held(), gate.gate()] {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }
        gate
    }

    fn held(&self) -> PathBuf {
        self.home.with_extension("held")
    }

    fn gate(&self) -> PathBuf {
        self.home.with_extension("gate")
    }

    /// Waits until the command is reached.
    pub(crate) fn reached(&self) {
        assert_eq!(fs::read_to_string(self.held()).unwrap(), "reached\n");
    }

    /// Lets it go on, once.
    pub(crate) fn open(&self) {
        fs::write(self.gate(), "go\n").unwrap();
    }
}
