//! Snapshots of a machine, taken and removed so that a lost answer is found out by looking.

use crate::Inner;
use crate::vm::Vm;
use serde::{Deserialize, Serialize};
use site_recovery::{Consistency, ErrorKind, Op, OpKey, Result};
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
    /// Takes a snapshot, or finds the one of this name, and reads the machine again.
    pub(crate) async fn take(
        &self,
        vm: &mut Vm,
        name: &str,
        told: &Described,
        quiesce: bool,
    ) -> std::result::Result<Moref, vim::Error> {
        if let Some(found) = vm.snapshot(name) {
            return Ok(found.moref.clone());
        }
        let taken = async {
            let task = self.vim.create_snapshot(&vm.moref, name, &told.text(), quiesce).await?;
            task.object(self.patience.snapshot).await
        };
        let taken = taken.await;
        self.settle(&vm.moref, &taken, self.patience.snapshot).await?;
        self.look_again(vm).await?;
        match (taken, vm.snapshot(name)) {
            // Whatever became of the answer.
            (_, Some(found)) => Ok(found.moref.clone()),
            (Ok(moref), None) => {
                let fault = Fault::ManagedObjectNotFound { object: Some(moref) };
                Err(vim::Error::Refused { method: "CreateSnapshot_Task", fault, words: String::new() })
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Removes a snapshot, waits until it is merged, and reads the machine again. Gone already is no error.
    pub(crate) async fn drop_snapshot(&self, vm: &mut Vm, snapshot: &Moref) -> Result<()> {
        self.drop_within(vm, snapshot, self.patience.merge).await
    }

    /// The same, and `Busy` where it goes on for longer: whoever asks again finds how it stands.
    pub(crate) async fn drop_within(&self, vm: &mut Vm, snapshot: &Moref, limit: Duration) -> Result<()> {
        let removed = async { self.vim.remove_snapshot(snapshot).await?.wait(limit).await.map(drop) };
        let removed = removed.await;
        self.settle(&vm.moref, &removed, limit).await?;
        self.look_again(vm).await?;
        let gone = vm.snapshots().all(|s| s.moref != *snapshot);
        match removed {
            Err(error) if !gone => return Err(error.into()),
            _ => {}
        }
        self.merge_leftovers(vm).await
    }

    /// Merges files that removed snapshots have left behind, unless somebody has them open.
    pub(crate) async fn merge_leftovers(&self, vm: &mut Vm) -> Result<()> {
        if !vm.details.consolidation_needed {
            return Ok(());
        }
        let merged =
            async { self.vim.consolidate(&vm.moref).await?.wait(self.patience.merge).await.map(drop) };
        match merged.await {
            // A capture that is read, or a landing disk: whoever lets go of it comes here again.
            Err(error) if matches!(error.fault(), Some(Fault::FileLocked { .. })) => {
                tracing::info!(
                    machine = vm.name,
                    "files of a removed snapshot are in use, and are merged later"
                );
                Ok(())
            }
            merged => {
                merged?;
                self.look_again(vm).await.map_err(Into::into)
            }
        }
    }

    /// Waits for what the server still does with a machine, where nobody saw how a change ended.
    pub(crate) async fn settle<T: Sync>(
        &self,
        machine: &Moref,
        change: &std::result::Result<T, vim::Error>,
        limit: Duration,
    ) -> std::result::Result<(), vim::Error> {
        if !change.as_ref().is_err_and(vim::Error::may_have_been_done) {
            return Ok(());
        }
        let open = match self.vim.open_tasks(machine).await {
            Err(vim::Error::Refused { fault: Fault::ManagedObjectNotFound { .. }, .. }) => return Ok(()),
            open => open?,
        };
        for task in open {
            // How it ended is seen by what is.
            if let Err(e @ (vim::Error::Unknown { .. } | vim::Error::Running { .. })) = task.wait(limit).await
            {
                return Err(e);
            }
        }
        Ok(())
    }

    pub(crate) async fn look_again(&self, vm: &mut Vm) -> std::result::Result<(), vim::Error> {
        let machine = self.vim.machine(&vm.moref).await?;
        let away = |e: site_recovery::Error| {
            let fault = match e.kind() {
                ErrorKind::Denied => Fault::NoPermission { privilege: None, object: Some(vm.moref.clone()) },
                _ => Fault::HostUnreachable,
            };
            let (method, words) = ("RetrievePropertiesEx", e.message().to_owned());
            vim::Error::Refused { method, fault, words }
        };
        *vm = Vm::of(machine).map_err(away)?;
        Ok(())
    }
}
