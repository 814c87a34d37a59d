//! A server as the library's machine.

use super::Server;
use site_recovery::{DiskId, DiskSpec, Instance, Machine, Nic, NicId, OsFamily, Platform};

impl Server {
    /// The machine that this server is, as `instance`, with the disks that `included` keeps. Ids of disks are the hardware's,
    /// those of adapters their hardware addresses, where they have one.
    pub fn machine(&self, instance: Instance, included: impl Fn(&DiskId) -> bool) -> Machine {
        let disk = |disk: &super::ServerDisk| {
            let id = DiskId::from(disk.id.clone());
            DiskSpec { included: included(&id), id, size: disk.size, role: disk.role }
        };
        let nic = |adapter: &super::Adapter| Nic {
            id: NicId::from(adapter.mac.clone().unwrap_or_else(|| adapter.name.clone())),
            mac: adapter.mac.clone(),
            network: None,
            addresses: adapter.addresses.clone(),
        };
        Machine {
            instance,
            title: None,
            disks: self.disks.iter().map(disk).collect(),
            nics: self.adapters.iter().map(nic).collect(),
            cpus: self.cpus,
            memory: self.memory,
            firmware: self.firmware,
            os: OsFamily::Linux,
            platform: Platform::Physical,
            guest: self.guest.clone(),
        }
    }
}
