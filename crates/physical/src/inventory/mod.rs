//! What a Linux server is made of.
//!
//! All is read from files of the kernel and of the system (`/sys`, `/proc`, `/run/udev`, `/etc`, `/boot`), below a root
//! directory: `/`, or where another system's disks are mounted. Programs are run for one thing alone: to unpack an
//! initramfs.

mod adapters;
mod addressing;
mod archive;
mod block;
mod disks;
mod machine;
mod mounts;
mod requirements;
mod root;
mod server;
mod system;

pub use addressing::NetworkService;
pub use archive::Archive;
pub use requirements::{REQUIREMENTS, Requirement, changes, check};
pub use server::{
    Adapter, FileSystem, Layer, LayerKind, Layout, LeftOut, Reach, Server, ServerDisk, System, WhyLeftOut,
};

pub(crate) use addressing::driver;
pub(crate) use archive::{in_kernel, module};
pub(crate) use block::{Block, Blocks};
pub(crate) use root::Root;
pub(crate) use system::{built_in, initramfs};

use addressing::addressing;

use mounts::Mounts;
use site_recovery::{DiskRole, GuestFacts, Result};
use std::path::PathBuf;

/// Reads a server.
///
/// All calls block; in async code they belong on a thread for blocking work.
#[derive(Debug, Clone)]
pub struct Inventory {
    root: Root,
    named: Vec<PathBuf>,
    only: bool,
    scratch: Vec<PathBuf>,
    addresses: Vec<(String, String)>,
}

impl Inventory {
    /// The server that this process runs on.
    ///
    /// # Errors
    /// `Unavailable` where the system does not tell its addresses.
    pub fn here() -> Result<Self> {
        Ok(Self { addresses: adapters::addresses()?, ..Self::of("/") })
    }

    /// The server whose files stand below `root`. The kernel tells addresses in no file: they are those that
    /// [`addresses`](Self::addresses) is told.
    pub fn of(root: impl Into<PathBuf>) -> Self {
        Self { root: Root::of(root.into()), named: vec![], only: false, scratch: vec![], addresses: vec![] }
    }

    /// Takes these, too, which are no hardware: loop devices, by device (`/dev/loop0`, or a link to it) or by the file behind
    /// them.
    #[must_use]
    pub fn with(mut self, disks: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.named.extend(disks.into_iter().map(Into::into));
        self
    }

    /// Takes these alone: by device, or by the file behind them.
    #[must_use]
    pub fn only(mut self, disks: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.only = true;
        self.with(disks)
    }

    /// Leaves these out, by device or a link to it: scratch space of captures is none of the server's disks.
    #[must_use]
    pub fn scratch(mut self, devices: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.scratch.extend(devices.into_iter().map(Into::into));
        self
    }

    /// Pairs of interface and address, as in `("eno1", "192.0.2.7")`.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = (String, String)>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// The disks alone, as [`read`](Self::read) finds them: nothing is read of the system that lies on them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn disks(&self) -> Result<Vec<ServerDisk>> {
        let blocks = Blocks::read(&self.root)?;
        let mounts = Mounts::read(&self.root, &blocks)?;
        Ok(self.find(&blocks, &mounts)?.0)
    }

    fn find(&self, blocks: &Blocks, mounts: &Mounts) -> Result<(Vec<ServerDisk>, Vec<LeftOut>)> {
        disks::Wanted { named: &self.named, only: self.only, scratch: &self.scratch }
            .find(&self.root, blocks, mounts)
    }

    /// The server as it stands now. A device that goes away meanwhile is left out.
    ///
    /// # Errors
    /// `NotFound` where a disk that was named is not there; `Invalid` where one is named that is scratch space; those of the file
    /// system, where what every Linux has (`/proc/self/mountinfo`, `/proc/meminfo`) cannot be read.
    pub fn read(&self) -> Result<Server> {
        let root = &self.root;
        let blocks = Blocks::read(root)?;
        let mounts = Mounts::read(root, &blocks)?;
        let (mut disks, left_out) = self.find(&blocks, &mounts)?;
        // Stable: the order of names stays within each.
        disks.sort_by_key(|d| d.role != DiskRole::System);
        let adapters = adapters::find(root, &self.addresses)?;
        let (network, dhcp) = match adapters.first() {
            Some(primary) => addressing(root, &adapters::carrier(root, primary)?)?,
            None => (None, None),
        };
        Ok(Server {
            name: system::name(root)?,
            cpus: system::cpus(root)?,
            memory: system::memory(root)?,
            firmware: system::firmware(root)?,
            guest: GuestFacts {
                os_name: system::os_name(root)?,
                boot_drivers: system::boot_drivers(root)?,
                dhcp,
                agent: Some(env!("CARGO_PKG_VERSION").to_owned()),
                snapshots: None,
            },
            system: System {
                kernel: system::kernel(root)?,
                free: root.free("/"),
                installation_free: root.free("/usr/local"),
                network,
                bonds: adapters::bonds(root)?,
                boot: mounts.boot(&blocks, &disks),
                elsewhere: mounts.elsewhere(&blocks, &disks),
                volumes: blocks.volumes(),
            },
            disks,
            adapters,
            left_out,
        })
    }
}
