//! Taking a machine's power and keeping it, and giving it back.

use crate::Inner;
use crate::names::parts;
use crate::notes::{FenceMark, Notes};
use crate::vm::Vm;
use site_recovery::{Error, ErrorKind, Instance, Lifted, Op, Result, Start};
use site_recovery_register::refused;
use site_recovery_vim::{self as vim, Moref};
use std::time::Duration;

impl Inner {
    pub(crate) async fn fence(&self, op: &Op, instance: &Instance, grace: Duration, why: &str) -> Result<()> {
        let (_turn, mut vm) = self.turned(op, instance).await?;
        if parts(&instance.name).1.is_some() {
            return Ok(());
        }
        self.block(op, &mut vm, why).await?;
        if vm.machine.power != vim::Power::Off {
            self.halt(op, &mut vm, grace).await?;
        }
        if vm.notes.fence.as_ref().is_some_and(|fence| fence.asked) {
            self.change(op, &mut vm, vec![], not_asked).await?;
        }
        match vm.machine.power {
            vim::Power::Off => Ok(()),
            power => {
                let message = format!("{} reads as {power:?} after its power was cut", vm.name);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// Leaves the mark and takes the machine out of its host's autostart. A mark that stands keeps what ran before, unless the
    /// machine was started past it.
    pub(crate) async fn block(&self, op: &Op, vm: &mut Vm, why: &str) -> Result<()> {
        let runs = vm.is_on();
        let autostart = self.autostart(vm).await?;
        let before = vm.notes.fence.clone();
        let mark = match before {
            Some(before) if !runs => FenceMark { autostart: before.autostart || autostart, ..before },
            before => FenceMark {
                by: op.key.clone(),
                epoch: op.epoch.clone(),
                when: self.clock.now(),
                ran_before: runs,
                autostart: autostart || before.is_some_and(|before| before.autostart),
                asked: false,
                why: why.to_owned(),
                lift: format!(
                    "Source::unfence at {} with a permit; by hand, when nothing else runs for this machine: remove the key \
                     site-recovery.fence and start it",
                    self.name
                ),
            },
        };
        let newest = self.newest(vm).await?;
        let noted = vm.notes.power.as_ref().and_then(|power| power.newest);
        if vm.notes.fence.as_ref() != Some(&mark) || noted != newest {
            let note = |notes: &mut Notes| {
                notes.fence = Some(mark.clone());
                notes.power().newest = newest;
            };
            self.change(op, vm, vec![], note).await?;
        }
        if autostart {
            self.set_autostart(vm, false).await?;
        }
        Ok(())
    }

    /// In order, where there is grace; then hard.
    async fn halt(&self, op: &Op, vm: &mut Vm, grace: Duration) -> Result<()> {
        if !grace.is_zero() && vm.is_on() {
            let asked = |notes: &mut Notes| {
                if let Some(fence) = &mut notes.fence {
                    fence.asked = true;
                }
            };
            self.change(op, vm, vec![], asked).await?;
            match self.vim.shut_down_guest(&vm.moref).await {
                Ok(()) => {
                    self.vim.wait_for_power(&vm.moref, vim::Power::Off, grace).await?;
                }
                Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::Unavailable) => {
                    return Err(e.into());
                }
                // No tools, a question that waits, another task: its power is cut at any rate.
                Err(e) => {
                    tracing::info!(machine = vm.name, error = %e, "its guest cannot be asked to shut down");
                }
            }
        }
        self.cut(vm).await
    }

    /// Takes its power, without asking the guest.
    pub(crate) async fn cut(&self, vm: &mut Vm) -> Result<()> {
        let machine = vm.moref.clone();
        let off = self.carry_out(vm, self.patience.change, self.vim.power_off(&machine)).await?;
        match off {
            Err(e) if vm.machine.power != vim::Power::Off => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Ends a shutdown that somebody asked for and did not see to its end: the guest may still obey it.
    pub(crate) async fn settle_request(&self, op: &Op, vm: &mut Vm) -> Result<()> {
        if !vm.notes.fence.as_ref().is_some_and(|fence| fence.asked) {
            return Ok(());
        }
        if vm.machine.power != vim::Power::Off {
            self.cut(vm).await?;
        }
        self.change(op, vm, vec![], not_asked).await
    }

    pub(crate) async fn unfence(&self, op: &Op, instance: &Instance, start: Start) -> Result<Lifted> {
        let (_turn, mut vm) = self.turned(op, instance).await?;
        if parts(&instance.name).1.is_some() {
            return Err(refused(format!("{} is a state of the past, and is not started", instance.name)));
        }
        self.settle_request(op, &mut vm).await?;
        let ran_before = vm.notes.fence.as_ref().is_some_and(|fence| fence.ran_before);
        let running = if start == Start::Run || start == Start::AsBefore && ran_before {
            self.give_back(op, &mut vm).await?;
            let running = self.ignite(op, &mut vm).await?;
            self.unpin(op, &mut vm).await?;
            running
        } else {
            // What lands on it may go on landing: it is kept from moving until it starts.
            self.lift(op, &mut vm).await?
        };
        Ok(Lifted { running })
    }

    async fn autostart_of(&self, vm: &Vm) -> Result<Option<Moref>> {
        let Some(host) = &vm.machine.host else { return Ok(None) };
        Ok(self.vim.hosts().await?.into_iter().find(|h| h.moref == *host).and_then(|h| h.autostart))
    }

    async fn autostart(&self, vm: &Vm) -> Result<bool> {
        match self.autostart_of(vm).await? {
            Some(manager) => Ok(self.vim.autostart(&manager, &vm.moref).await?),
            None => Ok(false),
        }
    }

    pub(crate) async fn set_autostart(&self, vm: &Vm, starts: bool) -> Result<()> {
        match self.autostart_of(vm).await? {
            Some(manager) => Ok(self.vim.set_autostart(&manager, &vm.moref, starts).await?),
            None => Ok(()),
        }
    }
}

fn not_asked(notes: &mut Notes) {
    if let Some(fence) = &mut notes.fence {
        fence.asked = false;
    }
}
