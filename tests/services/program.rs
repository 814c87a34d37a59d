//! Services on hosts: their settings, and the programs that run by them.

use crate::hosts::{Binary, Disk, Ground, Host, Process, build};
use crate::world::{CLOUD, PORT, SERVER, SITE, Vaulted};
use site_recovery::DiskId;
use site_recovery_transport::enrol::{RoleKind, ServedRole, Service, ServiceKind};
use std::fs;
use std::path::{Path, PathBuf};

const AGENT: Binary = Binary { package: "site-recovery-physical", name: "site-recovery-agent" };
const PROCESS_SERVER: Binary =
    Binary { package: "site-recovery-process-server", name: "site-recovery-process-server" };
const MASTER_TARGET: Binary =
    Binary { package: "site-recovery-master-target", name: "site-recovery-master-target" };

/// A service on a host: its settings, and the program that runs by them.
pub struct Program {
    binary: PathBuf,
    pub config: PathBuf,
    words: Vec<String>,
}

impl Program {
    fn new(binary: Binary, config: PathBuf, text: &str, words: &[&str]) -> Self {
        fs::write(&config, text).unwrap();
        let binary = build(&[binary]).remove(0);
        Self { binary, config, words: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn arguments(&self, command: &[&str]) -> Vec<String> {
        let config = ["--config".to_owned(), self.config.to_str().unwrap().to_owned()];
        let command = command.iter().map(|word| (*word).to_owned());
        config.into_iter().chain(self.words.iter().cloned()).chain(command).collect()
    }

    pub fn join(&self, host: &Host, token: &Path) {
        let words = self.arguments(&["join", "--token-file", token.to_str().unwrap()]);
        let said = host.run(self.binary.to_str().unwrap(), &words);
        assert!(said.starts_with("joined as"), "{said}");
    }

    /// Sets something else than it was made with, for its next start.
    pub fn set(&self, was: &str, now: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(was), "{was} is not in {text}");
        fs::write(&self.config, text.replace(was, now)).unwrap();
    }

    /// What `check` says.
    pub fn check(&self, host: &Host) -> std::result::Result<String, String> {
        host.try_run(self.binary.to_str().unwrap(), &self.arguments(&["check"]))
    }

    pub fn start(&self, host: &Host) -> Process {
        self.started(host, &["run"])
    }

    /// Of an agent: serves bare disks, from a rescue system.
    pub fn start_to_receive(&self, host: &Host) -> Process {
        self.started(host, &["--receive", "run"])
    }

    /// Of an agent: says which disks its rescue system lands on, and how it is left: the file `left` is made.
    pub fn rescue(&self, ids: &[DiskId], disks: &[Disk]) {
        let slot =
            |(id, disk): (&DiskId, &Disk)| format!("{{ id = {:?}, path = {:?} }}", id.0, disk.device());
        let slots: Vec<String> = ids.iter().zip(disks).map(slot).collect();
        let left = self.config.with_file_name("left");
        let mut text = fs::read_to_string(&self.config).unwrap();
        text += &format!(
            "\n[receive]\nname = {SERVER:?}\nslots = [{}]\nleave = {{ run = [\"/usr/bin/touch\", {left:?}] }}\n",
            slots.join(", "),
        );
        fs::write(&self.config, text).unwrap();
    }

    /// Of an agent in a rescue system: whether it was left.
    pub fn was_left(&self) -> bool {
        self.config.with_file_name("left").exists()
    }

    /// Where it is to end by itself.
    pub fn start_in_vain(&self, host: &Host) -> Process {
        host.start_program(&self.binary, &self.arguments(&["run"]))
    }

    fn started(&self, host: &Host, words: &[&str]) -> Process {
        let mut process = host.start_program(&self.binary, &self.arguments(words));
        process.says(" serving ");
        process
    }
}

fn service_table(ground: &Ground, host: &Host, name: &str, site: &str) -> String {
    format!(
        "[service]\nstate = \"{}\"\nlisten = \"{ip}:{PORT}\"\naddress = \"{ip}:{PORT}\"\nsite = \"{site}\"\n",
        ground.dir().join(name).display(),
        ip = host.ip(),
    )
}

fn config(ground: &Ground, name: &str) -> PathBuf {
    ground.dir().join(format!("{name}.toml"))
}

/// The agent of the server, for these disks alone.
pub fn agent(ground: &Ground, host: &Host, disks: &[&Path]) -> Program {
    let disks: Vec<String> = disks.iter().map(|disk| format!("{:?}", disk.to_str().unwrap())).collect();
    let table = service_table(ground, host, "agent", SITE);
    let text =
        format!("{table}\n[server]\nsite = \"{SITE}\"\nname = \"{SERVER}\"\nonly = [{}]\n", disks.join(", "));
    Program::new(AGENT, config(ground, "agent"), &text, &[])
}

pub fn process_server(ground: &Ground, host: &Host, name: &str) -> Program {
    let spool = ground.dir().join(format!("{name}-spool"));
    let text = format!(
        "{}\n[process_server]\nname = \"{name}\"\nspool = \"{}\"\nspool_bytes = 1073741824\n\n\
         [[far_source]]\nname = \"{CLOUD}\"\nbecause = \"test\"\n",
        service_table(ground, host, name, SITE),
        spool.display(),
    );
    Program::new(PROCESS_SERVER, config(ground, name), &text, &[])
}

/// A master target that lands by the text of its table.
pub fn master_target(ground: &Ground, host: &Host, retention: &Path, landing: &str) -> Program {
    let text = format!(
        "{}\n[master_target]\nname = \"{SITE}\"\nretention = \"{}\"\n\n{landing}\n",
        service_table(ground, host, "mt", SITE),
        retention.display(),
    );
    Program::new(MASTER_TARGET, config(ground, "mt"), &text, &[])
}

pub fn agent_service() -> (Service, Vec<ServedRole>) {
    let name = format!("{SITE}/{SERVER}");
    let roles = [RoleKind::Source, RoleKind::LandingSite].map(|kind| ServedRole::new(kind, name.as_str()));
    (Service::new(ServiceKind::Agent, SERVER).unwrap(), roles.into())
}

pub fn process_server_service(name: &str) -> (Service, Vec<ServedRole>) {
    let role = ServedRole::new(RoleKind::ProcessServer, name);
    (Service::new(ServiceKind::ProcessServer, name).unwrap(), vec![role])
}

pub fn master_target_service() -> (Service, Vec<ServedRole>) {
    let role = ServedRole::new(RoleKind::MasterTarget, SITE);
    (Service::new(ServiceKind::MasterTarget, "mt").unwrap(), vec![role])
}

/// Joins and starts a program.
pub async fn enrolled(
    vaulted: &Vaulted,
    host: &Host,
    program: &Program,
    as_: (Service, Vec<ServedRole>),
) -> Process {
    let token = vaulted.token(&as_.0, &as_.1).await;
    program.join(host, &token);
    program.start(host)
}
