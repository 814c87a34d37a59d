//! A server as it was found, as plain data.

use super::NetworkService;
use serde::{Deserialize, Serialize};
use site_recovery::{DiskRole, Firmware, GuestFacts};
use std::fmt;
use std::path::PathBuf;

/// A server: its disks, its adapters, and what its system is ready for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its host name.
    pub name: String,
    /// Whole disks that are its own, the system disk first.
    pub disks: Vec<ServerDisk>,
    /// Network adapters that are hardware, the one with the default route first.
    pub adapters: Vec<Adapter>,
    /// Processors that are on line.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// How it booted.
    pub firmware: Firmware,
    /// What its system is ready for.
    pub guest: GuestFacts,
    /// What the system says of itself beyond that.
    #[serde(default)]
    pub system: System,
    /// Block devices with a size that are none of its disks, and why.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDisk {
    /// Stable over restarts and changes of order: world-wide name, else serial number, else the name that its driver
    /// keeps for it.
    pub id: String,
    /// Where it is now, as in `/dev/sda`.
    pub device: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub sector: u32,
    /// Whether the system starts from it, or lies on it.
    pub role: DiskRole,
    /// What is mounted from it, through partitions, volumes and mappings; each once.
    pub file_systems: Vec<FileSystem>,
    /// How it is reached, and what lies on it.
    #[serde(default)]
    pub layout: Layout,
}

/// How a disk is reached, and what lies on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Whether the id is the hardware's (or, for a loop device, its file's) own, and not just the name of today.
    pub stable: bool,
    /// The way to it.
    pub reach: Reach,
    /// What the kernel made of it: partitions, volumes, arrays, mappings, from the disk upwards.
    pub layers: Vec<Layer>,
}

/// The way to a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Inside the server, or on a cable of its own.
    #[default]
    Local,
    /// Several paths, put together by device-mapper.
    Multipath,
    /// iSCSI, by the server's own initiator.
    Iscsi,
    /// Fibre Channel, by the server's own adapter.
    FibreChannel,
    /// NVMe over a network.
    Fabrics,
}

/// A block device that lies on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// As in `/dev/sda1` or `/dev/mapper/vg-root`.
    pub device: PathBuf,
    /// What made it.
    pub kind: LayerKind,
    /// Bytes.
    pub size: u64,
    /// What udev recognised on it (`crypto_LUKS`, `LVM2_member`, `BitLocker`, `zfs_member`, `ext4`, …).
    pub content: Option<String>,
}

/// What made a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerKind {
    /// The disk itself, where something lies on it without partitions.
    Whole,
    /// A partition.
    Partition,
    /// A logical volume.
    Volume,
    /// A software array (md, dm-raid).
    Array,
    /// An encrypted mapping.
    Crypt,
    /// Another mapping (dm, bcache).
    Mapping,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// The device that it lies on, as in `/dev/mapper/vg-root`.
    pub device: PathBuf,
    /// Where it is mounted.
    pub mounted: PathBuf,
    /// `ext4`, `xfs`, `vfat`, ...
    pub kind: String,
}

/// A network adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// As in `eno1`.
    pub name: String,
    /// `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// Without their prefix length.
    pub addresses: Vec<String>,
}

/// What a system says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// Release of the kernel that runs.
    pub kernel: Option<String>,
    /// Bytes free on `/`.
    pub free: Option<u64>,
    /// Bytes free where software of its own is installed (`/usr/local`).
    pub installation_free: Option<u64>,
    /// Who sets up the primary adapter.
    pub network: Option<NetworkService>,
    /// Bonds and teams that have an adapter below them.
    pub bonds: Vec<String>,
    /// Where the system's own file systems lie: mount point and ids of disks.
    pub boot: Vec<(PathBuf, Vec<String>)>,
    /// File systems that lie on none of the disks: of a network, of ZFS, of disks that were left out.
    pub elsewhere: Vec<FileSystem>,
    /// Names of all mapped devices.
    pub volumes: Vec<String>,
}

/// A block device that is none of the server's disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// As in `/dev/sr0`.
    pub device: PathBuf,
    /// Why.
    pub why: WhyLeftOut,
}

/// Why a block device is none of the server's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhyLeftOut {
    /// The kernel made it from other devices, files or memory, and it was not named.
    Virtual,
    /// A path to a disk that is reached by several.
    Path,
    /// A CD-ROM or another optical drive.
    Optical,
    /// Its medium can be taken out.
    Removable,
    /// It cannot be written.
    ReadOnly,
    /// Others were named.
    NotNamed,
    /// It is our own scratch space.
    Scratch,
}

impl fmt::Display for WhyLeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtual => "not hardware, and not named",
            Self::Path => "a path to a disk that is reached by several",
            Self::Optical => "an optical drive",
            Self::Removable => "removable",
            Self::ReadOnly => "read-only",
            Self::NotNamed => "others were named",
            Self::Scratch => "scratch space of captures",
        })
    }
}
