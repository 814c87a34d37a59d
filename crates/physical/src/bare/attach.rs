//! Disks become ours.

use super::landed::{Landed, Placed, Standing};
use super::{Site, matching};
use crate::signature;
use crate::site::home::{Home, Mark, must_be_off, wait};
use site_recovery::{DiskSpec, ErrorKind, Finding, Instance, Machine, Op, Purpose, Result, Run, Settings};
use site_recovery_register::{Told, conflict, durable, not_found, refused};
use std::fs::OpenOptions;
use std::path::Path;

impl Site {
    pub(crate) fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<&Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        Finding::refuse_critical(&self.check_settings(machine, settings), ErrorKind::Invalid)?;
        let _turn = self.register.turn(op, machine.id())?;
        let standing = match existing {
            Some(instance) => self.existing(instance, machine)?,
            None => match self.made(op)? {
                Some(standing) if standing.landed.whole => standing,
                Some(standing) => self.make(standing, machine, settings)?,
                None => self.make(self.fresh(op, machine, settings)?, machine, settings)?,
            },
        };
        self.take(op, standing, machine, settings)
    }

    /// A server that is there, or files that were made for one.
    fn existing(&self, instance: &Instance, machine: &Machine) -> Result<Standing> {
        let home = self.home_of(instance)?;
        let landed = Landed::read(&home)?;
        if landed.is_none() && !self.servers.contains_key(&instance.name) {
            let message = format!("{} is not here: start it from the rescue system", instance.name);
            return Err(not_found(message));
        }
        let mark = home.must_be_of(machine.id())?;
        let landed = match landed {
            Some(landed) if landed.machine != *machine.id() => {
                return Err(conflict(format!("{} is {}, not {}", home.name, landed.machine, machine.id())));
            }
            Some(landed) => landed,
            None => Landed {
                machine: machine.id().clone(),
                generation: mark.map_or(machine.instance.generation, |m| m.generation),
                attached: false,
                disks: vec![],
                made_by: None,
                whole: false,
            },
        };
        Ok(self.with_starter(home, landed))
    }

    /// What this key has begun to make.
    fn made(&self, op: &Op) -> Result<Option<Standing>> {
        for home in Home::all(&self.state)? {
            if let Some(landed) = Landed::read(&home)?.filter(|l| l.made_by.as_ref() == Some(&op.key)) {
                return Ok(Some(self.with_starter(home, landed)));
            }
        }
        Ok(None)
    }

    /// Where a machine lands that has no server here: on the one that is named, in the room, or on the only one.
    fn fresh(&self, op: &Op, machine: &Machine, settings: &Settings) -> Result<Standing> {
        let free = |name: &str| Ok::<_, site_recovery::Error>(Landed::read(&self.home(name)?)?.is_none());
        let name = match (settings.site.get("server"), &self.room) {
            (Some(named), _) if !self.servers.contains_key(named) => {
                return Err(not_found(format!("no server named {named} was started here"))
                    .with("field", "site.server"));
            }
            (Some(named), _) if !free(named)? || self.home(named)?.mark()?.is_some() => {
                return Err(conflict(format!(
                    "{named} is taken: it carries a mark, or something landed on it"
                )));
            }
            (Some(named), _) => named.clone(),
            (None, Some(_)) => self.free_name(&settings.name_for(machine, Purpose::Failover))?,
            (None, None) => {
                let message = "hardware cannot be made: name the server to land on in settings.site.server";
                return Err(refused(message)
                    .with("servers", self.servers.keys().cloned().collect::<Vec<_>>().join(", ")));
            }
        };
        let landed = Landed {
            machine: machine.id().clone(),
            generation: machine.instance.generation,
            attached: false,
            disks: vec![],
            made_by: Some(op.key.clone()),
            whole: false,
        };
        Ok(self.with_starter(self.home(&name)?, landed))
    }

    fn free_name(&self, name: &str) -> Result<String> {
        for name in std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}-{n}"))) {
            // Where a number makes it too long to be one, the name is refused.
            let home = self.home(&name)?;
            if !self.servers.contains_key(&name) && !home.path("landing.json").exists() {
                return Ok(name);
            }
        }
        unreachable!("there are more numbers than servers")
    }

    /// Empties what the machine lands on: it was promised disks that hold nothing.
    fn make(&self, mut standing: Standing, machine: &Machine, settings: &Settings) -> Result<Standing> {
        must_be_off(&standing.home.name, self.runs(&standing)?)?;
        let placed = self.place(&standing, machine, settings)?;
        let on_slots = placed.iter().filter(|p| !p.file);
        if settings.site.get("erase").map(String::as_str) != Some("yes") {
            for placed in on_slots.clone() {
                if let Some(what) = signature::on(&placed.slot.path, placed.slot.read()?.size)?.first() {
                    let message = format!(
                        "{} holds {what}: name another server, or let it go with settings.site.erase = yes",
                        placed.slot.id
                    );
                    return Err(refused(message).with("field", "site.erase"));
                }
            }
        }
        // Its key first: so a repeat goes on here.
        standing.landed.disks.clone_from(&placed);
        standing.save()?;
        for placed in on_slots {
            let file = placed.slot.take()?;
            site_recovery_sparse::zero(&file, Run::new(0, placed.slot.read()?.size))
                .told("empty", &placed.slot.path)?;
            file.sync_all().told("sync", &placed.slot.path)?;
        }
        Ok(standing)
    }

    fn place(&self, standing: &Standing, machine: &Machine, settings: &Settings) -> Result<Vec<Placed>> {
        let name = &standing.home.name;
        let disks: Vec<DiskSpec> = machine.included().cloned().collect();
        let mut slots = self.slots(name)?;
        // Files of the room that stand already, for their sizes.
        for placed in standing.landed.disks.iter().filter(|p| p.file) {
            if let Ok(read) = placed.slot.read() {
                slots.push((placed.slot.clone(), read));
            }
        }
        let room = self.files_of(name);
        matching::place(&disks, &slots, settings, &standing.landed.disks, room.as_deref())
    }

    /// Takes all disks, or none.
    fn take(&self, op: &Op, standing: Standing, machine: &Machine, settings: &Settings) -> Result<Instance> {
        let (name, attached) = (standing.home.name.clone(), standing.landed.attached);
        let taken = self.take_all(op, standing, machine, settings);
        if taken.is_err() && !attached {
            self.let_go(&name);
        }
        taken
    }

    fn take_all(
        &self,
        op: &Op,
        mut standing: Standing,
        machine: &Machine,
        settings: &Settings,
    ) -> Result<Instance> {
        let name = standing.home.name.clone();
        must_be_off(&name, self.runs(&standing)?)?;
        let placed = self.place(&standing, machine, settings)?;
        for placed in placed.iter().filter(|p| p.slot.path.exists()) {
            self.hold_slot(&name, &placed.slot)?;
        }
        if let Some(starter) = &standing.starter {
            wait(starter.hold(&standing.landing(), true))?;
        }
        standing.home.block(op, false, "landing", &self.name, &*self.clock)?;
        for (placed, spec) in placed.iter().zip(machine.included()) {
            if placed.file || !placed.slot.read()?.device {
                grow(&placed.slot.path, spec)?;
            }
            self.hold_slot(&name, &placed.slot)?;
        }
        standing.landed.disks = placed;
        (standing.landed.attached, standing.landed.whole) = (true, true);
        standing.save()?;
        let instance = self.instance(&standing);
        let described = machine.standing_as(instance.clone());
        standing.home.set_mark(&Mark {
            machine: machine.id().clone(),
            generation: instance.generation,
            described,
        })?;
        standing.home.blocked()?;
        Ok(instance)
    }

    /// Whether what stands there runs; files that nobody starts do not.
    pub(crate) fn runs(&self, standing: &Standing) -> Result<Option<bool>> {
        match &standing.starter {
            None => Ok(Some(false)),
            Some(starter) => wait(starter.runs(&standing.landing())),
        }
    }
}

/// Makes a plain file, or makes it larger; never smaller.
fn grow(path: &Path, spec: &DiskSpec) -> Result<()> {
    if let Some(parent) = path.parent() {
        durable::make_dir(parent)?;
    }
    let options = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = options.told("open", path)?;
    if file.metadata().told("look at", path)?.len() < spec.size {
        file.set_len(spec.size).told("grow", path)?;
    }
    file.sync_all().told("sync", path)?;
    path.parent().map_or(Ok(()), durable::sync_dir)
}
