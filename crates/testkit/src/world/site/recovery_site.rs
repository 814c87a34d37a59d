use super::super::vm::{Network, Tracking, Vm, VmDisk};
use super::super::{ISOLATED, PRODUCTION};
use super::{Site, State};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Disk, DiskSpec, Error, ErrorKind, Finding, Instance, Machine, MachineId, Op,
    OpKey, Pool, Purpose, Random, Recovery, RecoverySite, Replica, Result, Run, Settings, Target,
};
use std::sync::Arc;

#[async_trait]
impl RecoverySite for Site {
    async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        self.ask("check", |state| {
            let mut findings = vec![];
            let valid = machine.validate().and_then(|()| settings.validate());
            if let Err(error) = valid {
                findings.push(Finding::setting(field(&error), "not valid", error.message(), "change it"));
            }
            if let Some(name) = settings.name.as_deref().filter(|n| state.foreign(n, machine.id())) {
                findings.push(Finding::setting("name", name, "the name is taken here", "choose another"));
            }
            for key in settings.site.keys() {
                findings.push(Finding::setting("site", key, "this site knows no such setting", "remove it"));
            }
            Ok(findings)
        })
    }

    async fn materialise(&self, op: &Op, what: &Recovery, from: &Arc<dyn Replica>) -> Result<Armed> {
        let id = what.machine.id();
        let made = self.act("materialise", op, id, |state| {
            state.not_withdrawn(&op.key)?;
            Ok(state.made_by(&op.key).map(|vm| state.armed(vm, what)))
        })?;
        if let Some(armed) = made {
            return Ok(armed);
        }
        let source = from.open(id, what.point).await?;
        let pool = Pool::new(1 << 20);
        let mut disks = vec![];
        for spec in what.machine.included() {
            let from = source.get(&spec.id).ok_or_else(|| {
                let message = format!("point {} has no disk {}", what.point, spec.id);
                Error::new(ErrorKind::Corrupt, message).at(&self.name, "materialise")
            })?;
            disks.push(self.copy(spec, from, &pool).await?);
        }
        self.act("materialise", op, id, |state| {
            state.not_withdrawn(&op.key)?;
            if let Some(vm) = state.made_by(&op.key) {
                return Ok(state.armed(vm, what));
            }
            let wish = &what.settings.name.clone().unwrap_or_else(|| what.machine.proper_name());
            if state.foreign(wish, id) && what.settings.name.is_some() {
                return Err(Error::new(ErrorKind::Conflict, format!("{wish} belongs to somebody else")));
            }
            let name = match what.purpose {
                Purpose::Failover => state.free_name(wish),
                Purpose::Drill => state.free_name(&format!("{wish}-test")),
            };
            let instance = Instance {
                machine: id.clone(),
                site: self.name.clone(),
                name: name.clone(),
                generation: what.generation,
            };
            let tracking = Tracking::new(self.random.bits());
            let mut vm = Vm::new(what.machine.standing_as(instance), disks, tracking);
            (vm.marked, vm.made_by) = (true, Some(op.key.clone()));
            let armed = state.armed(&vm, what);
            state.vms.insert(name, vm);
            Ok(armed)
        })
    }

    async fn withdraw(&self, op: &Op, made_by: &OpKey, what: &Recovery) -> Result<()> {
        self.act("withdraw", op, what.machine.id(), |state| {
            let found = state.made_by(made_by).map(|vm| (vm.instance().clone(), vm.started.is_empty()));
            if let Some((instance, unused)) = found {
                if !unused {
                    let message = format!("{} was booted: undo it", instance.name);
                    return Err(Error::new(ErrorKind::Refused, message));
                }
                state.vms.remove(&instance.name);
            }
            state.withdrawn.insert(made_by.clone());
            Ok(())
        })
    }

    async fn boot(&self, op: &Op, what: &Recovery, armed: &Armed, permit: BootPermit) -> Result<Booted> {
        self.act("boot", op, what.machine.id(), |state| {
            if let (BootPermit::Isolated { network }, Purpose::Failover) = (&permit, what.purpose) {
                let message = format!("leave to run in {network} starts a drill, nothing else");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            state.boot(&self.name, op, &armed.instance, what.purpose, &permit)
        })
    }

    async fn tend(&self, op: &Op, armed: &Armed, _from: &Arc<dyn Replica>) -> Result<()> {
        self.act("tend", op, &armed.instance.machine, |state| state.vm(&armed.instance).map(|_| ()))
    }

    async fn settle(&self, op: &Op, armed: &Armed) -> Result<()> {
        self.act("settle", op, &armed.instance.machine, |state| state.vm(&armed.instance).map(|_| ()))
    }

    async fn set_aside(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.act("set_aside", op, &instance.machine, |state| {
            let vm = state.vm(instance)?;
            vm.must_be_off()?;
            vm.blocked = true;
            Ok(vm.instance().clone())
        })
    }

    async fn destroy(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.act("destroy", op, &instance.machine, |state| state.remove_ours(instance))
    }
}

#[async_trait]
impl Target for Site {
    async fn propose(&self, machine: &Machine) -> Result<Settings> {
        self.ask("propose", |state| {
            Ok(Settings {
                name: Some(state.free_name(&machine.proper_name())),
                network: Some(PRODUCTION.into()),
                test_network: Some(ISOLATED.into()),
                ..Settings::default()
            })
        })
    }
}

impl Site {
    async fn copy(&self, spec: &DiskSpec, from: &Arc<dyn Disk>, pool: &Pool) -> Result<VmDisk> {
        let mut bytes = Vec::with_capacity(spec.size as usize);
        for run in Run::new(0, spec.size).pieces(pool.size() as u64) {
            bytes.extend_from_slice(&from.read(run, pool).await?);
        }
        let (label, id) = (self.label(&spec.id), spec.id.clone());
        Ok(VmDisk { label, id, role: spec.role, included: true, bytes: Arc::new(bytes) })
    }
}

impl State {
    /// Starts a machine with a permit, in the network that the permit allows.
    pub(super) fn boot(
        &mut self,
        site: &site_recovery::RoleName,
        op: &Op,
        instance: &Instance,
        purpose: Purpose,
        permit: &BootPermit,
    ) -> Result<Booted> {
        permit.admits(op, instance, purpose)?;
        let network = match permit {
            BootPermit::Isolated { network } if network == PRODUCTION => {
                let message = format!("{network} is the production network, not an isolated one");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            BootPermit::Isolated { network } => Network::Isolated(network.clone()),
            BootPermit::Fenced(_) | BootPermit::Forced(_) => Network::Production,
        };
        let refused = self.switches.boot_refused.clone();
        let vm = self.vm(instance)?;
        if let Some(reason) = refused.filter(|_| !vm.started.contains(&op.key)) {
            return Err(Error::new(ErrorKind::Refused, format!("{} does not boot: {reason}", instance.name)));
        }
        if vm.runs_in == Some(Network::Production) && network != Network::Production {
            let message = format!("{} runs in production", instance.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let running = self.start(&op.key, instance, network)?;
        Ok(Booted { reach: vec![format!("{}.{site}", instance.name)], running })
    }

    /// Removes a machine that one of our keys made.
    pub(super) fn remove_ours(&mut self, instance: &Instance) -> Result<()> {
        if self.vms.get(&instance.name).is_some_and(|vm| vm.made_by.is_none()) {
            let message = format!("{} was there before us and stays", instance.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        self.vms.remove(&instance.name);
        Ok(())
    }

    fn armed(&self, vm: &Vm, what: &Recovery) -> Armed {
        let cursor = (!self.switches.no_tracking).then(|| vm.cursor());
        Armed { instance: vm.instance().clone(), cursor, point: what.point }
    }

    fn not_withdrawn(&self, key: &OpKey) -> Result<()> {
        if self.withdrawn.contains(key) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{key} was withdrawn and makes nothing more"),
            ));
        }
        Ok(())
    }

    /// Whether the name is held by a machine of another timeline.
    fn foreign(&self, name: &str, machine: &MachineId) -> bool {
        self.vms.get(name).is_some_and(|vm| vm.instance().machine != *machine)
    }
}

impl Vm {
    pub(super) fn must_be_off(&self) -> Result<()> {
        if self.runs() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} runs: stop it first", self.instance().name),
            ));
        }
        Ok(())
    }
}

/// The setting that an error speaks of.
pub(in crate::world) fn field(error: &Error) -> &str {
    let field = error.fact("field").unwrap_or("settings");
    field.strip_prefix("settings.").unwrap_or(field)
}
