//! A replication group: its members, and leaving it.

use super::{GroupHandle, ItemHandle};
use crate::engine::shared::{Shared, Slot};
use crate::engine::turn::{Turn, depart};
use crate::state::{Operation, Trigger, next};
use crate::{Error, ErrorKind, MachineId, Result, Unit, UnitId, Verb};
use std::sync::Arc;

impl GroupHandle {
    pub(crate) fn new(shared: &Arc<Shared>, slot: &Arc<Slot>) -> Self {
        Self { shared: Arc::clone(shared), slot: Arc::clone(slot), operator: "embedder".into() }
    }

    /// The unit as it was journalled last.
    pub(super) fn now(&self) -> Result<Arc<Unit>> {
        Ok(self.slot.unit())
    }

    /// Its members.
    pub fn items(&self) -> Vec<ItemHandle> {
        self.slot.unit().machines().iter().map(|m| ItemHandle::new(&self.shared, &self.slot, m)).collect()
    }

    /// Lets a member whose boot was refused leave, by name, so that the rest can complete. It goes on alone, in the same
    /// state; the group's point is no longer common.
    ///
    /// # Errors
    /// `Refused` in any other state, or for the last member.
    pub async fn leave(&self, machine: &MachineId) -> Result<ItemHandle> {
        self.authorize(Verb::Operation(Operation::LeaveGroup))?;
        let (shared, slot) = (&self.shared, &self.slot);
        let turn = Turn::take(shared, slot).await;
        let unit = turn.unit();
        let item = unit.item(machine).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{machine} is not a member of {}", slot.id))
        })?;
        next(&item.state, Trigger::Begin(Operation::LeaveGroup))?;
        if unit.members.len() < 2 {
            return Err(Error::new(ErrorKind::Refused, "the last member does not leave; disable it"));
        }
        let alone = Unit::new(UnitId(machine.0.clone()), false, vec![item]);
        let left = depart(&turn, alone, &self.operator).await?;
        Ok(ItemHandle::new(shared, &left, machine))
    }
}
