//! Change tracking (CBT): switched on, and the position that a cursor holds.

use crate::Inner;
use crate::describe::disk_name;
use crate::names;
use crate::notes::{Mark, Notes};
use crate::snapshots::Described;
use crate::vm::Vm;
use serde::{Deserialize, Serialize};
use site_recovery::{Cursor, ErrorKind, Generation, MachineId, Op, OpKey, Result};
use site_recovery_vim::{ConfigSpec, Devices, Disk, Snapshot};
use std::collections::BTreeMap;

/// What a cursor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Position {
    /// As of a snapshot.
    Taken { machine: MachineId, key: OpKey, disks: BTreeMap<String, At> },
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
    let included = devices.disks.iter().filter(|disk| mark.included(disk).is_some());
    included
        .map(|disk| {
            let change_id = disk.backing.change_id.clone().filter(|id| !id.is_empty())?;
            Some((disk_name(disk), At { change_id, capacity: disk.capacity }))
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
        let tracked = |vm: &Vm| included(vm).all(|disk| disk.backing.change_id.is_some());
        if vm.details.change_tracking && tracked(vm) {
            return Ok(());
        }
        let bare = vm.snapshots().next().is_none();
        let begins: Vec<String> = included(vm)
            .filter(|disk| bare && disk.backing.parents.is_empty() && disk.backing.change_id.is_none())
            .map(disk_name)
            .collect();
        if !vm.details.change_tracking {
            self.switch_on(op, vm).await?;
        }
        let snapshot = self.take(vm, names::tracking(), &Described::new(op), false).await??;
        self.drop_snapshot(vm, &snapshot).await?;
        let began = included(vm).filter_map(|disk| {
            let (name, change_id) = (disk_name(disk), disk.backing.change_id.clone()?);
            let alone = begins.contains(&name) && vm.snapshots().next().is_none();
            alone.then_some((name, At { change_id, capacity: disk.capacity }))
        });
        let began: BTreeMap<String, At> = began.collect();
        let note = |notes: &mut Notes| notes.tracking.get_or_insert_default().whole.extend(began.clone());
        if began.is_empty() { Ok(()) } else { self.change(op, vm, vec![], note).await }
    }

    /// Switches tracking on that somebody switched off; it begins with the snapshot to come. A capture does without it.
    pub(crate) async fn track_again(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        if vm.details.change_tracking || !vm.details.change_tracking_supported {
            return Ok(());
        }
        match self.switch_on(op, vm).await {
            Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::Refused | ErrorKind::Unsupported) => {
                tracing::warn!(machine = vm.name, error = %e, "its changes are not tracked: it is compared");
                Ok(())
            }
            done => done,
        }
    }

    pub(crate) async fn switch_on(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        let spec = ConfigSpec { change_tracking: Some(true), ..ConfigSpec::default() };
        let note = |notes: &mut Notes| {
            if let Some(mark) = &mut notes.mark {
                mark.tracks = true;
            }
        };
        self.configure(op, vm, spec, note).await
    }

    /// Notes that a capture became a point: its cursor is kept until the next one does, however many captures come between. And
    /// whoever compares from now on looks at all bytes: what VMware says of those that are in use would be believed twice.
    pub(crate) async fn note_sealed(&self, op: &Op, vm: &mut Vm, key: &OpKey) -> Result<()> {
        let note = |notes: &mut Notes| {
            if let Some(tracking) = &mut notes.tracking {
                tracking.whole.clear();
                if tracking.captures.contains(key) {
                    tracking.sealed = Some(key.clone());
                }
            }
        };
        self.change(op, vm, vec![], note).await
    }

    /// Notes that the machine comes from this capture, as long as it does.
    pub(crate) async fn note_capture(&self, op: &Op, vm: &mut Vm, snapshot: &Snapshot) -> Result<()> {
        let noted = |vm: &Vm| vm.notes.tracking.as_ref().is_some_and(|t| t.captures.contains(&op.key));
        if noted(vm) || !comes_from(vm, snapshot) {
            return Ok(());
        }
        let note = |notes: &mut Notes| notes.tracking.get_or_insert_default().comes_from(&op.key);
        self.change(op, vm, vec![], note).await?;
        if comes_from(vm, snapshot) {
            return Ok(());
        }
        // It was reverted in between.
        let forget = |notes: &mut Notes| {
            if let Some(tracking) = &mut notes.tracking {
                tracking.captures.retain(|key| *key != op.key);
            }
        };
        self.change(op, vm, vec![], forget).await
    }
}

/// Whether what the machine writes stands on this snapshot.
fn comes_from(vm: &Vm, snapshot: &Snapshot) -> bool {
    let Some(current) = &vm.details.current_snapshot else { return false };
    snapshot.all().iter().any(|above| above.moref == *current)
}

pub(crate) fn included(vm: &Vm) -> impl Iterator<Item = &Disk> {
    let mark = vm.notes.mark.as_ref();
    vm.details.devices.disks.iter().filter(move |disk| mark.is_some_and(|mark| mark.included(disk).is_some()))
}
