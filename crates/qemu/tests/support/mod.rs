//! A directory with QEMU machines, the site over it, and what is read of both around the adapter: by a monitor of the
//! test's own, and by QEMU's own tools.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "each test file uses a part"
)]

use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_qemu::{Accelerator, Choice, Network, QemuSite, QemuSiteBuilder};
use site_recovery_qmp::{Limits, Monitor};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const KIB: u64 = 1024;
pub const ROOT: u64 = 300 * KIB;
pub const DATA: u64 = 1024 * KIB + 512;
/// Longer than anything here may take, on a machine that is busy with other things.
pub const BOUND: Duration = Duration::from_secs(60);

/// Whether the programs are there; otherwise says so, or fails where they have to be.
pub fn qemu_is_here() -> bool {
    let programs = ["qemu-system-x86_64", "qemu-img", "qemu-io", "qemu-storage-daemon"];
    let absent = programs.iter().find(|p| Command::new(p).arg("--version").output().is_err());
    if let Some(program) = absent {
        skip("everything on QEMU", &format!("{program} is absent"));
    }
    absent.is_none()
}

/// Says what was not tried, or fails where it has to be.
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("SITE_RECOVERY_PEERS").as_deref() == Ok("required");
    assert!(!required, "{what}: {why}, and peers are required");
    eprintln!("SKIPPED {what}: {why}");
}

/// Runs a case that needs QEMU, on a runtime that serves points while the case waits.
pub fn on_qemu(case: impl Future<Output = ()>) {
    if qemu_is_here() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(case);
    }
}

type Told = fn(QemuSiteBuilder, &Path) -> QemuSiteBuilder;

pub struct World {
    pub dir: TempDir,
    pub site: QemuSite,
    told: Told,
}

pub fn builder(root: &Path) -> QemuSiteBuilder {
    QemuSite::builder("here".into(), root)
        .accelerator(Choice::Fixed(Accelerator::Tcg))
        .network("production", Network::production("user"))
        .network("lan", Network::production("user"))
        .hydrate_after(Duration::ZERO)
        .patience(Duration::from_secs(30))
}

impl World {
    pub async fn new() -> Self {
        Self::told(|builder, _| builder).await
    }

    /// A world whose site is told more; beside the site, files may stand in the directory.
    pub async fn told(told: Told) -> Self {
        let dir = TempDir::new().unwrap();
        let site = told(builder(&dir.path().join("site")), dir.path()).open().await.unwrap();
        Self { dir, site, told }
    }

    /// The same directory, opened anew: what another process, or this one after a crash, sees.
    pub async fn again(&self) -> QemuSite {
        (self.told)(builder(&self.root()), self.dir.path()).open().await.unwrap()
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    pub fn path(&self, rest: impl AsRef<Path>) -> PathBuf {
        self.root().join(rest)
    }

    /// A machine with a system disk and a data disk; the disks hold a little, the rest is holes.
    pub fn machine(&self, name: &str) {
        fs::create_dir_all(self.path(name).join("disks")).unwrap();
        let text = json!({
            "disks": [{ "id": "root", "file": "root.qcow2" }, { "id": "data", "file": "data.qcow2" }],
            "nics": [{ "id": "n0", "network": "lan" }], "memory": 32 << 20, "machine": "pc",
            "arguments": self.outside(name),
        });
        fs::write(self.path(name).join("machine.json"), text.to_string()).unwrap();
        for (disk, size) in [("root", ROOT), ("data", DATA)] {
            let path = self.path(name).join("disks").join(format!("{disk}.qcow2"));
            run("qemu-img", &["create", "-q", "-f", "qcow2", text_of(&path), &size.to_string()]);
        }
        self.put(name, 0, 4096, &b"a root file system..".repeat(100));
        self.put(name, 1, 8192, &b"some data".repeat(100));
    }

    /// A monitor of the test's own, beside that of the library.
    fn outside(&self, name: &str) -> [String; 2] {
        let socket = self.dir.path().join(format!("{name}.qmp"));
        ["-qmp".into(), format!("unix:{},server=on,wait=off", socket.display())]
    }

    pub fn monitor(&self, name: &str) -> Option<Monitor> {
        let limits = Limits { greeting: BOUND, answer: BOUND, ..Limits::default() };
        let outside = self.dir.path().join(format!("{name}.qmp"));
        // A machine that the library made has the library's monitor alone, which it lets go after each act.
        let socket = if outside.exists() { outside } else { self.place(name).join("qmp") };
        let end = now() + BOUND;
        loop {
            match Monitor::connect(&socket, limits) {
                Ok(monitor) => return Some(monitor),
                Err(_) if pid(&self.place(name).join("pid")).is_none() => return None,
                Err(error) => assert!(now() < end, "{name} runs, and {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub async fn running(&self, name: &str) {
        self.machine(name);
        self.site.power_on(name).await.unwrap();
    }

    pub async fn enrolled(&self, name: &str) -> Instance {
        self.running(name).await;
        self.enrol(name).await
    }

    pub async fn enrol(&self, name: &str) -> Instance {
        let mut machine = self.found(name).await;
        machine.instance.machine = MachineId(format!("m-{name}"));
        self.site.enrol(&op("enrol"), &machine).await.unwrap();
        machine.instance
    }

    pub async fn found(&self, name: &str) -> Machine {
        let all = self.site.discover().await.unwrap();
        all.into_iter().find(|m| m.instance.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The image of a disk, by its place in the description.
    pub fn image(&self, name: &str, disk: usize) -> PathBuf {
        let text = fs::read(self.path(name).join("machine.json")).unwrap();
        let described: Value = serde_json::from_slice(&text).unwrap();
        let file = described["disks"][disk]["file"].as_str().unwrap();
        let found = ["fenced", "disks"].map(|d| self.path(name).join(d).join(file));
        let found = found.into_iter().find(|p| p.exists()).unwrap();
        let above = PathBuf::from(format!("{}.branch", found.display()));
        let landing = fs::read(self.path(name).join(".site-recovery/landing.json")).unwrap_or_default();
        let landing: Value = serde_json::from_slice(&landing).unwrap_or_default();
        if landing["branch"].is_object() { above } else { found }
    }

    /// Writes as the guest where it runs, else into the image.
    pub fn put(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let source =
            self.dir.path().join(format!("put-{:?}", std::thread::current().id()).replace(['(', ')'], "-"));
        fs::write(&source, bytes).unwrap();
        let command = format!("write -q -s {} {at} {}", source.display(), bytes.len());
        match self.monitor(name) {
            Some(mut monitor) => {
                let line = format!("qemu-io -d /machine/peripheral/v{disk}/virtio-backend \"{command}\"");
                let said = monitor.call("human-monitor-command", json!({ "command-line": line })).unwrap();
                assert_eq!(said, "", "the guest's write failed");
            }
            None => {
                let image = self.image(name, disk);
                run("qemu-io", &["-f", format_of(&image), "-c", &command, text_of(&image)]);
            }
        }
    }

    /// Writes out what the process keeps to itself, where it runs.
    pub fn flush(&self, name: &str) {
        let Some(mut monitor) = self.monitor(name) else { return };
        for disk in 0..2 {
            let line = format!("qemu-io -d /machine/peripheral/v{disk}/virtio-backend \"flush\"");
            monitor.call("human-monitor-command", json!({ "command-line": line })).unwrap();
        }
    }

    /// What a disk holds now, by `qemu-img`, after what the process keeps to itself is written out.
    pub fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.flush(name);
        let to = self
            .dir
            .path()
            .join(format!("content-{:?}", std::thread::current().id()).replace(['(', ')'], "-"));
        let image = self.image(name, disk);
        let arguments =
            ["convert", "-U", "-f", format_of(&image), "-O", "raw", text_of(&image), text_of(&to)];
        run("qemu-img", &arguments);
        fs::read(to).unwrap()
    }

    /// The block node that each disk's device writes to.
    pub fn drives(&self, name: &str) -> Vec<String> {
        let found = self.monitor(name).unwrap().call("query-block", Value::Null).unwrap();
        let devices = found.as_array().unwrap().iter().filter(|b| b["qdev"].is_string());
        devices.map(|b| b["inserted"]["node-name"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether it executes, by its own word.
    pub fn is_on(&self, name: &str) -> bool {
        let Some(mut monitor) = self.monitor(name) else { return false };
        monitor.call("query-status", Value::Null).is_ok_and(|s| s["running"] == true)
    }

    pub fn switch_off(&self, name: &str) {
        let Some(mut monitor) = self.monitor(name) else { return };
        // About to end, it is not found by its name any more.
        let file = self.place(name).join("pid");
        let _it_may_be_gone_before_it_answers = monitor.call("quit", Value::Null);
        monitor.wait_closed(BOUND).unwrap();
        drop(monitor);
        until("the process is over", || pid(&file).is_none());
    }

    /// The power cut: no bitmap is stored, no cache written.
    pub fn kill(&self, name: &str) {
        let file = self.place(name).join("pid");
        let Some(pid_now) = pid(&file) else { return };
        kill(pid_now);
        until("the process is over", || pid(&file).is_none());
    }

    /// Every file of this name where sockets and process files stand.
    pub fn in_places(&self, file: &str) -> Vec<PathBuf> {
        let places = fs::read_dir(self.path(".site-recovery/run")).into_iter().flatten().flatten();
        places.map(|p| p.path().join(file)).filter(|f| fs::symlink_metadata(f).is_ok()).collect()
    }

    /// Where sockets and process files of a machine stand.
    pub fn place(&self, name: &str) -> PathBuf {
        let run = self.path(".site-recovery/run");
        for entry in fs::read_dir(&run).into_iter().flatten() {
            let dir = entry.unwrap().path();
            let named =
                pid(&dir.join("pid")).is_some_and(|p| command_line(p).contains(&format!("guest={name},")));
            if named {
                return dir;
            }
        }
        run.join("none")
    }

    /// The networks that a running machine's NICs are attached to, by its command line.
    pub fn backends(&self, name: &str) -> Vec<String> {
        let Some(pid) = pid(&self.place(name).join("pid")) else { return vec![] };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let words: Vec<String> =
            line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        words.windows(2).filter(|w| w[0] == "-netdev").map(|w| w[1].clone()).collect()
    }

    /// Captures and snapshots of a machine, by names in its process and by its images.
    pub fn captures(&self, name: &str) -> usize {
        let image = run_for("qemu-img", &["info", "-U", "--output=json", text_of(&self.image(name, 0))]);
        let image: Value = serde_json::from_str(&image).unwrap();
        let snapshots = image["snapshots"].as_array().map_or(0, Vec::len);
        let Some(mut monitor) = self.monitor(name) else {
            let left = fs::read_dir(self.path(name).join(".site-recovery/captures"));
            return snapshots + left.map_or(0, Iterator::count);
        };
        let nodes = monitor.call("query-named-block-nodes", json!({ "flat": true })).unwrap();
        let names = nodes.as_array().unwrap().iter().filter_map(|n| n["node-name"].as_str());
        let tags: BTreeSet<_> = names.filter_map(|n| n.strip_prefix("dr-")?.get(4..20)).collect();
        snapshots + tags.len()
    }

    pub fn everything(&self) -> Vec<String> {
        let names = fs::read_dir(self.root()).unwrap();
        names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n != ".site-recovery")
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path(".site-recovery/run")).into_iter().flatten().flatten() {
            for file in ["pid", "s-pid", "tpm-pid"] {
                if let Some(pid) = pid(&entry.path().join(file)) {
                    kill(pid);
                }
            }
        }
    }
}

/// The living process that wrote this file.
pub fn pid(file: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let over = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    // Its last thread holds its files.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let line = command_line(pid);
    // About to end, it has no command line any more.
    let named = line.is_empty() || line.contains(file.to_str()?);
    ((!over || threads > 1) && named).then_some(pid)
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

pub fn kill(pid: u32) {
    run("kill", &["-9", &pid.to_string()]);
}

/// The time of the host, by which its processes live.
#[allow(clippy::disallowed_methods, reason = "a process of this host takes this host's time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks again and again, for a bounded time.
#[allow(clippy::disallowed_methods, reason = "it waits for processes of this host")]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = now() + BOUND;
    while !holds() {
        assert!(now() < end, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks again while the answer is `Busy`, for a bounded time.
pub async fn answered<T, C: Future<Output = Result<T>>>(what: &str, ask: impl Fn() -> C) -> Result<T> {
    let end = now() + BOUND;
    loop {
        match ask().await {
            Err(error) if error.kind() == ErrorKind::Busy => {
                assert!(now() < end, "{what} is busy for ever: {error}");
                std::thread::sleep(Duration::from_millis(20));
            }
            answer => return answer,
        }
    }
}

pub fn run(program: &str, arguments: &[&str]) {
    run_for(program, arguments);
}

pub fn run_for(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// The tests name raw images so.
fn format_of(image: &Path) -> &'static str {
    if image.extension().is_some_and(|e| e == "raw") { "raw" } else { "qcow2" }
}

pub fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number: 1, owner: "engine".into() } }
}
