//! The devices of a machine, as far as its disks and its network need them.

mod change;
mod disk;
mod nic;

pub use change::{DeviceChange, NewDisk};
pub use disk::{Backing, BackingKind, Disk, DiskMode, Provisioning};
pub use nic::{Network, Nic, NicKind};

use crate::xml::{number, text, typed};
use roxmltree::Node;

/// The devices of a machine, or of a snapshot of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// What disks hang at.
    pub controllers: Vec<Controller>,
    /// Virtual disks.
    pub disks: Vec<Disk>,
    /// Network adapters.
    pub nics: Vec<Nic>,
    /// All else: key, and type.
    pub others: Vec<(i32, String)>,
}

/// A controller of disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Of this device in this machine.
    pub key: i32,
    /// What the guest sees.
    pub kind: ControllerKind,
    /// Which of its kind: 0 to 3.
    pub bus: u32,
    /// Its disks may be written by several machines: no snapshots then.
    pub shared: bool,
    /// The keys of what hangs at it.
    pub devices: Vec<i32>,
}

/// What the guest sees of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControllerKind {
    /// PVSCSI.
    ParaVirtual,
    /// LSI Logic, parallel.
    LsiLogic,
    /// LSI Logic, SAS.
    LsiLogicSas,
    /// BusLogic.
    BusLogic,
    /// SATA.
    Ahci,
    /// NVMe.
    Nvme,
    /// IDE: nothing can be attached to it while the machine runs.
    Ide,
}

impl ControllerKind {
    fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "ParaVirtualSCSIController" => Self::ParaVirtual,
            "VirtualLsiLogicController" => Self::LsiLogic,
            "VirtualLsiLogicSASController" => Self::LsiLogicSas,
            "VirtualBusLogicController" => Self::BusLogic,
            "VirtualAHCIController" | "VirtualSATAController" => Self::Ahci,
            "VirtualNVMEController" => Self::Nvme,
            "VirtualIDEController" => Self::Ide,
            _ => return None,
        })
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::ParaVirtual => "ParaVirtualSCSIController",
            Self::LsiLogic => "VirtualLsiLogicController",
            Self::LsiLogicSas => "VirtualLsiLogicSASController",
            Self::BusLogic => "VirtualBusLogicController",
            Self::Ahci => "VirtualAHCIController",
            Self::Nvme => "VirtualNVMEController",
            Self::Ide => "VirtualIDEController",
        }
    }

    /// Whether it is one of the SCSI family, whose unit 7 is the controller itself.
    pub fn is_scsi(&self) -> bool {
        matches!(self, Self::ParaVirtual | Self::LsiLogic | Self::LsiLogicSas | Self::BusLogic)
    }

    /// The units at which disks can be on every supported version.
    pub fn units(&self) -> impl Iterator<Item = u32> {
        let (end, scsi) = match self {
            Self::Ahci => (30, false),
            Self::Nvme => (15, false),
            Self::Ide => (2, false),
            _ => (16, true),
        };
        (0..end).filter(move |unit| !(scsi && *unit == 7))
    }
}

impl Devices {
    /// Of a list of devices; those that have no key are none.
    pub(crate) fn of<'a, 'i: 'a>(nodes: impl Iterator<Item = Node<'a, 'i>>) -> Self {
        let mut found = Self::default();
        for node in nodes {
            let (Some(key), Some(kind)) = (number(node, "key"), typed(node)) else { continue };
            if kind == "VirtualDisk" {
                found.disks.push(Disk::of(node, key));
            } else if let Some(kind) = ControllerKind::of(kind) {
                let shared = text(node, "sharedBus").is_some_and(|s| s != "noSharing");
                let devices =
                    crate::xml::list(node, "device").filter_map(|n| n.text()?.parse().ok()).collect();
                let bus = number(node, "busNumber").unwrap_or_default();
                found.controllers.push(Controller { key, kind, bus, shared, devices });
            } else if let Some(nic) = Nic::of(node, key, kind) {
                found.nics.push(nic);
            } else {
                found.others.push((key, kind.to_owned()));
            }
        }
        found
    }

    /// The controller that a disk hangs at.
    pub fn controller_of(&self, disk: &Disk) -> Option<&Controller> {
        self.controllers.iter().find(|c| c.key == disk.controller)
    }

    /// The first unit of a controller at which no disk is.
    pub fn free_unit(&self, controller: &Controller) -> Option<u32> {
        let taken = |unit| self.disks.iter().any(|d| d.controller == controller.key && d.unit == Some(unit));
        controller.kind.units().find(|unit| !taken(*unit))
    }
}
