//! A server as it was found, as plain data.

use serde::{Deserialize, Serialize};
use site_recovery::{DiskRole, Firmware, GuestFacts};
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
