//! Machines as they are, and as they are asked for.

use crate::arm::{Tags, shaped};
use crate::pending::{Outcome, sealed::Read};
use crate::settings::id;
use crate::words::{OsType, Provisioning, words};
use azure_mgmt_compute::package_2024_07_01::models;
use models::CreateOption;
use models::network_interface_reference_properties::DeleteOption as NicDeleteOption;
use serde::Deserialize;
use serde_json::Value;
use site_recovery_https::Unusable;

words! {
    /// Whether a machine runs, as Azure sees it.
    Power {
        /// It runs.
        Running = "running",
        /// It does not, and keeps its host.
        Stopped = "stopped",
        /// It does not, and has no host: its processors are nobody's.
        Deallocated = "deallocated",
        /// It is being started.
        Starting = "starting",
        /// It is being stopped.
        Stopping = "stopping",
        /// It is being stopped, and loses its host.
        Deallocating = "deallocating",
    }
}

/// How a machine is just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether it runs. [`Power::Other`] without letters where Azure does not say.
    pub power: Power,
    /// All codes of its state, as `PowerState/running` and `ProvisioningState/succeeded`.
    pub statuses: Vec<String>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// `/subscriptions/…/virtualMachines/web`. Azure does not keep the case of its letters.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its region.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// `Standard_D2s_v5`.
    pub size: String,
    /// How far Azure is with it.
    pub provisioning: Provisioning,
    /// Another one for each machine, even of the same name. Its guest sees it.
    pub vm_id: Option<String>,
    /// The ids of its managed disks; that which it starts from is the first.
    pub disks: Vec<String>,
    /// The ids of its network cards, as Azure orders them.
    pub nics: Vec<String>,
}

/// A machine that is to be, of disks that are there. It starts when it is made. When it is deleted its disks and network cards
/// stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMachine {
    /// Its region.
    pub location: String,
    /// `Standard_D2s_v5`.
    pub size: String,
    /// The id of the disk that it starts from.
    pub os_disk: String,
    /// The system on that disk.
    pub os_type: OsType,
    /// The ids of its other disks, with the number that each has on its controller.
    pub data_disks: Vec<(u32, String)>,
    /// The ids of its network cards; the first one is the primary one.
    pub nics: Vec<String>,
    /// The id of its availability set.
    pub availability_set: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// `Windows_Server`, where a licence is brought along.
    pub licence: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Whether Azure keeps what its console says.
    pub boot_diagnostics: bool,
}

impl NewMachine {
    pub(crate) fn body(&self) -> Result<models::VirtualMachine, Unusable> {
        let mut os_disk = models::OsDisk::new(CreateOption::Attach);
        os_disk.os_type = Some(match &self.os_type {
            OsType::Linux => models::os_disk::OsType::Linux,
            OsType::Windows => models::os_disk::OsType::Windows,
            OsType::Other(other) => {
                let rule = "Azure knows Linux and Windows";
                return Err(Unusable::new("os_type", format!("{other:?}"), rule, "choose one of them"));
            }
        });
        os_disk.managed_disk = Some(managed(id("os_disk", &self.os_disk)?));
        os_disk.delete_option = Some(models::DeleteOption::Detach);
        let data_disk = |(lun, disk): &(u32, String)| {
            let unfit = || Unusable::new("data_disks", lun, "it is the number of a disk", "0, 1, and so on");
            let lun = i32::try_from(*lun).map_err(|_| unfit())?;
            let mut attached = models::DataDisk::new(lun, CreateOption::Attach);
            attached.managed_disk = Some(managed(id("data_disks", disk)?));
            attached.delete_option = Some(models::DeleteOption::Detach);
            Ok(attached)
        };
        let mut storage = models::StorageProfile::new();
        storage.os_disk = Some(os_disk);
        storage.data_disks = self.data_disks.iter().map(data_disk).collect::<Result<_, Unusable>>()?;
        let nic = |(at, nic): (usize, &String)| {
            let mut properties = models::NetworkInterfaceReferenceProperties::new();
            properties.primary = Some(at == 0);
            properties.delete_option = Some(NicDeleteOption::Detach);
            let mut card = models::NetworkInterfaceReference::new();
            card.sub_resource = reference(id("nics", nic)?);
            card.properties = Some(properties);
            Ok(card)
        };
        let mut network = models::NetworkProfile::new();
        network.network_interfaces =
            self.nics.iter().enumerate().map(nic).collect::<Result<_, Unusable>>()?;
        let mut hardware = models::HardwareProfile::new();
        hardware.vm_size = Some(models::hardware_profile::VmSize::UnknownValue(self.size.clone()));
        let mut diagnostics = models::DiagnosticsProfile::new();
        let mut boot = models::BootDiagnostics::new();
        boot.enabled = Some(self.boot_diagnostics);
        diagnostics.boot_diagnostics = Some(boot);

        let mut properties = models::VirtualMachineProperties::new();
        properties.hardware_profile = Some(hardware);
        properties.storage_profile = Some(storage);
        properties.network_profile = Some(network);
        properties.diagnostics_profile = Some(diagnostics);
        properties.license_type = self.licence.clone();
        let set = self.availability_set.as_deref().map(|set| id("availability_set", set)).transpose()?;
        properties.availability_set = set.map(reference);
        let mut resource = models::Resource::new(self.location.clone());
        resource.tags = Some(serde_json::json!(self.tags));
        let mut machine = models::VirtualMachine::new(resource);
        machine.zones = self.zone.iter().cloned().collect();
        machine.properties = Some(properties);
        Ok(machine)
    }
}

fn reference(id: &str) -> models::SubResource {
    models::SubResource { id: Some(id.to_owned()) }
}

fn managed(id: &str) -> models::ManagedDiskParameters {
    models::ManagedDiskParameters { sub_resource: reference(id), ..models::ManagedDiskParameters::default() }
}

#[derive(Deserialize)]
struct Shape {
    id: String,
    name: String,
    location: String,
    tags: Option<Tags>,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    provisioning_state: Option<Provisioning>,
    vm_id: Option<String>,
    hardware_profile: Option<Hardware>,
    storage_profile: Option<Storage>,
    network_profile: Option<Network>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hardware {
    vm_size: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Storage {
    os_disk: Option<Attached>,
    data_disks: Option<Vec<Attached>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    managed_disk: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    network_interfaces: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    id: Option<String>,
}

impl Outcome for Machine {}
impl Read for Machine {
    fn read(value: &Value) -> Result<Self, String> {
        let Shape { id, name, location, tags, properties } = shaped(value)?;
        let storage = properties.storage_profile.unwrap_or_default();
        let disks = storage.os_disk.into_iter().chain(storage.data_disks.into_iter().flatten());
        let nics = properties.network_profile.and_then(|network| network.network_interfaces);
        Ok(Self {
            id,
            name,
            location,
            tags: tags.unwrap_or_default(),
            size: properties.hardware_profile.and_then(|hardware| hardware.vm_size).unwrap_or_default(),
            provisioning: properties.provisioning_state.unwrap_or_else(|| Provisioning::Other(String::new())),
            vm_id: properties.vm_id,
            disks: disks.filter_map(|disk| disk.managed_disk?.id).collect(),
            nics: nics.into_iter().flatten().filter_map(|nic| nic.id).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Statuses {
    statuses: Option<Vec<Status>>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<String>,
}

impl Read for View {
    fn read(value: &Value) -> Result<Self, String> {
        let Statuses { statuses } = shaped(value)?;
        let statuses: Vec<String> = statuses.into_iter().flatten().filter_map(|status| status.code).collect();
        let power = statuses.iter().find_map(|code| code.strip_prefix("PowerState/"));
        Ok(Self { power: power.unwrap_or_default().to_owned().into(), statuses })
    }
}
