//! How a disk of a capture is read: by the first means that serves.
#![cfg_attr(not(test), allow(dead_code, reason = "no site reads by leases and by VDDK yet"))]

#[cfg(test)]
mod fuzz;
mod nbdkit;
mod nfc;
mod scratch;
mod stream_vmdk;
#[cfg(test)]
mod tests;
mod vddk;

use crate::Inner;
use crate::appliance::Wanted;
use crate::describe::disk_name;
use crate::device::{Device, DeviceDisk};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Capture, Disk, Disks, Error, ErrorKind, Extent, Fill, MachineId, Op, Pool, Result, Run};
use site_recovery_register::refused;
use site_recovery_vim::{self as vim, DatastoreFile, DiskMode, FileRefusal, Moref};
use std::sync::Arc;

/// By what a disk is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Means {
    /// Attached to the [`Appliance`](crate::Appliance), a block device here. Serves always, and is the fastest.
    HotAdd,
    /// The disk's flat file, by ranges over HTTPS from its datastore. Serves machines that are off, and such that run where the
    /// storage lets it; never a disk that stands on another file.
    DatastoreHttps,
}

/// A flat file on a datastore.
#[derive(Debug)]
struct FlatFile {
    file: DatastoreFile,
    size: u64,
}

#[async_trait]
impl Disk for FlatFile {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.end().min(self.size);
        let run = Run::new(range.start, end.saturating_sub(range.start));
        Ok(if run.len == 0 { vec![] } else { vec![Extent { run, fill: Fill::Data }] })
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.start.checked_add(run.len).is_none_or(|end| end > self.size) {
            let value = format!("{} bytes from {}", run.len, run.start);
            let rule = format!("the disk has {} bytes", self.size);
            return Err(Error::invalid("run", value, &rule, "stay inside the disk"));
        }
        let mut block = pool.take(run.len as usize).await?;
        self.file.read(run.start, &mut block).await?;
        Ok(block.freeze())
    }
}

impl Inner {
    pub(crate) async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let instance = &capture.member(machine)?.machine.instance;
        let (_turn, vm) = self.turned(op, instance).await?;
        let snapshot = self.snapshot_of(&vm, capture, instance)?;
        let devices = self.vim.snapshot_devices(&snapshot.moref).await?;
        let mark = vm.marked()?;
        let mut included = vec![];
        for disk in &devices.disks {
            let Some(marked) = mark.disks.get(&disk_name(disk)).filter(|marked| marked.included) else {
                continue;
            };
            let Some(file) = &disk.backing.file else {
                return Err(refused(format!("disk {} of {} has no file", marked.id, vm.name)));
            };
            included.push((marked.id.clone(), disk, Wanted { file: file.clone(), size: disk.capacity }));
        }
        if self.appliance.is_some() {
            let wanted: Vec<Wanted> = included.iter().map(|(.., wanted)| wanted.clone()).collect();
            let attached = self.attach(&wanted, &DiskMode::IndependentNonpersistent).await?;
            let mut disks = Disks::new();
            for ((id, ..), (at, path)) in included.iter().zip(attached) {
                tracing::debug!(disk = %id, means = ?Means::HotAdd, device = %path.display(), "read");
                disks.insert(id.clone(), Arc::new(DeviceDisk(Device::open(&path, at.size, false)?)) as _);
            }
            return Ok(disks);
        }
        let mut disks = Disks::new();
        for (id, disk, _) in included {
            let file = self.flat_file(&vm.details.datastores, disk).await.map_err(|e| e.with("disk", &id))?;
            tracing::debug!(disk = %id, means = ?Means::DatastoreHttps, "read");
            disks.insert(id, Arc::new(FlatFile { file, size: disk.capacity }) as _);
        }
        Ok(disks)
    }

    /// The flat file of a disk, where one byte of it can be read.
    async fn flat_file(&self, datastores: &[Moref], disk: &vim::Disk) -> Result<DatastoreFile> {
        let descriptor = disk.backing.file.as_ref().expect("looked at before");
        let remedy = "give the site an appliance, which attaches the disk";
        if !disk.backing.parents.is_empty() {
            let message =
                format!("{descriptor} stands on another file, and is not read over HTTPS: {remedy}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let of: Vec<Moref> = disk.backing.datastore.iter().chain(datastores).cloned().collect();
        let datacenter = self.datacenter_of(&of).await?.map(|found| found.path).unwrap_or_default();
        let flat =
            descriptor.flat().ok_or_else(|| refused(format!("{descriptor} is no descriptor of a disk")))?;
        let file = self.vim.file(&datacenter, flat);
        match file.read(0, &mut [0]).await {
            Ok(()) => Ok(file),
            Err(vim::Error::File {
                path,
                why: why @ (FileRefusal::Locked(_) | FileRefusal::RangeIgnored | FileRefusal::NotFound),
            }) => {
                let message = format!("{path} cannot be read over HTTPS: {why}; {remedy}");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            Err(e) => Err(e.into()),
        }
    }
}
