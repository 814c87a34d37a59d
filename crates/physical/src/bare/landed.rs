//! `landing.json`: what a server is to the way back.

use super::disk::Held;
use super::starter::{Landing, Starter};
use super::{Site, Slot};
use crate::site::home::Home;
use serde::{Deserialize, Serialize};
use site_recovery::{DiskId, Generation, Instance, MachineId, OpKey, Result};
use site_recovery_register::{conflict, durable, not_found, refused};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

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

/// Slots that are held, by server and slot.
pub(crate) type AllHeld = BTreeMap<(String, String), Arc<Held>>;

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
    pub(crate) fn home(&self, name: &str) -> Result<Home> {
        Home::of(&self.state, name)
    }

    /// The home of an instance: its name is whatever somebody sent.
    ///
    /// # Errors
    /// `NotFound` for one of another site; `Invalid` for a name that is none.
    pub(crate) fn home_of(&self, instance: &Instance) -> Result<Home> {
        if instance.site != self.name {
            return Err(not_found(format!("{} stands at {}, not here", instance.name, instance.site)));
        }
        self.home(&instance.name)
    }

    /// Of an instance that `attach` returned.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when another machine landed there.
    pub(crate) fn standing(&self, instance: &Instance) -> Result<Standing> {
        let home = self.home_of(instance)?;
        let Some(landed) = Landed::read(&home)?.filter(|l| l.whole) else {
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

    /// What is held, for as long as nobody else holds or ends anything.
    pub(crate) fn held(&self) -> MutexGuard<'_, AllHeld> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a slot, or finds it held.
    ///
    /// # Errors
    /// `Busy` when somebody else has it.
    pub(crate) fn hold_slot(&self, server: &str, slot: &Slot) -> Result<Arc<Held>> {
        Self::hold_among(&mut self.held(), server, slot)
    }

    /// Holds the slot of a disk that is attached.
    pub(crate) fn hold_attached(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<Held>> {
        // Looked at and held as one: what was given back meanwhile is not taken again.
        let mut all = self.held();
        let Standing { home, landed, .. } = self.standing(instance)?;
        if !landed.attached {
            return Err(refused(format!("the disks of {} were given back: attach it again", home.name)));
        }
        let placed = landed.disks.iter().find(|p| p.disk == *disk);
        let placed = placed.ok_or_else(|| not_found(format!("{} has no disk {disk}", home.name)))?;
        Self::hold_among(&mut all, &home.name, &placed.slot)
    }

    fn hold_among(all: &mut AllHeld, server: &str, slot: &Slot) -> Result<Arc<Held>> {
        let key = (server.to_owned(), slot.id.clone());
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
        self.end_landing(standing)?;
        standing.landed.disks.iter().for_each(|placed| placed.slot.look_again());
        Ok(())
    }

    /// Ends every handle, and the landing with them: none is given out any more.
    pub(crate) fn end_landing(&self, standing: &mut Standing) -> Result<()> {
        let mut all = self.held();
        end_among(&mut all, &standing.home.name);
        standing.landed.attached = false;
        standing.save()
    }

    /// Ends every handle to the disks of a server.
    pub(crate) fn let_go(&self, server: &str) {
        end_among(&mut self.held(), server);
    }
}

fn end_among(all: &mut AllHeld, server: &str) {
    all.retain(|(of, _), held| {
        if of == server {
            held.end();
        }
        of != server
    });
}
