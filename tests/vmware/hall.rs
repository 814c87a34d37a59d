//! A physical server: the real agent on loop devices over XFS. Its power control is a fake that does at once what it is asked
//! to; while that says off, nobody reaches the agent.

use crate::agent_support::{GROUND, Ground, Looped, peers};
use crate::fake_power::{FakeServer, HOLDS};
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_physical::agent::{Agent, Settings};
use site_recovery_physical::site::{Patience, PhysicalSite, Server};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The server's name.
pub(crate) const SERVER: &str = "web";
/// In bytes; the second is no whole KiB.
const DISKS: [(&str, u64); 2] = [("wwn-root", 512 << 10), ("wwn-data", (1 << 20) + 512)];

pub(crate) struct Hall {
    pub(crate) server: Arc<FakeServer>,
    /// Before the ground: it goes first.
    pub(crate) disks: Arc<Looped>,
    ground: Ground,
}

/// Whether loop devices over XFS can be made here. Says so where not, and fails where they have to.
pub(crate) fn is_here() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED a physical server comes back as a VMware machine: this takes root");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "root is required");
    }
    root && peers("a physical server comes back as a VMware machine", &GROUND)
}

impl Hall {
    /// With a server that runs.
    pub(crate) fn new() -> Self {
        let ground = Ground::new();
        let disks = DISKS.map(|(id, size)| (id, ground.disk(SERVER, id, size)));
        Self { server: FakeServer::new(HOLDS, true), disks: Looped::new(SERVER, &disks), ground }
    }

    /// The keeper, and the agent as a new process.
    pub(crate) fn site(&self, dir: &Path) -> PhysicalSite {
        let mut settings = Settings::new("agent".into(), SERVER);
        settings.state = self.ground.state(SERVER);
        settings.board = self.ground.state("no-board");
        let agent = Agent::open(settings, Arc::clone(&self.disks) as _, Arc::new(SystemClock)).unwrap();
        let agent = Arc::new(InServer { agent, server: Arc::clone(&self.server) });
        let power = Some(Arc::clone(&self.server) as _);
        let server = Server { name: SERVER.into(), agent, power, shutdown: None };
        let short = Duration::from_millis(200);
        let patience =
            Patience { between: Duration::from_millis(5), off: short, on: short, ..Patience::default() };
        let site = PhysicalSite::builder("hall".into(), dir.join("hall"), Arc::new(SystemClock));
        site.patience(patience).server(server).open().unwrap()
    }
}

/// An agent that answers while its server runs.
#[derive(Debug)]
struct InServer {
    agent: Agent,
    server: Arc<FakeServer>,
}

impl InServer {
    fn here(&self) -> Result<&Agent> {
        let refused = || Error::new(ErrorKind::Unavailable, "connection refused");
        self.server.runs().then_some(&self.agent).ok_or_else(refused)
    }
}

#[async_trait]
impl Role for InServer {
    fn name(&self) -> RoleName {
        self.agent.name()
    }
    fn capability(&self) -> Capability {
        self.agent.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.here()?.claim(op, machine).await
    }
}

#[async_trait]
impl Source for InServer {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.here()?.discover().await
    }
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.here()?.enrol(op, machine).await
    }
    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.dismiss(op, instance).await
    }
    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        self.here()?.capture(op, of, want).await
    }
    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.here()?.changes(capture, machine, since).await
    }
    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.here()?.disks(op, capture, machine).await
    }
    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        self.here()?.release(op, capture, machine, fate).await
    }
    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.here()?.sweep(op, instance, keep).await
    }
    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.here()?.power(instance).await
    }
    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.here()?.fence(op, instance, grace).await
    }
    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        self.here()?.unfence(op, instance, permit, start).await
    }
}
