//! An existing machine's disks become ours, and a machine that we made goes.

use crate::Inner;
use crate::describe::disk_name;
use crate::names::parts;
use crate::notes::{Adding, Mark, MarkedDisk, Notes};
use crate::rules;
use crate::vm::Vm;
use site_recovery::{DiskSpec, ErrorKind, Instance, Machine, Op, Result, Settings};
use site_recovery_register::refused;
use site_recovery_vim::{self as vim, Controller, DatastorePath, DeviceChange, DiskMode, NewDisk};
use std::time::Duration;

impl Inner {
    pub(crate) async fn attach_existing(
        &self,
        op: &Op,
        machine: &Machine,
        instance: &Instance,
        settings: &Settings,
    ) -> Result<Instance> {
        let instance = Instance { machine: machine.id().clone(), ..instance.clone() };
        let (_turn, mut vm) = self.turned(op, &instance).await?;
        if vm.machine.power != vim::Power::Off {
            return Err(refused(format!(
                "{} reads as {:?}: stop or fence it first",
                vm.name, vm.machine.power
            )));
        }
        self.block(op, &mut vm, "landing").await?;
        self.pin(op, &mut vm).await?;
        // Captures that nobody let go of: above them nothing lands.
        self.sweep_captures(&mut vm, &[]).await?;
        self.make_room(op, &mut vm, machine, settings).await?;
        let mut mark = vm.notes.mark.clone().expect("made with the room");
        for marked in mark.disks.values_mut() {
            marked.included |= machine.included().any(|disk| disk.id == marked.id);
        }
        let note = |notes: &mut Notes| {
            notes.mark = Some(mark.clone());
            // What the appliance writes is tracked by nobody.
            notes.tracking = None;
            let landing = notes.landing.get_or_insert_default();
            landing.attached = true;
        };
        self.change(op, &mut vm, vec![], note).await?;
        self.saw(&vm).await?;
        self.hold(&vm).await?;
        Ok(vm.marked()?.instance(&self.name))
    }

    /// Makes disks that are missing and grows those that are too small; the bytes that are there stay.
    async fn make_room(&self, op: &Op, vm: &mut Vm, machine: &Machine, settings: &Settings) -> Result<()> {
        if vm.notes.mark.is_none() {
            let mut mark = Mark::new(machine, &vm.name);
            mark.describe(machine, &vm.details.devices);
            self.change(op, vm, vec![], |notes| notes.mark = Some(mark.clone())).await?;
        }
        // A call before this one may have been broken off right there.
        self.name_added(op, vm).await?;
        let mut grown = vec![];
        for spec in machine.included() {
            let Some(disk) = held(vm, spec) else { continue };
            if disk.capacity < spec.size {
                grown.push(DeviceChange::GrowDisk {
                    disk: disk.clone(),
                    capacity: rules::capacity(spec.size),
                });
            }
        }
        if !grown.is_empty() {
            must_have_no_snapshots(vm, "grows")?;
            // No file of it may be open elsewhere.
            let files: Vec<DatastorePath> = vm.files().map(|(_, file)| file.clone()).collect();
            self.detach(&files).await?;
            self.change(op, vm, grown, |_| {}).await?;
        }
        let missing: Vec<DiskSpec> =
            machine.included().filter(|spec| held(vm, spec).is_none()).cloned().collect();
        for spec in missing {
            must_have_no_snapshots(vm, "is added")?;
            self.add_disk(op, vm, &spec, settings).await?;
        }
        Ok(())
    }

    async fn add_disk(&self, op: &Op, vm: &mut Vm, spec: &DiskSpec, settings: &Settings) -> Result<()> {
        let devices = &vm.details.devices;
        let free = |c: &Controller| Some((c.key, devices.free_unit(c)?));
        let place = devices.controllers.iter().filter(|c| c.kind.is_scsi() && !c.shared).find_map(free);
        let (controller, unit) =
            place.ok_or_else(|| refused(format!("{} has no place for another disk", vm.name)))?;
        let datastore =
            settings.datastore.as_deref().or(vm.machine.file.as_ref().map(DatastorePath::datastore));
        let file = DatastorePath::new(datastore.unwrap_or_default(), "")?;
        let provisioning = rules::provisioning(&spec.id, settings);
        let capacity = rules::capacity(spec.size);
        let disk = NewDisk::New { file, capacity, provisioning };
        let add = DeviceChange::AddDisk { key: -1, controller, unit, mode: DiskMode::Persistent, disk };
        let before = devices.disks.iter().map(disk_name).collect();
        let adding = Adding { id: spec.id.clone(), before };
        let note = |notes: &mut Notes| {
            if let Some(mark) = &mut notes.mark {
                mark.adding = Some(adding.clone());
            }
        };
        self.change(op, vm, vec![add], note).await?;
        if self.name_added(op, vm).await? {
            return Ok(());
        }
        Err(refused(format!("{} does not show the disk that was added", vm.name)))
    }

    /// Gives the disk that was added its id. False where there is none.
    async fn name_added(&self, op: &Op, vm: &mut Vm) -> Result<bool> {
        let adding = vm.notes.mark.as_ref().and_then(|mark| mark.adding.clone());
        let Some(adding) = adding else { return Ok(false) };
        let mut there = vm.details.devices.disks.iter().map(disk_name);
        let made = there.find(|name| !adding.before.contains(name));
        let note = |notes: &mut Notes| {
            if let Some(mark) = &mut notes.mark {
                mark.adding = None;
                let marked = MarkedDisk { id: adding.id.clone(), included: true };
                mark.disks.extend(made.clone().map(|name| (name, marked)));
            }
        };
        self.change(op, vm, vec![], note).await?;
        Ok(made.is_some())
    }

    /// Removes an arm that was kept, or a machine that `attach` made.
    pub(crate) async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (_turn, mut vm) = match self.turned(op, instance).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return self.forget(instance),
            found => found?,
        };
        if let Some(arm) = parts(&instance.name).1 {
            return self.remove_arm(op, &mut vm, arm).await;
        }
        if vm.notes.mark.as_ref().is_none_or(|mark| mark.made.is_none()) {
            return Err(refused(format!("{} was there before: it is never removed", vm.name)));
        }
        if vm.machine.power != vim::Power::Off {
            self.cut(&mut vm).await?;
        }
        self.unpin(op, &mut vm).await?;
        self.destroy(&vm).await?;
        self.end_making(&instance.machine)?;
        self.forget(instance)
    }

    /// Keeps the machine where it is. What does so is written down first, so that it can be taken back whatever happens.
    pub(crate) async fn pin(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        let loose = self.estate.loose(&self.vim, &vm.moref).await?;
        let note = |notes: &mut Notes| {
            let pins = &mut notes.landing.get_or_insert_default().pins;
            pins.extend(loose.iter().filter(|pin| !pins.contains(pin)).cloned().collect::<Vec<_>>());
        };
        if !loose.is_empty() {
            self.change(op, vm, vec![], note).await?;
        }
        let pins = vm.notes.landing.as_ref().map(|landing| landing.pins.clone()).unwrap_or_default();
        self.estate.pin(&self.vim, &vm.moref, &pins).await
    }

    pub(crate) async fn unpin(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        let pins = vm.notes.landing.as_ref().map(|landing| landing.pins.clone()).unwrap_or_default();
        if pins.is_empty() {
            return Ok(());
        }
        self.estate.unpin(&self.vim, &vm.moref, &pins).await?;
        let note = |notes: &mut Notes| {
            if let Some(landing) = &mut notes.landing {
                landing.pins.clear();
            }
        };
        self.change(op, vm, vec![], note).await
    }

    pub(crate) async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.vm(instance).await?.notes.landed(&instance.name)?;
        self.fence(op, instance, grace, "stopped").await
    }
}

/// The machine's disk of this id.
fn held<'a>(vm: &'a Vm, spec: &DiskSpec) -> Option<&'a vim::Disk> {
    let mark = vm.notes.mark.as_ref()?;
    let (name, _) = mark.disks.iter().find(|(_, marked)| marked.id == spec.id)?;
    vm.details.devices.disks.iter().find(|disk| disk_name(disk) == *name)
}

fn must_have_no_snapshots(vm: &Vm, what: &str) -> Result<()> {
    match vm.snapshots().count() {
        0 => Ok(()),
        n => Err(refused(format!(
            "{} has {n} snapshots: no disk {what} above them; merge them first",
            vm.name
        ))),
    }
}
