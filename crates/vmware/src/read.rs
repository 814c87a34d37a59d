//! How a disk of a capture is read: by the first means that serves.

mod flat_file;
#[cfg(test)]
mod fuzz;
mod merged;
mod nbdkit;
mod nfc;
mod probe;
mod scratch;
mod stream_vmdk;
#[cfg(test)]
mod tests;
mod vddk;

pub(crate) use flat_file::flat_file;
pub use vddk::Vddk;

use crate::Inner;
use crate::appliance::Wanted;
use crate::describe::disk_name;
use crate::device::{Device, DeviceDisk};
use crate::vm::Vm;
use site_recovery::{Capture, Disk, DiskId, Disks, Error, ErrorKind, Instance, MachineId, Op, Result};
use site_recovery_register::refused;
use site_recovery_vim::{self as vim, DiskMode, Moref};
use std::sync::{Arc, PoisonError};
use vddk::Frozen;

/// By what a disk is read. They are tried in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Means {
    /// Attached to the [`Appliance`](crate::Appliance), a block device here. Serves always, and is the fastest.
    HotAdd,
    /// The disk's flat file, by ranges over HTTPS from its datastore. Serves machines that are off, and such that run where the
    /// storage lets it; never a disk that stands on another file.
    DatastoreHttps,
    /// VMware's [VDDK](Vddk), which the user brings along. Serves machines that run.
    Vddk,
    /// An NFC lease: the whole disk comes into a file of ours before the first byte is read. Serves machines that run, for a first
    /// copy; what little has changed costs as much.
    Lease,
}

/// An included disk as a snapshot froze it.
struct Included<'a> {
    id: DiskId,
    disk: &'a vim::Disk,
    wanted: Wanted,
}

impl Inner {
    pub(crate) async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let instance = &capture.member(machine)?.machine.instance;
        let (turn, vm) = self.turned(op, instance).await?;
        let snapshot = self.snapshot_of(&vm, capture, instance)?;
        let devices = self.vim.snapshot_devices(&snapshot.moref).await?;
        let mark = vm.marked()?;
        let mut included = vec![];
        for disk in &devices.disks {
            let Some(marked) = mark.included(disk) else { continue };
            let Some(file) = &disk.backing.file else {
                return Err(refused(format!("disk {} of {} has no file", marked.id, vm.name)));
            };
            let wanted = Wanted { uuid: disk_name(disk), file: file.clone(), size: disk.capacity };
            included.push(Included { id: marked.id.clone(), disk, wanted });
        }
        if self.appliance.is_some() {
            return self.attached_disks(instance, &included).await;
        }
        // Nothing more is changed here, and a lease copies the whole disk: whoever fences waits for no copy.
        drop(turn);
        let mut disks = Disks::new();
        for one in included {
            let remote = self.remote_disk(&vm, &snapshot.moref, &one).await;
            let (means, disk) = remote.map_err(|e| e.with("disk", &one.id))?;
            self.chosen(instance, &one.id, means);
            disks.insert(one.id, disk);
        }
        Ok(disks)
    }

    fn chosen(&self, instance: &Instance, disk: &DiskId, means: Means) {
        tracing::debug!(machine = %instance.name, %disk, ?means, "read");
        let mut all = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((instance.name.clone(), disk.clone()), means);
    }

    async fn attached_disks(&self, instance: &Instance, included: &[Included<'_>]) -> Result<Disks> {
        let wanted: Vec<Wanted> = included.iter().map(|one| one.wanted.clone()).collect();
        let attached = self.attach(&wanted, &DiskMode::IndependentNonpersistent).await?;
        let mut disks = Disks::new();
        for (one, (at, path)) in included.iter().zip(attached) {
            self.chosen(instance, &one.id, Means::HotAdd);
            disks.insert(one.id.clone(), Arc::new(DeviceDisk(Device::open(&path, at.size, false)?)) as _);
        }
        Ok(disks)
    }

    /// A disk that is not attached here, by the first of the other means that serves.
    async fn remote_disk(
        &self,
        vm: &Vm,
        snapshot: &Moref,
        one: &Included<'_>,
    ) -> Result<(Means, Arc<dyn Disk>)> {
        let mut why = vec![];
        if let Some(chosen) = self.disk_by_ranges(vm, snapshot, one, &mut why).await? {
            return Ok(chosen);
        }
        if let Some(scratch) = &self.scratch {
            let leased = nfc::by_lease(
                &self.vim,
                snapshot,
                one.disk.key,
                one.disk.capacity,
                scratch,
                self.patience.snapshot,
            );
            match leased.await {
                Ok(disk) => return Ok((Means::Lease, Arc::new(disk))),
                Err(e) => passed_by(&mut why, e)?,
            }
        }
        Err(by_nothing(one, &why))
    }

    /// By what gives single runs of a disk; says why not, where nothing does.
    async fn disk_by_ranges(
        &self,
        vm: &Vm,
        snapshot: &Moref,
        one: &Included<'_>,
        why: &mut Vec<String>,
    ) -> Result<Option<(Means, Arc<dyn Disk>)>> {
        match flat_file(&self.vim, &vm.details.datastores, one.disk).await {
            Ok(file) => return Ok(Some((Means::DatastoreHttps, Arc::new(file)))),
            Err(e) => passed_by(why, e)?,
        }
        if let Some(vddk) = &self.vddk {
            let frozen =
                Frozen { machine: &vm.moref, snapshot, file: &one.wanted.file, capacity: one.disk.capacity };
            match vddk.open(&self.vim, frozen, self.patience.device).await {
                Ok(disk) => return Ok(Some((Means::Vddk, Arc::new(disk)))),
                Err(e) => passed_by(why, e)?,
            }
        }
        Ok(None)
    }
}

fn by_nothing(one: &Included<'_>, why: &[String]) -> Error {
    let (file, why) = (&one.wanted.file, why.join("; "));
    Error::new(
        ErrorKind::Unsupported,
        format!("{file} is read by nothing that this site has: {why}; {REMEDY}"),
    )
}

const REMEDY: &str = "give the site an appliance, VDDK, or a folder for leases, or switch the machine off";

/// A means that does not serve is no error; a server that does not answer, or does not let us, is.
fn passed_by(why: &mut Vec<String>, error: Error) -> Result<()> {
    match error.kind() {
        ErrorKind::Unsupported | ErrorKind::Refused | ErrorKind::Busy | ErrorKind::NotFound => {
            why.push(error.message().to_owned());
            Ok(())
        }
        _ => Err(error),
    }
}
