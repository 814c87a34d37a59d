//! What the file of settings says.

use crate::guard;
use serde::Deserialize;
use site_recovery::{Error, Result, RoleName};
use site_recovery_physical::agent;
use site_recovery_physical::bare::{Described, Installed};
use site_recovery_physical::freeze::Hooks;
use site_recovery_physical::power::Command;
use site_recovery_physical::preparation::Destination;
use site_recovery_physical::snapshot::{DeviceMapper, Stack};
use site_recovery_service as service;
use site_recovery_transport::enrol::{RoleKind, ServedRole, Stated};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    pub(crate) service: service::Settings,
    pub(crate) server: Server,
    #[serde(default)]
    pub(crate) capture: Capture,
    #[serde(default)]
    pub(crate) limits: Limits,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) receive: Option<Receive>,
    pub(crate) guard: Option<guard::Settings>,
}

/// Which server this is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// The physical site that it belongs to.
    pub(crate) site: RoleName,
    /// Its name there.
    pub(crate) name: String,
    /// Besides those that are hardware: loop devices, by device or by file.
    #[serde(default)]
    pub(crate) with: Vec<PathBuf>,
    /// These disks alone.
    #[serde(default)]
    pub(crate) only: Vec<PathBuf>,
}

/// How captures are taken.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Capture {
    /// How long file systems may be frozen.
    pub(crate) freeze_seconds: u64,
    /// Programs of the applications.
    pub(crate) hooks: Hooks,
    /// Whether the block layer may be traced.
    pub(crate) trace: bool,
    /// Every so many scans read all blocks, whatever tracing says.
    pub(crate) whole_every: u64,
    /// Snapshots by device-mapper, of disks that lie below a `snapshot-origin`; all others are cloned.
    pub(crate) device_mapper: Option<Mapped>,
}

/// How disks lie below device-mapper, and what their snapshots may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapped {
    /// The block device that keeps what is overwritten while a capture lives; nothing else is on it.
    pub(crate) scratch: PathBuf,
    /// Bytes of it for each snapshot.
    pub(crate) room_bytes: u64,
    pub(crate) stacks: Vec<Stack>,
}

impl Mapped {
    pub(crate) fn means(&self, usual: &agent::Settings) -> Result<DeviceMapper> {
        let programs = Arc::clone(&usual.programs);
        DeviceMapper::new(self.stacks.clone(), &self.scratch, self.room_bytes, programs)
    }
}

impl Default for Capture {
    fn default() -> Self {
        let (hooks, device_mapper) = (Hooks::default(), None);
        Self { freeze_seconds: 10, hooks, trace: true, whole_every: 500, device_mapper }
    }
}

/// What the agent may take of the server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Bytes of disks that are read for tracking in a second.
    pub(crate) scan_bytes_per_second: Option<u64>,
    /// How much of one processor that takes at most, for each disk.
    pub(crate) scan_cpu_percent: Option<u8>,
    /// The nice level of that.
    pub(crate) nice: i32,
    /// Bytes of disks that are in memory for readers, per connection.
    pub(crate) memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { scan_bytes_per_second: None, scan_cpu_percent: None, nice: 10, memory_bytes: 32 << 20 }
    }
}

/// For where the server is made ready.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preparation {
    pub(crate) towards: Vec<Destination>,
}

/// The disks that are landed on, in a rescue system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receive {
    #[serde(flatten)]
    pub(crate) server: Described,
    /// How the rescue system is left; by restarting, unless it is said.
    pub(crate) leave: Option<Command>,
    /// Where the restored system's agent is, so that it is told who it is before it starts.
    pub(crate) installed: Option<Installed>,
}

impl Agent {
    /// Refuses what can be read and cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        if self.preparation.as_ref().is_some_and(|preparation| preparation.towards.is_empty()) {
            let rule = "a server is prepared for one place or more";
            let remedy = "name one, as in [\"HyperV\"], or leave the table [preparation] out";
            return Err(Error::invalid("preparation.towards", "[]", rule, remedy));
        }
        self.guard.as_ref().map_or(Ok(()), |guard| guard.check(&self.server.name))?;
        let Some(receive) = &self.receive else { return Ok(()) };
        receive.leave.as_ref().map_or(Ok(()), |leave| leave.check("receive.leave"))?;
        receive.installed.as_ref().map_or(Ok(()), Installed::check)
    }

    /// What the authority is told: where the agent is, and what it serves.
    pub(crate) fn stated(&self, receives: bool) -> Result<Stated> {
        let kind = if receives { RoleKind::LandingSite } else { RoleKind::Source };
        let name = format!("{}/{}", self.server.site, self.server.name);
        let roles = vec![ServedRole::new(kind, name.as_str())];
        Ok(Stated { address: Some(self.service.address.clone()), roles })
    }

    pub(crate) fn receive(&self) -> Result<&Receive> {
        self.receive.as_ref().ok_or_else(|| {
            let rule = "a rescue system is told which disks it may write";
            Error::invalid("receive", "absent", rule, "add a table [receive] with the server's slots")
        })
    }

    pub(crate) fn agent(&self) -> Result<agent::Settings> {
        let mut usual = agent::Settings::new(self.server.site.clone(), self.server.name.clone());
        if let Some(mapped) = &self.capture.device_mapper {
            usual.snapshots.insert(0, Arc::new(mapped.means(&usual)?));
            usual.stacks.clone_from(&mapped.stacks);
        }
        Ok(agent::Settings {
            state: self.service.state.join("agent"),
            freeze: Duration::from_secs(self.capture.freeze_seconds),
            hooks: self.capture.hooks.clone(),
            trace: self.capture.trace,
            whole_every: self.capture.whole_every,
            bytes_per_second: self.limits.scan_bytes_per_second,
            cpu_percent: self.limits.scan_cpu_percent,
            nice: self.limits.nice,
            ..usual
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A sample, and the same with all keys that it has in comments.
    fn sample(name: &str) -> [Agent; 2] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name);
        let text = std::fs::read_to_string(&file).unwrap();
        let key = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        let whole = text.lines().map(|line| line.strip_prefix('#').filter(|l| key(l)).unwrap_or(line));
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), whole.collect::<Vec<_>>().join("\n")).unwrap();
        [file.as_path(), other.path()].map(|file| {
            let read: Agent = service::read(file).unwrap_or_else(|error| panic!("{name}: {error}"));
            read.service.check().unwrap();
            read.check().unwrap();
            read
        })
    }

    #[test]
    fn the_sample_of_an_agent_is_read_and_says_what_holds_without_it() {
        let [plain, whole] = sample("agent.toml");
        assert_eq!(plain.stated(false).unwrap().roles[0].name.as_str(), "hall-1/web-1");
        assert_eq!(plain.receive().unwrap_err().fact("field"), Some("receive"));
        let usual = (Capture::default(), Limits::default());
        assert_eq!(whole.capture.freeze_seconds, usual.0.freeze_seconds);
        assert_eq!((whole.capture.trace, whole.capture.whole_every), (usual.0.trace, usual.0.whole_every));
        assert_eq!(whole.limits.scan_cpu_percent, Some(25));
        assert_eq!((whole.limits.nice, whole.limits.memory_bytes), (usual.1.nice, usual.1.memory_bytes));
        assert_eq!((whole.capture.hooks.before.len(), whole.capture.hooks.after.len()), (1, 1));
        assert!(whole.preparation.is_some() && whole.service.allow.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_table() {
        let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name);
        let text = std::fs::read_to_string(file("agent-in-rescue.toml")).unwrap();
        for table in ["[service]", "[server]", "[receive]"] {
            let other = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(other.path(), text.replace(table, &format!("{table}\ncolour = \"blue\"")))
                .unwrap();
            let error = service::read::<Agent>(other.path()).expect_err(table);
            assert!(error.to_string().contains("colour"), "{table}: {error}");
        }
    }

    /// What is said of a sample where one piece of it is another one.
    fn refused(name: &str, piece: &str, other: &str) -> Error {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(piece), "{piece} is in {name}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.replacen(piece, other, 1)).unwrap();
        service::read::<Agent>(file.path()).unwrap().check().unwrap_err()
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_field() {
        let nowhere = refused("agent.toml", "towards = [\"HyperV\"]", "towards = []");
        assert_eq!(nowhere.fact("field"), Some("preparation.towards"));
        for part in ["preparation.towards is []", "one place or more", "leave the table [preparation] out"] {
            assert!(nowhere.message().contains(part), "{part}: {nowhere}");
        }
        for (field, line) in [
            ("installed.device", "device = \"sda2\""),
            ("installed.state", "device = \"/dev/sda2\"\nstate = \"/\""),
            ("installed.state", "device = \"/dev/sda2\"\nstate = \"var/lib\""),
            ("installed.state", "device = \"/dev/sda2\"\nstate = \"/var/../../etc\""),
            ("installed.kind", "device = \"/dev/sda2\"\nkind = \"\""),
            ("installed.activate", "device = \"/dev/sda2\"\nactivate = { run = [\"vgchange\"] }"),
            ("installed.deactivate", "device = \"/dev/sda2\"\ndeactivate = { run = [\"/x\"], seconds = 0 }"),
        ] {
            let file = format!("[receive.installed]\n{line}\n\n#[receive.leave]");
            let error = refused("agent-in-rescue.toml", "#[receive.leave]", &file);
            assert_eq!(error.fact("field"), Some(field), "{line}: {error}");
        }
        for leave in ["run = []", "run = [\"reboot\"]", "run = [\"/x\"]\nseconds = 0"] {
            let table = format!("[receive.leave]\n{leave}\n");
            let error = refused("agent-in-rescue.toml", "#[receive.leave]", &table);
            assert_eq!(error.fact("field"), Some("receive.leave"), "{leave}: {error}");
        }
    }

    #[test]
    fn a_guard_that_could_never_be_answered_is_refused_by_its_field() {
        let standing = "witnesses = [\"points\"]\nnetwork = \"standing\"\n";
        for (field, lines) in [
            ("guard.witnesses", "witnesses = []\nnetwork = \"standing\"\n"),
            ("guard.network", "witnesses = [\"points\"]\n"),
            ("guard.every_seconds", &format!("{standing}every_seconds = 0\n")),
            ("guard.hosts", &format!("{standing}hosts = {{ \"dr:7443\" = \"192.0.2.1\" }}\n")),
            ("guard.hosts", &format!("{standing}hosts = {{ \"192.0.2.2\" = \"192.0.2.1\" }}\n")),
            (
                "address",
                "witnesses = [\"points\"]\nnetwork = { adapter = \"eno1\", address = \"10.0.0.250\" }\n",
            ),
        ] {
            let error = refused("agent.toml", "[limits]", &format!("[guard]\n{lines}\n[limits]"));
            assert_eq!(error.fact("field"), Some(field), "{lines}: {error}");
        }
        for name in ["Web-1", "web_1", "web-1.example"] {
            let (with, guard) = (format!("name = \"{name}\""), format!("[guard]\n{standing}\n[server]"));
            let server = format!("{guard}\nsite = \"hall-1\"\n{with}");
            let piece = "[server]\nsite = \"hall-1\"\nname = \"web-1\"";
            let error = refused("agent.toml", piece, &server);
            assert_eq!(error.fact("field"), Some("server.name"), "{error}");
            assert!(error.message().contains(name) && error.message().contains("[guard]"), "{error}");
        }
    }

    #[test]
    fn the_sample_of_a_guard_has_a_network_lent_and_its_hosts_pinned() {
        let [plain, whole] = sample("agent.toml");
        assert!(plain.guard.is_none());
        let guard = whole.guard.unwrap();
        assert_eq!(guard.pinned("DR.example.net:7443"), "192.0.2.10:7443");
        assert_eq!(guard.pinned("other.example.net:7443"), "other.example.net:7443");
        assert_eq!(guard.pinned("[2001:db8::1]:7443"), "[2001:db8::1]:7443");
        assert_eq!(guard.witnesses.len(), 2);
    }

    #[test]
    fn the_sample_of_a_rescue_system_names_the_disks_that_are_written() {
        let [plain, whole] = sample("agent-in-rescue.toml");
        assert_eq!(plain.receive().unwrap().server.slots.len(), 2);
        assert!(plain.receive().unwrap().leave.is_none() && whole.receive().unwrap().leave.is_some());
        assert!(plain.receive().unwrap().installed.is_none());
        let installed = whole.receive().unwrap().installed.as_ref().unwrap();
        assert_eq!(installed.state, sample("agent.toml")[0].service.state, "where the other sample has it");
        assert!(installed.activate.is_some() && installed.deactivate.is_some());
        let usual = Installed { activate: None, deactivate: None, ..installed.clone() };
        assert_eq!(usual, Installed::on(&installed.device), "what holds without the other keys");
        assert_eq!(whole.stated(true).unwrap().roles[0].kind, RoleKind::LandingSite);
    }
}
