//! What changed between a cursor and a capture. VMware's answer is a hint: whatever does not fit makes a comparison of it.

use crate::Inner;
use crate::describe::disk_name;
use crate::notes::{Mark, Notes};
use crate::snapshots::Described;
use crate::tracking::{At, Position, era};
use site_recovery::{Capture, ChangeSet, Changes, Cursor, ErrorKind, MachineId, Result};
use site_recovery_vim::Disk;
use std::collections::BTreeMap;

impl Inner {
    pub(crate) async fn changes(
        &self,
        capture: &Capture,
        machine: &MachineId,
        since: &Cursor,
    ) -> Result<Changes> {
        let member = capture.member(machine)?;
        let instance = &member.machine.instance;
        let vm = self.vm(instance).await?;
        let snapshot = self.snapshot_of(&vm, capture, instance)?;
        let devices = self.vim.snapshot_devices(&snapshot.moref).await?;
        let mark = vm.marked()?;
        if Described::of(&snapshot).is_some_and(|told| !told.over.is_empty()) {
            return lost(
                "another capture stood when it was taken: the order in which VMware tracks is another",
            );
        }
        let from = match since_of(&vm.notes, mark, machine, since) {
            Ok(from) => from,
            Err(reason) => return lost(reason),
        };
        if member.cursor.as_ref().is_some_and(|until| until.generation != since.generation) {
            return lost("the cursor is of another generation");
        }
        let mut changed = ChangeSet::new();
        let included = devices.disks.iter().filter_map(|disk| Some((disk, mark.included(disk)?)));
        let mut seen = 0;
        for (disk, marked) in included {
            seen += 1;
            let Some(at) = from.get(&disk_name(disk)) else { return lost("a disk was added since") };
            if let Err(reason) = still_tracked(disk, at) {
                return lost(reason);
            }
            let asked = self.vim.changed_areas(
                &vm.moref,
                Some(&snapshot.moref),
                disk.key,
                disk.capacity,
                &at.change_id,
            );
            match asked.await {
                Ok(areas) => areas.into_iter().for_each(|run| changed.add(&marked.id, run)),
                // No answer says nothing of the tracking.
                Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Denied) => {
                    return Err(e.into());
                }
                Err(e) => {
                    return lost(format!("the server does not say what changed on disk {}: {e}", marked.id));
                }
            }
        }
        if seen != from.len() {
            return lost("a disk was taken out since");
        }
        Ok(Changes::Known(changed))
    }
}

fn lost(reason: impl Into<String>) -> Result<Changes> {
    Ok(Changes::Lost { reason: reason.into() })
}

/// From where on changes are asked for, by disk; or why none can be.
fn since_of(
    notes: &Notes,
    mark: &Mark,
    machine: &MachineId,
    since: &Cursor,
) -> std::result::Result<BTreeMap<String, At>, &'static str> {
    if since.generation != mark.generation {
        return Err("the cursor is of another generation");
    }
    match Position::of(since) {
        None => Err("the cursor is none of this site"),
        Some(Position::Taken { machine: of, .. } | Position::Armed { machine: of, .. }) if of != *machine => {
            Err("the cursor is of another machine")
        }
        Some(Position::Taken { key, disks, .. }) => {
            let followed = notes.tracking.as_ref().is_some_and(|tracking| tracking.follows(&key));
            let reason = "the machine does not come from the cursor's capture any more: it was reverted to a state before, or \
                          that is too many captures ago";
            if followed { Ok(disks) } else { Err(reason) }
        }
        Some(Position::Armed { key, capacities, .. }) => {
            let armed = mark.armed.as_ref().filter(|armed| armed.key == key);
            let armed = armed.and_then(|armed| armed.since.as_ref());
            let armed = armed.ok_or("what was written since it was armed was not tracked")?;
            let at = |(name, change_id): (&String, &String)| {
                let capacity = *capacities.get(name)?;
                Some((name.clone(), At { change_id: change_id.clone(), capacity }))
            };
            armed.iter().map(at).collect::<Option<_>>().ok_or("a disk was added since")
        }
    }
}

fn still_tracked(disk: &Disk, at: &At) -> std::result::Result<(), String> {
    let label = disk.label.as_deref().unwrap_or("a disk");
    if disk.capacity != at.capacity {
        return Err(format!("{label} had {} bytes, and has {}", at.capacity, disk.capacity));
    }
    match &disk.backing.change_id {
        None => Err(format!("changes of {label} are not tracked any more")),
        Some(now) if era(now) != era(&at.change_id) => Err(format!(
            "tracking of {label} was begun anew: it was switched off, the machine was reverted, or its host stopped hard"
        )),
        Some(_) => Ok(()),
    }
}
