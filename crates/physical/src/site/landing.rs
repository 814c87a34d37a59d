//! The way back to servers that run their rescue system, for a master target that stands beside the keeper.
//!
//! The bytes go to the agent in the rescue system, which has the disks and a state that ends with it. What outlives it is the
//! keeper's: whose server this is and in which generation, who holds it off, and which start was ours. `start` lets go of what
//! holds the server, leaves the rescue system, and is done when the agent of the restored system answers; where the server went
//! off instead of starting again, it is switched on. From then on nothing is asked of the rescue system: what a repeat of
//! `detach` or `start` wants has happened.

use super::home::{Home, Mark, Owed, must_be_off, wait};
use super::power::said;
use super::{Kept, PhysicalSite, Rescues, Site};
use crate::power::PowerState;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, DiskId, DiskMut, Error, ErrorKind, Generation, Instance,
    LandingSite, Machine, MachineId, Op, Purpose, Recovery, Result, Role, RoleName, Settings, Stamp, Survey,
};
use site_recovery_register::refused;
use std::sync::Arc;
use std::time::Duration;

/// The stamp of a server whose own system runs; no life of a rescue system is called so.
const RUNS: &[u8] = b"its own system runs";

/// Servers in their rescue systems as a landing site of the name of their site. Clones share everything.
#[derive(Debug, Clone)]
pub struct Returning {
    keeper: PhysicalSite,
    rescues: Arc<dyn Rescues>,
}

impl PhysicalSite {
    /// The way back to these servers, by what their rescue systems serve. It is looked for at each use: a rescue system need
    /// not run before something lands.
    pub fn returning(&self, rescues: Arc<dyn Rescues>) -> Returning {
        Returning { keeper: self.clone(), rescues }
    }
}

impl Returning {
    /// Asks the rescue system, in its own name of the site.
    async fn there(&self, instance: &Instance) -> Result<(Arc<dyn LandingSite>, Instance)> {
        let rescue = self.rescues.rescue(&instance.name).await;
        let rescue = rescue.map_err(|e| e.at(&self.keeper.name(), "landing"))?;
        let there = Instance { site: rescue.name(), ..instance.clone() };
        Ok((rescue, there))
    }

    /// Whether the server's own system runs: then its disks are its own.
    async fn runs(&self, instance: &Instance) -> Result<bool> {
        let site = &self.keeper.0;
        let (kept, home) = site.of(instance).map_err(|e| e.at(&site.name, "landing"))?;
        Ok(site.runs(kept, &home, instance).await? == Some(true))
    }

    fn unsupported(&self, operation: &'static str) -> Error {
        let message = "nothing can be put under bare disks: an undo goes by the master target's log";
        Error::new(ErrorKind::Unsupported, message).at(&self.keeper.name(), operation)
    }
}

#[async_trait]
impl Role for Returning {
    fn name(&self) -> RoleName {
        self.keeper.name()
    }

    fn capability(&self) -> Capability {
        Capability { tracks: false, groups: false, drills: false, branches: false, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.keeper.claim(op, machine).await
    }
}

#[async_trait]
impl LandingSite for Returning {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let (rescue, there) = self.there(&machine.instance).await?;
        rescue.survey(&machine.standing_as(there), settings).await
    }

    /// The server that is there: hardware cannot be made.
    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let Some(existing) = existing else {
            let message = "a machine returns to the server that it came from: it is known by its keeper";
            return Err(refused(message).at(&self.keeper.name(), "attach"));
        };
        let (rescue, there) = self.there(&existing).await?;
        let (op, machine, settings) = (op.clone(), machine.clone(), settings.clone());
        self.keeper
            .act("attach", move |site| {
                let (kept, home) = site.of(&existing)?;
                let _turn = site.register.turn(&op, machine.id())?;
                must_be_off(&existing.name, wait(site.runs(kept, &home, &existing))?)?;
                home.block(&op, false, "landing", &site.name, &*site.clock)?;
                site.hold(kept, true)?;
                let attached = wait(rescue.attach(&op, &machine, Some(there), &settings))?;
                home.blocked()?;
                Ok(Instance { site: site.name.clone(), ..attached })
            })
            .await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let (rescue, there) = self.there(instance).await?;
        rescue.disk(&there, disk).await
    }

    /// That of the rescue system: another life of it is another stamp, and so is the server's own system.
    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        if self.runs(instance).await? {
            return Ok(Some(Stamp(RUNS.to_vec())));
        }
        let (rescue, there) = self.there(instance).await?;
        rescue.stamp(&there).await
    }

    async fn branch(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(self.unsupported("branch"))
    }

    async fn part(&self, _: &Op, _: &Instance) -> Result<Instance> {
        Err(self.unsupported("part"))
    }

    async fn merge(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(self.unsupported("merge"))
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (rescue, there) = self.there(instance).await?;
        let (op, instance) = (op.clone(), instance.clone());
        self.keeper
            .act("arm", move |site| {
                let (_, home) = site.of(&instance)?;
                let _turn = site.register.turn(&op, &instance.machine)?;
                let armed = wait(rescue.arm(&op, &there, generation))?;
                let instance = Instance { site: site.name.clone(), ..armed.instance.clone() };
                home.returns(&op, &instance)?;
                Ok(Armed { instance, ..armed })
            })
            .await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        if self.runs(instance).await? {
            return Ok(());
        }
        let (rescue, there) = self.there(instance).await?;
        rescue.detach(op, &there).await
    }

    /// Done when the restored system's agent answers.
    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        if what.purpose == Purpose::Drill {
            let message = "bare disks take no drill";
            return Err(Error::new(ErrorKind::Unsupported, message).at(&self.keeper.name(), "start"));
        }
        let (rescue, there) = self.there(instance).await?;
        let (op, instance, what) = (op.clone(), instance.clone(), what.clone());
        self.keeper
            .act("start", move |site| {
                permit.admits(&op, &instance, what.purpose)?;
                let (kept, home) = site.of(&instance)?;
                kept.enough();
                let _turn = site.register.turn(&op, &instance.machine)?;
                let leaves = || wait(rescue.start(&op, &there, &what, permit));
                site.restart(&op, kept, &home, &instance, leaves)
            })
            .await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        site_recovery::Source::fence(&self.keeper, op, instance, grace).await
    }

    async fn remove(&self, _: &Op, instance: &Instance) -> Result<()> {
        let message =
            format!("{} is hardware: it is never removed; retire the instance instead", instance.name);
        Err(refused(message).at(&self.keeper.name(), "remove"))
    }
}

impl Home {
    /// What lands here is of this generation from now on. The restored system's agent has another mark, or none: it is told
    /// once it answers.
    fn returns(&self, op: &Op, instance: &Instance) -> Result<()> {
        let Some(mark) = self.mark()? else { return Ok(()) };
        let described = mark.described.standing_as(instance.clone());
        self.set_mark(&Mark { generation: instance.generation, described: described.clone(), ..mark })?;
        self.owe(Owed::Enrol { key: op.part("enrol").key, machine: described })
    }
}

impl Site {
    fn hold(&self, kept: &Kept, hold: bool) -> Result<()> {
        match kept.server.power.as_deref().filter(|c| c.keeps().holds) {
            Some(control) => wait(control.hold(hold)),
            None => Ok(()),
        }
    }

    /// From the rescue system to the restored one.
    fn restart(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        instance: &Instance,
        leaves: impl FnOnce() -> Result<Booted>,
    ) -> Result<Booted> {
        let runs = wait(self.runs(kept, home, instance))?;
        if runs != Some(true) {
            self.leave(op, kept, home, runs, leaves)?;
        }
        self.until_it_returned(kept, home, instance)?;
        if let Some(control) = kept.server.power.as_deref() {
            self.counted(home, control)?;
        }
        home.unblock()?;
        Ok(Booted { reach: vec![], running: true })
    }

    /// Asks the rescue system to leave. It does so once for a key in one life of it: a repeat asks again, for nobody knows
    /// whether the first word got there.
    fn leave(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        runs: Option<bool>,
        leaves: impl FnOnce() -> Result<Booted>,
    ) -> Result<()> {
        let mut record = home.power()?;
        if !record.done.contains(&op.key) {
            must_be_off(&kept.server.name, runs)?;
            if let Some(control) = kept.server.power.as_deref().filter(|c| c.keeps().tells)
                && let Some(says) = wait(control.stamp())?
            {
                record.witness.before(&says);
            }
            record.done.push(op.key.clone());
            home.set_power(&record)?;
        }
        self.hold(kept, false)?;
        match leaves() {
            Ok(_) => Ok(()),
            // It leaves, or has left, and nobody has seen its system run yet.
            Err(e) if e.kind() == ErrorKind::Unavailable => Ok(()),
            Err(e) => {
                record.done.retain(|key| key != &op.key);
                home.set_power(&record)?;
                self.hold(kept, true)?;
                Err(e)
            }
        }
    }

    /// Some servers go off where they should start again.
    fn until_it_returned(&self, kept: &Kept, home: &Home, instance: &Instance) -> Result<()> {
        let until = self.clock.now().after(self.patience.off);
        while let Some(control) = kept.server.power.as_deref() {
            let runs = wait(self.runs(kept, home, instance))?;
            if runs == Some(true) {
                break;
            }
            if runs == Some(false) && wait(said(Some(control))) == PowerState::Off {
                wait(control.on())?;
                break;
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                break;
            }
            wait(self.clock.sleep(left.min(self.patience.between)));
        }
        self.until_it_answers(kept, home, instance)
    }
}
