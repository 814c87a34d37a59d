//! Servers of VMware's as settings name them, its simulator in their place: a machine goes to a directory and comes home by verbs,
//! and what is wrong in the settings is refused by name, without a secret.
#![cfg(all(feature = "vsphere", feature = "esxi"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../vim/tests/simulator/process.rs"]
mod process;
mod support;

use process::{Mode, Sim};
use serde_json::{Value, json};
use site_recovery::SystemClock;
use site_recovery_vim::{ConfigSpec, Moref, Vim};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::{Ground, bytes, with_last};
use tokio::runtime::Runtime;

/// In bytes; VMware's own unit is the KiB.
const DISKS: [usize; 2] = [512 << 10, 260 << 10];
/// Of the simulator.
const PASSWORD: &str = "s3cret";
const SITE: &str = "berlin";

/// A server with a machine `web` that runs, and settings that name it. This test runs in its other machine.
struct Server {
    ground: Ground,
    runtime: Runtime,
    sim: Sim,
    eyes: Vim,
    web: String,
    appliance: Moref,
    settings: String,
}

impl Server {
    fn start(mode: Mode) -> Option<Self> {
        let sim = Sim::start_with(mode, &["--machines", "1", "--disk-size", "65536"])?;
        let (ground, runtime) = (Ground::new(), Runtime::new().unwrap());
        let devices = ground.path("devices");
        let (eyes, appliance, uuid, web) = runtime.block_on(async {
            let eyes = Vim::connect(&sim.settings, Arc::new(SystemClock)).await.unwrap();
            let only = eyes.machines(&eyes.content().root_folder).await.unwrap().remove(0);
            let shown = ConfigSpec { disk_uuid: Some(true), ..ConfigSpec::default() };
            let task = eyes.reconfigure(&only.moref, &shown).await.unwrap();
            task.wait(Duration::from_secs(30)).await.unwrap();
            sim.tell("block-devices", json!({ "machine": only.moref.id, "folder": devices })).await;
            let made = json!({ "name": "web", "datastore": "LocalDS_0", "disks": DISKS, "on": true });
            let web = sim.tell("machine-create", made).await["machine"].as_str().unwrap().to_owned();
            (eyes, only.moref, only.instance_uuid.unwrap(), web)
        });
        fs::write(ground.path("password"), format!("{PASSWORD}\n")).unwrap();
        let settings = settings(&sim, &uuid, ground.root());
        ground.settings(&settings);
        let server = Self { ground, runtime, sim, eyes, web, appliance, settings };
        for (file, size) in server.files().iter().zip(DISKS) {
            fs::write(file, bytes(&file.to_string_lossy(), size)).unwrap();
        }
        Some(server)
    }

    fn tell(&self, verb: &str, body: Value) -> Value {
        self.runtime.block_on(self.sim.tell(verb, body))
    }

    /// Where the bytes of its disks are now.
    fn files(&self) -> Vec<PathBuf> {
        let disks = self.tell("disks", json!({ "machine": self.web }));
        disks.as_array().unwrap().iter().map(|disk| disk["file"].as_str().unwrap().into()).collect()
    }

    fn write(&self, disk: usize, at: u64, text: &str) {
        let file = fs::OpenOptions::new().write(true).open(&self.files()[disk]).unwrap();
        file.write_all_at(text.as_bytes(), at).unwrap();
    }

    /// By whether its guest can write.
    fn runs(&self) -> bool {
        let nothing = json!({ "machine": self.web, "key": 0, "offset": 0, "data": "" });
        self.runtime.block_on(self.sim.try_tell("guest-write", &nothing)).is_ok()
    }

    /// Each disk is the same at the server and in the cloud.
    #[track_caller]
    fn both_sides_are_the_same(&self, when: &str) {
        let (here, there) = (self.files(), self.ground.files("cloud", "web"));
        assert_eq!((here.len(), there.len()), (2, 2), "{when}");
        for (one, other) in here.iter().zip(&there) {
            let (one, other) = (fs::read(one).unwrap(), fs::read(other).unwrap());
            assert!(one == other, "{when}: a disk of {} bytes differs", one.len());
        }
    }

    /// Nothing of ours is left at the server but the marks.
    fn nothing_is_left(&self, when: &str) {
        let (snapshots, disks) = self.runtime.block_on(async {
            let web = Moref::new("VirtualMachine", &self.web);
            let appliance = self.eyes.machine(&self.appliance).await.unwrap();
            (self.eyes.snapshots(&web).await.unwrap(), appliance.details.unwrap().devices.disks.len())
        });
        assert_eq!((snapshots.len(), disks), (0, 1), "{when}");
    }
}

fn settings(sim: &Sim, appliance: &str, root: &Path) -> String {
    let kind = if sim.mode == Mode::VCenter { "vsphere" } else { "esxi" };
    let site_recovery_https::Trust::Sha256(pin) = &sim.settings.trust else { panic!("a pin") };
    let (url, root) = (&sim.settings.url, root.display());
    format!(
        r#"
[vault]
state = "state"
[sites.{SITE}]
kind = "{kind}"
directory = "{root}/{SITE}"
appliance = "{appliance}"
block_devices = {{ sys = "{root}/devices/block", dev = "{root}/devices/dev" }}
[sites.{SITE}.server]
url = "{url}"
trust = {{ sha256 = "{pin}" }}
user = "admin"
password = {{ file = "{root}/password" }}
limits = {{ pause_ms = 5 }}
[sites.cloud]
kind = "local"
directory = "cloud"
[stores.points]
kind = "directory"
directory = "points"
[legs.out]
from = "{SITE}"
to = "cloud"
store = "points"
[legs.back]
from = "cloud"
to = "{SITE}"
retention = "retention"
settings = {{ datastore = "LocalDS_0" }}
"#
    )
}

fn over_and_back(mode: Mode) {
    let Some(server) = Server::start(mode) else { return };
    let ground = &server.ground;
    assert_eq!(ground.run("list --json").with(0).json(), json!({ "items": [] }));
    ground.run("protect web").with(0);
    let ready = ground.run("ready web --json").with(0).json();
    assert_eq!(ready["ready"][0]["ready"], true, "{ready}");
    assert!(!ready.to_string().contains("back.setting"), "it is told the datastore: {ready}");
    server.nothing_is_left("protected");

    server.write(1, 4096, "written after the first point");
    let over = ground.run("failover web --json").with(0).json();
    assert_eq!(over["job"]["members"][0]["loss_at_most_seconds"], 0.0);
    assert_eq!(over["job"]["items"][0]["runs_at"], "cloud");
    server.both_sides_are_the_same("failed over");
    assert!(!server.runs(), "it runs at the server as well");
    ground.run("commit web --yes").with(0);

    let there = ground.files("cloud", "web");
    let name = |disk: usize| there[disk].file_name().unwrap().to_str().unwrap().to_owned();
    ground.write_to("cloud", "web", &name(0), 65536, "written over there");
    ground.run("reprotect web").with(0);
    ground.write_to("cloud", "web", &name(1), 131_072, "written last over there");
    let back = ground.run("failback web --json").with(0).json();
    assert_eq!(back["job"]["items"][0]["runs_at"], SITE);
    server.both_sides_are_the_same("failed back");
    assert!(server.runs(), "it runs at the server again");
    ground.run("commit web --yes").with(0);
    ground.run("reprotect web").with(0);
    let listed = ground.run("list --json").with(0).json();
    let item = &listed["items"][0];
    assert_eq!((&item["phase"], &item["direction"]), (&"Protected".into(), &"PrimaryToRecovery".into()));
    server.nothing_is_left("protected again");
}

#[test]
fn d4_a_machine_of_a_vcenter_goes_over_and_comes_back_by_verbs() {
    over_and_back(Mode::VCenter);
}

#[test]
fn d4_a_machine_of_a_host_goes_over_and_comes_back_by_verbs() {
    over_and_back(Mode::Esxi);
}

/// The server is gone, and whoever knew it as well: what its machine was goes on from the newest point.
fn its_machine_goes_on_without(mode: Mode) {
    let Some(mut server) = Server::start(mode) else { return };
    server.ground.run("protect web").with(0);
    let protected: Vec<Vec<u8>> = server.files().iter().map(|file| fs::read(file).unwrap()).collect();
    server.sim.kill();
    let ground = &server.ground;
    let listed = ground.run("list --json").with(0).json();
    assert_eq!(listed["items"][0]["runs_at"], SITE);
    let over = ground.command("failover web --unplanned --yes --json --reason");
    let over = with_last(over, "the site is dark").with(0).json();
    assert_eq!(over["job"]["items"][0]["runs_at"], "cloud", "{over}");
    assert_eq!(over["job"]["members"][0]["running"], true);
    let there: Vec<Vec<u8>> =
        ground.files("cloud", "web").iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(there == protected, "it is not what was protected");
    // Of a server that nobody has seen nothing is known.
    fs::remove_file(ground.path(SITE).join("server.json")).unwrap();
    let unknown = ground.run("list").with(8);
    assert!(unknown.err.contains(SITE), "{}", unknown.err);
}

#[test]
fn a_machine_of_a_vcenter_that_is_gone_goes_on_in_the_cloud() {
    its_machine_goes_on_without(Mode::VCenter);
}

#[test]
fn a_machine_of_a_host_that_is_gone_goes_on_in_the_cloud() {
    its_machine_goes_on_without(Mode::Esxi);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => vec![],
        })
        .collect()
}

#[test]
fn c1_a_wrong_password_and_another_server_are_refused_by_site_and_no_secret_is_told() {
    let Some(server) = Server::start(Mode::VCenter) else { return };
    let ground = &server.ground;
    let mut said = String::new();
    let mut run = |words: &str, code: i32| {
        let output = ground.command(words).env("SITE_RECOVERY_LOG", "trace").output().unwrap();
        let (out, err) = [output.stdout, output.stderr].map(|t| String::from_utf8(t).unwrap()).into();
        said += &out;
        said += &err;
        support::Ran { code: output.status.code().unwrap(), out, err }.with(code)
    };
    run("protect web", 0);

    fs::write(ground.path("password"), "canary-of-yesterday\n").unwrap();
    let denied = run("ready web --json", 9);
    assert!(denied.json()["failed"]["message"].as_str().unwrap().contains(SITE), "{}", denied.out);
    fs::write(ground.path("password"), format!("{PASSWORD}\n")).unwrap();

    let pin = server.settings.split_once("sha256 = \"").unwrap().1.split('"').next().unwrap();
    let of_another: String = pin.chars().rev().collect();
    ground.settings(&server.settings.replace(pin, &of_another));
    let stranger = run("ready web --json", 9);
    let message = stranger.json()["failed"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(SITE) && message.contains("not the one that is trusted"), "{message}");

    ground.settings(&server.settings.replace(pin, "abcd"));
    let no_pin = run("list", 4);
    assert!(no_pin.err.contains(SITE) && no_pin.err.contains("sha256"), "{}", no_pin.err);
    ground.settings(&server.settings.replace("user = \"admin\"", "usr = \"admin\""));
    let line = server.settings.lines().position(|line| line.starts_with("user")).unwrap() + 1;
    let unknown = run("list", 4);
    assert!(unknown.err.contains(&format!("site-recovery.toml, line {line}")), "{}", unknown.err);

    ground.settings(&server.settings.replace("block_devices = { sys = \"/", "block_devices = { sys = \""));
    let from_somewhere = run("list", 4);
    assert!(from_somewhere.err.contains("block_devices"), "{}", from_somewhere.err);

    ground.settings(&server.settings);
    run("audit web --json", 0);
    assert!(said.contains(" TRACE "), "nothing was traced");
    for secret in [PASSWORD, "canary-of-yesterday"] {
        assert!(!said.contains(secret), "{secret} was told");
        for dir in ["state", SITE] {
            for file in files(&ground.path(dir)) {
                let content = fs::read(&file).unwrap();
                let has = content.windows(secret.len()).any(|w| w == secret.as_bytes());
                assert!(!has, "{secret} stands in {}", file.display());
            }
        }
    }
}
