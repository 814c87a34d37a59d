//! Branches under landing disks: snapshots of the machine, gone back to or merged.
//!
//! ```text
//! disk ── sr-branch ─┬─ sr-kept      what stood above, kept by `part`
//!                    └─ the machine
//! ```
//! A snapshot under a disk that another machine writes would spoil the chain, so the disks are taken from the appliance first.
//! Going back to a snapshot takes the machine's configuration back as well, our notes in it included: they are written anew.

use crate::Inner;
use crate::names;
use crate::notes::{Branch, Notes};
use crate::snapshots::Described;
use crate::vm::Vm;
use site_recovery::{Instance, Op, Result};
use site_recovery_register::{durable, refused};
use site_recovery_vim::{Moref, Snapshot};

impl Inner {
    pub(crate) async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (_turn, mut vm) = self.landed(op, instance).await?;
        let landing = vm.notes.landed(&vm.name)?.clone();
        if landing.branch.is_some() || landing.done.contains(&op.key) {
            return self.hold_if(&vm, landing.attached).await;
        }
        must_be_off(&vm)?;
        let guard = self.end_handles(&vm).await?;
        let name = names::branch(&op.key);
        self.take(&mut vm, &name, &Described::new(op), false).await??;
        let mark = vm.marked()?;
        let branch = Branch {
            snapshot: name,
            generation: mark.generation,
            armed: mark.armed.clone(),
            tracking: vm.notes.tracking.clone(),
        };
        let note = |notes: &mut Notes| {
            let landing = notes.landing.get_or_insert_default();
            landing.branch = Some(branch.clone());
            landing.finish(&op.key);
        };
        self.change(op, &mut vm, vec![], note).await?;
        self.saw(&vm).await?;
        drop(guard);
        self.hold_if(&vm, landing.attached).await
    }

    pub(crate) async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let (_turn, mut vm) = self.landed(op, instance).await?;
        let landing = vm.notes.landed(&vm.name)?.clone();
        let kept = names::kept(&op.key);
        if landing.kept.contains_key(&kept) {
            self.hold_if(&vm, landing.attached).await?;
            return Ok(self.arm_of(&vm, &kept));
        }
        must_be_off(&vm)?;
        let below = match (below(&vm.details.snapshots, &kept), &landing.branch) {
            // The arm stands already: a call of this key was broken off.
            (Some(below), _) => below.clone(),
            (None, Some(branch)) => {
                let found = vm.snapshot(&branch.snapshot).cloned();
                found.ok_or_else(|| refused(format!("the branch of {} was removed past us", vm.name)))?
            }
            (None, None) => return Err(refused(format!("{} has no branch", vm.name))),
        };
        let guard = self.end_handles(&vm).await?;
        let arm = self.take(&mut vm, &kept, &Described::new(op), false).await??;
        // Going back takes the notes along: they stand here until they are written anew.
        let remembered = self.state.join("parting").join(format!("{}.json", vm.name));
        if vm.details.current_snapshot.as_ref() == Some(&arm) {
            durable::write(&remembered, &vm.notes)?;
            self.revert_to(&mut vm, &below.moref).await?;
        }
        let before = durable::read(&remembered)?.unwrap_or_else(|| vm.notes.clone());
        let note = |notes: &mut Notes| {
            *notes = before.clone();
            let landing = notes.landing.get_or_insert_default();
            if let Some(branch) = landing.branch.take()
                && let Some(mark) = &mut notes.mark
            {
                (mark.generation, mark.armed) = (branch.generation, branch.armed);
                notes.tracking = branch.tracking;
            }
            landing.kept.insert(kept.clone(), below.name.clone());
            landing.finish(&op.key);
        };
        self.change(op, &mut vm, vec![], note).await?;
        durable::remove_file(&remembered)?;
        self.saw(&vm).await?;
        drop(guard);
        self.hold_if(&vm, landing.attached).await?;
        Ok(self.arm_of(&vm, &kept))
    }

    pub(crate) async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (_turn, mut vm) = self.landed(op, instance).await?;
        let landing = vm.notes.landed(&vm.name)?.clone();
        let Some(branch) = landing.branch else { return self.hold_if(&vm, landing.attached).await };
        let guard = if landing.attached { Some(self.end_handles(&vm).await?) } else { None };
        if let Some(snapshot) = vm.snapshot(&branch.snapshot).cloned() {
            // Nobody who fences waits for a merge of hours.
            self.drop_within(&mut vm, &snapshot.moref, self.patience.change).await?;
        }
        let note = |notes: &mut Notes| {
            let landing = notes.landing.get_or_insert_default();
            landing.branch = None;
            landing.finish(&op.key);
        };
        self.change(op, &mut vm, vec![], note).await?;
        self.saw(&vm).await?;
        drop(guard);
        self.hold_if(&vm, landing.attached).await
    }

    /// Removes an arm, and the snapshot below it where nothing else stands on that. Gone already is no error.
    pub(crate) async fn remove_arm(&self, op: &Op, vm: &mut Vm, arm: &str) -> Result<()> {
        let landing = vm.notes.landing.clone().unwrap_or_default();
        let Some(below) = landing.kept.get(arm) else {
            return match vm.snapshot(arm) {
                Some(_) => Err(refused(format!("{arm} is no arm that was kept for {}", vm.name))),
                None => self.hold_if(vm, landing.attached).await,
            };
        };
        let attached = landing.attached;
        let guard = if attached { Some(self.end_handles(vm).await?) } else { None };
        if let Some(snapshot) = vm.snapshot(arm).cloned() {
            self.let_go(&snapshot).await?;
            self.drop_snapshot(vm, &snapshot.moref).await?;
        }
        let others = landing.kept.iter().any(|(other, under)| other != arm && under == below);
        if let Some(snapshot) = vm.snapshot(below).filter(|_| !others).cloned() {
            self.drop_snapshot(vm, &snapshot.moref).await?;
        }
        let note = |notes: &mut Notes| {
            if let Some(landing) = &mut notes.landing {
                landing.kept.remove(arm);
            }
        };
        self.change(op, vm, vec![], note).await?;
        self.saw(vm).await?;
        drop(guard);
        self.hold_if(vm, attached).await
    }

    /// The machine of an instance that was attached; nothing is raised for any other.
    async fn landed(&self, op: &Op, instance: &Instance) -> Result<(site_recovery_register::Turn, Vm)> {
        self.vm(instance).await?.notes.landed(&instance.name)?;
        self.turned(op, instance).await
    }

    async fn hold_if(&self, vm: &Vm, attached: bool) -> Result<()> {
        if attached { self.hold(vm).await } else { Ok(()) }
    }

    async fn revert_to(&self, vm: &mut Vm, snapshot: &Moref) -> Result<()> {
        let reverted = self.carry_out(vm, self.patience.change, self.vim.revert(snapshot)).await?;
        match reverted {
            Err(e) if vm.details.current_snapshot.as_ref() != Some(snapshot) => Err(e.into()),
            _ => Ok(()),
        }
    }

    fn arm_of(&self, vm: &Vm, kept: &str) -> Instance {
        let mark = vm.notes.mark.as_ref().expect("what landed is marked");
        Instance { name: format!("{}/{kept}", vm.name), ..mark.instance(&self.name) }
    }
}

/// The snapshot right below another one.
fn below<'a>(roots: &'a [Snapshot], name: &str) -> Option<&'a Snapshot> {
    let all = roots.iter().flat_map(Snapshot::all);
    all.into_iter().find(|s| s.children.iter().any(|child| child.name == name))
}

fn must_be_off(vm: &Vm) -> Result<()> {
    match vm.machine.power {
        site_recovery_vim::Power::Off => Ok(()),
        power => Err(refused(format!("{} reads as {power:?}: stop or fence it first", vm.name))),
    }
}
