//! Snapshots of a machine, taken and removed so that a lost answer is found out by looking.

use crate::Inner;
use crate::vm::Vm;
use serde::{Deserialize, Serialize};
use site_recovery::{Consistency, Op, OpKey, Result};
use site_recovery_register::not_found;
use site_recovery_vim::{self as vim, Fault, Moref, Snapshot};
use std::time::Duration;

/// What the description of a snapshot of ours says: whose it is, and what was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(crate) key: OpKey,
    pub(crate) by: String,
    pub(crate) reached: Option<Consistency>,
    pub(crate) why: Option<String>,
    /// Captures that stood when it was taken.
    #[serde(default)]
    pub(crate) over: Vec<String>,
}

impl Described {
    pub(crate) fn new(op: &Op) -> Self {
        let by = format!("site-recovery, engine {} at epoch {}", op.epoch.owner, op.epoch.number);
        Self { key: op.key.clone(), by, reached: None, why: None, over: vec![] }
    }

    /// What was said of a snapshot; people may have changed it.
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Self> {
        serde_json::from_str(&snapshot.description).ok()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }
}

impl Inner {
    /// Takes a snapshot, or finds the one of this name, and reads the machine again. Inside stands why the server takes none.
    pub(crate) async fn take(
        &self,
        vm: &mut Vm,
        name: &str,
        told: &Described,
        quiesce: bool,
    ) -> Result<std::result::Result<Moref, vim::Error>> {
        if let Some(found) = vm.snapshot(name) {
            return Ok(Ok(found.moref.clone()));
        }
        let (machine, text) = (vm.moref.clone(), told.text());
        let taking = self.vim.create_snapshot(&machine, name, &text, quiesce);
        let taken = self.carry_out(vm, self.patience.snapshot, taking).await?;
        match (taken, vm.snapshot(name)) {
            (_, Some(found)) => Ok(Ok(found.moref.clone())),
            (Ok(()), None) => {
                Err(not_found(format!("{} does not show the snapshot {name} that was taken", vm.name)))
            }
            (Err(error), None) => Ok(Err(error)),
        }
    }

    /// Removes a snapshot, waits until it is merged, and reads the machine again. Gone already is no error.
    pub(crate) async fn drop_snapshot(&self, vm: &mut Vm, snapshot: &Moref) -> Result<()> {
        self.drop_within(vm, snapshot, self.patience.merge).await
    }

    /// The same, and `Busy` where it goes on for longer: whoever asks again finds how it stands.
    pub(crate) async fn drop_within(&self, vm: &mut Vm, snapshot: &Moref, limit: Duration) -> Result<()> {
        let removed = self.carry_out(vm, limit, self.vim.remove_snapshot(snapshot)).await?;
        match removed {
            Err(error) if vm.snapshots().any(|s| s.moref == *snapshot) => Err(error.into()),
            _ => self.merge_leftovers(vm).await,
        }
    }

    /// Merges files that removed snapshots have left behind, unless somebody has them open.
    pub(crate) async fn merge_leftovers(&self, vm: &mut Vm) -> Result<()> {
        if !vm.details.consolidation_needed {
            return Ok(());
        }
        let machine = vm.moref.clone();
        let merged = self.carry_out(vm, self.patience.merge, self.vim.consolidate(&machine)).await?;
        match merged {
            // A capture that is read, or a landing disk: whoever lets go of it comes here again.
            Err(error) if matches!(error.fault(), Some(Fault::FileLocked { .. })) => {
                tracing::info!(
                    machine = vm.name,
                    "files of a removed snapshot are in use, and are merged later"
                );
                Ok(())
            }
            Err(error) if vm.details.consolidation_needed => Err(error.into()),
            _ => Ok(()),
        }
    }
}
