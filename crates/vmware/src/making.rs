//! New machines for the way back: on the host of the appliance, under a free name, with identifiers of their own.

use crate::Inner;
use crate::discover::landing_folder;
use crate::notes::{FenceMark, Landing, Mark, Notes};
use crate::rules;
use crate::unfinished::Unfinished;
use crate::vm::Vm;
use site_recovery::{Error, ErrorKind, Instance, Machine, Nic, Op, OpKey, Result, Settings, audit};
use site_recovery_register::refused;
use site_recovery_vim::{
    ConfigSpec, DatastorePath, DeviceChange, DiskMode, Fault, Firmware, Host, NewDisk, Place,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// No name is tried beyond this number.
const NAMES: u32 = 1000;
/// Of each kind of which there is a choice.
const MOST_CONTROLLERS: usize = 4;
/// Of a machine's name.
const MOST_CHARACTERS: usize = 80;

impl Inner {
    /// Makes a machine, or finds the one that this key made: it is known by its instance UUID. One that an earlier key made, and
    /// that has nothing on it yet, goes.
    pub(crate) async fn attach_new(
        &self,
        op: &Op,
        machine: &Machine,
        settings: &Settings,
    ) -> Result<Instance> {
        let _turn = self.register.turn(op, machine.id())?;
        self.clear_unfinished(machine.id(), &op.key).await?;
        let disks = machine.included().count();
        let mut vm = match self.whole(&uuid_of(&op.key), disks).await? {
            Some(found) => found,
            None => self.make(op, machine, settings).await?,
        };
        let settled = async {
            self.settle_new(op, &mut vm, machine).await?;
            Ok(vm.marked()?.instance(&self.name))
        };
        let settled: Result<Instance> = settled.await;
        // What fails for good leaves nothing behind; what may be tried again goes on from here.
        if let Err(e) = &settled
            && !e.is_temporary()
            && let Some(mine) = self.unfinished(machine.id())?.filter(|made| made.key == op.key)
            && let Err(e) = self.unmake(machine.id(), &mine).await
        {
            tracing::warn!(machine = %machine.id(), error = %e, "a machine that was made for nothing stays until the next attach");
        }
        settled
    }

    /// Writes down whose a new machine is, and attaches its disks.
    async fn settle_new(&self, op: &Op, vm: &mut Vm, machine: &Machine) -> Result<()> {
        let attached = vm.notes.landing.as_ref().is_some_and(|landing| landing.attached);
        if !attached {
            let included: Vec<_> = machine.included().cloned().collect();
            let (found, wanted) = (vm.details.devices.disks.len(), included.len());
            if found != wanted {
                return Err(refused(format!("{} was made with {found} disks of {wanted}", vm.name)));
            }
            let making = self.unfinished(machine.id())?.filter(|made| made.key == op.key);
            let plugged = making.map(|made| made.nics).unwrap_or_default();
            let nics = plugged.iter().filter_map(|id| machine.nics.iter().find(|nic| nic.id == *id));
            let nics: Vec<Nic> = nics.cloned().collect();
            let mut mark = Mark { made: Some(op.key.clone()), ..Mark::new(machine, &vm.name) };
            mark.describe(&Machine { disks: included, nics, ..machine.clone() }, &vm.details.devices);
            let fence = FenceMark {
                by: op.key.clone(),
                epoch: op.epoch.clone(),
                when: self.clock.now(),
                ran_before: false,
                autostart: false,
                asked: false,
                why: "landing".into(),
                lift: format!(
                    "it was made by {} for a way back that is not over; remove it, or start it there",
                    self.name
                ),
            };
            let note = |notes: &mut Notes| {
                notes.mark = Some(mark.clone());
                notes.fence.get_or_insert_with(|| fence.clone());
                notes.landing = Some(Landing { attached: true, ..Landing::default() });
            };
            self.change(op, vm, vec![], note).await?;
        }
        self.saw(vm).await?;
        self.pin(op, vm).await?;
        self.hold(vm).await
    }

    async fn make(&self, op: &Op, machine: &Machine, settings: &Settings) -> Result<Vm> {
        let uuid = uuid_of(&op.key);
        let host = self.landing_host().await?;
        let place = self.place(&host).await?;
        let networks = self.vim.networks().await?;
        let datastore = settings.datastore.as_deref().ok_or_else(|| {
            Error::invalid("settings.datastore", "not said", "a new machine has a datastore", "name one")
        })?;
        let mut spec = ConfigSpec {
            instance_uuid: Some(uuid.clone()),
            guest_id: Some(rules::guest_id(machine, settings)),
            annotation: Some(format!("Made by site-recovery for {}", machine.id())),
            files: Some(DatastorePath::new(datastore, "")?),
            disk_uuid: Some(true),
            cpus: Some(machine.cpus.max(1)),
            memory_mib: Some(machine.memory.div_ceil(1 << 20).next_multiple_of(4).max(4)),
            devices: disks(machine, settings, datastore)?,
            firmware: Some(match machine.firmware {
                site_recovery::Firmware::Bios => Firmware::Bios,
                site_recovery::Firmware::Uefi { secure_boot } => Firmware::Efi { secure_boot },
            }),
            change_tracking: Some(true),
            ..ConfigSpec::default()
        };
        self.must_take(machine.included().count()).await?;
        let mut plugged = vec![];
        for (n, (nic, network)) in
            rules::plugged(machine, settings, &networks, &host.networks).into_iter().enumerate()
        {
            spec.devices.push(DeviceChange::AddNic {
                key: -3000 - i32::try_from(n).unwrap_or_default(),
                kind: rules::adapter(machine),
                network,
                // The old machine may be there still, with its own.
                mac: None,
                starts_connected: true,
            });
            plugged.push(nic.id.clone());
        }
        self.begin_making(machine.id(), &Unfinished { key: op.key.clone(), nics: plugged })?;
        let taken: BTreeSet<String> =
            self.vim.machines(&self.vim.content().root_folder).await?.into_iter().map(|m| m.name).collect();
        let base = settings.name.as_deref().unwrap_or(machine.called());
        let made = names(base).filter(|name| !taken.contains(name));
        for name in made {
            spec.name = Some(name);
            let made =
                async { self.vim.create_machine(&place, &spec).await?.object(self.patience.change).await };
            let error = match made.await {
                Ok(made) => return Vm::of(self.vim.machine(&made).await?),
                Err(error) => error,
            };
            // Whatever became of the answer: it is known by its identifier.
            if error.may_have_been_done() {
                self.turns_up(&uuid).await?;
            }
            if let Some(found) = self.whole(&uuid, machine.included().count()).await? {
                return Ok(found);
            }
            match error.fault() {
                Some(Fault::DuplicateName { .. }) => {}
                Some(Fault::NoDiskSpace { .. }) => {
                    let message = format!(
                        "there is no room on {datastore} for the disks of {machine}; make some, or name another in \
                         settings.datastore"
                    );
                    return Err(Error::new(ErrorKind::OutOfSpace, message).caused_by(error));
                }
                _ => return Err(error.into()),
            }
        }
        Err(refused(format!("no name like {base} is free")))
    }

    /// Waits a little for a machine that may be in the making.
    async fn turns_up(&self, uuid: &str) -> Result<()> {
        let until = self.clock.now().after(self.patience.device);
        while self.vim.find(uuid).await?.is_none() && self.clock.now() < until {
            self.clock.sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// A machine that we made, by its identifier. A server shows it before it has all of its disks.
    async fn whole(&self, uuid: &str, disks: usize) -> Result<Option<Vm>> {
        let until = self.clock.now().after(self.patience.device);
        loop {
            let Some(moref) = self.vim.find(uuid).await? else { return Ok(None) };
            let found = self.vim.machine(&moref).await.map_err(Error::from).and_then(Vm::of);
            match found {
                Ok(vm) if vm.notes.mark.is_some() || vm.details.devices.disks.len() >= disks => {
                    return Ok(Some(vm));
                }
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) => return Err(e),
                _ if self.clock.now() < until => self.clock.sleep(Duration::from_millis(200)).await,
                _ => {
                    let message = format!("{uuid} is being made, and has not all of its {disks} disks yet");
                    return Err(Error::new(ErrorKind::Busy, message));
                }
            }
        }
    }

    /// The host of the appliance.
    pub(crate) async fn landing_host(&self) -> Result<Host> {
        let appliance = self.appliance_machine().await?;
        let host = self.vim.hosts().await?.into_iter().find(|h| Some(&h.moref) == appliance.host.as_ref());
        host.ok_or_else(|| refused("the host of the appliance is not seen: its discovery is not complete"))
    }

    async fn place(&self, host: &Host) -> Result<Place> {
        let computes = self.vim.computes().await?;
        let compute = computes.into_iter().find(|c| c.hosts.contains(&host.moref));
        let pool = compute.and_then(|compute| compute.pool);
        let folder = landing_folder(&self.vim, &self.appliance_machine().await?, host).await?;
        let lacks = || refused("the host of the appliance has no pool or no folder that can be seen");
        let (pool, folder) = pool.zip(folder).ok_or_else(lacks)?;
        Ok(Place { folder, pool, host: Some(host.moref.clone()) })
    }
}

/// A name, and others like it, each of which the server takes.
fn names(base: &str) -> impl Iterator<Item = String> {
    let cut = |room: usize| base.chars().take(room).collect::<String>();
    let first = cut(MOST_CHARACTERS);
    let rest = cut(MOST_CHARACTERS - 4);
    std::iter::once(first).chain((2..NAMES).map(move |n| format!("{rest}-{n}")))
}

/// All disks at one kind of controller, the system's first.
fn disks(machine: &Machine, settings: &Settings, datastore: &str) -> Result<Vec<DeviceChange>> {
    let kind = rules::controller(machine, settings);
    let per: Vec<u32> = kind.units().collect();
    let included: Vec<_> = machine.included().collect();
    let mut changes = vec![];
    for (bus, chunk) in included.chunks(per.len()).enumerate() {
        let controller = -1 - i32::try_from(bus).unwrap_or_default();
        if bus >= MOST_CONTROLLERS {
            let rule =
                format!("at most {} disks hang at controllers of this kind", MOST_CONTROLLERS * per.len());
            return Err(Error::invalid(
                "machine.disks",
                included.len(),
                &rule,
                "leave some out, or choose another kind",
            ));
        }
        changes.push(DeviceChange::AddController {
            key: controller,
            kind: kind.clone(),
            bus: u32::try_from(bus).unwrap_or_default(),
        });
        for (disk, unit) in chunk.iter().zip(&per) {
            changes.push(DeviceChange::AddDisk {
                key: -100 - i32::try_from(changes.len()).unwrap_or_default(),
                controller,
                unit: *unit,
                mode: DiskMode::Persistent,
                disk: NewDisk::New {
                    file: DatastorePath::new(datastore, "")?,
                    capacity: rules::capacity(disk.size),
                    provisioning: rules::provisioning(&disk.id, settings),
                },
            });
        }
    }
    Ok(changes)
}

/// An identifier that is the key's alone, in the form of a random UUID.
pub(crate) fn uuid_of(key: &OpKey) -> String {
    let digest = audit::sha256_hex(format!("site-recovery/{key}").as_bytes());
    let part = |from: usize, to: usize| &digest[from..to];
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}
