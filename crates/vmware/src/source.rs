//! The site as a source.

use crate::describe::{Networks, can_be_captured, in_order};
use crate::notes::{Mark, Notes};
use crate::used;
use crate::vm::Vm;
use crate::{Inner, Site};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance, Lifted,
    Machine, MachineId, Op, OpKey, Power, Purpose, Result, Source, Start,
};
use site_recovery_register::refused;
use site_recovery_vim::ConfigSpec;
use std::time::Duration;

#[async_trait]
impl Source for Site {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.0.discovered().await.map_err(|e| e.at(&self.0.name, "discover"))
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("enrol", async move |site| site.enrol(&op, &machine).await).await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("dismiss", async move |site| site.dismiss(&op, &instance).await).await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let (op, of) = (op.clone(), of.to_vec());
        self.act("capture", async move |site| site.capture(&op, &of, want).await).await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        self.0.changes(capture, machine, since).await.map_err(|e| e.at(&self.0.name, "changes"))
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let (op, of, machine) = (op.clone(), capture.clone(), machine.clone());
        let disks = {
            let (of, machine) = (of.clone(), machine.clone());
            self.act("disks", async move |site| site.disks(&op, &of, &machine).await).await?
        };
        Ok(used::mapped(&self.0, &of, &machine, disks))
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("release", async move |site| {
            let instance = &capture.member(&machine)?.machine.instance;
            site.release(&op, &capture, instance, fate).await
        })
        .await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (op, instance, keep) = (op.clone(), instance.clone(), keep.to_vec());
        self.act("sweep", async move |site| site.sweep(&op, &instance, &keep).await).await
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("consolidate", async move |site| site.consolidate(&op, &instance).await).await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.0.power(instance).await.map_err(|e| e.at(&self.0.name, "power"))
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("fence", async move |site| site.fence(&op, &instance, grace, "fenced").await).await
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("unfence", async move |site| {
            permit.admits(&op, &instance, Purpose::Failover)?;
            site.unfence(&op, &instance, start).await
        })
        .await
    }
}

impl Inner {
    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        machine.validate()?;
        let networks = Networks::of(self.vim.networks().await?);
        let fits = |vm: &Vm| -> Result<()> {
            machine.must_fit(&self.described(vm, &networks))?;
            let disks = in_order(&vm.details.devices);
            let left = disks
                .iter()
                .zip(&machine.disks)
                .find(|(d, m)| m.included && !can_be_captured(&vm.details.devices, d));
            let Some((disk, spec)) = left else { return Ok(()) };
            let rule = "an independent, shared or physically mapped disk is in no snapshot";
            let label = disk.label.as_deref().unwrap_or_default();
            Err(Error::invalid("disk.included", "true", rule, "leave it out, or change its mode")
                .with("disk", &spec.id)
                .with("label", label))
        };
        fits(&self.vm(&machine.instance).await?)?;
        let (_turn, mut vm) = self.turned(op, &machine.instance).await?;
        fits(&vm)?;
        self.must_be_readable(op, &mut vm, machine).await?;
        let mut mark = vm.notes.mark.clone().unwrap_or_else(|| Mark::new(machine, &vm.name));
        mark.describe(machine, &vm.details.devices);
        self.change(op, &mut vm, vec![], |notes| notes.mark = Some(mark.clone())).await?;
        self.saw(&vm).await?;
        self.track(op, &mut vm).await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (_turn, mut vm) = match self.turned(op, instance).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return self.forget(instance),
            found => found?,
        };
        self.sweep_captures(&mut vm, &[]).await?;
        let ours = vm.notes.mark.as_ref().is_some_and(|mark| mark.tracks);
        let spec = ConfigSpec { change_tracking: ours.then_some(false), ..ConfigSpec::default() };
        let note = |notes: &mut Notes| (notes.mark, notes.tracking) = (None, None);
        self.configure(op, &mut vm, spec, note).await?;
        self.forget(instance)
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (_turn, mut vm) = self.turned(op, instance).await?;
        if vm.is_on() {
            return Err(refused(format!("{} runs: stop or fence it first", vm.name)));
        }
        let landing = vm.notes.landing.clone().unwrap_or_default();
        if landing.branch.is_some() || !landing.kept.is_empty() {
            return Err(refused(format!(
                "{} has a branch or an arm that is kept: settle or remove it first",
                vm.name
            )));
        }
        if vm.snapshots().count() > 0 {
            // Merging is where tracking has lost changes.
            self.change(op, &mut vm, vec![], |notes| notes.tracking = None).await?;
        }
        // As many as there were: none is added meanwhile while it is off and ours.
        for _ in 0..vm.snapshots().count() {
            let Some(last) = vm.snapshots().last().cloned() else { break };
            self.let_go(&last).await?;
            self.drop_snapshot(&mut vm, &last.moref).await?;
        }
        match vm.snapshots().count() {
            0 => Ok(()),
            left => Err(refused(format!("{left} snapshots of {} are left", vm.name))),
        }
    }
}
