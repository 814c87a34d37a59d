//! One machine: how it stands, and what can be edited of it.

use super::ItemHandle;
use crate::engine::describe;
use crate::engine::job::Job;
use crate::engine::readiness;
use crate::engine::shared::{Shared, Slot};
use crate::engine::summary::{self, Summary};
use crate::engine::turn::{Cause, Turn};
use crate::engine::verify;
use crate::state::State;
use crate::{
    Error, ErrorKind, Event, Finding, Force, Instance, Item, MachineId, Operation, Policy, Readiness, Result,
    Settings, Unit, Verb,
};
use std::sync::Arc;

impl ItemHandle {
    pub(crate) fn new(shared: &Arc<Shared>, slot: &Arc<Slot>, machine: &MachineId) -> Self {
        let (shared, slot) = (Arc::clone(shared), Arc::clone(slot));
        Self { shared, slot, machine: machine.clone(), operator: "embedder".into() }
    }

    /// The unit as it was journalled last. A handle from before its machine left a group speaks for nobody.
    pub(super) fn now(&self) -> Result<Arc<Unit>> {
        self.item()?;
        Ok(self.slot.unit())
    }

    /// The machine's name all round the circle.
    pub fn id(&self) -> &MachineId {
        &self.machine
    }

    /// The item as it was journalled last.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn item(&self) -> Result<Item> {
        self.of(&self.slot.unit()).cloned()
    }

    /// It, in its unit as that stood then.
    pub(super) fn of<'unit>(&self, unit: &'unit Unit) -> Result<&'unit Item> {
        unit.item(&self.machine).ok_or_else(|| {
            let message =
                format!("{} is not in {} any more; ask the vault for it", self.machine, self.slot.id);
            Error::new(ErrorKind::NotFound, message)
        })
    }

    /// Where it stands.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn state(&self) -> Result<State> {
        Ok(self.item()?.state)
    }

    /// The job under way, as a handle.
    pub fn job(&self) -> Option<Job> {
        let control = self.slot.control.lock().expect("no panic under this lock").clone()?;
        Some(Job::under_way(&self.slot, control))
    }

    /// Waits for the job under way to do what was asked for; at once where there is none.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn until_done(&self) -> Result<()> {
        let control = self.slot.control.lock().expect("no panic under this lock").clone();
        if let Some(control) = control {
            let mut done = control.done.subscribe();
            let ended = done.wait_for(Option::is_some).await;
            let ended =
                ended.map_err(|e| Error::new(ErrorKind::Cancelled, "the engine has stopped").caused_by(e))?;
            return match ended.as_deref() {
                Some(Ok(report)) => report.clone().done().map(drop),
                Some(Err(error)) => Err(Error::new(error.kind(), error.to_string())),
                None => Ok(()),
            };
        }
        let unit = self.slot.unit();
        // Nobody asked for what the engine proves by itself.
        let asked = unit.finished.newest_first().find(|run| run.operation != Operation::VerifyBoot);
        match asked.and_then(|run| run.why) {
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }

    /// What a person wants to see of it.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn summary(&self) -> Result<Summary> {
        summary::of(&self.shared, &self.slot, self.of(&self.slot.unit())?)
    }

    /// Checks the whole circle now, of the machine as its source describes it now, and remembers what was found.
    ///
    /// # Errors
    /// Those of the roles that were asked.
    pub async fn check_readiness(&self) -> Result<Readiness> {
        let turn = Turn::take(&self.shared, &self.slot).await;
        describe::anew(&turn, &self.item()?).await?;
        drop(turn);
        readiness::check(&self.shared, &self.slot, &self.item()?).await
    }

    /// What the machine shall be at the recovery site of the direction that it replicates in: what was asked for, over what the leg
    /// says.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn settings(&self) -> Result<Settings> {
        let item = self.item()?;
        Ok(self.shared.leg_of(&item)?.settings_of(&item))
    }

    /// What was asked for of that; not what the leg says.
    ///
    /// # Errors
    /// `NotFound` once it has left.
    pub fn asked(&self) -> Result<Settings> {
        let item = self.item()?;
        let site = self.shared.leg_of(&item)?.recovery_site.name();
        Ok(item.settings.get(&site).cloned().unwrap_or_default())
    }

    /// Edits what the machine shall be at its recovery site: replaces what was [asked](Self::asked) for. What the leg says still
    /// holds where this says nothing.
    ///
    /// # Errors
    /// `Invalid`, naming the field; nothing changed.
    pub async fn set_settings(&self, settings: Settings) -> Result<Vec<Finding>> {
        settings.validate()?;
        self.authorize(Verb::Edit)?;
        let item = self.item()?;
        let leg = self.shared.leg_of(&item)?;
        let (site, whole) = (leg.recovery_site.clone(), leg.settings_by(&item, Some(&settings)));
        whole.validate()?;
        let findings = site.check(&item.machine, &whole).await?;
        if let Some(found) = findings.iter().find(|f| f.blocks()) {
            return Err(found.refusal());
        }
        self.edit(Event::Set { site: site.name(), settings }).await?;
        Ok(findings)
    }

    /// Edits the policy of the way out. That of the way back cannot be edited.
    ///
    /// # Errors
    /// `Invalid`, naming the field, also for boot proofs that nothing here can make; nothing changed.
    pub async fn set_policy(&self, policy: Policy) -> Result<()> {
        policy.validate()?;
        verify::check_policy(&self.shared, &policy, &self.item()?.out)?;
        self.authorize(Verb::Edit)?;
        self.edit(Event::PolicySet(policy)).await
    }

    /// Gives up an instance that will never answer again, by name: nobody proves it off any more. The audit trail keeps
    /// who said so.
    ///
    /// # Errors
    /// `Refused` for the active instance; `NotFound`.
    pub async fn retire(&self, name: &str, force: Force) -> Result<()> {
        force.validate()?;
        self.authorize(Verb::Retire)?;
        let item = self.item()?;
        let found = item.instances.iter().find(|i| i.name == name && !i.is(item.active())).cloned();
        let instance = found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("no instance of {} but the active one is named {name}", self.machine),
            )
        })?;
        let why = format!("retired: {}", force.reason);
        let cause = Cause { who: force.operator, why, input: String::new() };
        let turn = Turn::take(&self.shared, &self.slot).await;
        turn.record(&cause, &[(self.machine.clone(), Event::Removed(instance))], |_| {}).await
    }

    /// Removes an instance that is off for good: one that was set aside (it goes at commit by itself), or a machine that
    /// was kept because it may hold what the winner lacks.
    ///
    /// # Errors
    /// `NotFound`, naming what can be dropped; `Refused` where the site did not make it for us; `Busy` while a job is under way; those of the site, and then it is still there.
    pub async fn drop_kept(&self, instance: &Instance) -> Result<()> {
        self.authorize(Verb::Retire)?;
        let turn = Turn::take(&self.shared, &self.slot).await;
        if turn.unit().run.is_some() {
            return Err(Error::new(ErrorKind::Busy, "a job is under way; it may need what is kept"));
        }
        let item = self.item()?;
        // The machine that ran before is what an undo goes back to, and what a reprotect lands on.
        let needed = |i: &Instance| item.promotion.as_ref().is_some_and(|p| p.previous.is(i));
        let droppable = || item.must_not_run().filter(|i| !needed(i));
        let kept = droppable().find(|k| k.is(instance)).ok_or_else(|| {
            let named = |i: &Instance| format!("{} at {}", i.name, i.site);
            let kept: Vec<String> = droppable().map(named).collect();
            let message = format!("{} cannot be dropped; these can: {}", named(instance), kept.join(", "));
            Error::new(ErrorKind::NotFound, message)
        })?;
        let legs = [self.shared.leg(&item.out)?, self.shared.leg(&item.back)?];
        let leg = legs.into_iter().find(|l| l.recovery_site.name() == kept.site);
        let leg = leg.ok_or_else(|| Error::new(ErrorKind::NotFound, "no leg ends where it is kept"))?;
        let op = item.op(format!("{}/drop-{}/{}", self.machine, item.revision, kept.name));
        let gone = leg.recovery_site.destroy(&op, kept);
        self.shared.within(self.shared.deadlines.recovery_site, "remove", gone).await?;
        let cause = Cause {
            who: self.operator.to_string(),
            why: format!("dropped {}", kept.name),
            input: String::new(),
        };
        turn.record(&cause, &[(self.machine.clone(), Event::Removed(kept.clone()))], |_| {}).await
    }

    async fn edit(&self, event: Event) -> Result<()> {
        let cause = Cause { who: self.operator.to_string(), why: "edited".into(), input: String::new() };
        let turn = Turn::take(&self.shared, &self.slot).await;
        turn.record(&cause, &[(self.machine.clone(), event)], |_| {}).await
    }
}
