//! Bare disks as a landing site.

use super::BareDisks;
use super::Site;
use super::disk::LandingDisk;
use super::landed::{Landed, Standing};
use crate::guard;
use crate::site::home::{Mark, Owed, PowerRecord, must_be_off, wait};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, DiskId, DiskMut, Error, ErrorKind, Generation, Instance, LandingSite, Machine,
    Op, PointId, Purpose, Recovery, Result, Settings, Stamp, Survey,
};
use site_recovery_register::{durable, refused};
use std::sync::Arc;
use std::time::Duration;

/// How often a server that was switched is looked at, and how long between.
const LOOKS: u32 = 120;
const BETWEEN: Duration = Duration::from_millis(500);

#[async_trait]
impl LandingSite for BareDisks {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let (machine, settings) = (machine.clone(), settings.clone());
        self.act("survey", move |site| site.survey(&machine, &settings)).await
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let (op, machine, settings) = (op.clone(), machine.clone(), settings.clone());
        self.act("attach", move |site| site.attach(&op, &machine, existing.as_ref(), &settings)).await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let (instance, disk) = (instance.clone(), disk.clone());
        self.act("disk", move |site| {
            let held = site.hold_attached(&instance, &disk)?;
            Ok(Arc::new(LandingDisk(held)) as Arc<dyn DiskMut>)
        })
        .await
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        let instance = instance.clone();
        self.act("stamp", move |site| {
            let standing = site.standing(&instance)?;
            let Some(starter) = &standing.starter else { return Ok(None) };
            let says = wait(starter.stamp(&standing.landing()))?;
            let witness = standing.home.power()?.witness;
            Ok(says.map(|says| witness.told(&says)))
        })
        .await
    }

    async fn branch(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(self.no_branches("branch"))
    }

    async fn part(&self, _: &Op, _: &Instance) -> Result<Instance> {
        Err(self.no_branches("part"))
    }

    async fn merge(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(self.no_branches("merge"))
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("arm", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let mut standing = site.standing(&instance)?;
            standing.landed.generation = generation;
            standing.save()?;
            let instance = site.instance(&standing);
            if let Some(mark) = standing.home.mark()? {
                let described = mark.described.standing_as(instance.clone());
                standing.home.set_mark(&Mark { generation, described: described.clone(), ..mark })?;
                // The restored system's agent has another mark, or none: it is told once it answers.
                standing.home.owe(Owed::Enrol { key: op.part("enrol").key, machine: described })?;
            }
            Ok(Armed { instance, cursor: None, point: PointId(0) })
        })
        .await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("detach", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            site.give_back(&mut site.standing(&instance)?)
        })
        .await
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        let (op, instance, machine) = (op.clone(), instance.clone(), what.machine.id().clone());
        let purpose = what.purpose;
        self.act("start", move |site| {
            let standing = site.standing(&instance)?;
            if machine != instance.machine {
                return Err(refused(format!("{} is no machine of {machine}", instance.name)));
            }
            if purpose == Purpose::Drill {
                return Err(Error::new(ErrorKind::Unsupported, "bare disks take no drill"));
            }
            permit.admits(&op, &instance, purpose)?;
            let _turn = site.register.turn(&op, &instance.machine)?;
            site.start(&op, standing)
        })
        .await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("stop", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let standing = site.standing(&instance)?;
            site.stop(&op, &standing, grace)
        })
        .await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("remove", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            site.remove(&op, &instance)
        })
        .await
    }
}

impl BareDisks {
    fn no_branches(&self, operation: &'static str) -> Error {
        let message = "nothing can be put under bare disks: an undo goes by the master target's log";
        Error::new(ErrorKind::Unsupported, message).at(&self.0.name, operation)
    }
}

impl Site {
    fn start(&self, op: &Op, mut standing: Standing) -> Result<Booted> {
        let name = standing.home.name.clone();
        let Some(starter) = standing.starter.clone() else {
            let message = format!("{name} is files: nobody was named who starts what stands there");
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let (landing, session) = (standing.landing(), starter.session());
        let runs = wait(starter.runs(&landing))?;
        let mut record = standing.home.power()?;
        let asked_in_this_life = session.is_some() && record.session == session;
        if record.done.contains(&op.key) && !asked_in_this_life {
            return Ok(Booted { reach: vec![], running: runs == Some(true) });
        }
        if runs != Some(true) {
            must_be_off(&name, runs)?;
            self.give_back(&mut standing)?;
            if let Some(tells) = self.tells.get(&name) {
                let mark = guard::Mark::of(&self.instance(&standing), &op.epoch);
                tells.tell(&landing, &mark, &*self.clock)?;
            }
            self.ours(&standing, &mut record, op, &session)?;
            wait(starter.hold(&landing, false))?;
            let reach = match wait(starter.start(&landing)) {
                Ok(reach) => reach,
                Err(e) => return Err(self.not_started(&standing, op, e)),
            };
            if session.is_some() {
                let message = format!("{name} leaves its rescue system: its agent answers once it runs");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            self.until(&standing, true)?;
            self.counted(&standing)?;
            standing.home.unblock()?;
            return Ok(Booted { reach, running: true });
        }
        self.give_back(&mut standing)?;
        record.done.push(op.key.clone());
        standing.home.set_power(&record)?;
        standing.home.unblock()?;
        Ok(Booted { reach: vec![], running: true })
    }

    /// Writes down that a start is ours, before it is made.
    fn ours(
        &self,
        standing: &Standing,
        record: &mut PowerRecord,
        op: &Op,
        session: &Option<String>,
    ) -> Result<()> {
        if let Some(starter) = &standing.starter
            && let Some(says) = wait(starter.stamp(&standing.landing()))?
        {
            record.witness.before(&says);
        }
        if !record.done.contains(&op.key) {
            record.done.push(op.key.clone());
        }
        record.session.clone_from(session);
        standing.home.set_power(record)
    }

    /// What the platform counts by now was our own act.
    fn counted(&self, standing: &Standing) -> Result<()> {
        let mut record = standing.home.power()?;
        if let Some(starter) = &standing.starter
            && let Some(says) = wait(starter.stamp(&standing.landing()))?
        {
            record.witness.after(&says);
        }
        record.session = None;
        standing.home.set_power(&record)
    }

    /// A start that is known to have failed is made again under the same key.
    fn not_started(&self, standing: &Standing, op: &Op, error: Error) -> Error {
        let undone = || -> Result<()> {
            if self.runs(standing)? == Some(false) {
                let mut record = standing.home.power()?;
                record.done.retain(|key| key != &op.key);
                record.session = None;
                standing.home.set_power(&record)?;
                if let Some(starter) = &standing.starter {
                    wait(starter.hold(&standing.landing(), true))?;
                }
            }
            Ok(())
        };
        if let Err(e) = undone() {
            tracing::warn!(server = standing.home.name, error = %e, "after a start that failed");
        }
        error
    }

    fn stop(&self, op: &Op, standing: &Standing, grace: Duration) -> Result<()> {
        let name = &standing.home.name;
        let runs = self.runs(standing)?;
        standing.home.block(op, runs != Some(false), "stopped", &self.name, &*self.clock)?;
        if let Some(starter) = &standing.starter {
            wait(starter.hold(&standing.landing(), true))?;
            if runs != Some(false) {
                wait(starter.stop(&standing.landing(), grace))?;
                self.until(standing, false)?;
            }
        }
        must_be_off(name, self.runs(standing)?)?;
        standing.home.blocked()
    }

    /// Waits, for a bounded time, until it reads as running or off.
    fn until(&self, standing: &Standing, running: bool) -> Result<()> {
        for _ in 0..LOOKS {
            if self.runs(standing)? == Some(running) {
                return Ok(());
            }
            wait(self.clock.sleep(BETWEEN));
        }
        let word = if running { "running" } else { "off" };
        let message = format!("{} does not read as {word} after a minute", standing.home.name);
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let name = &instance.name;
        let home = self.home_of(instance)?;
        let Some(landed) = Landed::read(&home)? else {
            return match self.servers.contains_key(name) {
                true => Err(self.hardware(name)),
                false => Ok(()),
            };
        };
        if self.servers.contains_key(name) || landed.made_by.is_none() || landed.machine != instance.machine {
            return Err(self.hardware(name));
        }
        let mut standing = self.with_starter(home, landed);
        if self.runs(&standing)? != Some(false) {
            self.stop(op, &standing, Duration::ZERO)?;
        }
        self.end_landing(&mut standing)?;
        // The bytes first: a home that stands is found again by a repeat.
        if let Some(files) = self.files_of(name) {
            durable::remove_tree(&files)?;
        }
        standing.home.forget()
    }

    fn hardware(&self, name: &str) -> Error {
        refused(format!(
            "{name} is hardware, or was here before: it is never removed; retire the instance instead"
        ))
    }
}
