//! What machines and groups shall be: which policy, which legs, what at the recovery site.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;
use site_recovery::{DiskSettings, Location, NicSettings, Settings};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MachineSettings {
    /// The name of its policy.
    #[schemars(with = "Option<String>")]
    pub(crate) policy: Option<Spanned<String>>,
    /// The leg out.
    #[schemars(with = "Option<String>")]
    pub(crate) out: Option<Spanned<String>>,
    /// The leg back.
    #[schemars(with = "Option<String>")]
    pub(crate) back: Option<Spanned<String>>,
    /// Disks that are left out; never the system disk.
    pub(crate) excluded: Vec<String>,
    /// What it shall be at the recovery site; what is left out is proposed by the site.
    #[schemars(with = "Option<Recovered>")]
    pub(crate) settings: Option<Spanned<Recovered>>,
}

impl MachineSettings {
    /// Whether anything is told here.
    pub(super) fn is_told(&self) -> bool {
        let ways = [&self.policy, &self.out, &self.back];
        ways.iter().any(|way| way.is_some()) || self.settings.is_some() || !self.excluded.is_empty()
    }
}

/// One replication group: one capture, one cut, one failover for all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupSettings {
    /// Its members, by their names at the source.
    #[schemars(with = "Vec<String>")]
    pub(crate) machines: Vec<Spanned<String>>,
    /// The name of its policy.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(crate) policy: Option<Spanned<String>>,
}

/// A machine at its recovery site.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Recovered {
    /// Its name there.
    name: Option<String>,
    /// A resource group, or a folder.
    group: Option<String>,
    /// The size's name.
    size: Option<String>,
    /// Its network.
    network: Option<String>,
    /// The isolated network of drills.
    test_network: Option<String>,
    /// Datastore for disks that must be made.
    datastore: Option<String>,
    /// Volume of the retention log, for a master target that has several.
    retention_volume: Option<String>,
    /// On the way back, a new machine and not the original one.
    alternate_location: bool,
    /// Marks for the platform's own bookkeeping.
    tags: BTreeMap<String, String>,
    /// The licence that the guest brings along.
    licence: Option<String>,
    /// Per network adapter.
    nics: BTreeMap<String, Nic>,
    /// Per disk.
    disks: BTreeMap<String, Disk>,
    /// What only this kind of site knows.
    site: BTreeMap<String, String>,
}

/// A network adapter of the recovered machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Nic {
    /// It is not made.
    excluded: bool,
    /// It is the first.
    primary: bool,
    /// Its subnet.
    subnet: Option<String>,
    /// Its fixed address; DHCP otherwise.
    address: Option<IpAddr>,
    /// Its subnet in drills.
    test_subnet: Option<String>,
    /// Its fixed address in drills.
    test_address: Option<IpAddr>,
}

/// A disk of the recovered machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Disk {
    /// Its name.
    name: Option<String>,
    /// Its kind, as the site calls it.
    kind: Option<String>,
}

impl Recovered {
    /// As the library takes it; it judges what is wrong at every site.
    pub(crate) fn settings(&self) -> Settings {
        let told = self.clone();
        let nic = |(id, nic): (String, Nic)| {
            let Nic { excluded, primary, subnet, address, test_subnet, test_address } = nic;
            (id.into(), NicSettings { excluded, primary, subnet, address, test_subnet, test_address })
        };
        let disk =
            |(id, disk): (String, Disk)| (id.into(), DiskSettings { name: disk.name, kind: disk.kind });
        Settings {
            name: told.name,
            group: told.group,
            size: told.size,
            network: told.network,
            test_network: told.test_network,
            nics: told.nics.into_iter().map(nic).collect(),
            disks: told.disks.into_iter().map(disk).collect(),
            datastore: told.datastore,
            retention_volume: told.retention_volume,
            location: if told.alternate_location { Location::Alternate } else { Location::Original },
            tags: told.tags,
            licence: told.licence,
            site: told.site,
            ..Settings::default()
        }
    }
}
