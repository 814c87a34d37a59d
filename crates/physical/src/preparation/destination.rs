//! Where a server may have to start, and the drivers of the hardware that it finds there.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of place where a server may have to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Destination {
    /// Hyper-V, and Azure.
    HyperV,
    /// QEMU/KVM.
    Qemu,
    /// VMware.
    VMware,
}

impl Destination {
    /// Drivers without which no disk is found there. The names are those of Linux; what Azure asks for stands in *Prepare a
    /// Linux VHD for Azure* (`hv_vmbus`, `hv_storvsc`, `hv_netvsc`).
    pub fn needed(self) -> &'static [&'static str] {
        match self {
            Self::HyperV => &["hv_vmbus", "hv_storvsc"],
            Self::Qemu => &["virtio_pci", "virtio_blk"],
            Self::VMware => &["vmw_pvscsi"],
        }
    }

    /// Drivers that are of use there, where the kernel has them.
    pub fn useful(self) -> &'static [&'static str] {
        match self {
            // The first disk of a machine of generation 1 is on IDE.
            Self::HyperV => &["hv_netvsc", "pci_hyperv", "ata_piix", "ata_generic", "sd_mod"],
            Self::Qemu => &["virtio_scsi", "virtio_net", "ahci", "sd_mod"],
            Self::VMware => &["vmxnet3", "mptspi", "ahci", "sd_mod"],
        }
    }

    /// Drivers of the network adapters there.
    pub fn adapters(self) -> &'static [&'static str] {
        match self {
            Self::HyperV => &["hv_netvsc"],
            Self::Qemu => &["virtio_net", "e1000", "e1000e"],
            Self::VMware => &["vmxnet3", "e1000", "e1000e"],
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HyperV => "Hyper-V",
            Self::Qemu => "QEMU",
            Self::VMware => "VMware",
        })
    }
}
