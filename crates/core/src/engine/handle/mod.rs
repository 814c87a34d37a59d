//! Handles to items and groups: what an operator can ask for.

mod group;
mod item;
mod newest;
mod operations;
mod points;

use super::shared::{Shared, Slot};
use crate::state::Phase;
use crate::workflow::Course;
use crate::{MachineId, Unit};
use std::borrow::Cow;
use std::sync::Arc;

/// One protected machine. A cheap handle: it holds nothing, and outlives nothing.
#[derive(Debug, Clone)]
pub struct ItemHandle {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    machine: MachineId,
    operator: Cow<'static, str>,
}

/// One replication group: its operations are of all members, or of none.
#[derive(Debug, Clone)]
pub struct GroupHandle {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    operator: Cow<'static, str>,
}

/// Whether a unit waits for a person.
pub(crate) fn parked(unit: &Unit) -> bool {
    unit.run.as_ref().is_some_and(|r| r.course == Course::Parked)
        || unit
            .members
            .iter()
            .any(|i| matches!(i.state.phase, Phase::FailoverCompletionFailed(_) | Phase::ReprotectFailed))
}
