//! Virtual machines: what is read of them, and by which narrow paths. A wide one (`config`) costs the server much, and brings
//! what some servers write wrongly.

use crate::client::{Call, Vim, all_returned};
use crate::collect::{Missing, Properties, Scope};
use crate::device::Devices;
use crate::snapshot::Snapshot;
use crate::storage::lacks;
use crate::xml::{Xml, list, number, text};
use crate::{DatastorePath, Error, Firmware, Moref};
use roxmltree::Node;
use std::collections::BTreeMap;
use std::time::Duration;

const KIND: &str = "VirtualMachine";

/// What a list of many needs.
const LISTED: &[&str] = &[
    "name",
    "parent",
    "runtime.powerState",
    "runtime.host",
    "runtime.connectionState",
    "config.template",
    "config.uuid",
    "config.instanceUuid",
    "config.files.vmPathName",
];

/// All that is known here.
const WHOLE: &[&str] = &[
    "name",
    "parent",
    "resourcePool",
    "datastore",
    "network",
    "disabledMethod",
    "runtime.powerState",
    "runtime.host",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "runtime.bootTime",
    "runtime.question",
    "capability.changeTrackingSupported",
    "config.template",
    "config.changeVersion",
    "config.uuid",
    "config.instanceUuid",
    "config.version",
    "config.firmware",
    "config.bootOptions.efiSecureBootEnabled",
    "config.guestId",
    "config.guestFullName",
    "config.annotation",
    "config.files.vmPathName",
    "config.flags.diskUuidEnabled",
    "config.changeTrackingEnabled",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.extraConfig",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "guest.guestFamily",
    "guest.hostName",
    "guest.net",
    "snapshot",
];

/// A virtual machine, as it was read. What the server does not say is `None` or empty; what it would not say is in
/// [`missing`](Machine::missing).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Which.
    pub moref: Moref,
    /// As people gave it.
    pub name: String,
    /// The folder, or the vApp.
    pub parent: Option<Moref>,
    /// Whether it runs.
    pub power: Power,
    /// Where it is, or would be started.
    pub host: Option<Moref>,
    /// `connected`; else its files or its host are not reached.
    pub connection: Option<String>,
    /// Is never started itself.
    pub template: bool,
    /// Of the BIOS.
    pub uuid: Option<String>,
    /// Of the machine within vCenter.
    pub instance_uuid: Option<String>,
    /// Its `.vmx`.
    pub file: Option<DatastorePath>,
    /// The rest, where the machine was read whole.
    pub details: Option<Box<Details>>,
    /// What could not be read, and why.
    pub missing: Vec<Missing>,
}

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// In which it runs.
    pub pool: Option<Moref>,
    /// On which its files are.
    pub datastores: Vec<Moref>,
    /// Which it is plugged into.
    pub networks: Vec<Moref>,
    /// Methods that do not work just now, most often since another product has switched them off: `MigrateVM_Task`.
    pub disabled_methods: Vec<String>,
    /// A removed snapshot has left files behind.
    pub consolidation_needed: bool,
    /// What it asks, and stands still until somebody answers: by hand, at the server.
    pub question: Option<String>,
    /// When it was started last, as a text that changes with each start.
    pub boot_time: Option<String>,
    /// For [`ConfigSpec::change_version`](crate::ConfigSpec::change_version).
    pub change_version: Option<String>,
    /// Of the virtual hardware: `vmx-19`.
    pub version: Option<String>,
    /// What it boots with.
    pub firmware: Option<Firmware>,
    /// `ubuntu64Guest`.
    pub guest_id: Option<String>,
    /// `Ubuntu Linux (64-bit)`.
    pub guest_name: Option<String>,
    /// For people.
    pub annotation: Option<String>,
    /// Whether the guest sees the disks' serial numbers.
    pub disk_uuid: bool,
    /// Whether changes of its disks could be tracked.
    pub change_tracking_supported: bool,
    /// Whether they are; takes effect with the next snapshot or start.
    pub change_tracking: bool,
    /// Virtual processors.
    pub cpus: u32,
    /// In MiB.
    pub memory_mib: u64,
    /// Controllers, disks, adapters.
    pub devices: Devices,
    /// Keys and values of the configuration.
    pub extra: BTreeMap<String, String>,
    /// The guest, by its tools.
    pub tools: Tools,
    /// The roots of the tree of snapshots.
    pub snapshots: Vec<Snapshot>,
    /// The one that the machine goes on from.
    pub current_snapshot: Option<Moref>,
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// `poweredOn`
    On,
    /// `poweredOff`
    Off,
    /// `suspended`: off, with its memory kept.
    Suspended,
    /// The server does not say.
    Unknown,
}

impl Power {
    pub(crate) fn of(word: Option<&str>) -> Self {
        match word {
            Some("poweredOn") => Self::On,
            Some("poweredOff") => Self::Off,
            Some("suspended") => Self::Suspended,
            _ => Self::Unknown,
        }
    }
}

/// What VMware Tools say of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// They run just now: only then can it be quiesced and shut down.
    pub running: bool,
    /// `guestToolsCurrent`, `guestToolsUnmanaged`, `guestToolsNotInstalled`.
    pub version_status: Option<String>,
    /// `linuxGuest`, `windowsGuest`.
    pub family: Option<String>,
    /// Its name, as it calls itself.
    pub host_name: Option<String>,
    /// What its adapters are called by, by the key of the adapter's device. Those that have none are not there.
    pub addresses: BTreeMap<i32, Vec<String>>,
}

impl Machine {
    /// How its host or its files are reached, where that is not as it should be.
    pub fn away(&self) -> Option<&str> {
        self.connection.as_deref().filter(|state| *state != "connected")
    }

    fn listed(p: &Properties<'_, '_>) -> Result<Self, Error> {
        Ok(Self {
            moref: p.object.clone(),
            name: p.name().unwrap_or_default(),
            parent: p.moref("parent"),
            power: Power::of(p.str("runtime.powerState")),
            host: p.moref("runtime.host"),
            connection: p.text("runtime.connectionState"),
            template: p.flag("config.template").unwrap_or_default(),
            uuid: p.text("config.uuid"),
            instance_uuid: p.text("config.instanceUuid"),
            file: p.str("config.files.vmPathName").and_then(|path| path.parse().ok()),
            details: None,
            missing: p.missing.clone(),
        })
    }

    pub(crate) fn whole(p: &Properties<'_, '_>) -> Result<Self, Error> {
        Ok(Self { details: Some(Box::new(Details::of(p)?)), ..Self::listed(p)? })
    }
}

impl Details {
    fn of(p: &Properties<'_, '_>) -> Result<Self, Error> {
        let secure_boot = p.flag("config.bootOptions.efiSecureBootEnabled").unwrap_or_default();
        let firmware = match p.str("config.firmware") {
            Some("bios") => Some(Firmware::Bios),
            Some("efi") => Some(Firmware::Efi { secure_boot }),
            _ => None,
        };
        let extra = p.list("config.extraConfig", "OptionValue");
        let extra =
            extra.filter_map(|o| Some((text(o, "key")?.into(), text(o, "value").unwrap_or_default().into())));
        let snapshots = p.node("snapshot");
        let yes = |path| p.flag(path).unwrap_or_default();
        Ok(Self {
            pool: p.moref("resourcePool"),
            datastores: p.morefs("datastore"),
            networks: p.morefs("network"),
            disabled_methods: p.texts("disabledMethod"),
            consolidation_needed: yes("runtime.consolidationNeeded"),
            question: p.node("runtime.question").and_then(|q| text(q, "text")).map(str::to_owned),
            boot_time: p.text("runtime.bootTime"),
            change_version: p.text("config.changeVersion"),
            version: p.text("config.version"),
            firmware,
            guest_id: p.text("config.guestId"),
            guest_name: p.text("config.guestFullName"),
            annotation: p.text("config.annotation"),
            disk_uuid: yes("config.flags.diskUuidEnabled"),
            change_tracking_supported: yes("capability.changeTrackingSupported"),
            change_tracking: yes("config.changeTrackingEnabled"),
            cpus: p.number("config.hardware.numCPU").unwrap_or_default(),
            memory_mib: p.number("config.hardware.memoryMB").unwrap_or_default(),
            devices: Devices::of(p.list("config.hardware.device", "VirtualDevice")),
            extra: extra.collect(),
            tools: Tools {
                running: p.str("guest.toolsRunningStatus") == Some("guestToolsRunning"),
                version_status: p.text("guest.toolsVersionStatus2"),
                family: p.text("guest.guestFamily"),
                host_name: p.text("guest.hostName"),
                addresses: p.list("guest.net", "GuestNicInfo").filter_map(addresses).collect(),
            },
            snapshots: snapshots.map(Snapshot::roots).unwrap_or_default(),
            current_snapshot: snapshots.and_then(|s| Moref::at(s, "currentSnapshot")),
        })
    }
}

/// The addresses of an adapter, of a `GuestNicInfo`.
fn addresses(node: Node<'_, '_>) -> Option<(i32, Vec<String>)> {
    let found: Vec<String> = list(node, "ipAddress").filter_map(|n| n.text().map(str::to_owned)).collect();
    number(node, "deviceConfigId").map(|key| (key, found)).filter(|(_, found)| !found.is_empty())
}

impl Vim {
    /// All machines below a folder, a datacenter, a host or the root, without their details. Privilege: `System.Read`; those
    /// that the user may not see are not there.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn machines(&self, below: &Moref) -> Result<Vec<Machine>, Error> {
        self.retrieve(KIND, LISTED, Scope::Below(below), Machine::listed).await
    }

    /// As [`Vim::machines`], with all details.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn machines_whole(&self, below: &Moref) -> Result<Vec<Machine>, Error> {
        self.retrieve(KIND, WHOLE, Scope::Below(below), Machine::whole).await
    }

    /// One machine with its details. Privilege: `System.Read`.
    ///
    /// # Errors
    /// [`ManagedObjectNotFound`](crate::Fault::ManagedObjectNotFound); those of any read.
    pub async fn machine(&self, machine: &Moref) -> Result<Machine, Error> {
        self.retrieve_one(machine, WHOLE, Machine::whole).await
    }

    /// The machine with this [`instance_uuid`](Machine::instance_uuid). Privilege: `System.View` on the root.
    ///
    /// # Errors
    /// [`Several`](Error::Several): a copy that was registered by hand brings the identifier along. Those of any read. That there
    /// is none is no error.
    pub async fn find(&self, instance_uuid: &str) -> Result<Option<Moref>, Error> {
        let index = self.content().search_index.as_ref().ok_or_else(|| lacks("searchIndex"))?;
        let mut arguments = Xml::new();
        arguments.text("uuid", instance_uuid).text("vmSearch", true).text("instanceUuid", true);
        let read = |node: Node<'_, '_>| Ok(all_returned(node).filter_map(Moref::of).collect());
        let mut found: Vec<Moref> = self.call(Call::read("FindAllByUuid", index, arguments), read).await?;
        if found.len() > 1 {
            return Err(Error::Several { uuid: instance_uuid.to_owned(), machines: found });
        }
        Ok(found.pop())
    }

    /// Whether it runs. Privilege: `System.Read`.
    ///
    /// # Errors
    /// As [`Vim::machine`].
    pub async fn power(&self, machine: &Moref) -> Result<Power, Error> {
        let path = "runtime.powerState";
        self.retrieve_one(machine, &[path], |p| Ok(Power::of(p.str(path)))).await
    }

    /// Waits until it is on, off or suspended, and says whether it came to that within the limit. Privilege: `System.Read`.
    ///
    /// # Errors
    /// As [`Vim::machine`].
    pub async fn wait_for_power(
        &self,
        machine: &Moref,
        power: Power,
        limit: Duration,
    ) -> Result<bool, Error> {
        let path = "runtime.powerState";
        let see = |p: &Properties<'_, '_>| Ok((Power::of(p.str(path)) == power).then_some(()));
        Ok(self.watch(machine, &[path], limit, see).await?.is_some())
    }
}
