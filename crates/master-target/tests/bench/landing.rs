use super::{Dice, Image};
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, Cursor, Disk, DiskId, DiskMut, Error, ErrorKind, Extent, Fill,
    Generation, Instance, LandingSite, Machine, MachineId, Offers, Op, OpKey, PointId, Pool, Recovery,
    Result, Role, RoleName, Run, Settings, Stamp, Survey,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Asked before every effect: whether the process still lives.
pub type Gate = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// A landing site of byte arrays. What is not flushed may be lost by a power cut.
#[derive(Clone)]
pub struct Landing {
    state: Arc<Mutex<BTreeMap<String, Vm>>>,
    gate: Gate,
    pub branches: bool,
    pub stamps: bool,
}

#[derive(Debug, Clone, Default)]
struct Vm {
    generation: u64,
    disks: Image,
    unflushed: Vec<(DiskId, u64, Vec<u8>)>,
    durable: Image,
    below: Option<(Image, u64)>,
    attached: bool,
    running: bool,
    made: bool,
    starts: u64,
    handles: u64,
    done: BTreeMap<OpKey, Instance>,
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Landing")
    }
}

impl Landing {
    pub fn new() -> Self {
        Self { state: Arc::default(), gate: Arc::new(|| Ok(())), branches: true, stamps: true }
    }

    /// The same site, for a process that ends by this gate.
    pub fn gated(&self, gate: Gate) -> Self {
        Self { gate, ..self.clone() }
    }

    /// Another world, as this one is now.
    pub fn copy(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().unwrap().clone())), ..self.clone() }
    }

    /// A machine that stands here, off.
    pub fn add(&self, name: &str, disks: Image) {
        let vm = Vm { durable: disks.clone(), disks, ..Vm::default() };
        self.state.lock().unwrap().insert(name.into(), vm);
    }

    pub fn bytes(&self, name: &str) -> Image {
        self.state.lock().unwrap()[name].disks.clone()
    }

    pub fn all(&self) -> Vec<String> {
        self.state.lock().unwrap().keys().cloned().collect()
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.state.lock().unwrap()[name].running
    }

    /// Starting stays blocked, and the disks are in the master target's hands.
    pub fn is_attached(&self, name: &str) -> bool {
        self.state.lock().unwrap()[name].attached
    }

    /// The guest writes.
    pub fn guest(&self, name: &str, disk: &DiskId, at: u64, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let vm = state.get_mut(name).unwrap();
        assert!(vm.running, "{name} is off and cannot write");
        vm.disks.get_mut(disk).unwrap()[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        vm.durable = vm.disks.clone();
    }

    /// Somebody starts the machine past us, writes, and stops it again.
    pub fn outsider(&self, name: &str, disk: &DiskId, at: u64, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let vm = state.get_mut(name).unwrap();
        vm.starts += 1;
        vm.disks.get_mut(disk).unwrap()[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        vm.durable = vm.disks.clone();
    }

    pub fn stop(&self, name: &str) {
        self.state.lock().unwrap().get_mut(name).unwrap().running = false;
    }

    /// The power goes: of what was not flushed, any part may be lost.
    pub fn power_cut(&self, dice: &mut Dice) {
        for vm in self.state.lock().unwrap().values_mut() {
            let mut left = vm.durable.clone();
            for (disk, at, bytes) in std::mem::take(&mut vm.unflushed) {
                if dice.below(2) == 0 {
                    left.get_mut(&disk).unwrap()[at as usize..at as usize + bytes.len()]
                        .copy_from_slice(&bytes);
                }
            }
            (vm.disks, vm.durable, vm.handles) = (left.clone(), left, vm.handles + 1);
        }
    }

    fn alive(&self) -> Result<()> {
        (self.gate)().map_err(|e| Error::new(ErrorKind::Unavailable, "landing").caused_by(e))
    }

    fn with<T>(&self, instance: &Instance, f: impl FnOnce(&mut Vm) -> Result<T>) -> Result<T> {
        self.alive()?;
        let mut state = self.state.lock().unwrap();
        let missing = || Error::new(ErrorKind::NotFound, format!("{} is not here", instance.name));
        f(state.get_mut(&instance.name).ok_or_else(missing)?)
    }
}

fn refused<T>(why: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Refused, why))
}

#[async_trait]
impl Role for Landing {
    fn name(&self) -> RoleName {
        "here".into()
    }
    fn capability(&self) -> Capability {
        Capability { branches: self.branches, ..Capability::default() }
    }
    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        self.alive()
    }
}

#[async_trait]
impl LandingSite for Landing {
    async fn survey(&self, _: &Machine, _: &Settings) -> Result<Survey> {
        Ok(Survey { findings: vec![], offers: Offers::default() })
    }

    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        _: &Settings,
    ) -> Result<Instance> {
        self.alive()?;
        let made = Instance {
            name: format!("made-{}", op.key.to_name()),
            site: self.name(),
            ..machine.instance.clone()
        };
        let instance = existing.clone().unwrap_or(made);
        let mut state = self.state.lock().unwrap();
        if existing.is_none() {
            state.entry(instance.name.clone()).or_insert_with(|| Vm { made: true, ..Vm::default() });
        }
        let Some(vm) = state.get_mut(&instance.name) else {
            return Err(Error::new(ErrorKind::NotFound, instance.name));
        };
        if vm.running {
            return refused("it runs");
        }
        vm.attached = true;
        for disk in machine.included() {
            for image in [&mut vm.disks, &mut vm.durable] {
                let bytes = image.entry(disk.id.clone()).or_default();
                bytes.resize(bytes.len().max(disk.size as usize), 0);
            }
        }
        Ok(Instance { generation: Generation(vm.generation), ..instance })
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        self.with(instance, |vm| {
            if !vm.attached {
                return refused("the disks were given back");
            }
            let size = vm.disks[disk].len() as u64;
            let (site, instance, disk, handles) = (self.clone(), instance.clone(), disk.clone(), vm.handles);
            Ok(Arc::new(Handle { site, instance, disk, size, handles }) as Arc<dyn DiskMut>)
        })
    }

    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.with(instance, |vm| Ok(self.stamps.then(|| Stamp(vm.starts.to_le_bytes().to_vec()))))
    }

    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.with(instance, |vm| {
            if vm.below.is_some() || vm.done.contains_key(&op.key) {
                return Ok(());
            }
            assert!(vm.unflushed.is_empty(), "a branch over bytes that are not durable");
            vm.handles += 1;
            vm.below = Some((vm.disks.clone(), vm.generation));
            vm.done.insert(op.key.clone(), instance.clone());
            Ok(())
        })
    }

    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let name = format!("{}#{}", instance.name, op.key.to_name());
        let mut above = None;
        let kept = self.with(instance, |vm| {
            if let Some(kept) = vm.done.get(&op.key) {
                return Ok(kept.clone());
            }
            if vm.running {
                return refused("it runs");
            }
            let Some((below, generation)) = vm.below.take() else { return refused("there is no branch") };
            let kept = Instance { name, generation: Generation(vm.generation), ..instance.clone() };
            let disks = std::mem::replace(&mut vm.disks, below.clone());
            (vm.durable, vm.unflushed, vm.generation) = (below, vec![], generation);
            (vm.handles, vm.attached) = (vm.handles + 1, true);
            vm.done.insert(op.key.clone(), kept.clone());
            above = Some(Vm { durable: disks.clone(), disks, made: true, attached: true, ..Vm::default() });
            Ok(kept)
        })?;
        if let Some(above) = above {
            self.state.lock().unwrap().insert(kept.name.clone(), above);
        }
        Ok(kept)
    }

    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.with(instance, |vm| {
            if vm.done.insert(op.key.clone(), instance.clone()).is_none() {
                vm.below = None;
                vm.handles += 1;
            }
            Ok(())
        })
    }

    async fn arm(&self, _: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.with(instance, |vm| {
            vm.generation = generation.0;
            let cursor = Some(Cursor { generation, token: vec![] });
            Ok(Armed { instance: Instance { generation, ..instance.clone() }, cursor, point: PointId(0) })
        })
    }

    async fn detach(&self, _: &Op, instance: &Instance) -> Result<()> {
        self.with(instance, |vm| {
            (vm.attached, vm.handles) = (false, vm.handles + 1);
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
        permit.admits(op, instance, what.purpose)?;
        self.with(instance, |vm| {
            assert!(!vm.attached, "a machine starts on disks that somebody else may write");
            if vm.done.insert(op.key.clone(), instance.clone()).is_none() {
                vm.running = true;
            }
            Ok(Booted { reach: vec![], running: vm.running })
        })
    }

    async fn stop(&self, _: &Op, instance: &Instance, _: Duration) -> Result<()> {
        self.with(instance, |vm| {
            vm.running = false;
            Ok(())
        })
    }

    async fn remove(&self, _: &Op, instance: &Instance) -> Result<()> {
        self.alive()?;
        let mut state = self.state.lock().unwrap();
        match state.get(&instance.name) {
            Some(vm) if !vm.made => return refused("it was not made here"),
            _ => state.remove(&instance.name),
        };
        Ok(())
    }
}

#[derive(Debug)]
struct Handle {
    site: Landing,
    instance: Instance,
    disk: DiskId,
    size: u64,
    handles: u64,
}

impl Handle {
    fn with<T>(&self, f: impl FnOnce(&mut Vm) -> T) -> Result<T> {
        self.site.with(&self.instance, |vm| {
            if vm.handles == self.handles { Ok(f(vm)) } else { refused("the handle ended") }
        })
    }
}

#[async_trait]
impl Disk for Handle {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.with(|vm| {
            let zero = |run: Run| {
                vm.disks[&self.disk][run.start as usize..run.end() as usize].iter().all(|b| *b == 0)
            };
            range
                .pieces(4096)
                .map(|run| Extent { run, fill: if zero(run) { Fill::Zero } else { Fill::Data } })
                .collect()
        })
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let mut block = pool.take(run.len as usize).await?;
        self.with(|vm| {
            block.copy_from_slice(&vm.disks[&self.disk][run.start as usize..run.end() as usize]);
        })?;
        Ok(block.freeze())
    }
}

#[async_trait]
impl DiskMut for Handle {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.with(|vm| {
            assert!(vm.attached && !vm.running, "written under a machine");
            vm.disks.get_mut(&self.disk).unwrap()[start as usize..start as usize + data.len()]
                .copy_from_slice(&data);
            vm.unflushed.push((self.disk.clone(), start, data.to_vec()));
        })
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.write(run.start, vec![0; run.len as usize].into()).await
    }

    async fn flush(&self) -> Result<()> {
        self.with(|vm| {
            vm.durable.insert(self.disk.clone(), vm.disks[&self.disk].clone());
            vm.unflushed.retain(|(disk, ..)| disk != &self.disk);
        })
    }
}
