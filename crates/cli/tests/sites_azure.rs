//! Azure as settings name it, our fakes of Resource Manager, sign-in and Blob Storage in its place: a machine is drilled there, goes
//! there and comes home by verbs.
#![cfg(feature = "azure")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../azure/tests/opened/ground.rs"]
mod fakes;
mod support;

use fake_arm::Power;
use serde_json::Value;
use std::fs;
use std::path::Path;
use support::{Daemon, Ground};
use tokio::runtime::Runtime;

/// A subscription of fakes, and two ways between it and a directory.
struct Scene {
    ground: Ground,
    cloud: fakes::Ground,
    _runtime: Runtime,
}

impl Scene {
    fn new() -> Self {
        let (ground, runtime) = (Ground::new(), Runtime::new().unwrap());
        let cloud = runtime.block_on(fakes::Ground::new(|_| {}));
        ground.settings(&settings(&cloud.told()));
        ground.machine("web", 2);
        Self { ground, cloud, _runtime: runtime }
    }

    fn power(&self, machine: &str) -> Option<Power> {
        self.cloud.manager.machine(machine).power()
    }

    /// Resources of a machine's disks in Azure: that of the system, and the others.
    fn resources(&self, machine: &str) -> Vec<String> {
        let world = self.cloud.manager.world();
        let of = |one: &&fake_arm::Resource| {
            one.kind == "Microsoft.Compute/virtualMachines" && one.name == machine
        };
        let storage = &world.iter().find(of).expect("it is there").body["properties"]["storageProfile"];
        let id = |disk: &Value| disk["managedDisk"]["id"].as_str().unwrap().to_owned();
        let data = storage["dataDisks"].as_array().unwrap().iter().map(id);
        std::iter::once(id(&storage["osDisk"])).chain(data).collect()
    }

    /// What its disks hold there.
    fn disks(&self, machine: &str) -> Vec<Vec<u8>> {
        let content = |id: &String| {
            let image = self.cloud.manager.disk(id).unwrap();
            image.read(0, image.size())
        };
        self.resources(machine).iter().map(content).collect()
    }

    /// A sector, as its guest writes it.
    fn write(&self, machine: &str, disk: usize, at: u64, text: &str) {
        let resources = self.resources(machine);
        let name = resources[disk].rsplit('/').next().unwrap();
        let mut sector = text.as_bytes().to_vec();
        sector.resize(512, 0);
        self.cloud.manager.machine(machine).write(name, at, &sector).unwrap();
    }

    #[track_caller]
    fn both_sides_are_the_same(&self, there: &str) {
        assert!(self.disks(there) == self.ground.disks("here", "web"), "the disks of {there} differ");
    }

    fn names(&self, kind: &str) -> Vec<String> {
        self.cloud.names(&format!("Microsoft.Compute/{kind}"))
    }
}

fn settings(azure: &Value) -> String {
    let azure: String =
        azure.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {}\n", toml(value))).collect();
    format!(
        r#"
[vault]
state = "state"
[run]
metrics = "off"
[sites.here]
kind = "local"
directory = "here"
[sites.azure]
kind = "azure"
{azure}
[stores.points]
kind = "azure"
site = "azure"
[legs.out]
from = "here"
to = "azure"
store = "points"
[legs.back]
from = "azure"
to = "here"
retention = "retention"
"#
    )
}

/// A value as TOML has it within a line.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn d5_a_machine_is_drilled_in_azure_and_nothing_of_it_is_left() {
    let scene = Scene::new();
    // One engine for all verbs: each new one waits at Azure until nothing of the one before it can come any more.
    let (ground, daemon) = (&scene.ground, Daemon::start(&scene.ground));
    ground.run("protect web").with(0);
    assert_eq!(scene.names("virtualMachines"), [""; 0]);
    let drill = ground.run("drill web --json").with(0).json();
    assert_eq!(drill["job"]["members"][0]["running"], true);
    assert_eq!(scene.power("web-test"), Some(Power::Running));
    scene.both_sides_are_the_same("web-test");
    ground.run("drill web --clean-up").with(0);
    assert_eq!((scene.names("virtualMachines"), scene.names("disks")), (vec![], vec![]));
    daemon.stop();
}

#[test]
fn d4_a_machine_goes_to_azure_and_comes_home_by_verbs() {
    let scene = Scene::new();
    // One engine for all verbs: each new one waits at Azure until nothing of the one before it can come any more.
    let (ground, daemon) = (&scene.ground, Daemon::start(&scene.ground));
    ground.run("protect web").with(0);
    ground.write("here", "web", 4096, "written last");
    let over = ground.run("failover web --json").with(0).json();
    assert_eq!(over["job"]["items"][0]["runs_at"], "azure");
    assert_eq!(scene.power("web"), Some(Power::Running));
    scene.both_sides_are_the_same("web");
    ground.run("commit web --yes").with(0);

    scene.write("web", 1, 65536, "written over there");
    ground.run("reprotect web").with(0);
    scene.write("web", 0, 131_072, "written last over there");
    let back = ground.run("failback web --json").with(0).json();
    assert_eq!(back["job"]["items"][0]["runs_at"], "here");
    assert_eq!(scene.power("web"), Some(Power::Deallocated));
    scene.both_sides_are_the_same("web");
    daemon.stop();
}

/// Another way, of which nothing is in Azure.
const ASIDE: &str = r#"
[sites.aside]
kind = "local"
directory = "aside"
[stores.kept]
kind = "directory"
directory = "kept"
[legs.over]
from = "here"
to = "aside"
store = "kept"
[legs.home]
from = "aside"
to = "here"
retention = "kept-home"
[machines.db]
out = "over"
back = "home"
"#;

#[test]
fn o3_what_does_not_need_azure_goes_on_while_it_is_gone() {
    let scene = Scene::new();
    let told = settings(&scene.cloud.told()) + ASIDE;
    let ground = &scene.ground;
    ground.settings(&told);
    ground.machine("db", 1);
    ground.run("protect web").with(0);
    // Resource Manager and the sign-in, and so the container.
    scene.cloud.manager.silence(true);

    let listed = ground.run("list --json").with(0).json();
    assert_eq!(listed["items"][0]["runs_at"], "here");
    ground.run("protect db").with(0);
    ground.run("failover db").with(0);
    assert!(ground.disks("aside", "db") == ground.disks("here", "db"));
    let drill = ground.run("drill web --json");
    assert_eq!(drill.json()["failed"]["kind"], "Unavailable", "{}", drill.out);
    assert_eq!(ground.phase("web"), "Protected");

    // Nothing is taken for known of which Azure has never said anything: another group, or a site that was never open here.
    let is_refused = || {
        let list = ground.run("list --json").json();
        let (kind, message) = (&list["failed"]["kind"], list["failed"]["message"].as_str().unwrap());
        assert!(kind == "Unavailable" && message.starts_with("azure: "), "{list}");
    };
    ground.settings(&told.replace("group = \"rg\"", "group = \"another\""));
    is_refused();
    ground.settings(&told);
    ground.run("list").with(0);
    fs::write(ground.path("state/sites/azure.json"), "{").unwrap();
    is_refused();
    fs::remove_file(ground.path("state/sites/azure.json")).unwrap();
    is_refused();
}

#[test]
fn c1_a_wrong_secret_is_refused_by_site_and_told_to_nobody() {
    let scene = Scene::new();
    let ground = &scene.ground;
    scene.cloud.write("secret", "canary-of-yesterday");
    let output = ground.command("protect web --json").env("SITE_RECOVERY_LOG", "trace").output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(9), "{out}{err}");
    let failed: Value = serde_json::from_str(&out).unwrap();
    let message = failed["failed"]["message"].as_str().unwrap();
    assert!(message.starts_with("azure: ") && message.contains("Invalid client secret"), "{message}");
    assert!(!out.contains("canary") && !err.contains("canary"), "{out}{err}");

    scene.cloud.write("secret", fakes::SECRET);
    let output = ground.command("protect web").env("SITE_RECOVERY_LOG", "trace").output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(!out.contains("canary") && !err.contains("canary"), "{out}{err}");
    nobody_wrote_it_down(&ground.path("state"));
}

/// In no file of a directory, however deep.
fn nobody_wrote_it_down(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nobody_wrote_it_down(&path);
        } else if path.is_file() {
            let content = fs::read(&path).unwrap();
            assert!(!content.windows(6).any(|w| w == b"canary"), "it stands in {}", path.display());
        }
    }
}
