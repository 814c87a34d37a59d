//! The machine is handed over in place: a branch under the disks, rolled to a point, given back or made final.
//!
//! What is about to begin is written down first, so that a call that comes again after a crash goes on where it was.

use crate::desk::{Desk, Entered};
use crate::ingest::seen_outsider;
use crate::overwrite::Keep;
use crate::register;
use crate::timeline::{HandOver, Kept, Stage, Step, Timeline};
use site_recovery::{
    Armed, BootPermit, Booted, Error, ErrorKind, Instance, Machine, Op, OpKey, PointId, Purpose, Recovery,
    Replica, Result, Settings,
};
use std::sync::Arc;

impl Desk {
    pub(crate) async fn materialise(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
    ) -> Result<Armed> {
        self.accepts(&what.settings)?;
        if what.purpose == Purpose::Drill {
            let message = "a drill on landing disks would stop replication; drill at another recovery site";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let mut line = self.enter(op, what.machine.id()).await?;
        if line.blocking(|line| register::withdrawn(&line.folder)).await?.contains(&op.key) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} was withdrawn; ask under a new key", op.key),
            ));
        }
        match line.known()?.handed_over() {
            None => self.intend(&mut line, op, what, from).await?,
            Some(over) if over.made_by == op.key => {}
            Some(_) => line.known()?.lands()?,
        }
        let over = line.over()?.clone();
        if let Some(armed) = over.armed {
            return Ok(armed);
        }
        let landing = line.landing()?;
        if over.step == Step::Rolling {
            if over.branched {
                self.landing.branch(&op.part("branch"), &landing).await?;
                line.end_handles();
            }
            self.roll(&mut line, &over, from).await?;
            line.step(Step::Arming).await?;
        }
        let armed = self.landing.arm(&op.part("arm"), &landing, what.generation).await?;
        let armed = Armed { point: what.point, ..armed };
        let done = armed.clone();
        line.publish(|t| {
            if let Some(over) = t.hand_over() {
                (over.step, over.armed) = (Step::Armed, Some(done));
            }
        })
        .await?;
        Ok(armed)
    }

    pub(crate) async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        let mut line = self.enter(op, what.machine.id()).await?;
        let made = Op { key: made_by.clone(), epoch: op.epoch.clone() };
        let key = made_by.clone();
        line.blocking(move |line| register::withdraw(&line.folder, key)).await?;
        let over =
            line.timeline.as_ref().and_then(|t| t.handed_over()).filter(|o| o.made_by == *made_by).cloned();
        let Some(over) = over else { return Ok(()) };
        if over.step > Step::Armed && over.step != Step::Withdrawing {
            let message = format!("{} was asked to boot; fence it and set it aside", line.landing()?.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let landing = line.landing()?;
        if !over.branched {
            self.unroll(&mut line).await?;
        } else {
            if over.step == Step::Rolling {
                // Whether the branch was made is not known; made now, it can be parted in any case.
                self.landing.branch(&made.part("branch"), &landing).await?;
            }
            line.step(Step::Withdrawing).await?;
            let above = self.landing.part(&made.part("part"), &landing).await?;
            self.landing.remove(&made.part("remove"), &above).await?;
        }
        self.take_back(&mut line, &made).await?;
        line.publish(|t| t.stage = Stage::Landing).await?;
        line.blocking(|line| line.sweep(line.known()?)).await
    }

    pub(crate) async fn boot(
        &self,
        op: &Op,
        what: &Recovery,
        armed: &Armed,
        permit: BootPermit,
    ) -> Result<Booted> {
        permit.admits(op, &armed.instance, what.purpose)?;
        if matches!(permit, BootPermit::Isolated { .. }) {
            let message =
                "a machine on its landing disks is production; it boots with a proof or a named force";
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let mut line = self.enter(op, &armed.instance.machine).await?;
        let settled =
            matches!(&line.known()?.stage, Stage::Released(instance) if instance.is(&armed.instance));
        if !settled && line.stands(&armed.instance)?.step < Step::Booting {
            let over = line.over()?.clone();
            let stamp = self.landing.stamp(&line.landing()?).await?;
            if line.known()?.outsider(&stamp) {
                let message = format!("{} was started from outside: withdraw it", armed.instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            self.write_pinned(&mut line, over.own.then_some(over.point)).await?;
            line.step(Step::Booting).await?;
        }
        if !settled {
            self.landing.detach(&op.part("detach"), &armed.instance).await?;
            line.end_handles();
        }
        self.landing.start(op, &armed.instance, what, permit).await
    }

    pub(crate) async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        let mut line = self.enter(op, &armed.instance.machine).await?;
        if matches!(&line.known()?.stage, Stage::Released(instance) if instance.is(&armed.instance)) {
            return Ok(());
        }
        let over = line.stands(&armed.instance)?.clone();
        if over.step == Step::Withdrawing {
            return Err(Error::new(ErrorKind::Refused, format!("{} is being withdrawn", over.made_by)));
        }
        if line.known()?.opens() {
            self.write_pinned(&mut line, over.own.then_some(over.point)).await?;
        }
        let lost = |s: &&crate::timeline::Sealed| {
            !s.point.pins.is_empty() && s.whole.is_none() && !(over.own && s.point.id == over.point)
        };
        if let Some(sealed) = line.known()?.points.iter().find(lost) {
            let (id, pins) = (sealed.point.id, sealed.point.pins.join(", "));
            let message = format!(
                "point {id} was pinned ({pins}) after the machine booted and would be lost; unpin it, or set the \
                 machine aside and hand over again"
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        line.step(Step::Settling).await?;
        if over.branched {
            self.landing.merge(op, &armed.instance).await?;
            line.end_handles();
        }
        let instance = armed.instance.clone();
        line.publish(|t| {
            t.points.retain(|s| s.whole.is_some());
            t.points.iter_mut().for_each(|s| s.undo = false);
            (t.landing, t.stage) = (instance.clone(), Stage::Released(instance));
            (t.seed, t.open, t.pending) = (None, None, t.file());
            t.session += 1;
        })
        .await?;
        line.blocking(|line| {
            line.tidy()?;
            line.sweep(line.known()?)
        })
        .await
    }

    pub(crate) async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let mut line = self.enter(op, &instance.machine).await?;
        if let Some(kept) = line.known()?.kept.iter().find(|k| k.by == op.key) {
            return Ok(kept.instance.clone());
        }
        let over = line.stands(instance)?.clone();
        if over.step == Step::Settling {
            let message = format!("{} is being made final, which cannot be taken back", instance.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        if !over.branched {
            let message = "this site puts no branch under disks, so there is nothing to go back to";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let (machine, settings) = line.described()?;
        // Refused while the machine runs.
        self.landing.attach(&op.part("off"), &machine, Some(instance.clone()), &settings).await?;
        let above = self.landing.part(&op.part("part"), instance).await?;
        self.take_back(&mut line, op).await?;
        let kept = Kept { by: op.key.clone(), was: instance.clone(), instance: above.clone() };
        line.publish(|t| {
            t.stage = Stage::Landing;
            t.kept.push(kept);
        })
        .await?;
        Ok(above)
    }

    pub(crate) async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        let mut line = self.enter(op, &instance.machine).await?;
        if line.timeline.as_ref().is_some_and(|t| t.landing.is(instance)) {
            let message = format!("{} is the landing itself", instance.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        self.landing.remove(op, instance).await?;
        if line.timeline.as_ref().is_some_and(|t| t.kept.iter().any(|k| k.instance.is(instance))) {
            line.publish(|t| t.kept.retain(|k| !k.instance.is(instance))).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete(&self, op: &Op, machine: &site_recovery::MachineId) -> Result<()> {
        let mut line = self.enter(op, machine).await?;
        let Some(timeline) = line.timeline.clone() else { return Ok(()) };
        if timeline.handed_over().is_some() {
            timeline.lands()?;
        }
        if timeline.stage == Stage::Landing {
            if let Some(base) = timeline.unfinished()
                && !self.outsider(&mut line).await?
            {
                let way = line.blocking(move |line| line.way_to(base)).await?;
                self.lay(&mut line, way, Keep::Nothing).await?;
            }
            self.landing.detach(&op.part("detach"), &timeline.landing).await?;
            if !timeline.brought {
                self.landing.remove(&op.part("remove"), &timeline.landing).await?;
            }
        }
        line.blocking(|line| line.erase()).await
    }

    /// Writes down what is about to begin, when nothing speaks against it.
    async fn intend(
        &self,
        line: &mut Entered,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
    ) -> Result<()> {
        line.known()?.lands()?;
        line.known()?.fits(&what.machine)?;
        let own = from.name() == self.name;
        if own && line.known()?.sealed(what.point).is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no point {}", what.point)));
        }
        let branched = self.landing.capability().branches;
        if self.outsider(line).await? {
            return Err(seen_outsider(line.known()?));
        }
        self.write_pinned(line, own.then_some(what.point)).await?;
        let (made_by, point) = (op.key.clone(), what.point);
        line.publish(|t| {
            let (step, redo) = (Step::Rolling, t.file());
            t.stage = Stage::HandedOver(HandOver { made_by, point, own, branched, redo, step, armed: None });
            t.open = None;
            t.session += 1;
        })
        .await
    }

    /// The disks below the branch are ours again.
    async fn take_back(&self, line: &mut Entered, op: &Op) -> Result<()> {
        let ((machine, settings), landing) = (line.described()?, line.landing()?);
        line.end_handles();
        self.landing.attach(&op.part("back"), &machine, Some(landing), &settings).await?;
        Ok(())
    }
}

impl Timeline {
    /// Point zero of a landing on which nothing was sealed and which nobody else wrote.
    fn unfinished(&self) -> Option<PointId> {
        let sealed = self.chains.iter().any(|c| !c.links.is_empty());
        let base = self.points.last().filter(|s| !sealed && s.undo && s.whole.is_none());
        base.map(|s| s.point.id)
    }
}

impl Entered {
    fn over(&self) -> Result<&HandOver> {
        let none = || Error::new(ErrorKind::NotFound, "nothing is handed over");
        self.known()?.handed_over().ok_or_else(none)
    }

    /// The hand-over that made `instance`.
    fn stands(&self, instance: &Instance) -> Result<&HandOver> {
        let none =
            || Error::new(ErrorKind::NotFound, format!("{} was not handed over from here", instance.name));
        self.over()?.armed.as_ref().filter(|a| a.instance.is(instance)).ok_or_else(none)?;
        self.over()
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        self.publish(|t| {
            if let Some(over) = t.hand_over() {
                over.step = step;
            }
        })
        .await
    }

    fn described(&self) -> Result<(Machine, Settings)> {
        let timeline = self.known()?;
        Ok((timeline.machine.clone(), timeline.settings.clone()))
    }
}
