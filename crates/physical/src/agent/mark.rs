//! Who this server is: ids that `enrol` gave it, bound to its hardware.
//!
//! The mark lies on a disk that is replicated, so a copy of it wakes up elsewhere: on the recovered machine. There it is
//! void: another board, or none of the disks that it names.

use super::FORMAT;
use crate::inventory::{Server, ServerDisk};
use serde::{Deserialize, Serialize};
use site_recovery::{
    DiskId, DiskSpec, Error, ErrorKind, Generation, Instance, Machine, MachineId, Nic, NicId, OsFamily,
    Platform, Result, RoleName,
};
use site_recovery_register::durable;
use std::collections::BTreeMap;
use std::path::Path;

/// `mark.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) format: u32,
    pub(crate) machine: MachineId,
    pub(crate) generation: Generation,
    /// The board's own id, where it has one.
    pub(crate) board: Option<String>,
    /// By the id that the hardware gives them.
    pub(crate) disks: BTreeMap<String, MarkedDisk>,
    /// By the names of adapters.
    pub(crate) nics: BTreeMap<String, NicId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedDisk {
    pub(crate) id: DiskId,
    pub(crate) size: u64,
    pub(crate) included: bool,
}

/// A server as it was found, and its mark where it is the one that was enrolled.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) server: Server,
    pub(crate) mark: Option<Mark>,
    /// A mark is there, and speaks of other hardware.
    pub(crate) foreign: bool,
}

impl Mark {
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let mark = durable::read::<Self>(path)?;
        match mark.as_ref().filter(|m| m.format > FORMAT) {
            Some(newer) => {
                let message = format!("{} is of format {}, this is {FORMAT}", path.display(), newer.format);
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            None => Ok(mark),
        }
    }

    fn is_of(&self, server: &Server, board: Option<&str>) -> bool {
        match (self.board.as_deref(), board) {
            (Some(mine), Some(found)) => mine == found,
            _ => server.disks.iter().any(|d| self.disks.contains_key(&d.id)),
        }
    }
}

impl Known {
    pub(crate) fn new(server: Server, mark: Option<Mark>, board: Option<&str>) -> Self {
        let foreign = mark.as_ref().is_some_and(|m| !m.is_of(&server, board));
        Self { server, mark: mark.filter(|_| !foreign), foreign }
    }

    /// The mark of a server that was enrolled.
    ///
    /// # Errors
    /// `Refused`, with what to do.
    pub(crate) fn marked(&self) -> Result<&Mark> {
        self.mark.as_ref().ok_or_else(|| {
            let why = if self.foreign {
                "its mark speaks of other hardware: this is a copy, or its board was replaced"
            } else {
                "it is not enrolled"
            };
            let message = format!("{}: {why}; enrol it", self.server.name);
            Error::new(ErrorKind::Refused, message)
        })
    }

    /// As the site tells it.
    pub(crate) fn machine(&self, site: &RoleName, name: &str) -> Machine {
        let server = &self.server;
        let (machine, generation) = match &self.mark {
            Some(mark) => (mark.machine.clone(), mark.generation),
            None => (MachineId(name.to_owned()), Generation(0)),
        };
        let nic = |a: &crate::inventory::Adapter| Nic {
            id: self
                .mark
                .as_ref()
                .and_then(|m| m.nics.get(&a.name).cloned())
                .unwrap_or(NicId(a.name.clone())),
            mac: a.mac.clone(),
            network: None,
            addresses: a.addresses.clone(),
        };
        Machine {
            instance: Instance { machine, site: site.clone(), name: name.to_owned(), generation },
            title: None,
            disks: server.disks.iter().map(|d| self.spec(d)).collect(),
            nics: server.adapters.iter().map(nic).collect(),
            cpus: server.cpus,
            memory: server.memory,
            firmware: server.firmware,
            os: OsFamily::Linux,
            platform: Platform::Physical,
            guest: server.guest.clone(),
        }
    }

    fn spec(&self, disk: &ServerDisk) -> DiskSpec {
        let marked = self.mark.as_ref().and_then(|m| m.disks.get(&disk.id));
        let id = marked.map_or(DiskId(disk.id.clone()), |m| m.id.clone());
        // A disk that was added since is left out until `enrol` comes again.
        let included = marked.map_or(self.mark.is_none(), |m| m.included);
        DiskSpec { id, size: disk.size, role: disk.role, included }
    }

    /// A mark for this machine: disks by their ids where they are told by those, by place where not.
    ///
    /// # Errors
    /// `Invalid` where the machine is not as described.
    pub(crate) fn mark_as(&self, machine: &Machine, board: Option<&str>, format: u32) -> Result<Mark> {
        let specs: Vec<DiskSpec> = self.server.disks.iter().map(|d| self.spec(d)).collect();
        let mut disks = BTreeMap::new();
        for (at, (found, known)) in self.server.disks.iter().zip(&specs).enumerate() {
            let by_id = machine.disks.iter().find(|d| d.id == known.id || d.id.as_str() == found.id);
            let free = |d: &&DiskSpec| {
                !specs.iter().any(|s| s.id == d.id)
                    && !self.server.disks.iter().any(|s| s.id == d.id.as_str())
            };
            let Some(told) = by_id.or(machine.disks.get(at).filter(free)) else {
                let rule = "every disk of the server is told";
                return Err(Error::invalid("machine.disks", "incomplete", rule, "discover it anew")
                    .with("disk", &found.id));
            };
            if told.size != found.size {
                let value = format!("{} of disk {}", told.size, told.id);
                let rule = format!("{} has {} bytes", found.device.display(), found.size);
                return Err(Error::invalid("disk.size", value, &rule, "discover it anew"));
            }
            let marked = MarkedDisk { id: told.id.clone(), size: found.size, included: told.included };
            disks.insert(found.id.clone(), marked);
        }
        if let Some(gone) = machine.disks.iter().find(|d| !disks.values().any(|m| m.id == d.id)) {
            let rule = "the server has this disk";
            return Err(Error::invalid("machine.disks", &gone.id, rule, "discover it anew"));
        }
        let nics = self.server.adapters.iter().enumerate().filter_map(|(at, a)| {
            let same = machine.nics.iter().find(|n| n.mac.is_some() && n.mac == a.mac);
            same.or(machine.nics.get(at)).map(|n| (a.name.clone(), n.id.clone()))
        });
        Ok(Mark {
            format,
            machine: machine.id().clone(),
            generation: machine.instance.generation,
            board: board.map(str::to_owned),
            disks,
            nics: nics.collect(),
        })
    }

    /// The included disks, each with its place in the server.
    ///
    /// # Errors
    /// `Conflict` naming a disk that is gone, replaced or smaller than it was.
    pub(crate) fn included(&self) -> Result<Vec<(DiskId, &ServerDisk)>> {
        let mark = self.marked()?;
        let mut all = vec![];
        for (hardware, marked) in mark.disks.iter().filter(|(_, m)| m.included) {
            let found = self.server.disks.iter().find(|d| &d.id == hardware);
            let changed = |how: String| {
                let message = format!("disk {} of {}: {how}; enrol it again", marked.id, self.server.name);
                Error::new(ErrorKind::Conflict, message).with("disk", &marked.id)
            };
            let found = found.ok_or_else(|| changed(format!("{hardware} is removed or replaced")))?;
            if found.size < marked.size {
                return Err(changed(format!("it has {} bytes and had {}", found.size, marked.size)));
            }
            all.push((marked.id.clone(), found));
        }
        all.sort_by_key(|(_, disk)| self.server.disks.iter().position(|d| d.id == disk.id));
        Ok(all)
    }
}
