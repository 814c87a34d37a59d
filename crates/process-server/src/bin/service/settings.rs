//! What the file of settings says.

use serde::Deserialize;
use site_recovery::{MachineId, Result, RoleName};
use site_recovery_process_server::{Builder, Codec, Key, Keyring, ProcessServer, Throttle};
use site_recovery_service as service;
use site_recovery_transport::enrol::{RoleKind, ServedRole, Stated};
use std::path::PathBuf;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) service: service::Settings,
    pub(crate) process_server: Own,
    /// Keys that seal and open; the first without machines seals what no other does.
    #[serde(default, rename = "key")]
    pub(crate) keys: Vec<KeyFile>,
    /// Stores that stand beside this process server, and are served with it.
    #[serde(default, rename = "store")]
    pub(crate) stores: Vec<Store>,
    /// Sources of other sites that it may read all the same.
    #[serde(default, rename = "far_source")]
    pub(crate) far_sources: Vec<FarSource>,
}

/// The process server itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Own {
    pub(crate) name: RoleName,
    pub(crate) spool: Option<PathBuf>,
    pub(crate) spool_bytes: Option<u64>,
    pub(crate) memory_bytes: Option<usize>,
    pub(crate) threads: Option<usize>,
    pub(crate) disks_at_once: Option<usize>,
    pub(crate) writes_at_once: Option<usize>,
    #[serde(default)]
    pub(crate) compress: Compress,
    #[serde(default)]
    pub(crate) throttle: Throttle,
}

/// How records are compressed.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compress {
    #[default]
    Zstd,
    Lz4,
    Not,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyFile {
    pub(crate) file: PathBuf,
    /// The machines whose records it seals; without any, those of all that no other key seals.
    #[serde(default)]
    pub(crate) machines: Vec<MachineId>,
    /// It opens what it has sealed, and seals nothing any more.
    #[serde(default)]
    pub(crate) retired: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) name: RoleName,
    pub(crate) directory: PathBuf,
}

/// A source on the other side, and why it is read from here all the same.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FarSource {
    pub(crate) name: RoleName,
    pub(crate) because: Because,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Because {
    /// It is no production.
    Test,
    /// The line between the sites is private, as Azure's ExpressRoute.
    PrivateLine,
    /// Somebody answers for it, by name.
    Operator { name: String, reason: String },
}

impl Settings {
    /// What the authority is told: where the service is, and what it serves.
    pub(crate) fn stated(&self) -> Stated {
        let own = ServedRole::new(RoleKind::ProcessServer, self.process_server.name.clone());
        let stores = self.stores.iter().map(|store| ServedRole::new(RoleKind::Store, store.name.clone()));
        Stated {
            address: Some(self.service.address.clone()),
            roles: [own].into_iter().chain(stores).collect(),
        }
    }

    /// The keys, read from their files.
    pub(crate) fn keys(&self) -> Result<Keyring> {
        self.keys.iter().try_fold(Keyring::new(), |ring, file| {
            let key = Key::read(&file.file)?;
            Ok(match (file.retired, file.machines.is_empty()) {
                (true, _) => ring.open_with(key),
                (false, true) => ring.seal_with(key),
                (false, false) => ring.seal_for(key, file.machines.iter().cloned()),
            })
        })
    }

    pub(crate) fn builder(&self, keys: Keyring) -> Builder {
        let own = &self.process_server;
        let codec = match own.compress {
            Compress::Zstd => Codec::Zstd,
            Compress::Lz4 => Codec::Lz4,
            Compress::Not => Codec::Raw,
        };
        let builder = ProcessServer::builder(own.name.clone()).keys(keys).codec(codec);
        let builder = builder.throttle(own.throttle.clone());
        let builder = set(builder, own.spool.clone(), Builder::spool);
        let builder = set(builder, own.spool_bytes, Builder::spool_limit);
        let builder = set(builder, own.memory_bytes, Builder::pool);
        let builder = set(builder, own.threads, Builder::threads);
        let builder = set(builder, own.disks_at_once, Builder::disks_at_once);
        set(builder, own.writes_at_once, Builder::writes_at_once)
    }
}

fn set<T>(builder: Builder, value: Option<T>, with: impl FnOnce(Builder, T) -> Builder) -> Builder {
    match value {
        Some(value) => with(builder, value),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery_process_server::Weekday;
    use std::path::Path;

    fn read(text: &str) -> Settings {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let read: Settings = service::read(file.path()).unwrap_or_else(|error| panic!("{text}: {error}"));
        read.service.check().unwrap();
        read.process_server.throttle.validate().unwrap();
        read
    }

    fn file(name: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
    }

    #[test]
    fn the_sample_is_read_with_and_without_what_it_has_in_comments() {
        let text = file("etc/process-server.toml");
        let plain = read(&text);
        assert!(plain.keys.is_empty() && plain.stores.is_empty() && plain.far_sources.is_empty());
        let key = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        let lines = text.lines().map(|line| line.strip_prefix('#').filter(|l| key(l)).unwrap_or(line));
        let whole = read(&lines.collect::<Vec<_>>().join("\n"));
        assert_eq!((whole.keys.len(), whole.stores.len(), whole.far_sources.len()), (3, 1, 2));
        assert_eq!(whole.stated().roles.len(), 2);
        assert_eq!(whole.process_server.throttle.windows[0].days[0], Weekday::Monday);
        assert!(matches!(whole.far_sources[1].because, Because::Operator { .. }));
    }

    /// What `write_files` of the sample for a virtual machine has at a path.
    fn written<'a>(yaml: &'a str, path: &str) -> Vec<&'a str> {
        let (_, rest) = yaml.split_once(&format!("- path: {path}\n")).expect("the path is there");
        let (_, rest) = rest.split_once("content: |\n").expect("it has a content");
        let inside = |line: &&str| line.is_empty() || line.starts_with("      ");
        rest.lines().take_while(inside).map(|line| line.get(6..).unwrap_or("")).collect()
    }

    #[test]
    fn c1_a_virtual_machine_gets_these_settings_this_unit_and_no_secret() {
        let yaml = file("etc/cloud-init.yaml");
        let settings = read(&written(&yaml, "/etc/site-recovery/process-server.toml").join("\n"));
        assert_eq!(settings.stated().roles.len(), 1);
        let unit = written(&yaml, "/etc/systemd/system/site-recovery-process-server.service");
        let unit_file = file("systemd/site-recovery-process-server.service");
        assert_eq!(unit, unit_file.lines().collect::<Vec<_>>());
        assert!(!yaml.contains("srj1."), "a join token");
    }
}
