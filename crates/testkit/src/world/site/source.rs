use super::super::disk::Frozen;
use super::super::vm::{FenceMark, Network, Vm};
use super::{Held, Site};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, Changes, Clock, Consistency, Cursor, CutId, Disk, Disks, Error, ErrorKind, Fate,
    Instance, Lifted, Machine, MachineId, Member, Op, OpKey, Power, Purpose, Result, Source, Start,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

#[async_trait]
impl Source for Site {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.ask("discover", |state| {
            Ok(state.vms.values().filter(|vm| vm.exists).map(Vm::describe).collect())
        })
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        self.act("enrol", op, machine.id(), |state| {
            let vm = state.vm(&machine.instance)?;
            if vm.marked && vm.instance().machine != *machine.id() {
                let message = format!("{} carries the mark of {}", vm.instance().name, vm.instance().machine);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            machine.must_fit(&vm.describe())?;
            vm.marked = true;
            vm.machine.instance.machine = machine.id().clone();
            let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ids = BTreeMap::new();
            for (disk, spec) in vm.disks.iter_mut().zip(&machine.disks) {
                labels.insert(spec.id.clone(), disk.label.clone());
                ids.insert(std::mem::replace(&mut disk.id, spec.id.clone()), spec.id.clone());
                disk.included = spec.included;
            }
            vm.tracking.rename(&ids);
            Ok(())
        })
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let id = self.random_id();
        self.act("dismiss", op, &instance.machine, |state| {
            let vm = state.vm(instance)?;
            (vm.marked, vm.tracking.id) = (false, id);
            for held in state.captures.values_mut() {
                held.members.retain(|_, (of, ..)| !of.is(instance));
            }
            state.captures.retain(|_, held| !held.members.is_empty());
            Ok(())
        })
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let names: BTreeSet<&str> = of.iter().map(|i| i.name.as_str()).collect();
        if of.is_empty() || names.len() < of.len() {
            let rule = "a capture has members, each of them once";
            return Err(Error::invalid("of", format!("{names:?}"), rule, "name each machine once")
                .at(&self.name, "capture"));
        }
        self.ask("capture", |state| {
            state.register.pass_all(op, of.iter().map(|i| &i.machine))?;
            let cut = CutId(op.key.0.clone());
            if let Some(held) = state.captures.get(&cut) {
                return Ok(held.capture.clone());
            }
            let refused = state.switches.quiesce_refused.clone();
            let quiesce_failed = refused.filter(|_| want > Consistency::Crash);
            let reached =
                if quiesce_failed.is_some() { Consistency::Crash } else { want.max(Consistency::Crash) };
            let (tracks, captures_off) = (!state.switches.no_tracking, !state.switches.no_captures_off);
            let (mut members, mut bytes) = (vec![], BTreeMap::new());
            for instance in of {
                let vm = state.vm(instance)?;
                if !captures_off && !vm.runs() {
                    let message =
                        format!("{} is off, and this site cannot read its disks then", instance.name);
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
                let mut machine = vm.describe();
                machine.instance.machine = instance.machine.clone();
                bytes.insert(instance.machine.clone(), (instance.clone(), vm.tracking.seq, vm.content()));
                let cursor = tracks.then(|| vm.cursor());
                members.push(Member { machine, cursor, sidecars: vec![] });
            }
            let taken = self.clock.now();
            let capture = Capture { cut: cut.clone(), taken, consistency: reached, quiesce_failed, members };
            state.captures.insert(cut, Held { capture: capture.clone(), members: bytes });
            Ok(capture)
        })
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let member = capture.member(machine)?;
        self.ask("changes", |state| {
            let lost = |reason: &str| Ok(Changes::Lost { reason: reason.to_owned() });
            let captured = state.captures.get(&capture.cut).and_then(|h| h.members.get(machine));
            let Some(captured) = captured.map(|(_, seq, _)| *seq) else {
                return Err(gone(capture, machine));
            };
            let tracks = !state.switches.no_tracking;
            let vm = state.vm(&member.machine.instance)?;
            if !tracks || vm.instance().generation != since.generation {
                return lost("the cursor belongs to another generation");
            }
            match vm.tracking.position(&since.token) {
                None => lost("the tracking of this cursor is not there any more"),
                Some(position) if position > captured => lost("the cursor is newer than the capture"),
                Some(position) => Ok(Changes::Known(vm.tracking.since(position, &vm.disks))),
            }
        })
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        self.act("disks", op, machine, |state| {
            let held = state.captures.get(&capture.cut).and_then(|h| h.members.get(machine));
            let (_, _, content) = held.ok_or_else(|| gone(capture, machine))?;
            let frozen = |bytes: &Arc<Vec<u8>>| {
                let (bytes, down) = (Arc::clone(bytes), Some(Arc::clone(&self.down)));
                Arc::new(Frozen { bytes, down, _lease: None }) as Arc<dyn Disk>
            };
            Ok(content.iter().map(|(id, bytes)| (id.clone(), frozen(bytes))).collect())
        })
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, _fate: Fate) -> Result<()> {
        // Every write is tracked for ever here, so that no fate makes a difference.
        self.act("release", op, machine, |state| {
            if let Some(held) = state.captures.get_mut(&capture.cut) {
                held.members.remove(machine);
                if held.members.is_empty() {
                    state.captures.remove(&capture.cut);
                }
            }
            Ok(())
        })
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        self.act("sweep", op, &instance.machine, |state| {
            let mut swept = vec![];
            for (cut, held) in &mut state.captures {
                let key = OpKey(cut.0.clone());
                let before = held.members.len();
                if !keep.contains(&key) {
                    held.members.retain(|_, (of, ..)| !of.is(instance));
                }
                if held.members.len() < before {
                    swept.push(key);
                }
            }
            state.captures.retain(|_, held| !held.members.is_empty());
            Ok(swept)
        })
    }

    async fn consolidate(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.act("consolidate", op, &instance.machine, |state| {
            let vm = state.vm(instance)?;
            if vm.runs() {
                let message = format!("{} runs: its snapshots are not merged under it", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            vm.machine.guest.snapshots = Some(0);
            Ok(())
        })
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        self.ask("power", |state| {
            let tells = state.switches.tells;
            Ok(state.vm(instance)?.power(tells))
        })
    }

    async fn fence(&self, op: &Op, instance: &Instance, _grace: Duration) -> Result<()> {
        let at = self.clock.now();
        self.act("fence", op, &instance.machine, |state| {
            if state.switches.no_fences {
                return Err(Error::new(ErrorKind::Unsupported, "this site cannot fence"));
            }
            let vm = state.vm(instance)?;
            let ran = vm.runs();
            vm.fence.get_or_insert_with(|| FenceMark { by: op.clone(), at, ran });
            (vm.runs_in, vm.blocked) = (None, true);
            Ok(())
        })
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        self.act("unfence", op, &instance.machine, |state| {
            permit.admits(op, instance, Purpose::Failover)?;
            let vm = state.vm(instance)?;
            let ran = vm.fence.as_ref().is_some_and(|mark| mark.ran);
            let wanted = start == Start::Run || start == Start::AsBefore && ran;
            if wanted && !vm.runs() && !vm.started.contains(&op.key) {
                return Ok(Lifted { running: state.start(&op.key, instance, Network::Production)? });
            }
            // A key that has had its effect lifts no fence that was made since.
            if vm.started.insert(op.key.clone()) {
                (vm.blocked, vm.fence) = (false, None);
            }
            Ok(Lifted { running: vm.runs() })
        })
    }
}

impl Site {
    fn random_id(&self) -> u64 {
        site_recovery::Random::bits(&self.random)
    }
}

fn gone(capture: &Capture, machine: &MachineId) -> Error {
    Error::new(ErrorKind::NotFound, format!("{machine} has no capture {}", capture.cut))
}
