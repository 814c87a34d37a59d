//! The suites of the roles, run on QEMU processes that execute a BIOS and no system: writes are made through the guest's
//! device, past the adapter.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use async_trait::async_trait;
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_qmp::{Limits, Monitor};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::{
    self, LandingSiteFixture, RecoverySiteFixture, SourceFixture, TargetFixture,
};
use site_recovery_testkit::world::MemoryReplica;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use support::*;

/// Makes a `#[test]` of every case where QEMU is here.
macro_rules! case_on_qemu {
    ($fixture:ty, $suite:ident, $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                if qemu_is_here() {
                    suite::run(suite::$suite::$case::<$fixture>());
                }
            }
        )+
    };
}

/// Work that waits for processes, off the thread on which the site's own servers run.
async fn aside<T: Send + 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> T + Send + 'static) -> T {
    let world = Arc::clone(world);
    tokio::task::spawn_blocking(move || f(&world)).await.unwrap()
}

/// The command line that was printed for a machine, which whoever wrote it down may run at any time.
#[derive(Clone)]
struct Printed(Vec<String>);

impl Printed {
    async fn of(world: &World, name: &str) -> Self {
        Self(world.site.command_line(name).await.unwrap())
    }

    /// Starts the machine as a person does, who looks at no mark of ours. False where QEMU does not get its images.
    fn run(&self, world: &World, name: &str) -> bool {
        let output = Command::new(&self.0[0]).args(&self.0[1..]).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            assert!(complaint.contains("/disks/"), "it is kept off by something else: {complaint}");
            return false;
        }
        world.monitor(name).unwrap().call("cont", Value::Null).unwrap();
        true
    }
}

/// A guest that was asked to shut down, and the process that it lives in.
struct Asked {
    pid: u32,
    monitor: Monitor,
    asked: bool,
}

/// A directory with two machines that run.
struct AtSource {
    world: Arc<World>,
    site: site_recovery_qemu::QemuSite,
    printed: BTreeMap<String, Printed>,
    /// Its BIOS never hears its power button.
    deaf: Mutex<Option<Asked>>,
    /// Processes that stand still, so that nothing of them answers.
    silent: Mutex<Vec<u32>>,
}

impl AtSource {
    fn ears(world: &World, name: &str) -> std::path::PathBuf {
        world.dir.path().join(format!("{name}.ears"))
    }

    /// One more monitor of the test's own, which can be listened to while the other one is used.
    fn add_ears(world: &World, name: &str) {
        let file = world.path(name).join("machine.json");
        let mut described: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let socket = format!("unix:{},server=on,wait=off", Self::ears(world, name).display());
        described["arguments"].as_array_mut().unwrap().extend([json!("-qmp"), json!(socket)]);
        fs::write(file, described.to_string()).unwrap();
    }

    fn pid(&self, name: &str) -> Option<u32> {
        pid(&self.world.place(name).join("pid"))
    }
}

fn signal(pid: u32, which: &str) {
    run("kill", &[which, &pid.to_string()]);
}

#[async_trait]
impl SourceFixture for AtSource {
    async fn new() -> Self {
        let world = World::new().await;
        let mut printed = BTreeMap::new();
        for name in ["web", "db"] {
            world.machine(name);
            Self::add_ears(&world, name);
            printed.insert(name.to_owned(), Printed::of(&world, name).await);
            world.site.power_on(name).await.unwrap();
        }
        let site = world.site.clone();
        Self { site, world: Arc::new(world), printed, deaf: Mutex::default(), silent: Mutex::default() }
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    async fn reopen(&mut self) {
        self.site = self.world.again().await;
    }
    fn machines(&self) -> [String; 2] {
        ["web".into(), "db".into()]
    }
    async fn write(&self, name: &str, disk: usize, at: u64, content: &[u8]) {
        let (name, content) = (name.to_owned(), content.to_vec());
        aside(&self.world, move |w| w.put(&name, disk, at, &content)).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let name = name.to_owned();
        aside(&self.world, move |w| w.content(&name, disk)).await
    }
    async fn is_running(&self, name: &str) -> bool {
        if !self.silent.lock().unwrap().is_empty() {
            return self.pid(name).is_some();
        }
        self.world.is_on(name)
    }
    async fn captures(&self, name: &str) -> usize {
        self.world.captures(name)
    }
    async fn start_outside(&self, name: &str) -> bool {
        let (printed, name) = (self.printed[name].clone(), name.to_owned());
        aside(&self.world, move |w| printed.run(w, &name)).await
    }
    async fn stop_outside(&self, name: &str) {
        self.world.switch_off(name);
    }
    async fn spoil(&self, name: &str) -> bool {
        fs::write(self.world.path(name).join("machine.json"), "{").unwrap();
        true
    }
    async fn remove_outside(&self, name: &str) -> bool {
        self.world.kill(name);
        fs::remove_dir_all(self.world.path(name)).unwrap();
        true
    }
    async fn lose_tracking(&self, name: &str) -> bool {
        self.world.kill(name);
        self.site.power_on(name).await.unwrap();
        true
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        let mut monitor = self.world.monitor(name).unwrap();
        let arguments = json!({ "node-name": format!("d{disk}"), "size": size });
        monitor.call("block_resize", arguments).unwrap();
        true
    }
    async fn snapshot_outside(&self, name: &str) -> bool {
        let mut monitor = self.world.monitor(name).unwrap();
        let arguments = json!({ "device": "d0", "name": "theirs" });
        monitor.call("blockdev-snapshot-internal-sync", arguments).unwrap();
        true
    }
    async fn silence(&self, silent: bool) -> bool {
        let mut stopped = self.silent.lock().unwrap();
        if silent {
            stopped.extend(["web", "db"].into_iter().filter_map(|name| self.pid(name)));
            stopped.iter().for_each(|pid| signal(*pid, "-STOP"));
        } else {
            stopped.drain(..).for_each(|pid| signal(pid, "-CONT"));
        }
        true
    }
    async fn deafen(&self, name: &str) -> bool {
        let limits = Limits { greeting: BOUND, answer: BOUND, ..Limits::default() };
        let monitor = Monitor::connect(&Self::ears(&self.world, name), limits).unwrap();
        let pid = self.pid(name).unwrap();
        *self.deaf.lock().unwrap() = Some(Asked { pid, monitor, asked: false });
        true
    }
    async fn was_asked(&self, _: &str) -> bool {
        let mut deaf = self.deaf.lock().unwrap();
        let deaf = deaf.as_mut().expect("it is deaf");
        deaf.asked |= deaf.monitor.take_events().iter().any(|event| event.name == "POWERDOWN");
        deaf.asked
    }
    async fn hear(&self, name: &str) {
        let obeys = self.was_asked(name).await;
        let asked = self.deaf.lock().unwrap().as_ref().map(|deaf| deaf.pid);
        // The process that was asked obeys; one that was started since was never asked.
        if obeys && asked == self.pid(name) {
            let name = name.to_owned();
            aside(&self.world, move |w| w.switch_off(&name)).await;
        }
    }
}

mod source {
    use super::*;
    site_recovery_testkit::source_suite!([case_on_qemu] AtSource);
}

/// An empty directory beside a machine that a person brought, and a replica in memory.
struct AtTarget {
    world: Arc<World>,
    site: site_recovery_qemu::QemuSite,
    replica: MemoryReplica,
}

#[async_trait]
impl RecoverySiteFixture for AtTarget {
    async fn new() -> Self {
        let world = World::new().await;
        world.machine("theirs");
        let replica = MemoryReplica::new("store", ManualClock::new());
        Self { site: world.site.clone(), world: Arc::new(world), replica }
    }
    fn site(&self) -> Arc<dyn RecoverySite> {
        Arc::new(self.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    fn replica(&self) -> Arc<dyn Replica> {
        Arc::new(self.replica.clone())
    }
    async fn reopen(&mut self) {
        self.site = self.world.again().await;
    }
    fn machine(&self, id: &str) -> Machine {
        let nic = Nic { id: "n0".into(), mac: None, network: Some("lan".into()), addresses: vec![] };
        Machine { nics: vec![nic], memory: 32 << 20, ..suite::machine(id) }
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        aside(&self.world, move |w| w.put(&name, disk, at, &bytes)).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let name = name.to_owned();
        aside(&self.world, move |w| w.content(&name, disk)).await
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn networks(&self, name: &str) -> Vec<String> {
        let isolated = |b: &String| b.starts_with("user,restrict=on");
        let backends = self.world.backends(name);
        backends.iter().map(|b| if isolated(b) { "isolated".into() } else { "production".into() }).collect()
    }
    async fn everything(&self) -> Vec<String> {
        self.world.everything()
    }
    async fn stop_outside(&self, name: &str) {
        self.world.switch_off(name);
    }
    async fn brought(&self) -> Option<Instance> {
        Some(self.world.found("theirs").await.instance)
    }
    async fn lose_replica(&self) -> bool {
        self.replica.set_down(true);
        true
    }
}

impl TargetFixture for AtTarget {
    fn target(&self) -> Arc<dyn Target> {
        Arc::new(self.site.clone())
    }
}

mod target {
    use super::*;
    site_recovery_testkit::target_suite!([case_on_qemu] AtTarget);
    mod recovery_site {
        use super::*;
        site_recovery_testkit::recovery_site_suite!([case_on_qemu] AtTarget);
    }
}

/// A directory with a machine that runs and is enrolled.
struct AtLanding {
    world: Arc<World>,
    site: site_recovery_qemu::QemuSite,
    machine: Machine,
    printed: Printed,
}

#[async_trait]
impl LandingSiteFixture for AtLanding {
    async fn new() -> Self {
        let world = World::new().await;
        world.running("web").await;
        let mut machine = world.found("web").await;
        machine.instance.machine = "m-web".into();
        world.site.enrol(&suite::op("enrol"), &machine).await.unwrap();
        let machine = world.found("web").await;
        let printed = Printed::of(&world, "web").await;
        Self { site: world.site.clone(), machine, printed, world: Arc::new(world) }
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        Arc::new(self.site.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.site.clone())
    }
    async fn reopen(&mut self) {
        self.site = self.world.again().await;
    }
    fn existing(&self) -> Machine {
        self.machine.clone()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        aside(&self.world, move |w| w.put(&name, disk, at, &bytes)).await;
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let name = name.to_owned();
        aside(&self.world, move |w| w.content(&name, disk)).await
    }
    async fn is_running(&self, name: &str) -> bool {
        self.world.is_on(name)
    }
    async fn everything(&self) -> Vec<String> {
        self.world.everything()
    }
    async fn start_outside(&self, name: &str) -> bool {
        assert_eq!(name, "web", "nobody wrote down another's command line");
        let printed = self.printed.clone();
        aside(&self.world, move |w| printed.run(w, "web")).await
    }
    async fn stop_outside(&self, name: &str) {
        self.world.switch_off(name);
    }
    async fn power_cut(&mut self) -> bool {
        // It holds the images of machines that are off, with their tables in its memory.
        let daemons = fs::read_dir(self.world.path(".site-recovery/run")).unwrap();
        let daemons = daemons.map(|e| e.unwrap().path().join("s-pid")).filter(|f| pid(f).is_some());
        let daemons: Vec<_> = daemons.collect();
        assert!(!daemons.is_empty(), "nobody holds the disks");
        for file in daemons {
            kill(pid(&file).unwrap());
            until("the storage daemon is over", || pid(&file).is_none());
        }
        self.reopen().await;
        true
    }
}

mod landing_site {
    use super::*;
    site_recovery_testkit::landing_site_suite!([case_on_qemu] AtLanding);
}
