//! What a server has beside machines: datacenters, folders, hosts, clusters, datastores, networks.

use crate::Moref;
use crate::client::Vim;
use crate::collect::{Properties, Scope, is};
use crate::xml::{child, text};
use crate::{Error, Network};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A datacenter; a host has one, `ha-datacenter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datacenter {
    /// Which.
    pub moref: Moref,
    /// As people gave it.
    pub name: String,
    /// The folder that it is in.
    pub parent: Option<Moref>,
    /// The folder of its machines.
    pub machines: Option<Moref>,
    /// Its datastores.
    pub datastores: Vec<Moref>,
}

/// A folder of anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Which. Pods of storage DRS are folders too, of the kind `StoragePod`.
    pub moref: Moref,
    /// As people gave it.
    pub name: String,
    /// What it is in; the root is in nothing.
    pub parent: Option<Moref>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Which.
    pub moref: Moref,
    /// As people gave it.
    pub name: String,
    /// Its [`Compute`].
    pub parent: Option<Moref>,
    /// `connected`, `disconnected`, `notResponding`.
    pub connection: Option<String>,
    /// Takes no machines.
    pub maintenance: bool,
    /// Of ESXi: `8.0.3`.
    pub version: Option<String>,
    /// Of the hardware.
    pub uuid: Option<String>,
    /// The address of the vCenter that manages it; of a host that none manages there is none.
    pub managed_by: Option<String>,
    /// What starts machines with it: for [`Vim::autostart`].
    pub autostart: Option<Moref>,
    /// Which it reaches.
    pub datastores: Vec<Moref>,
    /// Which it has.
    pub networks: Vec<Moref>,
}

/// A cluster, or what a single host is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compute {
    /// Which; the kind is `ClusterComputeResource` for a cluster.
    pub moref: Moref,
    /// As people gave it.
    pub name: String,
    /// The folder that it is in.
    pub parent: Option<Moref>,
    /// Its hosts.
    pub hosts: Vec<Moref>,
    /// Its root pool.
    pub pool: Option<Moref>,
}

impl Compute {
    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.moref.kind == "ClusterComputeResource"
    }
}

/// A datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// Which.
    pub moref: Moref,
    /// As people gave it, and as it is in paths.
    pub name: String,
    /// The folder or pod that it is in.
    pub parent: Option<Moref>,
    /// `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL`.
    pub kind: Option<String>,
    /// `ds:///vmfs/volumes/…/`
    pub url: Option<String>,
    /// In bytes.
    pub capacity: u64,
    /// In bytes.
    pub free: u64,
    /// Whether any host reaches it.
    pub accessible: bool,
    /// `normal`, or on its way to maintenance.
    pub maintenance: Option<String>,
    /// How each host has it.
    pub mounts: Vec<Mount>,
}

/// How a host has a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which host.
    pub host: Moref,
    /// Whether it may write.
    pub writable: bool,
    /// Whether it is mounted and reached.
    pub accessible: bool,
}

/// A network, as one chooses it, and as adapters are plugged into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkEntity {
    /// Which.
    pub moref: Moref,
    /// As people gave it.
    pub name: String,
    /// What an adapter of it is backed by, where that is known.
    pub backing: Option<Network>,
}

fn named(p: &Properties<'_, '_>) -> (Moref, String, Option<Moref>) {
    (p.object.clone(), p.name().unwrap_or_default(), p.moref("parent"))
}

/// A host that none manages may say its own address.
fn is_of_its_own(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

impl Host {
    /// How it is reached, where that is not as it should be.
    pub fn away(&self) -> Option<&str> {
        self.connection.as_deref().filter(|state| *state != "connected")
    }

    fn of(p: &Properties<'_, '_>) -> Result<Self, Error> {
        let (moref, name, parent) = named(p);
        Ok(Self {
            moref,
            name,
            parent,
            connection: p.text("runtime.connectionState"),
            maintenance: p.flag("runtime.inMaintenanceMode").unwrap_or_default(),
            version: p.text("summary.config.product.version"),
            uuid: p.text("summary.hardware.uuid"),
            managed_by: p.text("summary.managementServerIp").filter(|address| !is_of_its_own(address)),
            autostart: p.moref("configManager.autoStartManager"),
            datastores: p.morefs("datastore"),
            networks: p.morefs("network"),
        })
    }
}

impl Datastore {
    fn of(p: &Properties<'_, '_>) -> Result<Self, Error> {
        let (moref, name, parent) = named(p);
        let mount = |node| {
            let info = child(node, "mountInfo")?;
            Some(Mount {
                host: Moref::at(node, "key")?,
                writable: text(info, "accessMode") == Some("readWrite"),
                // Older hosts say neither.
                accessible: text(info, "accessible").is_none_or(|_| is(info, "accessible"))
                    && text(info, "mounted").is_none_or(|_| is(info, "mounted")),
            })
        };
        Ok(Self {
            moref,
            name,
            parent,
            kind: p.text("summary.type"),
            url: p.text("summary.url"),
            capacity: p.number("summary.capacity").unwrap_or_default(),
            free: p.number("summary.freeSpace").unwrap_or_default(),
            accessible: p.flag("summary.accessible").unwrap_or_default(),
            maintenance: p.text("summary.maintenanceMode"),
            mounts: p.list("host", "DatastoreHostMount").filter_map(mount).collect(),
        })
    }
}

/// Each of these is one view and its pages. Privilege: `System.Read`; what the user may not see is not there.
impl Vim {
    /// All datacenters.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn datacenters(&self) -> Result<Vec<Datacenter>, Error> {
        let read = |p: &Properties<'_, '_>| {
            let (moref, name, parent) = named(p);
            let (machines, datastores) = (p.moref("vmFolder"), p.morefs("datastore"));
            Ok(Datacenter { moref, name, parent, machines, datastores })
        };
        self.all("Datacenter", &["name", "parent", "vmFolder", "datastore"], read).await
    }

    /// All folders but the root, with the pods of storage DRS.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn folders(&self) -> Result<Vec<Folder>, Error> {
        let read = |p: &Properties<'_, '_>| {
            let (moref, name, parent) = named(p);
            Ok(Folder { moref, name, parent })
        };
        self.all("Folder", &["name", "parent"], read).await
    }

    /// All hosts.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn hosts(&self) -> Result<Vec<Host>, Error> {
        let paths = [
            "name",
            "parent",
            "runtime.connectionState",
            "runtime.inMaintenanceMode",
            "summary.config.product.version",
            "summary.hardware.uuid",
            "summary.managementServerIp",
            "configManager.autoStartManager",
            "datastore",
            "network",
        ];
        self.all("HostSystem", &paths, Host::of).await
    }

    /// All clusters, and what single hosts are in.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn computes(&self) -> Result<Vec<Compute>, Error> {
        let read = |p: &Properties<'_, '_>| {
            let (moref, name, parent) = named(p);
            Ok(Compute { moref, name, parent, hosts: p.morefs("host"), pool: p.moref("resourcePool") })
        };
        self.all("ComputeResource", &["name", "parent", "host", "resourcePool"], read).await
    }

    /// All datastores, with how each host has them.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn datastores(&self) -> Result<Vec<Datastore>, Error> {
        let paths = [
            "name",
            "parent",
            "summary.type",
            "summary.url",
            "summary.capacity",
            "summary.freeSpace",
            "summary.accessible",
            "summary.maintenanceMode",
            "host",
        ];
        self.all("Datastore", &paths, Datastore::of).await
    }

    /// All networks, distributed port groups among them.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn networks(&self) -> Result<Vec<NetworkEntity>, Error> {
        let read = |p: &Properties<'_, '_>| {
            let (moref, name, _) = named(p);
            let standard = Network::Standard { name: name.clone(), moref: Some(moref.clone()) };
            let backing = (moref.kind == "Network").then_some(standard);
            Ok(NetworkEntity { moref, name, backing })
        };
        let mut found = self.all("Network", &["name"], read).await?;
        if self.is_vcenter() && found.iter().any(|n| n.moref.kind == "DistributedVirtualPortgroup") {
            let groups = self.port_groups().await?;
            for network in &mut found {
                network.backing = network.backing.take().or_else(|| groups.get(&network.moref).cloned());
            }
        }
        Ok(found)
    }

    async fn port_groups(&self) -> Result<BTreeMap<Moref, Network>, Error> {
        let read = |p: &Properties<'_, '_>| Ok((p.object.clone(), p.text("uuid")));
        let switches = self.all("DistributedVirtualSwitch", &["uuid"], read).await?;
        let switches: BTreeMap<Moref, Option<String>> = switches.into_iter().collect();
        let paths = ["key", "config.distributedVirtualSwitch"];
        let read = |p: &Properties<'_, '_>| {
            let switch = p.moref(paths[1]).and_then(|moref| switches.get(&moref).cloned().flatten());
            let both = switch.zip(p.text("key"));
            let backing =
                both.map(|(switch_uuid, portgroup)| Network::Distributed { switch_uuid, portgroup });
            Ok(backing.map(|backing| (p.object.clone(), backing)))
        };
        let groups = self.all("DistributedVirtualPortgroup", &paths, read).await?;
        Ok(groups.into_iter().flatten().collect())
    }

    async fn all<T>(
        &self,
        kind: &str,
        paths: &[&str],
        read: impl Fn(&Properties<'_, '_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.retrieve(kind, paths, Scope::Below(&self.content().root_folder), read).await
    }
}
