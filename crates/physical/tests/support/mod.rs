//! Servers that are not there: what a fake controller switches, and loop devices as their disks.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "each test file uses a part, and a test that cannot go on fails"
)]

use async_trait::async_trait;
use site_recovery::*;
use site_recovery_physical::bare::{Landing, Starter, Switched};
use site_recovery_physical::power::{Keeps, PowerControl, PowerState};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub const HOLDS: Keeps = Keeps { holds: true, tells: false };
pub const TELLS: Keeps = Keeps { holds: false, tells: true };

/// What is true of a server, whatever anybody says.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub on: bool,
    /// Starts, ever.
    pub starts: u64,
    /// Started by anybody, it comes up in the rescue system.
    pub held: bool,
    /// In the rescue system now.
    pub rescue: bool,
    /// Leaves requests to shut down unanswered.
    pub deaf: bool,
    /// Was asked to shut down since then, and may still do so.
    pub asked: bool,
    /// The controller does not answer.
    pub silent: bool,
    /// The agent does not answer, though the server runs.
    pub agent_dead: bool,
    /// The controller says this, before it says the truth again.
    pub lies: Vec<PowerState>,
    /// Power is not taken, whatever the controller answers.
    pub stuck: bool,
    /// What the controller was asked to do, in order.
    pub log: Vec<&'static str>,
}

/// A server that is not there, and its controller: a fake, that does at once what it is asked to.
#[derive(Debug)]
pub struct FakeServer {
    truth: Mutex<Truth>,
    keeps: Keeps,
}

impl FakeServer {
    pub fn new(keeps: Keeps, on: bool) -> Arc<Self> {
        Arc::new(Self { truth: Mutex::new(Truth { on, ..Truth::default() }), keeps })
    }
    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }
    /// Whether its own system runs.
    pub fn runs(&self) -> bool {
        let truth = self.truth();
        truth.on && !truth.rescue
    }
    /// Somebody presses the button. Whether its own system runs then.
    pub fn press(&self) -> bool {
        let mut truth = self.truth();
        if !truth.on {
            (truth.on, truth.rescue) = (true, truth.held);
            truth.starts += 1;
        }
        truth.on && !truth.rescue
    }
    /// Somebody pulls the plug.
    pub fn unplug(&self) {
        let mut truth = self.truth();
        (truth.on, truth.rescue, truth.asked) = (false, false, false);
    }
    /// It obeys what it is still asked to do.
    pub fn hear(&self) {
        let mut truth = self.truth();
        truth.deaf = false;
        if std::mem::take(&mut truth.asked) {
            truth.on = false;
        }
    }
    fn ask(&self, what: &'static str) -> Result<MutexGuard<'_, Truth>> {
        let mut truth = self.truth();
        if truth.silent {
            return Err(Error::new(ErrorKind::Unavailable, "the controller does not answer"));
        }
        truth.log.push(what);
        Ok(truth)
    }
}

#[async_trait]
impl PowerControl for FakeServer {
    async fn state(&self) -> Result<PowerState> {
        let mut truth = self.ask("state")?;
        if !truth.lies.is_empty() {
            return Ok(truth.lies.remove(0));
        }
        Ok(if truth.on { PowerState::On } else { PowerState::Off })
    }
    async fn off(&self, grace: Duration) -> Result<bool> {
        {
            let mut truth = self.ask("off")?;
            truth.asked = true;
            if !truth.deaf && !truth.stuck {
                (truth.on, truth.asked) = (false, false);
                return Ok(true);
            }
        }
        SystemClock.sleep(grace).await;
        Ok(!self.truth().on)
    }
    async fn force_off(&self) -> Result<()> {
        let mut truth = self.ask("force_off")?;
        if !truth.stuck {
            (truth.on, truth.asked) = (false, false);
        }
        Ok(())
    }
    async fn on(&self) -> Result<()> {
        drop(self.ask("on")?);
        self.press();
        Ok(())
    }
    fn keeps(&self) -> Keeps {
        self.keeps
    }
    async fn stamp(&self) -> Result<Option<Stamp>> {
        let starts = self.ask("stamp")?.starts;
        Ok(self.keeps.tells.then(|| Stamp(starts.to_le_bytes().to_vec())))
    }
    async fn hold(&self, hold: bool) -> Result<()> {
        self.ask("hold")?.held = hold;
        Ok(())
    }
    async fn held(&self) -> Result<Option<bool>> {
        let held = self.ask("held")?.held;
        Ok(self.keeps.holds.then_some(held))
    }
}

/// Fake servers by name; what is made gets one.
#[derive(Debug)]
pub struct Hall {
    keeps: Keeps,
    servers: Mutex<BTreeMap<String, Arc<FakeServer>>>,
}

impl Hall {
    pub fn new(keeps: Keeps) -> Arc<Self> {
        Arc::new(Self { keeps, servers: Mutex::default() })
    }
    pub fn server(&self, name: &str) -> Arc<FakeServer> {
        let mut all = self.servers.lock().unwrap();
        Arc::clone(all.entry(name.to_owned()).or_insert_with(|| FakeServer::new(self.keeps, false)))
    }
    fn switched(&self, landing: &Landing) -> Switched {
        Switched(self.server(&landing.server))
    }
}

#[async_trait]
impl Starter for Hall {
    async fn runs(&self, landing: &Landing) -> Result<Option<bool>> {
        self.switched(landing).runs(landing).await
    }
    async fn start(&self, landing: &Landing) -> Result<Vec<String>> {
        self.switched(landing).start(landing).await
    }
    async fn stop(&self, landing: &Landing, grace: Duration) -> Result<()> {
        self.switched(landing).stop(landing, grace).await
    }
    async fn hold(&self, landing: &Landing, hold: bool) -> Result<()> {
        self.switched(landing).hold(landing, hold).await
    }
    async fn stamp(&self, landing: &Landing) -> Result<Option<Stamp>> {
        self.switched(landing).stamp(landing).await
    }
}

/// A loop device over a file; gone when it is dropped.
#[derive(Debug)]
pub struct Loop {
    pub path: PathBuf,
}

impl Loop {
    pub fn over(file: &Path) -> Self {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(made.status.success(), "losetup: {}", String::from_utf8_lossy(&made.stderr));
        Self { path: String::from_utf8(made.stdout).unwrap().trim().into() }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// A disk's file, with something in it.
pub fn disk_file(path: &Path, size: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"what stood there", 5000).unwrap();
    file.write_all_at(b"the end", size - 7).unwrap();
}

/// An operation of an engine.
pub fn op_of(engine: &str, number: u64, key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number, owner: engine.into() } }
}

pub fn op(key: &str) -> Op {
    op_of("engine", 1, key)
}

/// A permit for this machine, whose other instances do not exist.
pub async fn permit(op: &Op, machine: &Machine) -> BootPermit {
    let item = Item::new(machine.clone(), op.epoch.clone(), Policy::default(), "out", "back");
    let proof = Fenced::prove(op, &item, Some(&machine.instance), &Sources::new(), Duration::ZERO).await;
    BootPermit::Fenced(proof.unwrap())
}

/// A machine of these disks at a site.
pub fn machine(id: &str, site: &str, name: &str, disks: &[(&str, u64)]) -> Machine {
    let disk = |(at, (id, size)): (usize, &(&str, u64))| DiskSpec {
        id: DiskId((*id).to_owned()),
        size: *size,
        role: if at == 0 { DiskRole::System } else { DiskRole::Data },
        included: true,
    };
    Machine {
        instance: Instance {
            machine: id.into(),
            site: site.into(),
            name: name.into(),
            generation: Generation(0),
        },
        title: None,
        disks: disks.iter().enumerate().map(disk).collect(),
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Default::default(),
        os: OsFamily::Linux,
        platform: Platform::Physical,
        guest: GuestFacts::default(),
    }
}

/// Whether a program is here. Says so where not, and fails where it has to be.
pub fn is_here(program: &str, what: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        println!("SKIPPED {what}: {program} is absent");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{program} is required");
    }
    found
}
