//! `landing.json`: what a server is to the way back.

use super::disk::Held;
use super::starter::{Landing, Starter};
use super::{Site, Slot};
use crate::site::home::Home;
use serde::{Deserialize, Serialize};
use site_recovery::{DiskId, Generation, Instance, MachineId, OpKey, Result};
use site_recovery_register::{conflict, durable, not_found};
use std::sync::{Arc, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Landed {
    pub(crate) machine: MachineId,
    pub(crate) generation: Generation,
    /// Whether its disks are ours now.
    pub(crate) attached: bool,
    /// The system disk first.
    pub(crate) disks: Vec<Placed>,
    /// The key that made it, where it is no server that was there before.
    pub(crate) made_by: Option<OpKey>,
    /// Whether all of it is made.
    pub(crate) whole: bool,
}

/// A disk and where it landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) disk: DiskId,
    pub(crate) slot: Slot,
    /// Whether the slot is a file of the room.
    pub(crate) file: bool,
}

/// A server that something landed on.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) home: Home,
    pub(crate) landed: Landed,
    /// Who starts it; none: nobody can.
    pub(crate) starter: Option<Arc<dyn Starter>>,
}

impl Landed {
    pub(crate) fn read(home: &Home) -> Result<Option<Self>> {
        durable::read(&home.path("landing.json"))
    }

    pub(crate) fn write(&self, home: &Home) -> Result<()> {
        durable::write(&home.path("landing.json"), self)
    }
}

impl Standing {
    /// What a starter is told.
    pub(crate) fn landing(&self) -> Landing {
        let disks = self.landed.disks.iter().map(|p| p.slot.path.clone()).collect();
        Landing { server: self.home.name.clone(), disks }
    }

    pub(crate) fn save(&self) -> Result<()> {
        self.landed.write(&self.home)
    }
}

impl Site {
    pub(crate) fn home(&self, name: &str) -> Home {
        Home::of(&self.state, name)
    }

    /// Of an instance that `attach` returned.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when another machine landed there.
    pub(crate) fn standing(&self, instance: &Instance) -> Result<Standing> {
        let home = self.home(&instance.name);
        let landed = match instance.site == self.name {
            true => Landed::read(&home)?,
            false => None,
        };
        let Some(landed) = landed.filter(|l| l.whole) else {
            return Err(not_found(format!("{} was never attached", instance.name)));
        };
        if landed.machine != instance.machine {
            let message = format!("{} is {}, not {}", instance.name, landed.machine, instance.machine);
            return Err(conflict(message));
        }
        Ok(self.with_starter(home, landed))
    }

    pub(crate) fn with_starter(&self, home: Home, landed: Landed) -> Standing {
        let starter = match self.servers.get(&home.name) {
            Some(server) => Some(Arc::clone(&server.starter)),
            None => self.room.as_ref().and_then(|r| r.starter.clone()),
        };
        Standing { home, landed, starter }
    }

    pub(crate) fn instance(&self, standing: &Standing) -> Instance {
        Instance {
            machine: standing.landed.machine.clone(),
            site: self.name.clone(),
            name: standing.home.name.clone(),
            generation: standing.landed.generation,
        }
    }

    /// Holds a slot, or finds it held.
    ///
    /// # Errors
    /// `Busy` when somebody else has it.
    pub(crate) fn hold_slot(&self, server: &str, slot: &Slot) -> Result<Arc<Held>> {
        let key = (server.to_owned(), slot.id.clone());
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get(&key).filter(|h| h.slot() == slot) {
            if held.is_as_it_was() {
                return Ok(Arc::clone(held));
            }
            held.end();
            all.remove(&key);
        }
        let held = Held::take(slot)?;
        all.insert(key, Arc::clone(&held));
        Ok(held)
    }

    /// Makes durable what was written, and ends every handle: from here on the disks are the server's own.
    pub(crate) fn give_back(&self, standing: &mut Standing) -> Result<()> {
        let server = standing.home.name.clone();
        // Also what an earlier process wrote and did not flush: the kernel may have it still.
        for placed in &standing.landed.disks {
            if standing.landed.attached {
                self.hold_slot(&server, &placed.slot)?.sync()?;
            }
        }
        self.let_go(&server);
        standing.landed.attached = false;
        standing.save()?;
        standing.landed.disks.iter().for_each(|placed| placed.slot.look_again());
        Ok(())
    }

    /// Ends every handle to the disks of a server.
    pub(crate) fn let_go(&self, server: &str) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _), held| {
            if of == server {
                held.end();
            }
            of != server
        });
    }
}
