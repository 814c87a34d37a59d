//! Virtual machines: found, looked at, switched on and off.

use crate::names::{id, words};
use crate::shape::{Request, keyed};
use crate::{ClusterId, DatacenterId, Error, FolderId, HostId, NetworkId, VCenter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

id! {
    /// A virtual machine, as `vm-65`.
    MachineId;
}

words! {
    /// Whether a machine runs.
    Power {
        /// It runs.
        On = "POWERED_ON",
        /// It does not.
        Off = "POWERED_OFF",
        /// It is suspended.
        Suspended = "SUSPENDED",
    }
}

words! {
    /// How a guest is, as VMware Tools see it.
    Guest {
        /// It runs.
        Running = "RUNNING",
        /// It shuts down.
        ShuttingDown = "SHUTTING_DOWN",
        /// It starts again.
        Resetting = "RESETTING",
        /// It is in standby.
        Standby = "STANDBY",
        /// It does not run, or nothing is known of it.
        NotRunning = "NOT_RUNNING",
        /// It is not reachable just now.
        Unavailable = "UNAVAILABLE",
    }
}

/// Which machines are wanted: those that are in each part of it that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineFilter {
    /// These.
    pub machines: Vec<MachineId>,
    /// With one of these names, exactly.
    pub names: Vec<String>,
    /// In one of these states.
    pub power: Vec<Power>,
    /// In one of these datacenters.
    pub datacenters: Vec<DatacenterId>,
    /// Directly in one of these folders.
    pub folders: Vec<FolderId>,
    /// On one of these hosts.
    pub hosts: Vec<HostId>,
    /// In one of these clusters.
    pub clusters: Vec<ClusterId>,
}

/// A machine as a list has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its identifier, the same as in other interfaces.
    #[serde(rename = "vm")]
    pub id: MachineId,
    /// Its name, as the server keeps it: `%`, `/` and `\` of it may be escaped, as `%2f`. A filter takes it so.
    pub name: String,
    /// Whether it runs.
    #[serde(rename = "power_state")]
    pub power: Power,
    /// Its processors, where its configuration can be read.
    #[serde(default, rename = "cpu_count")]
    pub cpus: Option<u32>,
    /// Its memory in MiB, where its configuration can be read.
    #[serde(default, rename = "memory_size_MiB")]
    pub memory_mib: Option<u64>,
}

/// A machine with its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Its name, as a [`Machine`] has it.
    pub name: String,
    /// Whether it runs.
    #[serde(rename = "power_state")]
    pub power: Power,
    /// `UBUNTU_64`, as it was chosen; not what runs in it.
    #[serde(rename = "guest_OS")]
    pub guest_os: String,
    /// Its hardware.
    pub hardware: Hardware,
    /// Its identifiers, which versions before 7.0 do not tell.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Its disks, by their keys.
    #[serde(default, deserialize_with = "keyed")]
    pub disks: BTreeMap<String, Disk>,
    /// Its network cards, by their keys.
    #[serde(default, deserialize_with = "keyed")]
    pub nics: BTreeMap<String, Nic>,
}

/// The hardware that a machine sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// `VMX_21`.
    pub version: String,
}

/// A machine's identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What its guest sees, where it has one.
    #[serde(default)]
    pub bios_uuid: Option<String>,
    /// Which of vCenter's machines it is.
    #[serde(default)]
    pub instance_uuid: Option<String>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `Hard disk 1`.
    pub label: String,
    /// `SCSI`, `SATA`, `NVME`, `IDE`.
    #[serde(default, rename = "type")]
    pub bus: Option<String>,
    /// Its bytes, where they can be read.
    #[serde(default)]
    pub capacity: Option<u64>,
    /// What holds its bytes.
    #[serde(default)]
    pub backing: Option<DiskBacking>,
}

/// What holds a disk's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskBacking {
    /// `VMDK_FILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `[datastore1] web/web.vmdk`, the newest of a chain.
    #[serde(default)]
    pub vmdk_file: Option<String>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// `Network adapter 1`.
    pub label: String,
    /// `VMXNET3`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its address, where it has one.
    #[serde(default)]
    pub mac_address: Option<String>,
    /// `CONNECTED`.
    #[serde(default)]
    pub state: Option<String>,
    /// What it is connected to.
    #[serde(default)]
    pub backing: Option<NicBacking>,
}

/// What a network card is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicBacking {
    /// `STANDARD_PORTGROUP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which, where it is there.
    #[serde(default)]
    pub network: Option<NetworkId>,
    /// Its name, of a standard port group.
    #[serde(default)]
    pub network_name: Option<String>,
}

/// How a machine's guest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPower {
    /// As VMware Tools see it.
    pub state: Guest,
    /// Whether it can be shut down softly now.
    #[serde(default)]
    pub operations_ready: bool,
}

impl VCenter {
    /// Machines that the user may read. A vCenter refuses to list more than 4,000: name folders or hosts, one after the other.
    ///
    /// # Errors
    /// [`UnableToAllocateResource`](crate::Refusal::UnableToAllocateResource) for too many; those of any read.
    pub async fn machines(&self, filter: &MachineFilter) -> Result<Vec<Machine>, Error> {
        let request = Request::get("list machines", "vcenter/vm")
            .filter("vms", filter.machines.iter().map(MachineId::as_str))
            .filter("names", filter.names.iter().map(String::as_str))
            .filter("power_states", filter.power.iter().map(Power::as_str))
            .filter("datacenters", filter.datacenters.iter().map(DatacenterId::as_str))
            .filter("folders", filter.folders.iter().map(FolderId::as_str))
            .filter("hosts", filter.hosts.iter().map(HostId::as_str))
            .filter("clusters", filter.clusters.iter().map(ClusterId::as_str));
        self.list(request).await
    }

    /// One machine with its devices.
    ///
    /// # Errors
    /// [`NotFound`](crate::Refusal::NotFound); those of any read.
    pub async fn machine(&self, id: &MachineId) -> Result<Details, Error> {
        self.read(Request::get("read machine", "vcenter/vm").of(id.as_str())).await
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// As [`VCenter::machine`].
    pub async fn power(&self, id: &MachineId) -> Result<Power, Error> {
        #[derive(Deserialize)]
        struct State {
            state: Power,
        }
        let request = Request::get("read power", "vcenter/vm").of(id.as_str()).part("power");
        self.read::<State>(request).await.map(|found| found.state)
    }

    /// How its guest is. From vCenter 6.7 on.
    ///
    /// # Errors
    /// As [`VCenter::machine`].
    pub async fn guest_power(&self, id: &MachineId) -> Result<GuestPower, Error> {
        self.read(Request::get("read guest power", "vcenter/vm").of(id.as_str()).part("guest/power")).await
    }

    /// Starts it, or goes on where it is suspended. It is on when this returns.
    ///
    /// # Errors
    /// [`AlreadyInDesiredState`](crate::Refusal::AlreadyInDesiredState), for which [`Error::is_already`] asks;
    /// [`NotAllowedInCurrentState`](crate::Refusal::NotAllowedInCurrentState);
    /// [`Unknown`](Error::Unknown); those of the connection.
    pub async fn start(&self, id: &MachineId) -> Result<(), Error> {
        self.switch("start machine", id, "start").await
    }

    /// Takes its power away. It is off when this returns.
    ///
    /// # Errors
    /// As [`VCenter::start`].
    pub async fn stop(&self, id: &MachineId) -> Result<(), Error> {
        self.switch("stop machine", id, "stop").await
    }

    /// Presses its reset button.
    ///
    /// # Errors
    /// As [`VCenter::start`]; one that is off is not reset.
    pub async fn reset(&self, id: &MachineId) -> Result<(), Error> {
        self.switch("reset machine", id, "reset").await
    }

    /// Suspends it.
    ///
    /// # Errors
    /// As [`VCenter::start`].
    pub async fn suspend(&self, id: &MachineId) -> Result<(), Error> {
        self.switch("suspend machine", id, "suspend").await
    }

    /// Asks its guest to shut down, and does not wait for it: look at [`VCenter::power`]. From vCenter 6.7 on.
    ///
    /// # Errors
    /// [`ServiceUnavailable`](crate::Refusal::ServiceUnavailable) without VMware Tools; else as [`VCenter::start`].
    pub async fn shut_down_guest(&self, id: &MachineId) -> Result<(), Error> {
        let request = Request::post("shut down guest", "vcenter/vm").of(id.as_str());
        self.change(request.part("guest/power").action("shutdown")).await
    }

    async fn switch(&self, call: &'static str, id: &MachineId, action: &'static str) -> Result<(), Error> {
        self.change(Request::post(call, "vcenter/vm").of(id.as_str()).part("power").action(action)).await
    }
}
