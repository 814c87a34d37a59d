//! Change tracking (CBT): switched on, and the position that a cursor holds.

use crate::Inner;
use crate::describe::{disk_name, in_order};
use crate::names;
use crate::notes::Mark;
use crate::snapshots::Described;
use crate::vm::Vm;
use serde::{Deserialize, Serialize};
use site_recovery::{Cursor, Generation, MachineId, Op, OpKey, Result};
use site_recovery_vim::{ConfigSpec, Devices};
use std::collections::BTreeMap;

/// What a cursor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Position {
    /// As of a snapshot.
    Taken { machine: MachineId, disks: BTreeMap<String, At> },
    /// From where a landing was armed: the machine's mark says from which change ids on.
    Armed { machine: MachineId, key: OpKey, capacities: BTreeMap<String, u64> },
}

/// One disk's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) change_id: String,
    pub(crate) capacity: u64,
}

impl Position {
    pub(crate) fn cursor(&self, generation: Generation) -> Cursor {
        Cursor { generation, token: serde_json::to_vec(self).expect("plain data") }
    }

    pub(crate) fn of(cursor: &Cursor) -> Option<Self> {
        serde_json::from_slice(&cursor.token).ok()
    }
}

/// Where tracking of the included disks stands, by the devices of a snapshot: never by those of a running machine, which are
/// ahead of what is on disk. `None` where one of them is not tracked.
pub(crate) fn position(mark: &Mark, devices: &Devices) -> Option<BTreeMap<String, At>> {
    let included = in_order(devices).into_iter().filter_map(|disk| {
        let name = disk_name(disk);
        let included = mark.disks.get(&name).is_some_and(|marked| marked.included);
        included.then_some((name, disk))
    });
    included
        .map(|(name, disk)| {
            let change_id = disk.backing.change_id.clone().filter(|id| !id.is_empty())?;
            Some((name, At { change_id, capacity: disk.capacity }))
        })
        .collect()
}

/// The part of a change id that stays as long as tracking was not begun anew.
pub(crate) fn era(change_id: &str) -> &str {
    change_id.split_once('/').map_or(change_id, |(era, _)| era)
}

impl Inner {
    /// Switches tracking on, and makes it begin: it does with a snapshot that comes or goes. A machine that cannot be tracked
    /// stays as it is, and is compared.
    pub(crate) async fn track(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        if !vm.details.change_tracking_supported {
            tracing::info!(machine = vm.name, "its virtual hardware tracks no changes: it is compared");
            return Ok(());
        }
        if let Some(left) = vm.snapshot(names::tracking()).cloned() {
            self.drop_snapshot(vm, &left.moref).await?;
        }
        let tracked = |vm: &Vm| vm.details.devices.disks.iter().any(|d| d.backing.change_id.is_some());
        if vm.details.change_tracking && tracked(vm) {
            return Ok(());
        }
        if !vm.details.change_tracking {
            let spec = ConfigSpec { change_tracking: Some(true), ..ConfigSpec::default() };
            self.configure(op, vm, spec, |_| {}).await?;
        }
        let snapshot = self.take(vm, names::tracking(), &Described::new(op), false).await?;
        self.drop_snapshot(vm, &snapshot).await
    }
}
