//! What tests see and do beside the wire.

use crate::Fake;
use crate::place::{Kind, same};
use crate::serve::hold;
use crate::thing::{Deaf, Power, Thing};
use crate::world::World;
use crate::{disk, machine, power};
use fake_blob::Image;
use serde_json::Value;
use std::sync::atomic::Ordering;

/// Why something outside the wire cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A resource as it is now.
#[derive(Debug, Clone)]
pub struct Resource {
    /// As `Microsoft.Compute/disks`.
    pub kind: String,
    /// The last part of its name.
    pub name: String,
    /// As a GET would show it.
    pub body: Value,
    /// Whether access to its bytes is outstanding.
    pub granted: bool,
    /// Whether an operation changes it.
    pub busy: bool,
}

impl Fake {
    /// All that is there, networks and subnets as well, in the order of their ids. Nothing comes nearer to its end by it.
    pub fn world(&self) -> Vec<Resource> {
        let world = hold(&self.shared.world);
        let resource = |thing: &Thing| Resource {
            kind: thing.place.kind.full(),
            name: thing.place.last().to_owned(),
            body: thing.body.clone(),
            granted: thing.grant.is_some(),
            busy: thing.busy.is_some(),
        };
        world.things.values().map(resource).collect()
    }

    /// How many operations go on.
    pub fn under_way(&self) -> usize {
        hold(&self.shared.world).under_way().len()
    }

    /// The bytes of a disk, by its name or its whole id; without a footer, but of an upload that is not ended.
    pub fn disk(&self, name: &str) -> Option<Image> {
        self.image(Kind::Disk, name)
    }

    /// The bytes of a snapshot, by its name or its whole id.
    pub fn snapshot(&self, name: &str) -> Option<Image> {
        self.image(Kind::Snapshot, name)
    }

    fn image(&self, kind: Kind, name: &str) -> Option<Image> {
        let world = hold(&self.shared.world);
        let key = find(&world, kind, name)?;
        world.things.get(&key).filter(|thing| thing.was_made()).map(|thing| thing.image.clone())
    }

    /// A machine by its name or its whole id, whether it is there or not.
    pub fn machine(&self, name: &str) -> Machine<'_> {
        Machine { fake: self, name: name.to_owned() }
    }

    /// Starts a machine as its owner would by the portal: at once, and unseen on the wire.
    ///
    /// # Errors
    /// Where there is none, or something keeps it from starting.
    pub fn start_from_outside(&self, name: &str) -> Result<(), Refused> {
        let mut world = hold(&self.shared.world);
        let key = find(&world, Kind::Machine, name).ok_or_else(|| none(name))?;
        power::may_start(&world, &key).map_err(|refusal| Refused(refusal.message))?;
        machine::power(&mut world, &key, Power::Running);
        Ok(())
    }

    /// Makes a disk larger, also while it is in use. On the wire its size is one of whole gibibytes.
    ///
    /// # Errors
    /// Where there is none, or it is that large already.
    pub fn grow_from_outside(&self, disk: &str, size: u64) -> Result<(), Refused> {
        let mut world = hold(&self.shared.world);
        let key = find(&world, Kind::Disk, disk).ok_or_else(|| none(disk))?;
        let thing = world.things.get_mut(&key).filter(|thing| thing.image.size() < size);
        let thing = thing.ok_or_else(|| Refused(format!("{disk} is not smaller than {size} bytes")))?;
        thing.image.resize(size);
        disk::sized(thing, size);
        Ok(())
    }

    /// From now on, or not any more, every connection breaks without an answer; nothing happens then.
    pub fn silence(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// Deletes a resource by its whole id as its owner would by the portal, at once. A machine's disks and interfaces
    /// stay.
    ///
    /// # Errors
    /// Where there is none.
    pub fn delete_from_outside(&self, id: &str) -> Result<(), Refused> {
        let mut world = hold(&self.shared.world);
        let key = id.to_lowercase();
        let kind = world.things.get(&key).map(|thing| thing.place.kind).ok_or_else(|| none(id))?;
        if kind == Kind::Machine {
            machine::remove(&mut world, &key);
        } else {
            world.things.remove(&key);
        }
        Ok(())
    }
}

/// A machine, seen from inside.
#[derive(Debug)]
pub struct Machine<'a> {
    fake: &'a Fake,
    name: String,
}

impl Machine<'_> {
    /// Whether it runs; none where it is not there.
    pub fn power(&self) -> Option<Power> {
        let world = hold(&self.fake.shared.world);
        let key = find(&world, Kind::Machine, &self.name)?;
        world.things.get(&key).map(|machine| machine.power)
    }

    /// From now on its guest leaves a wish to shut down unanswered, until Azure cuts its power.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn deafen(&self) -> Result<(), Refused> {
        self.changed(|machine| machine.deaf = Some(Deaf::default())).ok_or_else(|| none(&self.name))
    }

    /// Whether its guest was asked to shut down since [`deafen`](Self::deafen).
    pub fn was_asked(&self) -> bool {
        let mut asked = false;
        let found = self.changed(|machine| asked = machine.deaf.is_some_and(|deaf| deaf.was_asked));
        found.is_some() && asked
    }

    /// Its guest does what it is still asked to do.
    pub fn hear(&self) {
        let mut busy = None;
        if self.changed(|machine| busy = machine.deaf.take().and_then(|_| machine.busy.clone())).is_some()
            && let Some(operation) = busy
        {
            hold(&self.fake.shared.world).finish(&operation);
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Thing)) -> Option<()> {
        let mut world = hold(&self.fake.shared.world);
        let key = find(&world, Kind::Machine, &self.name)?;
        world.things.get_mut(&key).map(change)
    }

    /// Writes whole sectors to one of its disks, by the disk's name, as its guest does.
    ///
    /// # Errors
    /// Where it does not run, or has no such disk.
    pub fn write(&self, disk: &str, offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        let mut world = hold(&self.fake.shared.world);
        let key = find(&world, Kind::Machine, &self.name).ok_or_else(|| none(&self.name))?;
        let machine = &world.things[&key];
        if machine.power != Power::Running {
            return Err(Refused(format!("{} is {}", self.name, machine.power.code())));
        }
        let wanted = |id: &&String| id.rsplit('/').next().is_some_and(|name| same(name, disk));
        let found = machine.disks().iter().find(wanted).map(|id| id.to_lowercase());
        let found = found.and_then(|key| world.things.get_mut(&key));
        let found = found.ok_or_else(|| Refused(format!("{} has no disk {disk}", self.name)))?;
        found.image.write(offset, bytes);
        Ok(())
    }
}

fn none(name: &str) -> Refused {
    Refused(format!("{name} is not there"))
}

fn find(world: &World, kind: Kind, name: &str) -> Option<String> {
    let here = |(key, thing): &(&String, &Thing)| {
        thing.place.kind == kind && (same(key, name) || same(thing.place.last(), name))
    };
    world.things.iter().find(here).map(|(key, _)| key.clone())
}
