//! A machine as it stands at the server just now, with our notes on it, and changes of it that nobody else's get between.

use crate::Inner;
use crate::carry_out::AGAIN;
use crate::names::parts;
use crate::notes::{Mark, Notes};
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Instance, Machine, MachineId, Op, OpKey, Result};
use site_recovery_register::{Turn, durable, not_found};
use site_recovery_vim::{
    self as vim, ConfigSpec, DatastorePath, Details, DeviceChange, Fault, Moref, Snapshot,
};
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) moref: Moref,
    /// The instance's name.
    pub(crate) name: String,
    pub(crate) machine: vim::Machine,
    pub(crate) details: Details,
    pub(crate) notes: Notes,
    /// As they stand there: of a clone, those of the machine that it was made from.
    written: Notes,
}

impl Vm {
    /// One that is reached: whatever is read of it is so.
    ///
    /// # Errors
    /// `Unavailable` where its host or files are not reached; those of [`told`](Self::told).
    pub(crate) fn of(machine: vim::Machine) -> Result<Self> {
        if let Some(state) = machine.away() {
            let message = format!("{} is {state}: its host or its files are not reached", machine.name);
            return Err(Error::new(ErrorKind::Unavailable, message).with("machine", name_of(&machine)));
        }
        Self::told(machine)
    }

    /// As the server told it last: of a host that is away it tells what it knew.
    ///
    /// # Errors
    /// `Unavailable` where it tells nothing; `Denied` where the user may not read it.
    pub(crate) fn told(mut machine: vim::Machine) -> Result<Self> {
        if let Some(error) = untold(&machine) {
            return Err(error);
        }
        let (name, called) = (name_of(&machine), &machine.name);
        let details = *machine.details.take().expect("it is told");
        let written = Notes::of(&details.extra).map_err(|e| e.with("machine", &name))?;
        let mut notes = written.clone();
        if notes.mark.as_ref().is_some_and(|mark| mark.uuid != name) {
            // A clone brings along what the other one is called.
            tracing::warn!(machine = called, "it carries the notes of the machine that it was cloned from");
            notes = Notes::default();
        }
        Ok(Self { moref: machine.moref.clone(), name, details, machine, notes, written })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.machine.power == vim::Power::On
    }

    pub(crate) fn marked(&self) -> Result<&Mark> {
        let lacks = || not_found(format!("{} was never enrolled", self.name));
        self.notes.mark.as_ref().ok_or_else(lacks)
    }

    /// All snapshots, older ones first.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.details.snapshots.iter().flat_map(Snapshot::all)
    }

    pub(crate) fn snapshot(&self, name: &str) -> Option<&Snapshot> {
        self.snapshots().find(|s| s.name == name)
    }

    /// The files that the machine writes, by the name of each disk in the mark.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &DatastorePath)> {
        let disks = self.details.devices.disks.iter();
        disks.filter_map(|disk| Some((crate::describe::disk_name(disk), disk.backing.file.as_ref()?)))
    }
}

fn name_of(machine: &vim::Machine) -> String {
    machine.instance_uuid.as_deref().unwrap_or_default().to_ascii_lowercase()
}

/// Why the server does not tell enough of a machine.
pub(crate) fn untold(machine: &vim::Machine) -> Option<Error> {
    let called = &machine.name;
    if let Some(missing) = machine.missing.iter().find(|m| matches!(m.fault, Fault::NoPermission { .. })) {
        let message = format!("{called}: {} may not be read: {}", missing.path, missing.fault);
        return Some(Error::new(ErrorKind::Denied, message).with("machine", name_of(machine)));
    }
    let told = machine.details.is_some() && machine.file.is_some() && !name_of(machine).is_empty();
    let message = || format!("{called} tells nothing of its configuration");
    (!told).then(|| Error::new(ErrorKind::Unavailable, message()).with("machine", &machine.moref))
}

/// Where a machine was seen last: for `claim`, which knows no more than its id, and for a machine that is gone. One that came
/// back as a new machine stands here as often as it did so.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    uuid: String,
    /// By the datacenter's path, as files are read by.
    datacenter: Option<String>,
    disks: Vec<DatastorePath>,
}

impl Inner {
    fn seen_path(&self, machine: &MachineId) -> PathBuf {
        self.state.join("machines").join(format!("{}.json", OpKey::from(machine.as_str()).to_name()))
    }

    /// The newest last.
    fn seen(&self, machine: &MachineId) -> Result<Vec<Seen>> {
        Ok(durable::read(&self.seen_path(machine))?.unwrap_or_default())
    }

    /// Notes where a machine stands.
    pub(crate) async fn saw(&self, vm: &Vm) -> Result<()> {
        let Some(mark) = &vm.notes.mark else { return Ok(()) };
        // Those that stay, whatever snapshots come and go.
        let base = |disk: &vim::Disk| disk.backing.parents.last().or(disk.backing.file.as_ref()).cloned();
        let disks: Vec<DatastorePath> = vm.details.devices.disks.iter().filter_map(base).collect();
        let mut all = self.seen(&mark.machine)?;
        if all.iter().any(|seen| seen.uuid == vm.name && seen.disks == disks) {
            return Ok(());
        }
        let datacenter = self.datacenter_of(&vm.details.datastores).await?.map(|found| found.path);
        all.retain(|seen| seen.uuid != vm.name);
        all.push(Seen { uuid: vm.name.clone(), datacenter, disks });
        durable::write(&self.seen_path(&mark.machine), &all)
    }

    /// Where the files of an instance's disks were last, and by which datacenter they are read.
    pub(crate) fn last_seen(&self, instance: &Instance) -> Result<Option<(String, Vec<DatastorePath>)>> {
        let uuid = parts(&instance.name).0;
        let seen = self.seen(&instance.machine)?.into_iter().find(|seen| seen.uuid == uuid);
        Ok(seen.map(|seen| (seen.datacenter.unwrap_or_default(), seen.disks)))
    }

    /// Forgets it.
    pub(crate) fn forget(&self, instance: &Instance) -> Result<()> {
        let mut all = self.seen(&instance.machine)?;
        all.retain(|seen| seen.uuid != parts(&instance.name).0);
        let path = self.seen_path(&instance.machine);
        if all.is_empty() { durable::remove_file(&path) } else { durable::write(&path, &all) }
    }

    /// The machine as it stands here: by its instance where that is of this site, or where it was seen last.
    pub(crate) async fn here(&self, machine: &Machine) -> Result<Option<vim::Machine>> {
        let told = Some(&machine.instance).filter(|instance| instance.site == self.name);
        let told = told.map(|instance| parts(&instance.name).0.to_owned());
        let last = self.seen(machine.id())?.pop().map(|seen| seen.uuid);
        let Some(uuid) = told.or(last) else { return Ok(None) };
        let Some(moref) = self.vim.find(&uuid).await? else { return Ok(None) };
        match self.vim.machine(&moref).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    /// The instances that a machine id was given to.
    pub(crate) async fn instances_of(&self, machine: &MachineId) -> Result<Vec<Instance>> {
        let of = |uuid| Instance {
            machine: machine.clone(),
            site: self.name.clone(),
            name: uuid,
            generation: site_recovery::Generation(0),
        };
        let seen = self.seen(machine)?;
        if !seen.is_empty() {
            return Ok(seen.into_iter().map(|seen| of(seen.uuid)).collect());
        }
        // It was enrolled by an engine with another state directory.
        let all = self.vim.machines_whole(&self.vim.content().root_folder).await?;
        let marked = all.into_iter().filter_map(|m| Vm::of(m).ok());
        let its = marked.filter(|vm| vm.notes.mark.as_ref().is_some_and(|m| m.machine == *machine));
        Ok(its.map(|vm| of(vm.name)).collect())
    }

    /// The machine of an instance, or that of the arm that it names.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where it carries another machine's mark, or where several have its identifier; those of [`Vm::of`].
    pub(crate) async fn vm(&self, instance: &Instance) -> Result<Vm> {
        let gone = || not_found(format!("{} is no machine of {}", instance.name, self.name));
        if instance.site != self.name {
            return Err(gone());
        }
        let (uuid, _) = parts(&instance.name);
        let Some(moref) = self.vim.find(uuid).await? else { return Err(gone()) };
        let vm = Vm::of(self.vim.machine(&moref).await?)?;
        vm.notes.must_be_of(instance)?;
        Ok(vm)
    }

    /// Waits for the turn of the instance's machine, passes both registers, and reads it.
    pub(crate) async fn turned(&self, op: &Op, instance: &Instance) -> Result<(Turn, Vm)> {
        let turn = self.register.turn(op, &instance.machine)?;
        let mut vm = self.vm(instance).await?;
        self.pass(op, &mut vm).await?;
        Ok((turn, vm))
    }

    /// Compares the epoch in the machine's configuration, and raises it.
    pub(crate) async fn pass(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        if vm.notes.epoch.as_ref() == Some(&op.epoch) {
            return Ok(());
        }
        self.change(op, vm, vec![], |_| {}).await
    }

    /// Changes notes and devices in one act, and reads the machine again.
    ///
    /// # Errors
    /// `StaleEpoch` where another engine came first; those of the server.
    pub(crate) async fn change(
        &self,
        op: &Op,
        vm: &mut Vm,
        devices: Vec<DeviceChange>,
        note: impl Fn(&mut Notes),
    ) -> Result<()> {
        let spec = ConfigSpec { devices, ..ConfigSpec::default() };
        self.configure(op, vm, spec, note).await
    }

    /// As [`change`](Self::change), with whatever else of the configuration.
    pub(crate) async fn configure(
        &self,
        op: &Op,
        vm: &mut Vm,
        spec: ConfigSpec,
        note: impl Fn(&mut Notes),
    ) -> Result<()> {
        for again in 0.. {
            if !op.epoch.passes(vm.notes.epoch.as_ref()) {
                let held = vm.notes.epoch.as_ref().expect("every epoch passes none");
                let message = format!(
                    "epoch {} of {} does not pass: {} is held by {} at epoch {}",
                    op.epoch.number, op.epoch.owner, vm.name, held.owner, held.number
                );
                return Err(Error::new(ErrorKind::StaleEpoch, message));
            }
            let mut notes = vm.notes.clone();
            note(&mut notes);
            notes.epoch = Some(op.epoch.clone());
            let extra = vm.written.to(&notes);
            let bare = ConfigSpec { change_version: None, ..spec.clone() };
            if extra.is_empty() && bare == ConfigSpec::default() {
                return Ok(());
            }
            let change = ConfigSpec { change_version: vm.details.change_version.clone(), extra, ..bare };
            let done = self.reconfigure(&vm.moref, &change).await;
            self.look_again(vm).await?;
            match done {
                Err(e)
                    if matches!(e.fault(), Some(Fault::ConcurrentAccess | Fault::TaskInProgress))
                        && again < AGAIN =>
                {
                    if !change.extra.is_empty() && vm.notes == notes {
                        // An earlier try was done, and its answer was lost.
                        return Ok(());
                    }
                    self.let_pass(again).await;
                }
                // The answer was lost: what is tells whether it was done, as notes and devices change in one act. What may still
                // be done is not done twice, as both are made up by one version.
                Err(e) if e.may_have_been_done() => {
                    let noted = !change.extra.is_empty();
                    if noted && vm.notes == notes {
                        return Ok(());
                    }
                    let before = change.change_version.as_ref();
                    let untouched = vm.details.change_version.as_ref() == before;
                    if again == AGAIN || before.is_none() || !noted && !untouched {
                        return Err(e.into());
                    }
                }
                done => return Ok(done?),
            }
        }
        unreachable!("the last time ends it")
    }
}
