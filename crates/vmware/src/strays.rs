//! Disks at the appliance that belong to captures which are gone: somebody removed their snapshot, or a run of ours crashed.

use crate::Inner;
use crate::describe::disk_name;
use crate::names;
use crate::vm::Vm;
use site_recovery::{ErrorKind, Result};
use site_recovery_vim::{DatastorePath, DiskMode};
use std::collections::BTreeSet;

impl Inner {
    /// Takes states of this machine's disks away from the appliance that no snapshot of ours is any more. Disks that land stay.
    pub(crate) async fn let_go_strays(&self, vm: &Vm) -> Result<()> {
        if self.appliance.is_none() {
            return Ok(());
        }
        let mut names: BTreeSet<String> = vm.details.devices.disks.iter().map(disk_name).collect();
        names.extend(vm.notes.mark.iter().flat_map(|mark| mark.disks.keys().cloned()));
        let appliance = self.appliance_machine().await?;
        let attached = appliance.details.iter().flat_map(|details| &details.devices.disks);
        let of_captures = attached.filter(|d| {
            d.backing.mode == DiskMode::IndependentNonpersistent && names.contains(&disk_name(d))
        });
        let mut strays: Vec<DatastorePath> =
            of_captures.filter_map(|disk| disk.backing.file.clone()).collect();
        if strays.is_empty() {
            return Ok(());
        }
        for snapshot in vm.snapshots().filter(|s| names::is_ours(&s.name)) {
            let devices = match self.vim.snapshot_devices(&snapshot.moref).await {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                found => found?,
            };
            strays.retain(|file| devices.disks.iter().all(|disk| disk.backing.file.as_ref() != Some(file)));
        }
        if !strays.is_empty() {
            tracing::info!(machine = vm.name, files = ?strays, "states of its disks are at the appliance, and of no capture");
        }
        self.detach(&strays).await
    }
}
