//! A site of machines made of byte arrays, and the truth about it.

mod landing_site;
mod recovery_site;
mod source;

pub(super) use landing_site::offers;
pub(super) use recovery_site::field;

use super::register::Register;
use super::vm::{FenceMark, Network, Tracking, Vm, VmDisk};
use super::{BLOCK, Image, ManualClock, SeededRandom};
use async_trait::async_trait;
use site_recovery::{
    Capability, Capture, CutId, DiskId, DiskRole, Error, ErrorKind, Firmware, Generation, GuestFacts,
    Instance, Machine, MachineId, Nic, Op, OpKey, OsFamily, Platform, Random, Result, Role, RoleName,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A site: `Source`, `RecoverySite` with `Target`, and `LandingSite` over the same machines. Clones share them.
///
/// Check and effect of every method are one act under one lock, so a register never passes a call whose effect comes
/// after a `claim`. The inherent methods are the ground truth: what guests, operators and outsiders do and see around
/// the roles; no switch and no outage keeps them from it.
#[derive(Debug, Clone)]
pub struct Site {
    name: RoleName,
    clock: ManualClock,
    random: SeededRandom,
    /// The labels of disks by their ids, shared by the sites of one world.
    labels: Arc<Mutex<BTreeMap<DiskId, String>>>,
    down: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    vms: BTreeMap<String, Vm>,
    register: Register,
    captures: BTreeMap<CutId, Held>,
    /// Keys of `materialise` that were taken back.
    withdrawn: BTreeSet<OpKey>,
    starts: BTreeMap<(String, OpKey), u32>,
    switches: Switches,
}

/// A capture and the bytes of its members that were not released yet.
#[derive(Debug)]
struct Held {
    capture: Capture,
    members: BTreeMap<MachineId, (Instance, u64, super::disk::Content)>,
}

#[derive(Debug, Default)]
struct Switches {
    tells: bool,
    no_branches: bool,
    no_fences: bool,
    no_captures_off: bool,
    no_tracking: bool,
    boot_refused: Option<String>,
    quiesce_refused: Option<String>,
}

impl Site {
    pub(super) fn new(
        name: &str,
        clock: ManualClock,
        random: SeededRandom,
        labels: Arc<Mutex<BTreeMap<DiskId, String>>>,
    ) -> Self {
        let (down, state) = (Arc::default(), Arc::default());
        Self { name: name.into(), clock, random, labels, down, state }
    }

    /// Adds a machine that runs, of these disks, the system disk first. The first half of each disk holds bytes of the
    /// world's seed, the rest zeros. Returns it as `discover` tells it: not enrolled, with its plain names as ids.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn add_machine(&self, name: &str, disks: &[(&str, u64)]) -> Machine {
        let instance = Instance {
            machine: name.into(),
            site: self.name.clone(),
            name: name.to_owned(),
            generation: Generation(0),
        };
        let disks = disks.iter().enumerate().map(|(at, (label, size))| {
            let mut bytes = self.random.bytes(*size as usize / 2);
            bytes.resize(*size as usize, 0);
            let role = if at == 0 { DiskRole::System } else { DiskRole::Data };
            let (label, id) = ((*label).to_owned(), (*label).into());
            VmDisk { label, id, role, included: true, bytes: Arc::new(bytes) }
        });
        let mut vm = Vm::new(plain(instance), disks.collect(), Tracking::new(self.random.bits()));
        (vm.runs_in, vm.blocked) = (Some(Network::Production), false);
        let machine = vm.describe();
        let before = self.state().vms.insert(name.to_owned(), vm);
        assert!(before.is_none(), "{name} is at {} already", self.name);
        machine
    }

    /// The guest writes. `disk` is its label or its id.
    ///
    /// # Panics
    /// When the machine is off, or the disk or the place on it is not there.
    pub fn write(&self, name: &str, disk: &str, offset: u64, bytes: &[u8]) {
        self.truth(name, |vm| {
            assert!(vm.runs(), "{name} is off and cannot write");
            let found = vm.disks.iter().find(|d| d.label == disk || d.id.as_str() == disk);
            let id = found.unwrap_or_else(|| panic!("{name} has no disk {disk}")).id.clone();
            vm.write(&id, offset, bytes).unwrap_or_else(|e| panic!("{name} cannot write: {e}"));
        });
    }

    /// The guest writes `count` blocks of random bytes at random places of its disks.
    ///
    /// # Panics
    /// When the machine is off.
    pub fn scribble(&self, name: &str, count: u32) {
        let disks: Vec<(String, u64)> =
            self.truth(name, |vm| vm.disks.iter().map(|d| (d.label.clone(), d.bytes.len() as u64)).collect());
        for _ in 0..count {
            let (label, size) = &disks[self.random.below(disks.len() as u64) as usize];
            let offset = self.random.below(size.div_ceil(BLOCK)) * BLOCK;
            let len = BLOCK.min(size - offset);
            self.write(name, label, offset, &self.random.bytes(len as usize));
        }
    }

    /// The bytes of a machine's disks, by label: equal at both sites when the disks are.
    ///
    /// # Panics
    /// When neither machine nor disks exist.
    pub fn bytes(&self, name: &str) -> Image {
        self.truth(name, |vm| vm.disks.iter().map(|d| (d.label.clone(), d.bytes.to_vec())).collect())
    }

    /// Names of the machines that run in the production network.
    pub fn running(&self) -> Vec<String> {
        self.running_in(&Network::Production)
    }

    /// Names of the machines that run in this isolated network.
    pub fn isolated(&self, network: &str) -> Vec<String> {
        self.running_in(&Network::Isolated(network.to_owned()))
    }

    /// Names of all machines, and of disks without a machine.
    pub fn all(&self) -> Vec<String> {
        self.state().vms.keys().cloned().collect()
    }

    /// The machine as it really is; none when it is not there.
    pub fn machine(&self, name: &str) -> Option<Machine> {
        self.state().vms.get(name).map(Vm::describe)
    }

    /// Captures that are still held, oldest key first.
    pub fn captures(&self) -> Vec<OpKey> {
        self.state().captures.keys().map(|c| OpKey(c.0.clone())).collect()
    }

    /// How often each key really started this machine: more than once is a broken promise.
    pub fn starts(&self, name: &str) -> BTreeMap<OpKey, u32> {
        let state = self.state();
        state.starts.iter().filter(|((n, _), _)| n == name).map(|((_, k), n)| (k.clone(), *n)).collect()
    }

    /// The fence that stands on the machine, if there is one.
    pub fn fenced(&self, name: &str) -> Option<FenceMark> {
        self.truth(name, |vm| vm.fence.clone())
    }

    /// Takes the site down, or brings it back: while it is down every role method is `Unavailable`, and guests go on.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// All change tracking is lost: every cursor so far is worthless.
    pub fn forget_tracking(&self) {
        for vm in self.state().vms.values_mut() {
            vm.tracking.id = self.random.bits();
        }
    }

    /// Whether a machine that is off can be started from outside, and tells so by its stamp; otherwise it is blocked.
    pub fn tells(&self, tells: bool) {
        self.state().switches.tells = tells;
    }

    /// Somebody starts the machine past us. False when a block keeps it off.
    pub fn start_outside(&self, name: &str) -> bool {
        let tells = self.state().switches.tells;
        self.truth(name, |vm| {
            if vm.runs() {
                return true;
            }
            let can = vm.exists && (tells || !(vm.blocked || vm.held));
            if can {
                vm.outside_starts += 1;
                vm.runs_in = Some(Network::Production);
            }
            can
        })
    }

    /// Somebody with all rights takes block and fence mark off by hand and starts the machine.
    pub fn break_in(&self, name: &str) {
        self.truth(name, |vm| {
            (vm.blocked, vm.held, vm.fence, vm.exists) = (false, false, None, true);
            if !vm.runs() {
                vm.outside_starts += 1;
                vm.runs_in = Some(Network::Production);
            }
        });
    }

    /// The machine goes off, by its guest or by somebody's hand. Nothing is blocked by that.
    pub fn stop_outside(&self, name: &str) {
        self.truth(name, |vm| vm.runs_in = None);
    }

    /// Somebody removes the machine and leaves its disks.
    pub fn unregister_outside(&self, name: &str) {
        self.truth(name, |vm| (vm.runs_in, vm.exists, vm.blocked) = (None, false, false));
    }

    /// Somebody removes the machine with its disks.
    pub fn destroy_outside(&self, name: &str) {
        self.state().vms.remove(name);
    }

    /// A disk grows by zeros; change tracking does not survive it.
    ///
    /// # Panics
    /// When the disk is not there, or would shrink.
    pub fn grow(&self, name: &str, disk: &str, size: u64) {
        let id = self.random.bits();
        self.truth(name, |vm| {
            let found = vm.disks.iter_mut().find(|d| d.label == disk || d.id.as_str() == disk);
            let bytes = &mut found.unwrap_or_else(|| panic!("{name} has no disk {disk}")).bytes;
            assert!(bytes.len() as u64 <= size, "a disk never shrinks");
            Arc::make_mut(bytes).resize(size as usize, 0);
            vm.tracking.id = id;
        });
    }

    /// People call the machine something else, or by its name again.
    pub fn entitle(&self, name: &str, title: Option<&str>) {
        self.truth(name, |vm| vm.machine.title = title.map(str::to_owned));
    }

    /// The guest reports this address on its first adapter.
    pub fn address(&self, name: &str, address: std::net::IpAddr) {
        self.truth(name, |vm| {
            vm.machine.nics.iter_mut().take(1).for_each(|nic| nic.addresses = vec![address.to_string()]);
        });
    }

    /// Somebody makes a snapshot of the machine that is not ours.
    pub fn snapshot_outside(&self, name: &str) {
        self.truth(name, |vm| *vm.machine.guest.snapshots.get_or_insert(0) += 1);
    }

    /// How many snapshots the machine has that are not ours.
    pub fn snapshots(&self, name: &str) -> u32 {
        self.machine(name).and_then(|m| m.guest.snapshots).unwrap_or(0)
    }

    /// Somebody adds an empty disk to the machine.
    pub fn add_disk(&self, name: &str, disk: &str, size: u64) {
        self.truth(name, |vm| {
            vm.disks.push(VmDisk {
                label: disk.to_owned(),
                id: disk.into(),
                role: DiskRole::Data,
                included: false,
                bytes: Arc::new(vec![0; size as usize]),
            });
        });
    }

    /// From now on nothing boots here, for this reason, until [`allow_boot`](Self::allow_boot).
    pub fn refuse_boot(&self, reason: &str) {
        self.state().switches.boot_refused = Some(reason.to_owned());
    }

    /// Machines boot again.
    pub fn allow_boot(&self) {
        self.state().switches.boot_refused = None;
    }

    /// From now on guests do not quiesce, for this reason: captures are crash-consistent.
    pub fn refuse_quiesce(&self, reason: &str) {
        self.state().switches.quiesce_refused = Some(reason.to_owned());
    }

    /// A site that cannot put a branch under disks. Call it before anything else.
    #[must_use]
    pub fn without_branches(self) -> Self {
        self.state().switches.no_branches = true;
        self
    }

    /// A site that cannot fence. Call it before anything else.
    #[must_use]
    pub fn without_fences(self) -> Self {
        self.state().switches.no_fences = true;
        self
    }

    /// A site that cannot read the disks of a machine that is off. Call it before anything else.
    #[must_use]
    pub fn without_captures_off(self) -> Self {
        self.state().switches.no_captures_off = true;
        self
    }

    /// A site that does not track changes. Call it before anything else.
    #[must_use]
    pub fn without_tracking(self) -> Self {
        self.state().switches.no_tracking = true;
        self
    }

    fn running_in(&self, network: &Network) -> Vec<String> {
        let state = self.state();
        state
            .vms
            .iter()
            .filter(|(_, vm)| vm.runs_in.as_ref() == Some(network))
            .map(|(n, _)| n.clone())
            .collect()
    }

    fn truth<T>(&self, name: &str, f: impl FnOnce(&mut Vm) -> T) -> T {
        let mut state = self.state();
        f(state.vms.get_mut(name).unwrap_or_else(|| panic!("{} has no machine {name}", self.name)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a role method reads; `Unavailable` while the site is down.
    fn ask<T>(&self, operation: &'static str, f: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        if self.down.load(Ordering::SeqCst) {
            let error = Error::new(ErrorKind::Unavailable, "the site does not answer");
            return Err(error.at(&self.name, operation));
        }
        f(&mut self.state()).map_err(|e| e.at(&self.name, operation))
    }

    /// What a role method changes: past the register, and in the same act.
    fn act<T>(
        &self,
        operation: &'static str,
        op: &Op,
        machine: &MachineId,
        f: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        self.ask(operation, |state| {
            state.register.pass(op, machine)?;
            f(state)
        })
    }

    fn label(&self, id: &DiskId) -> String {
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.get(id).cloned().unwrap_or_else(|| id.0.clone())
    }
}

impl State {
    fn vm(&mut self, instance: &Instance) -> Result<&mut Vm> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{} is not here", instance.name));
        self.vms.get_mut(&instance.name).ok_or_else(missing)
    }

    /// A machine that was attached or parted.
    fn landed(&mut self, instance: &Instance) -> Result<&mut Vm> {
        let vm = self.vm(instance)?;
        if !vm.landed {
            let message = format!("{} was never attached", instance.name);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(vm)
    }

    fn made_by(&self, key: &OpKey) -> Option<&Vm> {
        self.vms.values().find(|vm| vm.made_by.as_ref() == Some(key))
    }

    /// `wish`, or the first of `wish-2`, `wish-3`, … that is free.
    fn free_name(&self, wish: &str) -> String {
        let mut names = std::iter::once(wish.to_owned()).chain((2..).map(|n: u32| format!("{wish}-{n}")));
        names.find(|n| !self.vms.contains_key(n)).expect("there is always another number")
    }

    /// Starts a machine under a key, once; returns whether it runs.
    fn start(&mut self, key: &OpKey, instance: &Instance, network: Network) -> Result<bool> {
        let vm = self.vm(instance)?;
        if vm.started.contains(key) {
            return Ok(vm.runs());
        }
        if vm.held || !vm.exists {
            let message = format!("the disks of {} are not its own now", instance.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let stood = vm.runs_in.as_ref() == Some(&network);
        (vm.blocked, vm.fence, vm.runs_in) = (false, None, Some(network));
        vm.started.insert(key.clone());
        if !stood {
            *self.starts.entry((instance.name.clone(), key.clone())).or_default() += 1;
        }
        Ok(true)
    }
}

#[async_trait]
impl Role for Site {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        let state = self.state();
        Capability {
            tracks: !state.switches.no_tracking,
            freezes: true,
            quiesces_applications: true,
            fences: !state.switches.no_fences,
            captures_off: !state.switches.no_captures_off,
            branches: !state.switches.no_branches,
            ..Capability::default()
        }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.act("claim", op, machine, |_| Ok(()))
    }
}

fn plain(instance: Instance) -> Machine {
    let nic = Nic {
        id: "nic0".into(),
        mac: Some("52:54:00:00:00:01".into()),
        network: Some(super::PRODUCTION.into()),
        addresses: vec![],
    };
    Machine {
        instance,
        title: None,
        disks: vec![],
        nics: vec![nic],
        cpus: 1,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts { snapshots: Some(0), dhcp: Some(true), ..GuestFacts::default() },
    }
}
