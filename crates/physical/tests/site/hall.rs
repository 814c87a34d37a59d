//! A site of two servers.

use crate::agent::FakeAgent;
use crate::support::*;
use site_recovery::*;
use site_recovery_local::LocalSite;
use site_recovery_physical::power::{Keeps, PowerControl};
use site_recovery_physical::site::{Patience, PhysicalSite, Server};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const SITE: &str = "hall-1";
pub(crate) const DISKS: [(&str, u64); 2] = [("root", 300 << 10), ("data", (1 << 20) + 512)];
pub(crate) const PATIENCE: Patience = Patience {
    agent: Duration::from_millis(300),
    between: Duration::from_millis(5),
    off: Duration::from_millis(200),
    on: Duration::from_millis(300),
};

pub(crate) struct Floor {
    pub(crate) dir: TempDir,
    pub(crate) servers: BTreeMap<String, Arc<FakeServer>>,
    pub(crate) agents: BTreeMap<String, Arc<FakeAgent>>,
    pub(crate) site: PhysicalSite,
    switched: bool,
}

impl Floor {
    /// Two servers that run: `web` with two disks, `db` too.
    pub(crate) async fn new(keeps: Keeps) -> Self {
        Self::of(keeps, true).await
    }

    /// As above, and nobody switches them.
    pub(crate) async fn without_power_control() -> Self {
        Self::of(TELLS, false).await
    }

    async fn of(keeps: Keeps, switched: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = BTreeMap::new();
        for name in ["web", "db"] {
            let home = dir.path().join("systems").join(name).join(name);
            std::fs::create_dir_all(&home).unwrap();
            let disks: Vec<String> =
                DISKS.iter().map(|(id, _)| format!(r#"{{"id": "{id}", "file": "{id}.raw"}}"#)).collect();
            std::fs::write(home.join("machine.json"), format!(r#"{{"disks": [{}]}}"#, disks.join(", ")))
                .unwrap();
            for (id, size) in DISKS {
                disk_file(&home.join(format!("{id}.raw")), size);
            }
            let server = FakeServer::new(keeps, true);
            servers.insert(name.to_owned(), server);
        }
        let agents = agents(dir.path(), &servers).await;
        let site = opened(dir.path(), &servers, &agents, switched, PATIENCE);
        Self { dir, servers, agents, site, switched }
    }

    /// The keeper anew: what it held in memory is gone, and so are the agents' processes.
    pub(crate) async fn again(&mut self) {
        self.agents = agents(self.dir.path(), &self.servers).await;
        self.site = self.with(PATIENCE);
    }

    /// The keeper over the same state, with another patience.
    pub(crate) fn with(&self, patience: Patience) -> PhysicalSite {
        opened(self.dir.path(), &self.servers, &self.agents, self.switched, patience)
    }

    pub(crate) fn server(&self, name: &str) -> &FakeServer {
        &self.servers[name]
    }

    pub(crate) fn agent(&self, name: &str) -> &FakeAgent {
        &self.agents[name]
    }

    pub(crate) fn system(&self, name: &str) -> PathBuf {
        self.dir.path().join("systems").join(name).join(name)
    }

    pub(crate) fn kept(&self, name: &str, file: &str) -> PathBuf {
        self.dir.path().join("state/servers").join(name).join(file)
    }

    pub(crate) async fn enrolled(&self, name: &str) -> Machine {
        self.enrolled_by("engine", name).await
    }

    pub(crate) async fn enrolled_by(&self, engine: &str, name: &str) -> Machine {
        let mut machine = self.found(name).await;
        machine.instance.machine = MachineId(format!("m-{name}"));
        self.site.enrol(&op_of(engine, 1, "enrol"), &machine).await.unwrap();
        self.found(name).await
    }

    pub(crate) async fn found(&self, name: &str) -> Machine {
        let all = self.site.discover().await.unwrap();
        all.into_iter().find(|m| m.instance.name == name).unwrap_or_else(|| panic!("no {name}"))
    }
}

async fn agents(dir: &Path, servers: &BTreeMap<String, Arc<FakeServer>>) -> BTreeMap<String, Arc<FakeAgent>> {
    let mut agents = BTreeMap::new();
    for (name, server) in servers {
        let name_there = RoleName(format!("agent-of-{name}"));
        let system =
            LocalSite::open(name_there, dir.join("systems").join(name), Arc::new(SystemClock)).unwrap();
        system.switch_on(name).await.unwrap();
        let (server, hangs, pretends) = (Arc::clone(server), AtomicBool::new(false), AtomicBool::new(false));
        agents.insert(name.clone(), Arc::new(FakeAgent { system, server, hangs, pretends }));
    }
    agents
}

fn opened(
    dir: &Path,
    servers: &BTreeMap<String, Arc<FakeServer>>,
    agents: &BTreeMap<String, Arc<FakeAgent>>,
    switched: bool,
    patience: Patience,
) -> PhysicalSite {
    let builder =
        PhysicalSite::builder(SITE.into(), dir.join("state"), Arc::new(SystemClock)).patience(patience);
    let each = servers.iter().map(|(name, server)| Server {
        name: name.clone(),
        agent: Arc::clone(&agents[name]) as _,
        power: switched.then(|| Arc::clone(server) as Arc<dyn PowerControl>),
        shutdown: None,
    });
    each.fold(builder, |builder, server| builder.server(server)).open().unwrap()
}
