//! Points that are open in this process: they are not dropped.

use site_recovery::{MachineId, PointId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, Default)]
pub(crate) struct OpenPoints(Arc<Mutex<BTreeMap<(MachineId, PointId), usize>>>);

impl OpenPoints {
    pub(crate) fn hold(&self, machine: &MachineId, point: PointId) -> Hold {
        let key = (machine.clone(), point);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default() += 1;
        Hold { open: self.clone(), key }
    }

    pub(crate) fn of(&self, machine: &MachineId) -> Vec<PointId> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.keys().filter(|(m, _)| m == machine).map(|(_, point)| *point).collect()
    }
}

/// While it lives, the point is not dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    open: OpenPoints,
    key: (MachineId, PointId),
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}
