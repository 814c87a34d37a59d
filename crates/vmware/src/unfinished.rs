//! New machines on which nothing has been written yet. Until the first of its disks is given out a machine that we made is
//! known here by its maker alone; where that one fails or never comes back, the next one removes it.

use crate::Inner;
use crate::appliance::on;
use crate::making::uuid_of;
use crate::vm::Vm;
use serde::{Deserialize, Serialize};
use site_recovery::{Instance, MachineId, NicId, OpKey, Result};
use site_recovery_register::{durable, refused};
use site_recovery_vim as vim;
use std::path::PathBuf;

/// A machine that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unfinished {
    /// What makes it: by this it is found at the server.
    pub(crate) key: OpKey,
    /// Its adapters: those for which there was a network.
    pub(crate) nics: Vec<NicId>,
}

impl Inner {
    fn unfinished_path(&self, machine: &MachineId) -> PathBuf {
        self.state.join("unfinished").join(format!("{}.json", OpKey::from(machine.as_str()).to_name()))
    }

    pub(crate) fn unfinished(&self, machine: &MachineId) -> Result<Option<Unfinished>> {
        durable::read(&self.unfinished_path(machine))
    }

    pub(crate) fn begin_making(&self, machine: &MachineId, what: &Unfinished) -> Result<()> {
        durable::write(&self.unfinished_path(machine), what)
    }

    /// It has bytes from here on, or is gone.
    pub(crate) fn end_making(&self, machine: &MachineId) -> Result<()> {
        let path = self.unfinished_path(machine);
        if path.exists() { durable::remove_file(&path) } else { Ok(()) }
    }

    /// Removes what an attach with another key had begun to make and gave to nobody.
    pub(crate) async fn clear_unfinished(&self, machine: &MachineId, but: &OpKey) -> Result<()> {
        let Some(before) = self.unfinished(machine)?.filter(|before| before.key != *but) else {
            return Ok(());
        };
        self.unmake(machine, &before).await
    }

    /// Removes a machine on which nothing was written. Gone already is no error.
    ///
    /// # Errors
    /// `Refused` where somebody has started it or taken a snapshot since; `Conflict` where it carries another machine's mark.
    pub(crate) async fn unmake(&self, machine: &MachineId, what: &Unfinished) -> Result<()> {
        let uuid = uuid_of(&what.key);
        if let Some(moref) = self.vim.find(&uuid).await? {
            let vm = Vm::of(self.vim.machine(&moref).await?)?;
            let instance = Instance {
                machine: machine.clone(),
                site: self.name.clone(),
                name: uuid.clone(),
                generation: site_recovery::Generation(0),
            };
            vm.notes.must_be_of(&instance)?;
            let started = self.vim.newest_start(&moref).await?.is_some();
            let used = started || vm.snapshots().next().is_some();
            if vm.machine.power != vim::Power::Off || used {
                let message = format!(
                    "{} was made for {machine} and never used, and somebody has started it or taken a snapshot since: remove it",
                    vm.machine.name
                );
                return Err(refused(message));
            }
            self.destroy(&vm).await?;
            self.forget(&instance)?;
        }
        self.end_making(machine)
    }

    /// Removes a machine that is off, with its disks, and reads back that it is gone.
    pub(crate) async fn destroy(&self, vm: &Vm) -> Result<()> {
        drop(self.end_handles(vm).await?);
        let appliance = self.appliance_machine().await?;
        if let Some((_, file)) = vm.files().find(|(_, file)| on(&appliance, file).is_some()) {
            return Err(refused(format!("{file} is attached to the appliance still")));
        }
        let limit = self.patience.change;
        let gone = async { self.vim.destroy(&vm.moref).await?.wait(limit).await.map(drop) }.await;
        self.settle(&vm.moref, &gone, limit).await?;
        if self.vim.find(&vm.name).await?.is_none() {
            return Ok(());
        }
        gone?;
        Err(refused(format!("{} is there after it was removed", vm.name)))
    }
}
