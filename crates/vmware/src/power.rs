//! Whether a machine runs, what keeps it off, and its starts.

use crate::Inner;
use crate::appliance::on;
use crate::names::parts;
use crate::notes::{Began, Notes};
use crate::vm::Vm;
use site_recovery::{Error, ErrorKind, Instance, Op, Power, Result, Stamp, StartGuard};
use site_recovery_register::refused;
use site_recovery_vim::{self as vim, Fault};
use std::time::Duration;

/// How often is looked whether the server remembers a start.
const REMEMBERS: usize = 50;

impl Inner {
    pub(crate) async fn power(&self, instance: &Instance) -> Result<Power> {
        let vm = match self.vm(instance).await {
            Err(e) if e.kind() == ErrorKind::NotFound && instance.site == self.name => {
                return self.power_of_nothing(instance, e).await;
            }
            Err(e) if e.kind() == ErrorKind::Unavailable => return Err(e),
            found => found?,
        };
        if let Some(arm) = parts(&instance.name).1 {
            return match vm.snapshot(arm) {
                // Nobody starts a state of the past but by going back to it, which takes our notes along.
                Some(_) => Ok(Power::Off { start: StartGuard::Blocked { until: None } }),
                None => Err(site_recovery_register::not_found(format!("{} has no arm {arm}", vm.name))),
            };
        }
        match vm.machine.power {
            vim::Power::On => Ok(Power::On),
            vim::Power::Unknown => Ok(Power::Unknown),
            vim::Power::Off | vim::Power::Suspended => Ok(Power::Off { start: self.guard(&vm).await? }),
        }
    }

    /// A machine that is out of the inventory is gone only if nothing of it can be started again, and if we would see it.
    async fn power_of_nothing(&self, instance: &Instance, gone: Error) -> Result<Power> {
        let root = &self.vim.content().root_folder;
        if self.vim.lacking(root, &["System.View"]).await?.contains(&"System.View") {
            let message =
                format!("{} is not seen, and the user may not see everything (System.View)", instance.name);
            return Err(Error::new(ErrorKind::Denied, message));
        }
        let Some((datacenter, disks)) = self.last_seen(instance)? else { return Err(gone) };
        for disk in disks {
            match self.vim.file(&datacenter, disk.clone()).size().await {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() == ErrorKind::Unavailable => return Err(e.into()),
                // Whoever registers it again starts it as before.
                _ => return Ok(Power::Unknown),
            }
        }
        Err(gone)
    }

    async fn guard(&self, vm: &Vm) -> Result<StartGuard> {
        if self.is_held(vm).await? {
            return Ok(StartGuard::Blocked { until: None });
        }
        Ok(StartGuard::Tells(self.stamp(vm).await?))
    }

    /// Whether the appliance runs and has a file open that the machine would write.
    async fn is_held(&self, vm: &Vm) -> Result<bool> {
        if self.appliance.is_none() {
            return Ok(false);
        }
        let appliance = self.appliance_machine().await?;
        Ok(appliance.power == vim::Power::On && vm.files().any(|(_, file)| on(&appliance, file).is_some()))
    }

    /// The newest start that was not ours.
    pub(crate) async fn stamp(&self, vm: &Vm) -> Result<Stamp> {
        let says = self.newest_start(vm).await?;
        Ok(vm.notes.power.clone().unwrap_or_default().witness.told(&says))
    }

    async fn newest_start(&self, vm: &Vm) -> Result<Stamp> {
        let text = self.newest(vm).await?.map(|start| format!("{}@{}", start.key, start.when.0));
        Ok(Stamp(text.unwrap_or_default().into_bytes()))
    }

    /// The newest start that the server tells of, or the one that was noted: servers forget, and that is no start. A vCenter
    /// numbers all events; a host begins anew with its agent, so there the later one counts.
    pub(crate) async fn newest(&self, vm: &Vm) -> Result<Option<Began>> {
        let told = self.vim.newest_start(&vm.moref).await?;
        let told = told.map(|start| Began { key: start.key, when: start.when.unwrap_or_default() });
        let noted = vm.notes.power.as_ref().and_then(|power| power.newest);
        let later = |told: &Began, noted: &Began| match self.vim.is_vcenter() {
            true => told.key > noted.key,
            false => told.when > noted.when,
        };
        Ok(match (told, noted) {
            (Some(told), Some(noted)) if !later(&told, &noted) => Some(noted),
            (told, noted) => told.or(noted),
        })
    }

    /// Starts the machine once for this key. Says whether it runs.
    pub(crate) async fn ignite(&self, op: &Op, vm: &mut Vm) -> Result<bool> {
        let record = vm.notes.power.clone().unwrap_or_default();
        if record.done.contains(&op.key) {
            return Ok(vm.is_on());
        }
        let says = self.newest_start(vm).await?;
        if record.starting.as_ref() == Some(&op.key) && !vm.is_on() {
            // It was asked for, and the answer was not seen.
            if !record.witness.is_as_left(&says) {
                self.went(op, vm, &says).await?;
                return Ok(false);
            }
        } else if vm.is_on() {
            self.went(op, vm, &says).await?;
            return Ok(true);
        } else {
            let intent = |notes: &mut Notes| {
                notes.power().witness.before(&says);
                notes.power().starting = Some(op.key.clone());
            };
            self.change(op, vm, vec![], intent).await?;
        }
        let machine = vm.moref.clone();
        let started = self.carry_out(vm, self.patience.change, self.vim.power_on(&machine, None)).await?;
        match started {
            Err(e) if vm.details.question.is_some() => {
                let asked = vm.details.question.as_deref().unwrap_or_default();
                let message = format!("{} waits for an answer at the server: {asked}", vm.machine.name);
                return Err(Error::new(ErrorKind::Busy, message).caused_by(e));
            }
            Err(e) if !vm.is_on() => {
                if let Some(Fault::FileLocked { file }) = e.fault() {
                    let file = file.as_deref().unwrap_or("a disk");
                    return Err(
                        refused(format!("{} cannot start: {file} is open elsewhere", vm.name)).caused_by(e)
                    );
                }
                return Err(e.into());
            }
            _ => {}
        }
        let says = self.remembered_start(vm, &says).await?;
        self.went(op, vm, &says).await?;
        Ok(vm.is_on())
    }

    /// The start that was just made, once the server remembers it: it may do so a moment after the task has ended.
    async fn remembered_start(&self, vm: &Vm, before: &Stamp) -> Result<Stamp> {
        for _ in 0..REMEMBERS {
            let says = self.newest_start(vm).await?;
            if says != *before {
                return Ok(says);
            }
            self.clock.sleep(Duration::from_millis(200)).await;
        }
        tracing::warn!(
            machine = vm.name,
            "the server does not remember a start: it will look like somebody else's"
        );
        self.newest_start(vm).await
    }

    /// It was started by us: what the server counts by now was ours, and the fence is over.
    async fn went(&self, op: &Op, vm: &mut Vm, says: &Stamp) -> Result<()> {
        let autostart = vm.notes.fence.as_ref().is_some_and(|fence| fence.autostart);
        if autostart {
            self.set_autostart(vm, true).await?;
        }
        let note = |notes: &mut Notes| {
            if notes.power().starting.as_ref() == Some(&op.key) {
                notes.power().witness.after(says);
            }
            notes.power().finish(&op.key);
            notes.fence = None;
        };
        self.change(op, vm, vec![], note).await
    }

    /// Lifts the block and starts nothing. Says whether it runs.
    pub(crate) async fn lift(&self, op: &Op, vm: &mut Vm) -> Result<bool> {
        let done = vm.notes.power.as_ref().is_some_and(|power| power.done.contains(&op.key));
        if !done {
            if vm.notes.fence.as_ref().is_some_and(|fence| fence.autostart) {
                self.set_autostart(vm, true).await?;
            }
            let note = |notes: &mut Notes| {
                notes.power().finish(&op.key);
                notes.fence = None;
            };
            self.change(op, vm, vec![], note).await?;
        }
        Ok(vm.is_on())
    }
}
