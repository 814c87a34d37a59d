//! The suite of a source, run on agents of two servers, each of loop devices over XFS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent_support;

use agent_support::{Ground, Looped};
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_physical::agent::{Agent, Settings};
use site_recovery_testkit::suite::SourceFixture;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NAMES: [&str; 2] = ["web", "db"];

/// A hall with two servers.
struct Hall {
    agents: [Option<Agent>; 2],
    servers: [Arc<Looped>; 2],
    on: [AtomicBool; 2],
    ground: Ground,
}

impl Hall {
    fn at(name: &str) -> usize {
        NAMES.iter().position(|n| *n == name).unwrap()
    }

    fn agent(ground: &Ground, server: &Arc<Looped>) -> Agent {
        let mut settings = Settings::new("hall".into(), server.name.clone());
        settings.state = ground.state(&server.name);
        settings.board = ground.state("no-board");
        Agent::open(settings, Arc::clone(server) as _, Arc::new(SystemClock)).unwrap()
    }
}

#[async_trait]
impl SourceFixture for Hall {
    async fn new() -> Self {
        let ground = Ground::new();
        let servers = NAMES.map(|name| {
            let disk = |disk: &str, size| ground.disk(name, disk, size);
            let of = [
                (format!("{name}-root"), disk("root", 512 << 10)),
                (format!("{name}-data"), disk("data", 256 << 10)),
            ];
            let of: Vec<_> = of.iter().map(|(id, disk)| (id.as_str(), Arc::clone(disk))).collect();
            Looped::new(name, &of)
        });
        let agents = [0, 1].map(|n: usize| Some(Self::agent(&ground, &servers[n])));
        Self { agents, servers, on: [AtomicBool::new(true), AtomicBool::new(true)], ground }
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(Both(self.agents.clone().map(Option::unwrap)))
    }
    async fn reopen(&mut self) {
        for (agent, server) in self.agents.iter_mut().zip(&self.servers) {
            *agent = None;
            *agent = Some(Self::agent(&self.ground, server));
        }
    }
    fn machines(&self) -> [String; 2] {
        NAMES.map(str::to_owned)
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        self.servers[Self::at(name)].disk(disk).write(at, bytes);
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        self.servers[Self::at(name)].disk(disk).content()
    }
    async fn is_running(&self, name: &str) -> bool {
        self.on[Self::at(name)].load(Ordering::Relaxed)
    }
    async fn captures(&self, name: &str) -> usize {
        fs::read_dir(self.ground.path(name).join(".site-recovery")).map_or(0, Iterator::count)
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.on[Self::at(name)].store(true, Ordering::Relaxed);
        true
    }
    async fn stop_outside(&self, name: &str) {
        self.on[Self::at(name)].store(false, Ordering::Relaxed);
    }
    async fn spoil(&self, name: &str) -> bool {
        *self.servers[Self::at(name)].spoiled.lock().unwrap() = true;
        true
    }
    async fn snapshot_outside(&self, name: &str) -> bool {
        let dir = self.ground.path(name).join(".site-recovery");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("theirs.raw"), "not ours").unwrap();
        true
    }
    async fn lose_tracking(&self, name: &str) -> bool {
        fs::remove_dir_all(self.ground.state(name).join("tracking")).is_ok()
    }
    async fn grow(&self, name: &str, disk: usize, size: u64) -> bool {
        self.servers[Self::at(name)].disk(disk).grow(size);
        true
    }
}

/// Both agents behind one name, as whoever keeps the site asks them.
#[derive(Debug)]
struct Both([Agent; 2]);

impl Both {
    fn of(&self, name: &str) -> Result<&Agent> {
        let at = NAMES.iter().position(|n| *n == name);
        at.map(|at| &self.0[at]).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no server {name}")))
    }
    fn holding(&self, capture: &Capture) -> Result<&Agent> {
        self.of(&capture.members[0].machine.instance.name)
    }
}

#[async_trait]
impl Role for Both {
    fn name(&self) -> RoleName {
        self.0[0].name()
    }
    fn capability(&self) -> Capability {
        self.0[0].capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.0[0].claim(op, machine).await?;
        self.0[1].claim(op, machine).await
    }
}

#[async_trait]
impl Source for Both {
    async fn discover(&self) -> Result<Vec<Machine>> {
        let mut all = self.0[0].discover().await?;
        all.extend(self.0[1].discover().await?);
        Ok(all)
    }
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.of(&machine.instance.name)?.enrol(op, machine).await
    }
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.of(&instance.name)?.dismiss(op, instance).await
    }
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.of(&of[0].name)?.capture(op, of, want).await
    }
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.holding(capture)?.changes(capture, machine, since).await
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.holding(capture)?.disks(op, capture, machine).await
    }
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.holding(capture)?.release(op, capture, machine, fate).await
    }
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.of(&instance.name)?.sweep(op, instance, keep).await
    }
    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.of(&instance.name)?.power(instance).await
    }
    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.of(&instance.name)?.fence(op, instance, grace).await
    }
    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        self.of(&instance.name)?.unfence(op, instance, permit, start).await
    }
}

/// Every rule but two: a server that is off or gone has no agent to say so. Whoever keeps the site answers those.
macro_rules! of_an_agent {
    (@ $fixture:ty, src_10_power_is_read_now) => {};
    (@ $fixture:ty, src_10_not_found_only_when_gone) => {};
    (@ $fixture:ty, $case:ident) => {
        #[test]
        fn $case() {
            if crate::agent_support::peers(concat!(stringify!($case), " of an agent"), &crate::agent_support::GROUND) {
                site_recovery_testkit::suite::run(site_recovery_testkit::suite::source::$case::<$fixture>());
            }
        }
    };
    ($fixture:ty, source, $($case:ident,)+) => { $(of_an_agent!(@ $fixture, $case);)+ };
}

mod source {
    use super::*;
    site_recovery_testkit::source_suite!([of_an_agent] Hall);
}
