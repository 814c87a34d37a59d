//! Sites and stores: a kind each, with the settings of that kind.

use super::{Place, Span};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use site_recovery::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Where machines run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum SiteSettings {
    /// A directory as a site: descriptions and raw disk files.
    Local(LocalSettings),
    /// QEMU/KVM on this host.
    Qemu(QemuSettings),
}

/// A directory as a site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalSettings {
    /// The directory, with a directory for each machine in it.
    pub(crate) directory: PathBuf,
}

/// QEMU/KVM on this host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QemuSettings {
    /// The directory, with a directory for each machine in it.
    pub(crate) directory: PathBuf,
    /// Who executes the guests; `kvm` otherwise.
    #[serde(default)]
    pub(crate) accelerator: Accelerator,
    /// Where captures keep what guests overwrite; local and fast.
    #[serde(default)]
    pub(crate) scratch: Option<PathBuf>,
    /// Words before each program that outlives the command. A daemon under systemd needs
    /// `["systemd-run", "--scope", "--quiet", "--collect", "--"]`.
    #[serde(default)]
    pub(crate) launcher: Vec<String>,
    /// Directories of firmware descriptors.
    #[serde(default)]
    pub(crate) firmware: Option<Vec<PathBuf>>,
    /// Networks by name; `isolated` is there by itself.
    #[serde(default)]
    pub(crate) networks: BTreeMap<String, NetworkSettings>,
    /// The bytes of a point come before a machine starts, and not while it runs.
    #[serde(default)]
    pub(crate) restore_first: bool,
    /// The longest that file systems stay frozen; `10s` otherwise.
    #[serde(default)]
    pub(crate) freeze_limit: Option<Span>,
}

/// Who executes guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Accelerator {
    /// The processor itself.
    #[default]
    Kvm,
    /// Emulation.
    Tcg,
    /// The processor, if a guest of our own gets through with it in ten seconds; emulation otherwise.
    Probe,
}

/// A network of a QEMU site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkSettings {
    /// As for `-netdev`, without its id: `bridge,br=br0`.
    pub(crate) backend: String,
    /// It cannot reach production, so drills may run in it.
    #[serde(default)]
    pub(crate) isolated: bool,
}

/// A store of recovery points.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum StoreSettings {
    /// A directory.
    Directory(DirectorySettings),
}

/// A directory of recovery points.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectorySettings {
    /// The directory.
    pub(crate) directory: PathBuf,
}

/// Something that has a kind.
pub(crate) trait OfKind: Sized {
    /// The kinds there are, for who names another.
    const KINDS: &'static [&'static str];
    /// Reads the table of this kind, which is one of [`KINDS`](OfKind::KINDS).
    fn of(kind: &str, rest: ValueDeserializer<'_>) -> std::result::Result<Self, toml::de::Error>;
}

impl OfKind for SiteSettings {
    const KINDS: &'static [&'static str] = &["local", "qemu"];

    fn of(kind: &str, rest: ValueDeserializer<'_>) -> std::result::Result<Self, toml::de::Error> {
        match kind {
            "local" => table(rest).map(Self::Local),
            _ => table(rest).map(Self::Qemu),
        }
    }
}

impl OfKind for StoreSettings {
    const KINDS: &'static [&'static str] = &["directory"];

    fn of(_: &str, rest: ValueDeserializer<'_>) -> std::result::Result<Self, toml::de::Error> {
        table(rest).map(Self::Directory)
    }
}

fn table<T: DeserializeOwned>(rest: ValueDeserializer<'_>) -> std::result::Result<T, toml::de::Error> {
    T::deserialize(rest)
}

/// Takes the tables `[name.*]` out of the root. Serde reads tagged tables by way of a copy that knows no places, so the tag
/// is taken out first.
pub(crate) fn take<T: OfKind>(
    root: &mut DeTable<'_>,
    name: &str,
    place: &Place<'_>,
) -> Result<BTreeMap<String, T>> {
    let Some(tables) = root.remove(name) else { return Ok(BTreeMap::new()) };
    let at = tables.span();
    let DeValue::Table(tables) = tables.into_inner() else {
        return Err(place.refuse(at, "it is a table of tables", &format!("write [{name}.NAME]")));
    };
    let mut all = BTreeMap::new();
    for (key, mut value) in tables {
        let (at, kinds) = (key.span(), T::KINDS.join(", "));
        let told = format!("say one of these: {kinds}");
        let DeValue::Table(table) = value.get_mut() else {
            return Err(place.refuse(at, "it is a table", &format!("write [{name}.{}]", key.get_ref())));
        };
        let Some(kind) = table.remove("kind") else {
            let rule = format!("{name}.{} has no kind", key.get_ref());
            return Err(place.refuse(at, &rule, &told));
        };
        let Some(known) = kind.get_ref().as_str().filter(|kind| T::KINDS.contains(kind)) else {
            return Err(place.refuse(kind.span(), "there is no such kind", &told));
        };
        let read = T::of(known, ValueDeserializer::from(value)).map_err(|e| place.told(&e))?;
        all.insert(key.into_inner().into_owned(), read);
    }
    Ok(all)
}

impl SiteSettings {
    /// The kind, as it is written, which is the feature that has it, too.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Qemu(_) => "qemu",
        }
    }

    /// Its paths, to be counted from the file's directory.
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Local(site) => vec![&mut site.directory],
            Self::Qemu(site) => [&mut site.directory]
                .into_iter()
                .chain(&mut site.scratch)
                .chain(site.firmware.iter_mut().flatten())
                .collect(),
        }
    }
}

impl StoreSettings {
    /// As of a site.
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Directory(store) => vec![&mut store.directory],
        }
    }
}
