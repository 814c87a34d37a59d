//! Taking a server's power and keeping it, and giving it back.

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
    ) -> Result<()> {
        let name = &kept.server.name;
        let Some(control) = kept.server.power.as_deref().filter(|_| kept.server.can_be_kept_off()) else {
            let message = format!(
                "nothing keeps {name} off: give it a power control that holds it or counts its starts, or fail over by force"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let ran = match wait(self.power_of(kept, home, of))? {
            Power::On => true,
            Power::Off { .. } => false,
            // Silent, and with power as far as anybody says: it may run.
            Power::Unknown => wait(said(Some(control))) != PowerState::Off,
        };
        home.block(op, ran, "fenced", &self.name, &*self.clock)?;
        if control.keeps().holds {
            wait(control.hold(true))?;
        }
        if !matches!(wait(self.power_of(kept, home, of))?, Power::Off { .. }) {
            self.cut(kept, control, grace)?;
        }
        match wait(self.power_of(kept, home, of))? {
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
    fn cut(&self, kept: &Kept, control: &dyn PowerControl, grace: Duration) -> Result<()> {
        if !grace.is_zero() && self.shut_down(kept, control, grace) {
            return Ok(());
        }
        wait(control.force_off())?;
        match self.reads_off(control, self.patience.off) {
            true => Ok(()),
            false => {
                let message = format!("{} does not read as off after its power was cut", kept.server.name);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// Whether it went down by itself.
    fn shut_down(&self, kept: &Kept, control: &dyn PowerControl, grace: Duration) -> bool {
        let name = &kept.server.name;
        let until = self.clock.now().after(grace);
        if let Some(inside) = &kept.server.shutdown {
            match wait(self.briefly(kept, inside.shutdown())) {
                Ok(()) => return self.reads_off(control, until.since(self.clock.now())),
                Err(e) => {
                    tracing::warn!(server = name, error = %e, "its system could not be asked to shut down")
                }
            }
        }
        let left = until.since(self.clock.now());
        wait(control.off(left)).unwrap_or_else(|e| {
            tracing::warn!(server = name, error = %e, "its control could not shut it down in order");
            false
        })
    }

    fn reads_off(&self, control: &dyn PowerControl, within: Duration) -> bool {
        let until = self.clock.now().after(within);
        loop {
            if wait(said(Some(control))) == PowerState::Off {
                return true;
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                return false;
            }
            wait(self.clock.sleep(left.min(self.patience.between)));
        }
    }

    pub(crate) fn unfence(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        of: &Instance,
        start: Start,
    ) -> Result<Lifted> {
        let mut record = home.power()?;
        let runs = wait(self.runs(kept, home, of))?;
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
                wait(control.hold(false))?;
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
        self.ignite(op, kept, home, control, &mut record)?;
        self.until_it_answers(kept, home, of)?;
        self.counted(home, control)?;
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
    ) -> Result<()> {
        let keeps = control.keeps();
        if keeps.tells
            && let Some(says) = wait(control.stamp())?
        {
            record.witness.before(&says);
        }
        // Before the effect: whatever comes of it, this key starts nothing twice.
        record.done.push(op.key.clone());
        home.set_power(record)?;
        let started = (|| {
            if keeps.holds {
                wait(control.hold(false))?;
            }
            // Its rescue system runs: it has to be left.
            if wait(said(Some(control))) == PowerState::On {
                wait(control.force_off())?;
                if !self.reads_off(control, self.patience.off) {
                    let message = format!("{} does not leave its rescue system", kept.server.name);
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
            wait(control.on())
        })();
        if let Err(e) = started {
            // Known to have failed: the same key may try again.
            if self.is_off_for_sure(control) {
                record.done.retain(|key| key != &op.key);
                home.set_power(record)?;
                if keeps.holds {
                    wait(control.hold(true))?;
                }
            }
            return Err(e);
        }
        self.counted(home, control)
    }

    fn is_off_for_sure(&self, control: &dyn PowerControl) -> bool {
        let off = || wait(said(Some(control))) == PowerState::Off;
        off() && {
            wait(self.clock.sleep(self.patience.between));
            off()
        }
    }

    /// What the control counts by now was our own start.
    pub(super) fn counted(&self, home: &Home, control: &dyn PowerControl) -> Result<()> {
        if control.keeps().tells
            && let Some(says) = wait(control.stamp())?
        {
            let mut record = home.power()?;
            record.witness.after(&says);
            home.set_power(&record)?;
        }
        Ok(())
    }

    pub(super) fn until_it_answers(&self, kept: &Kept, home: &Home, of: &Instance) -> Result<()> {
        let until = self.clock.now().after(self.patience.on);
        loop {
            if wait(self.runs(kept, home, of))? == Some(true) {
                return Ok(());
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                let message =
                    format!("{} was switched on, and its agent has not answered yet", kept.server.name);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            wait(self.clock.sleep(left.min(self.patience.between)));
        }
    }
}
