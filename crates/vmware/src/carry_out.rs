//! Changes that the server makes as tasks: waited for, also where nobody saw how one ended, and then looked at. What is counts more
//! than what was answered.

use crate::Inner;
use crate::vm::Vm;
use site_recovery::Result;
use site_recovery_vim::{self as vim, ConfigSpec, Fault, Moref, Task};
use std::time::Duration;

/// How often a change is made anew because somebody else changed the machine meanwhile.
pub(crate) const AGAIN: usize = 6;

impl Inner {
    /// Has a change of a machine made, waits for its end, and reads the machine again. Inside stands how the task ended.
    pub(crate) async fn carry_out(
        &self,
        vm: &mut Vm,
        limit: Duration,
        change: impl Future<Output = std::result::Result<Task, vim::Error>>,
    ) -> Result<std::result::Result<(), vim::Error>> {
        let ended = async { change.await?.wait(limit).await.map(drop) }.await;
        self.settle(&vm.moref, &ended, limit).await?;
        self.look_again(vm).await?;
        Ok(ended)
    }

    /// Waits for what the server still does with a machine, where nobody saw how a change ended.
    pub(crate) async fn settle(
        &self,
        machine: &Moref,
        change: &std::result::Result<(), vim::Error>,
        limit: Duration,
    ) -> Result<()> {
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
                return Err(e.into());
            }
        }
        Ok(())
    }

    pub(crate) async fn look_again(&self, vm: &mut Vm) -> Result<()> {
        *vm = Vm::of(self.vim.machine(&vm.moref).await?)?;
        Ok(())
    }

    /// Changes a configuration. Whoever calls it looks at what became of it.
    pub(crate) async fn reconfigure(
        &self,
        machine: &Moref,
        spec: &ConfigSpec,
    ) -> std::result::Result<(), vim::Error> {
        self.vim.reconfigure(machine, spec).await?.wait(self.patience.change).await.map(drop)
    }

    /// Somebody else is at it.
    pub(crate) async fn let_pass(&self, again: usize) {
        self.clock.sleep(Duration::from_millis(100) * (again as u32 + 1)).await;
    }
}
