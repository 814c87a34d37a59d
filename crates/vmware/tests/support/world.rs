//! A site of VMware's on its simulator: machines with real bytes, one of them the appliance, and the truth about them, read
//! around the adapter. An attached disk is resolved to its file on the simulator's datastore: there are no block devices here.

use super::process::{Mode, Sim};
use async_trait::async_trait;
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::suite;
use site_recovery_vim::{ConfigSpec, DatastorePath, Moref, Snapshot, Task, Vim};
use site_recovery_vmware::{Appliance, AttachedDisk, Builder, DeviceResolver, Site};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const KIB: u64 = 1024;

/// Opens the site of an adapter.
pub(crate) type Open = fn(&Sim, PathBuf) -> Builder;

/// Datastores of the simulator as folders.
#[derive(Debug, Clone)]
pub(crate) struct Files(BTreeMap<String, PathBuf>);

impl Files {
    /// The file that a descriptor's only extent is.
    pub(crate) fn of(&self, descriptor: &DatastorePath) -> Option<PathBuf> {
        let local = self.0[descriptor.datastore()].join(descriptor.path());
        let text = String::from_utf8_lossy(&fs::read(&local).ok()?).into_owned();
        let extent = text.lines().find(|line| line.starts_with("RW "))?;
        // A name may have such signs itself.
        let (_, name) = extent.split_once('"')?;
        Some(local.parent()?.join(name.rsplit_once('"')?.0))
    }
}

#[async_trait]
impl DeviceResolver for Files {
    async fn resolve(&self, disk: &AttachedDisk) -> Result<Option<PathBuf>> {
        Ok(self.of(&disk.file))
    }
}

pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) site: Site,
    /// A connection of the test's own.
    pub(crate) eyes: Vim,
    pub(crate) files: Files,
    pub(crate) appliance: String,
    pub(crate) dir: Arc<TempDir>,
    open: Open,
    asked: Mutex<Option<Option<i64>>>,
}

impl World {
    /// With one machine that runs, the appliance.
    pub(crate) async fn start(mode: Mode, open: Open) -> Option<Self> {
        let sim = Sim::start_with(mode, &["--machines", "1", "--disk-size", "65536"])?;
        let eyes = Vim::connect(&sim.settings, Arc::new(SystemClock)).await.unwrap();
        let found = eyes.machines(&eyes.content().root_folder).await.unwrap();
        let [only] = &found[..] else { panic!("{} machines at the start", found.len()) };
        let appliance = only.instance_uuid.clone().unwrap();
        let shown = ConfigSpec { disk_uuid: Some(true), ..ConfigSpec::default() };
        eyes.reconfigure(&only.moref, &shown).await.unwrap().wait(Duration::from_secs(30)).await.unwrap();
        Some(Self::over(Arc::new(sim), Arc::new(tempfile::tempdir().unwrap()), open, &appliance).await)
    }

    /// On a simulator that runs already: another life of the adapter's process.
    pub(crate) async fn over(sim: Arc<Sim>, dir: Arc<TempDir>, open: Open, appliance: &str) -> Self {
        let eyes = Vim::connect(&sim.settings, Arc::new(SystemClock)).await.unwrap();
        let files = Files(sim.datastores.clone());
        let site = opened(&sim, dir.path(), open, appliance, &files).await;
        Self { sim, site, eyes, files, appliance: appliance.to_owned(), dir, open, asked: Mutex::default() }
    }

    /// The simulator, of a world that is its only one.
    pub(crate) fn sim_mut(&mut self) -> &mut Sim {
        Arc::get_mut(&mut self.sim).expect("no other world is over it")
    }

    /// A crash of the adapter's process.
    pub(crate) async fn reopen(&mut self) {
        self.site = self.again().await;
    }

    pub(crate) async fn again(&self) -> Site {
        opened(&self.sim, self.dir.path(), self.open, &self.appliance, &self.files).await
    }

    /// Makes a machine that runs, with disks of this many KiB; returns its instance UUID.
    pub(crate) async fn machine(&self, name: &str, kib: &[u64]) -> String {
        let disks: Vec<u64> = kib.iter().map(|k| k * KIB).collect();
        let body = json!({ "name": name, "datastore": "LocalDS_0", "disks": disks, "on": true });
        self.sim.tell("machine-create", body).await;
        let all = self.eyes.machines(&self.eyes.content().root_folder).await.unwrap();
        let made = all.into_iter().find(|m| m.name == name).expect("it was made");
        made.instance_uuid.unwrap().to_ascii_lowercase()
    }

    /// A machine by its instance UUID, or by that of an arm.
    pub(crate) async fn moref(&self, name: &str) -> Moref {
        let uuid = name.split('/').next().unwrap();
        self.eyes.find(uuid).await.unwrap().unwrap_or_else(|| panic!("{name} is not there"))
    }

    async fn of(&self, name: &str) -> Value {
        json!({ "machine": self.moref(name).await.id })
    }

    async fn with(&self, name: &str, more: Value) -> Value {
        let mut body = self.of(name).await;
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    /// The files of a machine's disks, or of an arm's, in the order of their keys.
    pub(crate) async fn disk_files(&self, name: &str) -> Vec<(i32, PathBuf)> {
        let machine = self.moref(name).await;
        let mut found = vec![];
        if let Some((_, arm)) = name.split_once('/') {
            let tree = self.eyes.snapshots(&machine).await.unwrap();
            let all: Vec<&Snapshot> = tree.iter().flat_map(Snapshot::all).collect();
            let arm = all.into_iter().find(|s| s.name == arm).expect("the arm is there");
            for disk in self.eyes.snapshot_devices(&arm.moref).await.unwrap().disks {
                found.push((disk.key, self.files.of(disk.backing.file.as_ref().unwrap()).unwrap()));
            }
        } else {
            for disk in self.sim.tell("disks", json!({ "machine": machine.id })).await.as_array().unwrap() {
                found.push((disk["key"].as_i64().unwrap() as i32, disk["file"].as_str().unwrap().into()));
            }
        }
        found.sort();
        found
    }

    /// The guest writes; of one that is off, whoever has its file.
    pub(crate) async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let (key, file) = self.disk_files(name).await[disk].clone();
        if self.runs(name).await {
            let body = json!({ "key": key, "offset": at, "data": base64(bytes) });
            self.told("guest-write", name, body).await;
        } else {
            fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
        }
    }

    pub(crate) async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        fs::read(&self.disk_files(name).await[disk].1).unwrap()
    }

    /// By whether its guest can write.
    pub(crate) async fn is_running(&self, machine: &str) -> bool {
        let body = json!({ "machine": machine, "key": 0, "offset": 0, "data": "" });
        self.sim.try_tell("guest-write", &body).await.is_ok()
    }

    pub(crate) async fn runs(&self, name: &str) -> bool {
        self.is_running(&self.moref(name).await.id).await
    }

    pub(crate) async fn power(&self, name: &str, action: &str) -> bool {
        let body = self.with(name, json!({ "action": action })).await;
        self.sim.try_tell("power", &body).await.is_ok()
    }

    pub(crate) async fn stop(&self, name: &str) {
        if self.runs(name).await {
            assert!(self.power(name, "off").await, "nobody can stop {name}");
        }
    }

    pub(crate) async fn snapshots(&self, name: &str) -> Vec<String> {
        let tree = self.eyes.snapshots(&self.moref(name).await).await.unwrap();
        tree.iter().flat_map(Snapshot::all).map(|s| s.name.clone()).collect()
    }

    /// How often the machine was started, by the server's events.
    pub(crate) async fn starts(&self, name: &str) -> u64 {
        let told = self.sim.tell("starts", self.of(name).await).await;
        told.as_u64().unwrap()
    }

    /// Waits for a task of the test's own.
    pub(crate) async fn done(&self, task: std::result::Result<Task, site_recovery_vim::Error>) {
        task.unwrap().wait(Duration::from_secs(30)).await.unwrap();
    }

    pub(crate) async fn told(&self, verb: &str, name: &str, more: Value) {
        let body = self.with(name, more).await;
        self.sim.tell(verb, body).await;
    }

    /// Makes our mark unreadable, as somebody may who edits configurations.
    pub(crate) async fn spoil(&self, name: &str) {
        let extra = vec![("site-recovery.mark".to_owned(), "{".to_owned())];
        self.reconfigure(name, ConfigSpec { extra, ..ConfigSpec::default() }).await;
    }

    /// Somebody changes the configuration.
    pub(crate) async fn reconfigure(&self, name: &str, spec: ConfigSpec) {
        self.done(self.eyes.reconfigure(&self.moref(name).await, &spec).await).await;
    }

    /// Cuts every connection to the server, or lets them be.
    pub(crate) async fn silence(&self, silent: bool) {
        match silent {
            true => self.sim.tell("http-fault", json!({ "path": "/sdk", "kind": "reset", "count": 0 })).await,
            false => self.sim.tell("clear", json!({})).await,
        };
    }

    /// How many of the faults that a test asked for are not used up.
    pub(crate) async fn faults_left(&self) -> u64 {
        self.sim.tell("faults-left", json!({})).await.as_u64().unwrap()
    }

    /// Asserts that every fault was met, and takes back all delays.
    pub(crate) async fn met(&self, what: &str) {
        assert_eq!(self.faults_left().await, 0, "{what}: the fault was not met");
        self.sim.tell("clear", json!({})).await;
    }

    /// How often a method was called since the last reset.
    pub(crate) async fn called(&self, method: &str) -> u64 {
        self.sim.tell("calls", json!({})).await["soap"][method].as_u64().unwrap_or_default()
    }

    /// Guests leave requests to shut down unanswered.
    pub(crate) async fn deafen(&self) {
        self.sim.tell("settings", json!({ "shutdown_never": true })).await;
        self.sim.tell("calls", json!({ "reset": true })).await;
        *self.asked.lock().unwrap() = None;
    }

    pub(crate) async fn was_asked(&self, name: &str) -> bool {
        let asked = self.called("ShutdownGuest").await > 0;
        if asked && self.asked.lock().unwrap().is_none() {
            let newest = self.eyes.newest_start(&self.moref(name).await).await.unwrap();
            *self.asked.lock().unwrap() = Some(newest.map(|start| start.key));
        }
        asked
    }

    /// The guest obeys what it was asked, in the life in which it was.
    pub(crate) async fn hear(&self, name: &str) {
        if !self.was_asked(name).await {
            return;
        }
        let newest = self.eyes.newest_start(&self.moref(name).await).await.unwrap().map(|start| start.key);
        let life = *self.asked.lock().unwrap();
        if life == Some(newest) {
            self.stop(name).await;
        }
    }

    /// All machines, and all descriptors of disks.
    pub(crate) async fn everything(&self) -> Vec<String> {
        let all = self.eyes.machines(&self.eyes.content().root_folder).await.unwrap();
        let mut names: Vec<String> = all.into_iter().map(|m| m.name).collect();
        for folder in self.files.0.values() {
            walk(folder, &mut names);
        }
        names.sort();
        names
    }

    pub(crate) async fn discovered(&self, name: &str) -> Machine {
        let all = self.site.discover().await.unwrap();
        all.into_iter().find(|m| m.instance.name == name).expect("it is discovered")
    }

    /// Takes a machine into care.
    pub(crate) async fn enrol(&self, name: &str, id: &str) -> Machine {
        let mut machine = self.discovered(name).await;
        machine.instance.machine = id.into();
        self.site.enrol(&suite::op("enrol"), &machine).await.unwrap();
        self.discovered(name).await
    }
}

/// Waits until it holds, for half a minute.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        SystemClock.sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: it never came");
}

async fn opened(sim: &Sim, dir: &Path, open: Open, appliance: &str, files: &Files) -> Site {
    let appliance = Appliance::new(appliance, Arc::new(files.clone()));
    open(sim, dir.join("state")).appliance(appliance).open().await.unwrap()
}

fn walk(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, names);
        } else if path.extension().is_some_and(|e| e == "vmdk") {
            names.push(path.display().to_string());
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[bits as usize & 63]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0, |bits, (n, b)| bits | u32::from(*b) << (16 - 8 * n));
        text.extend([digit(bits >> 18), digit(bits >> 12)]);
        text.push(if chunk.len() > 1 { digit(bits >> 6) } else { '=' });
        text.push(if chunk.len() > 2 { digit(bits) } else { '=' });
    }
    text
}
