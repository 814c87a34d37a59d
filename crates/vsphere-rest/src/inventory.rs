//! What is there: one list for each kind.

use crate::names::{id, words};
use crate::shape::Request;
use crate::{Error, VCenter};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

id! {
    /// A datacenter, as `datacenter-2`.
    DatacenterId;
    /// A folder, as `group-v3`.
    FolderId;
    /// A host, as `host-21`.
    HostId;
    /// A cluster, as `domain-c8`.
    ClusterId;
    /// A datastore, as `datastore-12`.
    DatastoreId;
    /// A network, as `network-9` or `dvportgroup-14`.
    NetworkId;
}

words! {
    /// What a folder is for.
    FolderKind {
        /// Datacenters, and folders of them.
        Datacenters = "DATACENTER",
        /// Datastores.
        Datastores = "DATASTORE",
        /// Hosts and clusters.
        Hosts = "HOST",
        /// Networks.
        Networks = "NETWORK",
        /// Machines.
        Machines = "VIRTUAL_MACHINE",
    }
}

words! {
    /// Whether vCenter speaks with a host.
    Connection {
        /// It does.
        Connected = "CONNECTED",
        /// Somebody took it away.
        Disconnected = "DISCONNECTED",
        /// The host does not answer.
        NotResponding = "NOT_RESPONDING",
    }
}

words! {
    /// What a network is.
    NetworkKind {
        /// Of one host's switch.
        Standard = "STANDARD_PORTGROUP",
        /// Of a distributed switch.
        Distributed = "DISTRIBUTED_PORTGROUP",
        /// Of something beside vCenter, as NSX.
        Opaque = "OPAQUE_NETWORK",
    }
}

words! {
    /// What a datastore is on.
    DatastoreKind {
        /// VMware's own file system.
        Vmfs = "VMFS",
        /// NFS 3.
        Nfs = "NFS",
        /// NFS 4.1.
        Nfs41 = "NFS41",
        /// CIFS.
        Cifs = "CIFS",
        /// vSAN.
        Vsan = "VSAN",
        /// Of virtual flash.
        Vffs = "VFFS",
        /// Virtual volumes.
        Vvol = "VVOL",
    }
}

/// Which of a list are wanted: those that are in each part of it that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// With one of these names, exactly.
    pub names: Vec<String>,
    /// In one of these datacenters. Of datacenters: these.
    pub datacenters: Vec<DatacenterId>,
    /// Directly in one of these folders.
    pub folders: Vec<FolderId>,
}

/// A datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datacenter {
    /// Its identifier.
    #[serde(rename = "datacenter")]
    pub id: DatacenterId,
    /// Its name.
    pub name: String,
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Its identifier.
    #[serde(rename = "folder")]
    pub id: FolderId,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: FolderKind,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its identifier.
    #[serde(rename = "host")]
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Whether vCenter speaks with it.
    #[serde(rename = "connection_state")]
    pub connection: Connection,
    /// `POWERED_ON`, where that is known.
    #[serde(default, rename = "power_state")]
    pub power: Option<String>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its identifier.
    #[serde(rename = "cluster")]
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Whether vSphere HA is on.
    #[serde(default)]
    pub ha_enabled: bool,
    /// Whether DRS is on.
    #[serde(default)]
    pub drs_enabled: bool,
}

/// A datastore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datastore {
    /// Its identifier.
    #[serde(rename = "datastore")]
    pub id: DatastoreId,
    /// Its name.
    pub name: String,
    /// What it is on.
    #[serde(rename = "type")]
    pub kind: DatastoreKind,
    /// Free bytes, where they are known: not of one that no host reaches.
    #[serde(default)]
    pub free_space: Option<u64>,
    /// All its bytes, where they are known.
    #[serde(default)]
    pub capacity: Option<u64>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its identifier.
    #[serde(rename = "network")]
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NetworkKind,
}

/// Each list has what the user may read, in the server's order.
impl VCenter {
    /// Datacenters.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn datacenters(&self, filter: &Filter) -> Result<Vec<Datacenter>, Error> {
        self.of_kind("list datacenters", "vcenter/datacenter", "folders", filter).await
    }

    /// Folders, of all kinds. Privilege: `System.Read`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn folders(&self, filter: &Filter) -> Result<Vec<Folder>, Error> {
        self.of_kind("list folders", "vcenter/folder", "parent_folders", filter).await
    }

    /// Hosts; a vCenter refuses to list more than 2,500.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn hosts(&self, filter: &Filter) -> Result<Vec<Host>, Error> {
        self.of_kind("list hosts", "vcenter/host", "folders", filter).await
    }

    /// Clusters.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn clusters(&self, filter: &Filter) -> Result<Vec<Cluster>, Error> {
        self.of_kind("list clusters", "vcenter/cluster", "folders", filter).await
    }

    /// Datastores.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn datastores(&self, filter: &Filter) -> Result<Vec<Datastore>, Error> {
        self.of_kind("list datastores", "vcenter/datastore", "folders", filter).await
    }

    /// Networks.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn networks(&self, filter: &Filter) -> Result<Vec<Network>, Error> {
        self.of_kind("list networks", "vcenter/network", "folders", filter).await
    }

    async fn of_kind<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &'static str,
        folders: &'static str,
        filter: &Filter,
    ) -> Result<Vec<T>, Error> {
        let request = Request::get(call, path)
            .filter("names", filter.names.iter().map(String::as_str))
            .filter("datacenters", filter.datacenters.iter().map(DatacenterId::as_str))
            .filter(folders, filter.folders.iter().map(FolderId::as_str));
        self.list(request).await
    }
}
