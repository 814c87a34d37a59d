//! Sites elsewhere: their settings are their adapters' own. Without the feature that has one, its table is read over, and refused
//! by name when the site is opened.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The table of a site of VMware's, for the schema.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "it is only described")]
pub(crate) struct VmwareTable {
    /// What the site keeps of its own; an absolute path, on no disk of the server's.
    directory: String,
    /// The server: `url`, `trust`, `user`, `password` by reference, `limits`, as docs/vmware.md has them.
    server: BTreeMap<String, serde_json::Value>,
    /// The instance UUID of the machine in which this command runs; without it nothing lands there.
    appliance: Option<String>,
    /// Where that machine's block devices are seen; below `/sys/block` and `/dev` unless told otherwise, as in a container.
    block_devices: Option<Devices>,
    /// A folder for disks that are read by leases, where nothing else serves.
    leases: Option<String>,
    /// Only machines with this tag, as `category=tag`; of a vCenter.
    tag: Option<String>,
}

/// Where block devices are seen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "without the features it is only described")]
pub(crate) struct Devices {
    /// A folder as `/sys/block`.
    pub(crate) sys: PathBuf,
    /// A folder as `/dev`.
    pub(crate) dev: PathBuf,
}

/// The table of a site in Azure, for the schema.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "it is only described")]
pub(crate) struct AzureTable {
    /// The id of the subscription.
    subscription: String,
    /// The resource group.
    group: String,
    /// The region.
    region: String,
    /// The id of the storage account.
    account: String,
    /// The container in it.
    container: String,
    /// Who asks; secrets by reference.
    sign_in: serde_json::Value,
}

/// A table that nobody here can read.
#[cfg(not(all(feature = "vsphere", feature = "esxi", feature = "azure")))]
#[derive(Debug)]
pub(crate) struct NotBuiltIn;

#[cfg(not(all(feature = "vsphere", feature = "esxi", feature = "azure")))]
impl<'de> Deserialize<'de> for NotBuiltIn {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(from).map(|_| Self)
    }
}

/// A server of VMware's, and what of it makes a site.
#[cfg(any(feature = "vsphere", feature = "esxi"))]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vmware<Server, Tag> {
    pub(crate) directory: PathBuf,
    pub(crate) server: Server,
    #[serde(default)]
    pub(crate) appliance: Option<String>,
    #[serde(default)]
    pub(crate) block_devices: Option<Devices>,
    #[serde(default)]
    pub(crate) leases: Option<PathBuf>,
    #[serde(default = "none", bound(deserialize = "Tag: Deserialize<'de>"))]
    pub(crate) tag: Option<Tag>,
}

#[cfg(any(feature = "vsphere", feature = "esxi"))]
fn none<T>() -> Option<T> {
    None
}

/// What nobody can write: a host knows no tags.
#[cfg(feature = "esxi")]
#[derive(Debug, Deserialize)]
pub(crate) enum NoTag {}

#[cfg(feature = "vsphere")]
pub(crate) type Vsphere = Box<Vmware<site_recovery_vsphere::Settings, site_recovery_vsphere::TagName>>;
#[cfg(not(feature = "vsphere"))]
pub(crate) type Vsphere = NotBuiltIn;

#[cfg(feature = "esxi")]
pub(crate) type Esxi = Box<Vmware<site_recovery_esxi::Settings, NoTag>>;
#[cfg(not(feature = "esxi"))]
pub(crate) type Esxi = NotBuiltIn;

#[cfg(feature = "azure")]
pub(crate) type Azure = Box<site_recovery_azure::Settings>;
#[cfg(not(feature = "azure"))]
pub(crate) type Azure = NotBuiltIn;
