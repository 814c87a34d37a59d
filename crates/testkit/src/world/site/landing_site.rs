use super::super::disk::{cut, extents};
use super::super::vm::{Tracking, Vm, VmDisk};
use super::Site;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Armed, BootPermit, Booted, Disk, DiskId, DiskMut, DiskSpec, Error, ErrorKind, Extent, Finding,
    Generation, Instance, LandingSite, Machine, Offer, Offers, Op, PointId, Pool, Random, Recovery, Result,
    Run, Settings, Severity, Stamp, Survey,
};
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl LandingSite for Site {
    async fn survey(&self, machine: &Machine, _settings: &Settings) -> Result<Survey> {
        self.ask("survey", |state| {
            let own = state.vms.values().find(|vm| vm.instance().machine == *machine.id());
            let findings = own.filter(|vm| vm.runs()).map(|vm| {
                let cause = format!("{} runs here", vm.instance().name);
                Finding::new("landing.running", Severity::Critical, cause, "stop and fence it")
            });
            Ok(Survey { findings: findings.into_iter().collect(), offers: offers() })
        })
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        _settings: &Settings,
    ) -> Result<Instance> {
        self.act("attach", op, machine.id(), |state| {
            let name = match existing {
                Some(existing) => state.vm(&existing)?.instance().name.clone(),
                None => match state.made_by(&op.key) {
                    Some(vm) => vm.instance().name.clone(),
                    None => {
                        let name = state.free_name(&machine.proper_name());
                        let instance = Instance {
                            site: self.name.clone(),
                            name: name.clone(),
                            ..machine.instance.clone()
                        };
                        let machine = Machine { disks: vec![], ..machine.standing_as(instance) };
                        let mut vm = Vm::new(machine, vec![], Tracking::new(self.random.bits()));
                        vm.made_by = Some(op.key.clone());
                        state.vms.insert(name.clone(), vm);
                        name
                    }
                },
            };
            let vm = state.vms.get_mut(&name).expect("found or made above");
            if vm.marked && vm.instance().machine != *machine.id() {
                let message = format!("{name} carries the mark of {}", vm.instance().machine);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            vm.must_be_off()?;
            for spec in machine.included() {
                self.fit(vm, spec);
            }
            vm.machine.instance.machine = machine.id().clone();
            (vm.marked, vm.exists, vm.blocked) = (true, true, true);
            (vm.held, vm.landed) = (true, true);
            Ok(vm.instance().clone())
        })
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        self.ask("disk", |state| {
            let vm = state.landed(instance)?;
            if !vm.held {
                let message = format!("the disks of {} are its own: attach them first", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            let size = vm.disk(disk)?.bytes.len() as u64;
            let (site, instance, disk) = (self.clone(), instance.clone(), disk.clone());
            Ok(Arc::new(LandingDisk { site, instance, disk, size, since: vm.handles }) as Arc<dyn DiskMut>)
        })
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.ask("stamp", |state| Ok(Some(state.landed(instance)?.stamp())))
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.act("branch", op, &instance.machine, |state| {
            if state.switches.no_branches {
                return Err(Error::new(ErrorKind::Unsupported, "this site puts no branch under disks"));
            }
            let vm = state.landed(instance)?;
            vm.must_be_off()?;
            vm.branch();
            vm.end_handles();
            Ok(())
        })
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.act("part", op, &instance.machine, |state| {
            if let Some(kept) = state.made_by(&op.key) {
                return Ok(kept.instance().clone());
            }
            let name = format!("{}-{}", instance.name, op.key.to_name());
            let vm = state.landed(instance)?;
            vm.must_be_off()?;
            let above = vm.instance().generation;
            let Some(disks) = vm.part() else {
                return Err(Error::new(ErrorKind::Refused, format!("{} has no branch", instance.name)));
            };
            vm.blocked = true;
            vm.end_handles();
            let kept = Instance { name: name.clone(), generation: above, ..vm.instance().clone() };
            let mut aside = Vm::new(vm.machine.standing_as(kept.clone()), disks, vm.tracking.clone());
            aside.tracking.id = self.random.bits();
            (aside.marked, aside.held, aside.landed) = (true, true, true);
            aside.made_by = Some(op.key.clone());
            state.vms.insert(name, aside);
            Ok(kept)
        })
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.act("merge", op, &instance.machine, |state| {
            let vm = state.landed(instance)?;
            vm.below = None;
            vm.end_handles();
            Ok(())
        })
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.act("arm", op, &instance.machine, |state| {
            let tracks = !state.switches.no_tracking;
            let vm = state.landed(instance)?;
            vm.machine.instance.generation = generation;
            let cursor = tracks.then(|| vm.cursor());
            Ok(Armed { instance: vm.instance().clone(), cursor, point: PointId(0) })
        })
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.act("detach", op, &instance.machine, |state| {
            let vm = state.landed(instance)?;
            vm.held = false;
            vm.end_handles();
            Ok(())
        })
    }

    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        self.act("start", op, &instance.machine, |state| {
            state.landed(instance)?;
            state.boot(&self.name, op, instance, what.purpose, &permit)
        })
    }

    async fn stop(&self, op: &Op, instance: &Instance, _grace: Duration) -> Result<()> {
        self.act("stop", op, &instance.machine, |state| {
            let vm = state.landed(instance)?;
            (vm.runs_in, vm.blocked) = (None, true);
            Ok(())
        })
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.act("remove", op, &instance.machine, |state| state.remove_ours(instance))
    }
}

impl Site {
    /// Makes the disk, or makes it as large as it must be.
    fn fit(&self, vm: &mut Vm, spec: &DiskSpec) {
        let id = self.random.bits();
        match vm.disks.iter_mut().find(|d| d.id == spec.id) {
            Some(disk) if (disk.bytes.len() as u64) < spec.size => {
                Arc::make_mut(&mut disk.bytes).resize(spec.size as usize, 0);
                vm.tracking.id = id;
            }
            Some(_) => {}
            None => {
                let bytes = Arc::new(vec![0; spec.size as usize]);
                let (label, id) = (self.label(&spec.id), spec.id.clone());
                vm.disks.push(VmDisk { label, id, role: spec.role, included: true, bytes });
            }
        }
    }
}

/// What the site offers for disks and retention.
pub(in crate::world) fn offers() -> Offers {
    let offer = |name: &str, ineligible: Option<&str>| Offer {
        name: name.to_owned(),
        size: 1 << 40,
        free: 1 << 39,
        ineligible: ineligible.map(str::to_owned),
    };
    Offers {
        datastores: vec![offer("datastore1", None), offer("iso", Some("read-only"))],
        retention_volumes: vec![offer("retention", None)],
    }
}

/// A handle to a landing disk: it ends when the site says so.
#[derive(Debug)]
struct LandingDisk {
    site: Site,
    instance: Instance,
    disk: DiskId,
    size: u64,
    since: u64,
}

impl LandingDisk {
    fn with<T>(&self, operation: &'static str, f: impl FnOnce(&mut Vm) -> Result<T>) -> Result<T> {
        self.site.ask(operation, |state| {
            let vm = state.vm(&self.instance)?;
            if vm.handles != self.since || !vm.held {
                let message =
                    format!("this handle to disk {} of {} has ended", self.disk, self.instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            f(vm)
        })
    }
}

#[async_trait]
impl Disk for LandingDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let inside = range.intersection(Run::new(0, self.size));
        self.with("disk.extents", |vm| match inside {
            Some(inside) => Ok(extents(&vm.disk(&self.disk)?.bytes, inside)),
            None => Ok(vec![]),
        })
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let bytes = self.with("disk.read", |vm| Ok(Arc::clone(&vm.disk(&self.disk)?.bytes)))?;
        let mut block = pool.take(cut(&bytes, run)?.len()).await?;
        block.copy_from_slice(cut(&bytes, run)?);
        Ok(block.freeze())
    }
}

#[async_trait]
impl DiskMut for LandingDisk {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.with("disk.write", |vm| {
            vm.must_be_off()?;
            vm.write(&self.disk, start, &data)
        })
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.with("disk.zero", |vm| {
            vm.must_be_off()?;
            cut(&vm.disk(&self.disk)?.bytes, run)?;
            vm.write(&self.disk, run.start, &vec![0; run.len as usize])
        })
    }

    async fn flush(&self) -> Result<()> {
        self.with("disk.flush", |_| Ok(()))
    }
}
