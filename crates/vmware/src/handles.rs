//! Landing disks: given out, ended, and armed so that what is written later is known.

use crate::Inner;
use crate::appliance::Wanted;
use crate::describe::disk_name;
use crate::device::{Device, DeviceDisk};
use crate::names;
use crate::notes::{ArmedBy, Notes};
use crate::snapshots::Described;
use crate::tracking::{Position, included, position};
use crate::vm::Vm;
use site_recovery::{Armed, DiskId, DiskMut, Generation, Instance, Op, OpKey, PointId, Result};
use site_recovery_register::{durable, locked, not_found, refused};
use site_recovery_vim::{DatastorePath, DiskMode};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

impl Inner {
    /// Whoever gives out handles, or ends them until that is noted, holds it.
    fn handles_lock(&self, vm: &Vm) -> Result<File> {
        locked(&self.state.join("handles").join(&vm.name))
    }

    pub(crate) async fn landing_disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        let vm = self.vm(instance).await?;
        vm.notes.landed(&vm.name)?;
        let _lock = self.handles_lock(&vm)?;
        let vm = self.vm(instance).await?;
        if !vm.notes.landed(&vm.name)?.attached {
            return Err(refused(format!("the disks of {} were given back: attach it again", vm.name)));
        }
        let wanted = landing_disks(&vm)?;
        let wanted = wanted.into_iter().find(|(id, _)| id == disk);
        let (_, wanted) = wanted.ok_or_else(|| not_found(format!("{} has no disk {disk}", vm.name)))?;
        // Its file is read again before each use: a snapshot or a move changes it.
        let attached = self.attach(std::slice::from_ref(&wanted), &DiskMode::Persistent).await?;
        let (at, path) = attached.into_iter().next().expect("as many as were wanted");
        // Whoever has a handle may write.
        self.end_making(&instance.machine)?;
        let key = (vm.name.clone(), disk.clone());
        let held = self.handles().get(&key).filter(|device| device.is_at(&path, at.size)).cloned();
        let device = match held {
            Some(device) => device,
            None => {
                let device = Device::open(&path, at.size, true)?;
                if let Some(old) = self.handles().insert(key, Arc::clone(&device)) {
                    old.end();
                }
                device
            }
        };
        let armed = vm.marked()?.armed.as_ref().filter(|armed| armed.since.is_none());
        if let Some(armed) = armed {
            device.tell_of_writes(self.written_since(&armed.key));
        }
        Ok(Arc::new(DeviceDisk(device)))
    }

    /// Attaches the disks that land, so that nobody starts the machine.
    pub(crate) async fn hold(&self, vm: &Vm) -> Result<()> {
        let wanted: Vec<Wanted> = landing_disks(vm)?.into_iter().map(|(_, wanted)| wanted).collect();
        self.attach(&wanted, &DiskMode::Persistent).await.map(drop)
    }

    /// Ends every landing handle, durably, and takes the disks from the appliance. No new one is given while the guard lives.
    pub(crate) async fn end_handles(&self, vm: &Vm) -> Result<File> {
        let guard = self.handles_lock(vm)?;
        let mine: Vec<_> = {
            let handles = self.handles();
            let mine = handles.iter().filter(|((name, _), _)| *name == vm.name);
            mine.map(|(key, device)| (key.clone(), Arc::clone(device))).collect()
        };
        let mut lost = None;
        for (key, device) in mine {
            let synced = device.sync();
            device.end();
            match synced {
                Ok(()) => drop(self.handles().remove(&key)),
                // It stays, so that whoever asks again is told as well: what was written may not be there.
                Err(e) => lost = lost.or(Some(e)),
            }
        }
        if let Some(lost) = lost {
            return Err(lost);
        }
        let files: Vec<DatastorePath> = vm.files().map(|(_, file)| file.clone()).collect();
        self.detach(&files).await?;
        Ok(guard)
    }

    /// Gives the disks back to the machine: nobody but it writes them any more.
    pub(crate) async fn give_back(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        if !vm.notes.landing.as_ref().is_some_and(|landing| landing.attached) {
            return Ok(());
        }
        let _guard = self.end_handles(vm).await?;
        let since = self.tracked_since(op, vm).await?;
        let note = |notes: &mut Notes| {
            if let Some(landing) = &mut notes.landing {
                landing.attached = false;
            }
            if let Some(armed) = notes.mark.as_mut().and_then(|mark| mark.armed.as_mut())
                && armed.since.is_none()
            {
                armed.since = since.clone();
            }
        };
        self.change(op, vm, vec![], note).await
    }

    pub(crate) async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (_turn, mut vm) = self.turned(op, instance).await?;
        vm.notes.landed(&vm.name)?;
        self.end_making(&instance.machine)?;
        let by = ArmedBy { key: op.key.clone(), generation, since: None };
        let again =
            vm.marked()?.armed.as_ref().is_some_and(|a| a.key == by.key && a.generation == generation);
        if !again {
            durable::remove_file(&self.written_since(&op.key))?;
            for ((name, _), device) in &*self.handles() {
                if *name == vm.name {
                    device.tell_of_writes(self.written_since(&op.key));
                }
            }
            let note = |notes: &mut Notes| {
                if let Some(mark) = &mut notes.mark {
                    mark.generation = generation;
                    mark.armed = Some(by.clone());
                }
            };
            self.change(op, &mut vm, vec![], note).await?;
        }
        let mark = vm.marked()?;
        let capacities: BTreeMap<String, u64> =
            included(&vm).map(|disk| (disk_name(disk), disk.capacity)).collect();
        let at = Position::Armed { machine: mark.machine.clone(), key: op.key.clone(), capacities };
        let cursor = vm.details.change_tracking_supported.then(|| at.cursor(generation));
        Ok(Armed { instance: mark.instance(&self.name), cursor, point: PointId(0) })
    }

    /// Says that something was written after a landing was armed, before its disks were given back.
    fn written_since(&self, key: &OpKey) -> PathBuf {
        self.state.join("armed").join(format!("{}.written", key.to_name()))
    }

    /// Where tracking goes on after our own writes; nothing where that cannot be said.
    async fn tracked_since(&self, op: &Op, vm: &mut Vm) -> Result<Option<BTreeMap<String, String>>> {
        let armed = vm.notes.mark.as_ref().and_then(|mark| mark.armed.clone());
        let Some(armed) = armed.filter(|armed| armed.since.is_none()) else { return Ok(None) };
        if !vm.details.change_tracking_supported || self.written_since(&armed.key).exists() {
            return Ok(None);
        }
        if !vm.details.change_tracking {
            self.switch_on(op, vm).await?;
        }
        // Twice: where tracking begins with the first, that one has no change id yet.
        for _ in 0..2 {
            let snapshot = self.take(vm, names::tracking(), &Described::new(op), false).await??;
            let devices = self.vim.snapshot_devices(&snapshot).await?;
            let found = position(vm.marked()?, &devices);
            self.drop_snapshot(vm, &snapshot).await?;
            if let Some(found) = found {
                return Ok(Some(found.into_iter().map(|(name, at)| (name, at.change_id)).collect()));
            }
        }
        Ok(None)
    }
}

/// The disks that land, and their files as they are now.
fn landing_disks(vm: &Vm) -> Result<Vec<(DiskId, Wanted)>> {
    let mark = vm.marked()?;
    let wanted = included(vm).map(|disk| {
        let id = mark.disks[&disk_name(disk)].id.clone();
        let file = disk.backing.file.clone();
        let file = file.ok_or_else(|| refused(format!("disk {id} of {} has no file", vm.name)))?;
        Ok((id, Wanted { uuid: disk_name(disk), file, size: disk.capacity }))
    });
    wanted.collect()
}
