//! Captures: a snapshot each.

use crate::Inner;
use crate::describe::{Networks, describe};
use crate::names;
use crate::notes::Mark;
use crate::snapshots::Described;
use crate::tracking::{Position, position};
use crate::vm::Vm;
use site_recovery::{
    Capture, Consistency, CutId, Error, ErrorKind, Fate, Instance, Member, Op, OpKey, OsFamily, Result,
};
use site_recovery_register::not_found;
use site_recovery_vim::{Devices, Fault, Snapshot};

impl Inner {
    pub(crate) async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let [instance] = of else {
            let message = format!("no snapshot of VMware's spans machines: {} were named", of.len());
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let (_turn, mut vm) = self.turned(op, instance).await?;
        if let Some(arm) = names::parts(&instance.name).1 {
            return self.capture_of_arm(op, &vm, instance, arm).await;
        }
        vm.marked()?;
        let name = names::capture(&op.key);
        if vm.snapshot(&name).is_none() {
            self.track_again(op, &mut vm).await?;
            self.snapshot(op, &mut vm, &name, want).await?;
        }
        let snapshot = vm.snapshot(&name).cloned().ok_or_else(|| lost(&vm))?;
        self.note_capture(op, &mut vm, &snapshot).await?;
        self.captured(&op.key, &vm, &snapshot).await
    }

    /// Quiesced where that is wanted and works, else as it stands.
    async fn snapshot(&self, op: &Op, vm: &mut Vm, name: &str, want: Consistency) -> Result<()> {
        let mut told = Described::new(op);
        told.over = vm.snapshots().map(|s| s.name.clone()).filter(|n| names::is_capture(n)).collect();
        if want > Consistency::Crash {
            // VMware asks the file systems of a Linux guest, and the writers of a Windows guest.
            let (reaches, why) = reaches(&vm.details);
            let reached = want.min(reaches);
            told.reached = Some(reached);
            told.why = (reached < want).then(|| why.to_owned());
            match self.quiesced(vm, name, &told).await? {
                Ok(()) => return Ok(()),
                Err(reason) => told.why = Some(reason),
            }
        }
        told.reached = Some(Consistency::Crash);
        self.take(vm, name, &told, false).await??;
        Ok(())
    }

    /// Or why not.
    async fn quiesced(
        &self,
        vm: &mut Vm,
        name: &str,
        told: &Described,
    ) -> Result<std::result::Result<(), String>> {
        if !vm.is_on() {
            return Ok(Err("the machine is off: there is nothing to bring to rest".into()));
        }
        if !vm.details.tools.running {
            return Ok(Err("VMware Tools do not run in the guest".into()));
        }
        let error = match self.take(vm, name, told, true).await? {
            Ok(_) => return Ok(Ok(())),
            Err(error) => error,
        };
        match error.fault() {
            Some(Fault::QuiesceFailed | Fault::ToolsUnavailable | Fault::InvalidState | Fault::Other(_)) => {
                Ok(Err(format!("the guest was not brought to rest: {error}")))
            }
            _ => Err(error.into()),
        }
    }

    /// All that is told of a capture is read from its snapshot, so that it is told alike however often.
    async fn captured(&self, key: &OpKey, vm: &Vm, snapshot: &Snapshot) -> Result<Capture> {
        let mark = vm.marked()?;
        let devices = self.vim.snapshot_devices(&snapshot.moref).await?;
        let followed = vm.notes.tracking.as_ref().is_some_and(|tracking| tracking.captures.contains(key));
        let cursor = match position(mark, &devices) {
            Some(disks) if followed && !disks.is_empty() => {
                let at = Position::Taken { machine: mark.machine.clone(), key: key.clone(), disks };
                Some(at.cursor(mark.generation))
            }
            _ => None,
        };
        self.saw(vm).await?;
        let told = Described::of(snapshot);
        let why = told.as_ref().and_then(|told| told.why.clone());
        let reached = told.and_then(|told| told.reached).unwrap_or(Consistency::Crash);
        // What the server says of it counts more than what was asked for.
        let at_rest = snapshot.quiesced || reached <= Consistency::Crash;
        let consistency = if at_rest { reached } else { Consistency::Crash };
        let ignored =
            (!at_rest).then(|| "the server took the snapshot without bringing the guest to rest".to_owned());
        Ok(Capture {
            cut: CutId(key.0.clone()),
            taken: snapshot.taken.unwrap_or_else(|| self.clock.now()),
            consistency,
            quiesce_failed: ignored.or(why),
            members: vec![Member {
                machine: self.standing(vm, mark, &devices).await?,
                cursor,
                sidecars: vec![],
            }],
        })
    }

    async fn standing(&self, vm: &Vm, mark: &Mark, devices: &Devices) -> Result<site_recovery::Machine> {
        let networks = Networks::of(self.vim.networks().await?);
        Ok(describe(&self.name, &vm.machine, &vm.details, devices, Some(mark), &networks))
    }

    /// An arm that was kept is an instant by itself.
    async fn capture_of_arm(&self, op: &Op, vm: &Vm, instance: &Instance, arm: &str) -> Result<Capture> {
        let missing = || not_found(format!("{} has no arm {arm}", vm.name));
        let snapshot = vm.snapshot(arm).ok_or_else(missing)?;
        let devices = self.vim.snapshot_devices(&snapshot.moref).await?;
        let machine = self.standing(vm, vm.marked()?, &devices).await?.standing_as(instance.clone());
        Ok(Capture {
            cut: CutId(op.key.0.clone()),
            taken: snapshot.taken.unwrap_or_else(|| self.clock.now()),
            consistency: Consistency::Crash,
            quiesce_failed: None,
            members: vec![Member { machine, cursor: None, sidecars: vec![] }],
        })
    }

    /// The snapshot that a member of a capture is.
    pub(crate) fn snapshot_of(&self, vm: &Vm, capture: &Capture, instance: &Instance) -> Result<Snapshot> {
        let name = match names::parts(&instance.name).1 {
            Some(arm) => arm.to_owned(),
            None => names::capture(&OpKey(capture.cut.0.clone())),
        };
        vm.snapshot(&name).cloned().ok_or_else(|| lost(vm))
    }

    pub(crate) async fn release(
        &self,
        op: &Op,
        capture: &Capture,
        instance: &Instance,
        fate: Fate,
    ) -> Result<()> {
        let (turn, mut vm) = match self.turned(op, instance).await {
            // With the machine its captures are gone.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if fate == Fate::Sealed {
            self.note_sealed(op, &mut vm, &OpKey(capture.cut.0.clone())).await?;
        }
        let Ok(snapshot) = self.snapshot_of(&vm, capture, instance) else {
            self.let_go_strays(&vm).await?;
            return self.merge_leftovers(&mut vm).await;
        };
        if names::parts(&instance.name).1.is_some() {
            return self.let_go(&snapshot).await;
        }
        // A change id outlives its snapshot: what became of the capture makes no difference. Where an answer was lost there are two.
        let all: Vec<Snapshot> = vm.snapshots().filter(|s| s.name == snapshot.name).cloned().collect();
        let mut removals = vec![];
        for one in &all {
            self.let_go(one).await?;
            removals.push(self.vim.remove_snapshot(&one.moref).await);
        }
        // Merging may take hours, and whoever fences or claims waits for none of them.
        drop(turn);
        let mut failed = None;
        for removal in removals {
            let removed = match removal {
                Ok(task) => task.wait(self.patience.merge).await.map(drop),
                Err(e) => Err(e),
            };
            failed = failed.or(removed.err());
        }
        let (_turn, mut vm) = match self.turned(op, instance).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        match failed {
            Some(e) if vm.snapshot(&snapshot.name).is_some() => return Err(e.into()),
            _ => {}
        }
        self.merge_leftovers(&mut vm).await
    }

    /// Removes captures of a machine but those of `keep`; nobody else's snapshot.
    pub(crate) async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (_turn, mut vm) = match self.turned(op, instance).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
            found => found?,
        };
        self.sweep_captures(&mut vm, keep).await
    }

    pub(crate) async fn sweep_captures(&self, vm: &mut Vm, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        if vm.notes.landing.as_ref().is_some_and(|landing| landing.attached) {
            // Nothing is merged under disks that another machine writes; what was left went when they were attached.
            return Ok(vec![]);
        }
        let kept: Vec<String> = keep.iter().map(names::capture).collect();
        let goes = |s: &&Snapshot| {
            names::is_capture(&s.name) && !kept.contains(&s.name) || s.name == names::tracking()
        };
        let left: Vec<Snapshot> = vm.snapshots().filter(goes).cloned().collect();
        let mut gone = vec![];
        for snapshot in left {
            self.let_go(&snapshot).await?;
            self.drop_snapshot(vm, &snapshot.moref).await?;
            gone.extend(
                Described::of(&snapshot).filter(|_| names::is_capture(&snapshot.name)).map(|told| told.key),
            );
        }
        self.let_go_strays(vm).await?;
        self.merge_leftovers(vm).await?;
        Ok(gone)
    }
}

/// How far VMware brings a guest to rest, and why no further: for the writers of a Windows guest it needs to tell its disks apart
/// (`disk.EnableUUID`), at SCSI controllers alone.
fn reaches(details: &site_recovery_vim::Details) -> (Consistency, &'static str) {
    if crate::describe::family(details) != OsFamily::Windows {
        return (Consistency::FileSystem, "the guest's tools freeze file systems alone");
    }
    let devices = &details.devices;
    let scsi = devices.disks.iter().all(|d| devices.controller_of(d).is_some_and(|c| c.kind.is_scsi()));
    match details.disk_uuid && scsi {
        true => (Consistency::Application, ""),
        false => (
            Consistency::FileSystem,
            "VMware asks the writers of a Windows guest only with disk.EnableUUID, and with all disks at SCSI controllers",
        ),
    }
}

fn lost(vm: &Vm) -> Error {
    not_found(format!("the capture of {} was released, swept, or its snapshot was removed", vm.name))
}
