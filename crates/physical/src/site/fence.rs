//! Taking a server's power and keeping it, and giving it back.

use super::agent::Patient;
use super::home::{Home, PowerRecord, must_be_off, wait};
use super::power::said;
use super::{Kept, Site};
use crate::power::{PowerControl, PowerState};
use site_recovery::{Error, ErrorKind, Instance, Lifted, Op, Power, Result, Start, StartGuard};
use site_recovery_register::refused;
use std::time::Duration;

impl Site {
    pub(crate) fn fence(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        of: &Instance,
        grace: Duration,
        patient: &Patient,
    ) -> Result<()> {
        let name = &kept.server.name;
        let Some(control) = kept.server.power.as_deref().filter(|_| kept.server.can_be_kept_off()) else {
            let message = format!(
                "nothing keeps {name} off: give it a power control that holds it or counts its starts, or fail over by force"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let power = || patient.wait(self.power_of(kept, home, of));
        let ran = match power()? {
            Power::On => true,
            Power::Off { .. } => false,
            // Silent, and with power as far as anybody says: it may run.
            Power::Unknown => patient.hears(control)? != PowerState::Off,
        };
        home.block(op, ran, "fenced", &self.name, &*self.clock)?;
        // A start that was on its way ends here: a repeat of it begins nothing.
        let record = home.power()?;
        if record.leaving.is_some() {
            home.set_power(&PowerRecord { leaving: None, ..record })?;
        }
        // With power it is spared only in a rescue system that it was held to all the time.
        let mut spared = patient.hears(control)? == PowerState::Off;
        if control.keeps().holds {
            spared |= matches!(patient.wait(control.held()), Ok(Some(true)));
            patient.wait(control.hold(true))?;
        }
        if !spared || !matches!(power()?, Power::Off { .. }) {
            self.cut(kept, home, control, grace, patient)?;
        }
        match power()? {
            Power::Off { start: StartGuard::Free } => Err(refused(format!(
                "{name} is off, but its control neither holds it nor would tell of a start"
            ))),
            Power::Off { .. } => home.blocked(),
            Power::On => {
                Err(refused(format!("{name} still answers after its power was cut: its control lies")))
            }
            Power::Unknown => {
                let message = format!("nobody can say whether {name} is off after its power was cut");
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// In order, where there is grace; then hard. What was asked for is over when this returns.
    fn cut(
        &self,
        kept: &Kept,
        home: &Home,
        control: &dyn PowerControl,
        grace: Duration,
        patient: &Patient,
    ) -> Result<()> {
        if let Err(ended) = self.take_power(kept, control, grace, patient) {
            if !grace.is_zero() && patient.is_over() {
                self.settle_shutdown(kept, control);
            }
            return Err(ended);
        }
        // Seen before somebody switches it on again: held, its rescue system comes up then.
        let began = kept.starts();
        match patient.wait(self.is_off(control))? {
            true => self.saw_off(kept, home, began),
            false => Ok(()),
        }
    }

    fn take_power(
        &self,
        kept: &Kept,
        control: &dyn PowerControl,
        grace: Duration,
        patient: &Patient,
    ) -> Result<()> {
        if !grace.is_zero() && self.shut_down(kept, control, grace, patient)? {
            return Ok(());
        }
        patient.wait(control.force_off())?;
        match self.reads_off(control, self.patience.off, patient)? {
            true => Ok(()),
            false => {
                let message = format!("{} does not read as off after its power was cut", kept.server.name);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// Whoever ended our wait must not meet a shutdown that strikes later: its grace is over at once.
    fn settle_shutdown(&self, kept: &Kept, control: &dyn PowerControl) {
        let settled = async {
            control.force_off().await?;
            while said(Some(control)).await != PowerState::Off {
                self.clock.sleep(self.patience.between).await;
            }
            Ok::<_, Error>(())
        };
        let settled = async {
            tokio::select! {
                settled = settled => settled.is_ok(),
                () = self.clock.sleep(self.patience.off) => false,
            }
        };
        if !wait(settled) {
            tracing::warn!(server = kept.server.name, "a shutdown that was asked for may still happen");
        }
    }

    /// Whether it went down by itself.
    fn shut_down(
        &self,
        kept: &Kept,
        control: &dyn PowerControl,
        grace: Duration,
        patient: &Patient,
    ) -> Result<bool> {
        let name = &kept.server.name;
        let until = self.clock.now().after(grace);
        if let Some(inside) = &kept.server.shutdown {
            match patient.wait(self.briefly(kept, inside.shutdown())) {
                Ok(()) => return self.reads_off(control, until.since(self.clock.now()), patient),
                Err(e) => {
                    tracing::warn!(server = name, error = %e, "its system could not be asked to shut down")
                }
            }
        }
        let left = until.since(self.clock.now());
        let asked = patient.wait(async { Ok(control.off(left).await) })?;
        Ok(asked.unwrap_or_else(|e| {
            tracing::warn!(server = name, error = %e, "its control could not shut it down in order");
            false
        }))
    }

    fn reads_off(&self, control: &dyn PowerControl, within: Duration, patient: &Patient) -> Result<bool> {
        let until = self.clock.now().after(within);
        loop {
            if patient.hears(control)? == PowerState::Off {
                return Ok(true);
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                return Ok(false);
            }
            self.rest(left, patient)?;
        }
    }

    /// Between two looks, of which the last is at the end of what is left.
    pub(super) fn rest(&self, left: Duration, patient: &Patient) -> Result<()> {
        patient.wait(async {
            self.clock.sleep(left.min(self.patience.between)).await;
            Ok(())
        })
    }

    pub(crate) fn unfence(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        of: &Instance,
        start: Start,
        patient: &Patient,
    ) -> Result<Lifted> {
        let mut record = home.power()?;
        let runs = patient.wait(self.runs(kept, home, of))?;
        let running = runs == Some(true);
        if record.done.contains(&op.key) {
            if running {
                home.unblock()?;
            }
            return Ok(Lifted { running });
        }
        let ran_before = home.fence()?.is_some_and(|f| f.ran_before);
        let wanted = start == Start::Run || start == Start::AsBefore && ran_before;
        if running || !wanted {
            if let Some(control) = kept.server.power.as_deref().filter(|c| c.keeps().holds) {
                patient.wait(control.hold(false))?;
            }
            home.unblock()?;
            record.done.push(op.key.clone());
            home.set_power(&record)?;
            return Ok(Lifted { running });
        }
        must_be_off(&kept.server.name, runs)?;
        let Some(control) = kept.server.power.as_deref() else {
            let message = format!("nobody can switch {} on: give it a power control", kept.server.name);
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        self.ignite(op, kept, home, control, &mut record, patient)?;
        self.until_it_answers(kept, home, of, patient)?;
        self.counted(home, control, patient)?;
        home.unblock()?;
        Ok(Lifted { running: true })
    }

    /// Starts it once for this key.
    fn ignite(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        control: &dyn PowerControl,
        record: &mut PowerRecord,
        patient: &Patient,
    ) -> Result<()> {
        let keeps = control.keeps();
        if keeps.tells
            && let Some(says) = patient.wait(control.stamp())?
        {
            record.witness.before(&says);
        }
        // Before the effect: whatever comes of it, this key starts nothing twice.
        record.done.push(op.key.clone());
        home.set_power(record)?;
        let started = (|| {
            if keeps.holds {
                patient.wait(control.hold(false))?;
            }
            // Its rescue system runs: it has to be left.
            if patient.hears(control)? == PowerState::On {
                patient.wait(control.force_off())?;
                if !self.reads_off(control, self.patience.off, patient)? {
                    let message = format!("{} does not leave its rescue system", kept.server.name);
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
            self.saw_start(kept, home)?;
            patient.wait(control.on())
        })();
        if let Err(e) = started {
            // Known to have failed: the same key may try again. Looked at in any case, so not for long.
            if wait(self.briefly(kept, self.is_off(control))).unwrap_or(false) {
                record.done.retain(|key| key != &op.key);
                home.set_power(record)?;
                if keeps.holds {
                    wait(self.briefly(kept, control.hold(true)))?;
                }
            }
            return Err(e);
        }
        self.counted(home, control, patient)
    }

    /// What the control counts by now was our own start.
    pub(super) fn counted(&self, home: &Home, control: &dyn PowerControl, patient: &Patient) -> Result<()> {
        if control.keeps().tells
            && let Some(says) = patient.wait(control.stamp())?
        {
            let mut record = home.power()?;
            record.witness.after(&says);
            home.set_power(&record)?;
        }
        Ok(())
    }

    pub(super) fn until_it_answers(
        &self,
        kept: &Kept,
        home: &Home,
        of: &Instance,
        patient: &Patient,
    ) -> Result<()> {
        let until = self.clock.now().after(self.patience.on);
        loop {
            if patient.wait(self.runs(kept, home, of))? == Some(true) {
                return Ok(());
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                let message =
                    format!("{} was switched on, and its agent has not answered yet", kept.server.name);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            self.rest(left, patient)?;
        }
    }
}
