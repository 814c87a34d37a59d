//! A machine of VMware's in the library's words.

use crate::notes::Mark;
use site_recovery::{
    DiskId, DiskRole, DiskSpec, Firmware, GuestFacts, Instance, Machine, MachineId, Nic, NicId, OsFamily,
    Platform, RoleName,
};
use site_recovery_vim::{self as vim, BackingKind, Details, Devices, Moref, Network};
use std::collections::BTreeMap;

/// Names of networks, by object and by the key of a distributed port group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks(BTreeMap<String, String>);

impl Networks {
    pub(crate) fn of(all: Vec<vim::NetworkEntity>) -> Self {
        let mut names = BTreeMap::new();
        for network in all {
            if let Some(Network::Distributed { portgroup, .. }) = &network.backing {
                names.insert(portgroup.clone(), network.name.clone());
            }
            names.insert(network.moref.id.clone(), network.name);
        }
        Self(names)
    }

    fn name(&self, network: &Network) -> Option<String> {
        match network {
            Network::Standard { name, .. } => Some(name.clone()),
            Network::Distributed { portgroup, .. } => self.0.get(portgroup).or(Some(portgroup)).cloned(),
            Network::Opaque { id, .. } => self.0.get(id).or(Some(id)).cloned(),
            _ => None,
        }
    }
}

/// What names a disk in the mark: the identifier that VMware gives to its backing; where an old disk has none, its place.
pub(crate) fn disk_name(disk: &vim::Disk) -> String {
    let uuid = disk.backing.uuid.as_ref().map(|uuid| uuid.to_ascii_lowercase());
    uuid.unwrap_or_else(|| format!("{}:{}", disk.controller, disk.unit.unwrap_or_default()))
}

/// Whether a snapshot of the machine holds this disk.
pub(crate) fn can_be_captured(devices: &Devices, disk: &vim::Disk) -> bool {
    let shared = disk.backing.shared || devices.controller_of(disk).is_some_and(|c| c.shared);
    let mapped = matches!(disk.backing.kind, BackingKind::RawMapping { physical: true });
    disk.backing.mode.in_snapshots() && !shared && !mapped
}

/// In the order in which firmware looks for the system: by controller and unit.
pub(crate) fn in_order(devices: &Devices) -> Vec<&vim::Disk> {
    let mut disks: Vec<_> = devices.disks.iter().collect();
    disks.sort_by_key(|disk| (disk.controller, disk.unit, disk.key));
    disks
}

/// Describes a machine, with the ids of its mark where it has one. `devices` are those of the machine or of a snapshot.
pub(crate) fn describe(
    site: &RoleName,
    machine: &vim::Machine,
    details: &Details,
    devices: &Devices,
    mark: Option<&Mark>,
    networks: &Networks,
) -> Machine {
    let name = machine.instance_uuid.as_deref().unwrap_or_default().to_ascii_lowercase();
    let instance = match mark {
        Some(mark) => mark.instance(site),
        None => Instance {
            machine: MachineId(name.clone()),
            site: site.clone(),
            name,
            generation: site_recovery::Generation(0),
        },
    };
    let disks = in_order(devices).into_iter().enumerate().map(|(at, disk)| {
        let local = disk_name(disk);
        let marked = mark.and_then(|mark| mark.disks.get(&local));
        let role = if at == 0 { DiskRole::System } else { DiskRole::Data };
        // A disk that came after the mark is told, and left out until it is enrolled.
        let included = marked.map_or(mark.is_none() && can_be_captured(devices, disk), |m| m.included);
        let id = marked.map_or(DiskId(local), |m| m.id.clone());
        DiskSpec { id, size: disk.capacity, role, included }
    });
    let nics = devices.nics.iter().map(|nic| {
        let marked = mark.and_then(|mark| mark.nics.get(&nic.key));
        let id = marked.cloned().unwrap_or_else(|| NicId(format!("nic-{}", nic.key)));
        let network = nic.network.as_ref().and_then(|network| networks.name(network));
        let addresses = details.tools.addresses.get(&nic.key).cloned().unwrap_or_default();
        Nic { id, mac: nic.mac.clone(), network, addresses }
    });
    Machine {
        instance,
        title: title(&machine.name),
        disks: disks.collect(),
        nics: nics.collect(),
        cpus: details.cpus,
        memory: details.memory_mib << 20,
        firmware: match details.firmware {
            Some(vim::Firmware::Efi { secure_boot }) => Firmware::Uefi { secure_boot },
            _ => Firmware::Bios,
        },
        os: family(details),
        platform: Platform::Virtual,
        guest: GuestFacts {
            os_name: details.guest_name.clone(),
            snapshots: Some(strangers(&details.snapshots)),
            ..GuestFacts::default()
        },
    }
}

/// What people call it, as far as it can be shown.
fn title(name: &str) -> Option<String> {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(256).collect();
    (!shown.is_empty()).then_some(shown)
}

/// How many snapshots are not ours.
pub(crate) fn strangers(roots: &[vim::Snapshot]) -> u32 {
    let all = roots.iter().flat_map(vim::Snapshot::all);
    all.filter(|s| !crate::names::is_ours(&s.name)).count() as u32
}

/// By the tools where they say it, else by what the machine was made for.
pub(crate) fn family(details: &Details) -> OsFamily {
    match details.tools.family.as_deref() {
        Some("linuxGuest") => return OsFamily::Linux,
        Some("windowsGuest") => return OsFamily::Windows,
        _ => {}
    }
    let id = details.guest_id.as_deref().unwrap_or_default().to_ascii_lowercase();
    const LINUX: &[&str] = &[
        "linux",
        "ubuntu",
        "rhel",
        "redhat",
        "centos",
        "debian",
        "sles",
        "suse",
        "fedora",
        "photon",
        "rocky",
        "alma",
        "coreos",
        "mandriva",
        "turbolinux",
        "asianux",
        "crxpod",
    ];
    if id.starts_with("win") {
        OsFamily::Windows
    } else if LINUX.iter().any(|word| id.contains(word)) {
        OsFamily::Linux
    } else {
        OsFamily::Other
    }
}

/// What a list of many needs, without the machines that are none to protect: templates and those given by `but`.
pub(crate) fn is_protectable(machine: &vim::Machine, but: &[Moref]) -> bool {
    !machine.template && !but.contains(&machine.moref)
}
