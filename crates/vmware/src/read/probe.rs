//! Whether a machine that runs could be read at all, found out before it is protected.

use super::{Included, by_nothing};
use crate::Inner;
use crate::appliance::Wanted;
use crate::describe::disk_name;
use crate::describe::in_order;
use crate::names;
use crate::snapshots::Described;
use crate::vm::Vm;
use site_recovery::{Machine, Op, Result};
use site_recovery_register::refused;
use site_recovery_vim::Moref;

impl Inner {
    /// Opens each disk below a snapshot, as a cycle would. The snapshot goes again.
    ///
    /// # Errors
    /// `Unsupported`, with the disk and why no means reads it.
    pub(crate) async fn must_be_readable(&self, op: &Op, vm: &mut Vm, machine: &Machine) -> Result<()> {
        // An appliance serves always, and what is off is read over HTTPS.
        if self.appliance.is_some() || !vm.is_on() {
            return Ok(());
        }
        let moref = self.take(vm, names::tracking(), &Described::new(op), false).await??;
        let read = self.try_each(vm, &moref, machine).await;
        self.drop_snapshot(vm, &moref).await?;
        read
    }

    async fn try_each(&self, vm: &Vm, snapshot: &Moref, machine: &Machine) -> Result<()> {
        let devices = self.vim.snapshot_devices(snapshot).await?;
        for (disk, spec) in
            in_order(&devices).into_iter().zip(&machine.disks).filter(|(_, spec)| spec.included)
        {
            let file = disk.backing.file.clone();
            let file =
                file.ok_or_else(|| refused(format!("disk {} of {} has no file", spec.id, vm.machine.name)))?;
            let one = Included {
                id: spec.id.clone(),
                disk,
                wanted: Wanted { uuid: disk_name(disk), file, size: disk.capacity },
            };
            let mut why = vec![];
            let serves = self.disk_by_ranges(vm, snapshot, &one, &mut why).await?.is_some();
            // A lease is not tried: it would fetch the whole disk.
            if !serves && self.scratch.is_none() {
                let error = by_nothing(&one, &why);
                return Err(error.with("disk", &spec.id).with("machine", &vm.machine.name));
            }
        }
        Ok(())
    }
}
