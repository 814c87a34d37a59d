//! The one file of settings: read whole, or refused by file, line, key, rule and remedy before anything is opened.

mod machine;
mod names;
mod place;
mod plans;
mod policy;
mod remote;
mod site;
mod span;

pub(crate) use machine::{GroupSettings, MachineSettings, Recovered};
pub(crate) use place::{Place, refused};
pub(crate) use policy::PolicySettings;
#[cfg(feature = "azure")]
pub(crate) use remote::Azure;
#[cfg(any(feature = "vsphere", feature = "esxi"))]
pub(crate) use remote::Devices;
#[cfg(feature = "esxi")]
pub(crate) use remote::Esxi;
#[cfg(feature = "vsphere")]
pub(crate) use remote::Vsphere;
pub(crate) use site::{Accelerator, LocalSettings, QemuSettings, SiteSettings, StoreSettings};
pub(crate) use span::Span;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;
use sha2::{Digest, Sha256};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_plans::Plan;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The most bytes of a file of settings.
const LONGEST: u64 = 1 << 20;

/// Tables by name, where the name's place in the file is needed.
pub(crate) type Named<T> = BTreeMap<String, Spanned<T>>;

/// What the command works on. Paths that are not absolute count from the directory of the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Settings of site-recovery")]
pub(crate) struct Settings {
    /// Where the control state is kept, and who asks.
    pub(crate) vault: VaultSettings,
    /// Sites by name: where machines run.
    #[serde(default)]
    pub(crate) sites: BTreeMap<String, SiteSettings>,
    /// Stores of recovery points by name.
    #[serde(default)]
    pub(crate) stores: BTreeMap<String, StoreSettings>,
    /// Legs by name. A machine goes out by `out` and back by `back` unless it says otherwise.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, LegSettings>")]
    pub(crate) legs: Named<LegSettings>,
    /// Replication policies by name; the one named `default` holds where none is named.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, PolicySettings>")]
    pub(crate) policies: Named<PolicySettings>,
    /// Machines by the name that they have at their source.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, MachineSettings>")]
    pub(crate) machines: Named<MachineSettings>,
    /// Replication groups by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, GroupSettings>")]
    pub(crate) groups: Named<GroupSettings>,
    /// Recovery plans by name: machines and groups that go over as one act, in boot groups.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Plan>")]
    pub(crate) plans: Named<Plan>,
    /// The process server of this host, which moves the bytes.
    #[serde(default)]
    pub(crate) process_server: ProcessServerSettings,
    /// What looks at recovered machines; boot proofs need it.
    #[serde(default)]
    pub(crate) validation: Option<ValidationSettings>,
    /// The daemon.
    #[serde(default)]
    pub(crate) run: RunSettings,
    /// SHA-256 of the file: whoever works for another process tells by it whether both read the same.
    #[serde(skip)]
    pub(crate) digest: String,
}

/// Where the control state is kept, and who asks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultSettings {
    /// Directory of journal, lock, control socket and reports; for its owner alone.
    pub(crate) state: PathBuf,
    /// Who asks, in the audit trail; else the user of the system.
    pub(crate) operator: Option<String>,
}

/// One direction. `store` makes it a way out, `retention` a way back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LegSettings {
    /// The site that machines are captured at.
    #[schemars(with = "String")]
    pub(crate) from: Spanned<String>,
    /// The site that recovered machines run at.
    #[schemars(with = "String")]
    pub(crate) to: Spanned<String>,
    /// The store that keeps the points of a way out.
    #[schemars(with = "Option<String>")]
    pub(crate) store: Option<Spanned<String>>,
    /// The directory in which the master target of a way back keeps its points.
    pub(crate) retention: Option<PathBuf>,
    /// What machines shall be where it leads that have no settings of their own there; a site of VMware's has to be told the
    /// datastore. A name, NICs and disks are of one machine.
    #[schemars(with = "Option<Recovered>")]
    pub(crate) settings: Option<Spanned<Recovered>>,
}

/// The process server of this host.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProcessServerSettings {
    /// Directory of what is kept while a replica is away; nothing is kept where it is left out.
    pub(crate) spool: Option<PathBuf>,
    /// Most MiB of the spool; else as much as its volume has.
    pub(crate) spool_limit_mib: Option<u64>,
    /// Files of keys, 64 hexadecimal digits each. The first seals what is replicated, the others open what it replaced.
    pub(crate) keys: Vec<PathBuf>,
}

/// What looks at recovered machines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidationSettings {
    /// A program and its arguments, run without a shell; it ends with 0 where the machine is as it should be, and says on standard
    /// error why not. `SITE_RECOVERY_MACHINE`, `SITE_RECOVERY_REACH` and `SITE_RECOVERY_PURPOSE` tell it of which.
    #[schemars(length(min = 1))]
    pub(crate) command: Vec<String>,
}

/// The daemon.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunSettings {
    /// Where metrics are served for Prometheus, without a password: `127.0.0.1:9464`. `off` serves none.
    pub(crate) metrics: Metrics,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self { metrics: Metrics::At(SocketAddr::from(([127, 0, 0, 1], 9464))) }
    }
}

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub(crate) enum Metrics {
    At(SocketAddr),
    Off,
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "off" => Ok(Self::Off),
            at => at.parse().map(Self::At).map_err(|_| {
                let rule = "it is an address and a port, as 127.0.0.1:9464, or off";
                serde::de::Error::custom(format!("{text:?}: {rule}"))
            }),
        }
    }
}

/// Reads a file of settings.
///
/// # Errors
/// `NotFound`, `Denied`; `Invalid`, naming file, line, key, rule and remedy.
pub(crate) fn read(file: &Path) -> Result<Settings> {
    let unread = |e: std::io::Error| {
        let (kind, remedy) = match e.kind() {
            std::io::ErrorKind::NotFound => {
                (ErrorKind::NotFound, "; `site-recovery init` writes some, `--config FILE` names others")
            }
            _ => (ErrorKind::Denied, ""),
        };
        Error::new(kind, format!("the settings {} cannot be read{remedy}", file.display())).caused_by(e)
    };
    let size = std::fs::metadata(file).map_err(unread)?.len();
    if size > LONGEST {
        let rule = format!("they have at most {LONGEST} bytes");
        return Err(Error::invalid("settings", file.display(), &rule, "name the right file"));
    }
    let text = std::fs::read_to_string(file).map_err(unread)?;
    parse(file, &text)
}

/// Reads what a file of settings says.
///
/// # Errors
/// `Invalid`, as of [`read`].
pub(crate) fn parse(file: &Path, text: &str) -> Result<Settings> {
    let place = Place::new(file, text);
    let mut root = toml::de::DeTable::parse(text).map_err(|e| place.told(&e))?;
    let sites = site::take(root.get_mut(), "sites", &place)?;
    let stores = site::take(root.get_mut(), "stores", &place)?;
    let mut settings = Settings::deserialize(toml::Deserializer::from(root)).map_err(|e| place.told(&e))?;
    settings.sites = sites;
    settings.stores = stores;
    names::check(&settings, &place)?;
    plans::check(&settings, &place)?;
    settings.digest = Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    settings.resolve(file.parent().unwrap_or(Path::new(".")));
    Ok(settings)
}

impl Settings {
    /// Where the journal is.
    pub(crate) fn journal(&self) -> PathBuf {
        self.vault.state.join("journal.db")
    }

    /// Where reports are written.
    pub(crate) fn reports(&self) -> PathBuf {
        self.vault.state.join("reports")
    }

    /// Who asks, unless the command line says so.
    pub(crate) fn operator(&self) -> String {
        let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        self.vault.operator.clone().or(user).filter(|name| !name.is_empty()).unwrap_or("operator".into())
    }

    fn resolve(&mut self, from: &Path) {
        let all = [&mut self.vault.state]
            .into_iter()
            .chain(&mut self.process_server.spool)
            .chain(&mut self.process_server.keys)
            .chain(self.legs.values_mut().filter_map(|leg| leg.get_mut().retention.as_mut()))
            .chain(self.sites.values_mut().flat_map(SiteSettings::paths))
            .chain(self.stores.values_mut().flat_map(StoreSettings::paths));
        for path in all {
            *path = from.join(&path);
        }
    }
}

/// The published JSON Schema of the file.
pub(crate) fn schema() -> String {
    let schema = schemars::schema_for!(Settings);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
