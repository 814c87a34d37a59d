//! From a rescue system to the system that landed: once for a key, whatever is lost on the way.

use super::agent::Patient;
use super::home::{Home, must_be_off};
use super::{Kept, Site};
use crate::power::PowerState;
use site_recovery::{Booted, ErrorKind, Instance, Op, Result};

impl Site {
    /// From the rescue system to the restored one.
    pub(super) fn restart(
        &self,
        op: &Op,
        kept: &Kept,
        home: &Home,
        instance: &Instance,
        leaves: impl FnOnce() -> Result<Booted>,
        patient: &Patient,
    ) -> Result<Booted> {
        let runs = patient.wait(self.runs(kept, home, instance))?;
        if runs != Some(true) {
            let record = home.power()?;
            if record.done.contains(&op.key) && record.leaving.as_ref() != Some(&op.key) {
                // It was started by this key, and stopped since.
                return Ok(Booted { reach: vec![], running: false });
            }
            let leaves = || match leaves() {
                // It leaves, or has left, and nobody has seen its system run yet.
                Err(e) if e.kind() == ErrorKind::Unavailable => Ok(()),
                // Its answer was lost, and the restored system was asked again, which serves no bare disks.
                Err(_) if patient.wait(self.runs(kept, home, instance))? == Some(true) => Ok(()),
                answer => answer.map(drop),
            };
            self.leave(op, kept, home, runs, leaves, patient)?;
        }
        self.until_it_returned(kept, home, instance, patient)?;
        if let Some(control) = kept.server.power.as_deref() {
            self.counted(home, control, patient)?;
        }
        let mut record = home.power()?;
        record.leaving = None;
        if !record.done.contains(&op.key) {
            record.done.push(op.key.clone());
        }
        home.set_power(&record)?;
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
        leaves: impl FnOnce() -> Result<()>,
        patient: &Patient,
    ) -> Result<()> {
        let mut record = home.power()?;
        if record.leaving.as_ref() != Some(&op.key) {
            must_be_off(&kept.server.name, runs)?;
            if let Some(control) = kept.server.power.as_deref().filter(|c| c.keeps().tells)
                && let Some(says) = patient.wait(control.stamp())?
            {
                record.witness.before(&says);
            }
            record.done.push(op.key.clone());
            record.leaving = Some(op.key.clone());
            home.set_power(&record)?;
        }
        self.hold(kept, false, patient)?;
        let seen_off = home.seen_off()?;
        self.saw_start(kept, home)?;
        leaves().or_else(|e| {
            record.done.retain(|key| key != &op.key);
            record.leaving = None;
            home.set_power(&record)?;
            if seen_off {
                self.saw_off(kept, home, kept.starts())?;
            }
            self.hold(kept, true, patient)?;
            Err(e)
        })
    }

    /// Some servers go off where they should start again.
    fn until_it_returned(
        &self,
        kept: &Kept,
        home: &Home,
        instance: &Instance,
        patient: &Patient,
    ) -> Result<()> {
        let until = self.clock.now().after(self.patience.off);
        while let Some(control) = kept.server.power.as_deref() {
            let runs = patient.wait(self.runs(kept, home, instance))?;
            if runs == Some(true) {
                break;
            }
            if runs == Some(false) && patient.hears(control)? == PowerState::Off {
                self.saw_start(kept, home)?;
                patient.wait(control.on())?;
                break;
            }
            let left = until.since(self.clock.now());
            if left.is_zero() {
                break;
            }
            self.rest(left, patient)?;
        }
        self.until_it_answers(kept, home, instance, patient)
    }
}
