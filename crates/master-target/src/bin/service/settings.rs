//! What the file of settings says.

use serde::Deserialize;
use site_recovery::RoleName;
use site_recovery_master_target::volume::Uses;
use site_recovery_physical::bare::Slot;
use site_recovery_physical::power::{Commands, redfish};
use site_recovery_service as service;
use site_recovery_transport::enrol::{RoleKind, ServedRole, Stated};
use std::path::PathBuf;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) service: service::Settings,
    pub(crate) master_target: Own,
    pub(crate) landing: Landing,
}

/// The master target itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Own {
    pub(crate) name: RoleName,
    /// The volume of the retention log.
    pub(crate) retention: PathBuf,
    /// What else is kept on this host and must not share the volume: spools, caches.
    #[serde(default)]
    pub(crate) caches: Vec<PathBuf>,
}

/// On what machines land; the landing site has the master target's name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Landing {
    /// A directory as a site: machine descriptions and raw disk files.
    Directory { path: PathBuf },
    /// Block devices or files of this host.
    Disks(Disks),
    /// The servers of a site that run their rescue systems, by the site's keeper.
    Servers { site: RoleName },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disks {
    /// Servers whose disks are attached to this host.
    #[serde(default, rename = "server")]
    pub(crate) servers: Vec<Server>,
    /// Where plain files are made as disks for all others.
    pub(crate) room: Option<PathBuf>,
}

/// A server whose disks these are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) slots: Vec<Slot>,
    /// Who switches it, keeps it off while something lands, and starts it once its disks are let go.
    pub(crate) power: Power,
}

/// Who switches a server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Power {
    /// The user's own programs.
    Commands(Commands),
    /// Its management controller.
    Redfish(redfish::Settings),
}

impl Settings {
    /// What the authority is told: where the service is, and what it serves.
    pub(crate) fn stated(&self) -> Stated {
        let own = ServedRole::new(RoleKind::MasterTarget, self.master_target.name.clone());
        Stated { address: Some(self.service.address.clone()), roles: vec![own] }
    }

    /// What volumes of this host are used for.
    pub(crate) fn uses(&self) -> Uses {
        let landing = match &self.landing {
            Landing::Directory { path } => vec![path.clone()],
            Landing::Disks(disks) => disks.room.iter().cloned().collect(),
            Landing::Servers { .. } => vec![],
        };
        let state = self.service.state.clone();
        Uses { landing, caches: self.master_target.caches.iter().cloned().chain([state]).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A sample, and the same with all keys that it has in comments.
    fn sample(name: &str) -> [Settings; 2] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name);
        let text = std::fs::read_to_string(&file).unwrap();
        let key = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        let whole = text.lines().map(|line| line.strip_prefix('#').filter(|l| key(l)).unwrap_or(line));
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), whole.collect::<Vec<_>>().join("\n")).unwrap();
        [file.as_path(), other.path()].map(|file| {
            let read: Settings = service::read(file).unwrap_or_else(|error| panic!("{name}: {error}"));
            read.service.check().unwrap();
            assert_eq!(read.stated().roles[0].kind, RoleKind::MasterTarget);
            read
        })
    }

    #[test]
    fn samples_are_read_for_each_way_to_land() {
        let [plain, whole] = sample("master-target.toml");
        assert!(matches!(plain.landing, Landing::Directory { .. }));
        assert_eq!((plain.uses().caches.len(), whole.uses().caches.len()), (1, 2));
        let [disks, _] = sample("master-target-on-disks.toml");
        let Landing::Disks(disks) = &disks.landing else { panic!("{disks:?}") };
        assert!(disks.servers[0].slots.len() == 2 && disks.room.is_some());
        assert!(matches!(&disks.servers[0].power, Power::Redfish(_)));
        assert!(matches!(&disks.servers[1].power, Power::Commands(_)));
        let [servers, _] = sample("master-target-on-servers.toml");
        assert!(matches!(&servers.landing, Landing::Servers { site } if site.as_str() == "hall-1"));
    }
}
