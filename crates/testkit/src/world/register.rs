use site_recovery::{Epoch, Error, ErrorKind, MachineId, Op, Result};
use std::collections::BTreeMap;

/// The epoch register that every role keeps.
#[derive(Debug, Default)]
pub(super) struct Register(BTreeMap<MachineId, Epoch>);

impl Register {
    /// Raises the register, or refuses the op and changes nothing.
    pub(super) fn pass(&mut self, op: &Op, machine: &MachineId) -> Result<()> {
        self.check(op, machine)?;
        self.0.insert(machine.clone(), op.epoch.clone());
        Ok(())
    }

    /// Raises the registers of all machines, or of none.
    pub(super) fn pass_all<'a>(
        &mut self,
        op: &Op,
        machines: impl Iterator<Item = &'a MachineId> + Clone,
    ) -> Result<()> {
        machines.clone().try_for_each(|m| self.check(op, m))?;
        machines.for_each(|m| drop(self.0.insert(m.clone(), op.epoch.clone())));
        Ok(())
    }

    fn check(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let held = self.0.get(machine);
        if op.epoch.passes(held) {
            return Ok(());
        }
        let message = format!("{} of {} does not pass the register of {machine}", op.key, op.epoch.owner);
        let held = held.map_or(0, |e| e.number);
        Err(Error::new(ErrorKind::StaleEpoch, message).with("epoch", op.epoch.number).with("register", held))
    }
}
