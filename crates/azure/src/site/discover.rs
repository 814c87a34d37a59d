//! Machines of the group as machines of ours.

use super::Site;
use super::mark::{Held, Mark};
use super::names::last;
use crate::vhd;
use site_recovery::{
    DiskRole, DiskSpec, Error, ErrorKind, Firmware, Generation, GuestFacts, Instance, Machine, Nic, Op,
    OsFamily, Platform, Result,
};
use site_recovery_azure_arm as arm;
use std::collections::BTreeMap;

/// All that is in the group.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) machines: Vec<arm::Machine>,
    pub(super) disks: BTreeMap<String, arm::Disk>,
    pub(super) nics: BTreeMap<String, arm::Nic>,
}

impl Site {
    pub(super) async fn seen(&self) -> Result<Seen> {
        let (machines, disks, nics) = (
            self.arm.machines(&self.group).list().await?,
            self.arm.disks(&self.group).list().await?,
            self.arm.nics(&self.group).list().await?,
        );
        let key = |id: &str| id.to_ascii_lowercase();
        Ok(Seen {
            machines,
            disks: disks.into_iter().map(|disk| (key(&disk.id), disk)).collect(),
            nics: nics.into_iter().map(|nic| (key(&nic.id), nic)).collect(),
        })
    }

    pub(super) async fn discover(&self) -> Result<Vec<Machine>> {
        let (seen, marks) = (self.seen().await?, self.marks().await?);
        let told = self.told(&seen, &marks).await.into_iter();
        told.map(|(name, told)| told.map_err(|e| e.with("machine", name))).collect()
    }

    /// Every machine that is there, and those of which disks alone are: by name, with what cannot be told of it.
    pub(super) async fn told(&self, seen: &Seen, marks: &[Mark]) -> Vec<(String, Result<Machine>)> {
        let mut found = vec![];
        for machine in &seen.machines {
            let mark = marks.iter().find(|mark| mark.name.eq_ignore_ascii_case(&machine.name));
            let told = match mark {
                Some(mark) => self.marked_machine(mark, Some(machine), seen),
                None => self.stranger(machine, seen).await,
            };
            found.push((machine.name.clone(), told));
        }
        let loose = |mark: &&Mark| {
            let name = |held: &Held, disk: &arm::Disk| disk.name.eq_ignore_ascii_case(&held.resource);
            let is_machine = seen.machines.iter().any(|m| m.name.eq_ignore_ascii_case(&mark.name));
            !is_machine && mark.disks.values().any(|held| seen.disks.values().any(|disk| name(held, disk)))
        };
        for mark in marks.iter().filter(loose) {
            found.push((mark.name.clone(), self.marked_machine(mark, None, seen)));
        }
        found
    }

    /// A marked machine as it stands now.
    pub(super) async fn described(&self, mark: &Mark) -> Result<Machine> {
        let seen = self.seen().await?;
        let machine = seen.machines.iter().find(|m| m.name.eq_ignore_ascii_case(&mark.name));
        let told = self.marked_machine(mark, machine, &seen)?;
        for id in told.included().map(|disk| &disk.id) {
            let Some(held) = mark.disks.get(id) else { continue };
            must_be_the_same(mark, held, machine, &seen).map_err(|e| e.with("disk", id))?;
        }
        Ok(told)
    }

    fn marked_machine(&self, mark: &Mark, machine: Option<&arm::Machine>, seen: &Seen) -> Result<Machine> {
        let mut told = mark.description.standing_as(self.instance(mark));
        told.disks = vec![];
        for (id, held) in &mark.disks {
            let known = mark.description.disk(id);
            let found = seen.disks.values().find(|disk| disk.name.eq_ignore_ascii_case(&held.resource));
            let Some(found) = found else {
                let message = format!("disk {id} of {}, {}, is gone", mark.name, held.resource);
                return Err(Error::new(ErrorKind::NotFound, message).with("disk", id));
            };
            told.disks.push(DiskSpec {
                id: id.clone(),
                size: size(held, found),
                role: known.map_or(DiskRole::Data, |disk| disk.role),
                included: known.is_some_and(|disk| disk.included),
            });
        }
        // As the description has them, not as their names sort.
        let order = |id: &site_recovery::DiskId| mark.description.disks.iter().position(|d| d.id == *id);
        told.disks.sort_by_key(|disk| order(&disk.id).unwrap_or(usize::MAX));
        let Some(machine) = machine else { return Ok(told) };
        for id in &machine.disks {
            let Some(disk) = seen.disks.get(&id.to_ascii_lowercase()) else { continue };
            if mark.disks.values().all(|held| !held.resource.eq_ignore_ascii_case(&disk.name)) {
                let (id, size) = (disk.name.as_str().into(), disk.size_bytes);
                told.disks.push(DiskSpec { id, size, role: DiskRole::Data, included: false });
            }
        }
        told.nics = self.nics_of(mark, machine, seen);
        Ok(told)
    }

    fn nics_of(&self, mark: &Mark, machine: &arm::Machine, seen: &Seen) -> Vec<Nic> {
        let mut nics = vec![];
        for id in &machine.nics {
            let Some(nic) = seen.nics.get(&id.to_ascii_lowercase()) else { continue };
            let ours = mark.nics.iter().find(|(_, name)| name.eq_ignore_ascii_case(&nic.name));
            let id = ours.map_or_else(|| nic.name.as_str().into(), |(id, _)| id.clone());
            let known = mark.description.nics.iter().find(|known| known.id == id);
            nics.push(Nic {
                mac: known.and_then(|known| known.mac.clone()),
                network: nic.subnet_id.as_deref().map(network_of),
                addresses: nic.address.iter().map(ToString::to_string).collect(),
                id,
            });
        }
        nics
    }

    /// A machine that nobody has enrolled, under placeholders.
    async fn stranger(&self, machine: &arm::Machine, seen: &Seen) -> Result<Machine> {
        let missing = |what: &str| {
            let message = format!("{} cannot be described: {what}", machine.name);
            Error::new(ErrorKind::Unavailable, message)
        };
        let sizes = self.sizes().await?;
        let size = sizes.iter().find(|size| size.name.eq_ignore_ascii_case(&machine.size));
        let id = machine.vm_id.as_deref().ok_or_else(|| missing("Azure tells no id of it"))?;
        let mut disks = vec![];
        let (mut generation, mut os) = (None, None);
        for (number, id) in machine.disks.iter().enumerate() {
            let disk = seen.disks.get(&id.to_ascii_lowercase());
            let disk = disk.ok_or_else(|| missing("one of its disks is in no list"))?;
            let role = if number == 0 { DiskRole::System } else { DiskRole::Data };
            if number == 0 {
                (generation, os) = (disk.generation.clone(), disk.os_type.clone());
            }
            let name = disk.name.as_str().into();
            disks.push(DiskSpec { id: name, size: disk.size_bytes, role, included: true });
        }
        let instance = Instance {
            machine: format!("azure-{id}").into(),
            site: self.name.clone(),
            name: machine.name.clone(),
            generation: Generation(0),
        };
        let mark = Mark::new(&machine.name, Generation(0), blank(instance.clone()));
        let told = Machine {
            disks,
            nics: self.nics_of(&mark, machine, seen),
            cpus: size.map_or(1, |size| size.cores),
            memory: size.map_or(1 << 30, |size| size.memory_bytes),
            firmware: match generation {
                Some(arm::Generation::V2) => Firmware::Uefi { secure_boot: false },
                _ => Firmware::Bios,
            },
            os: match os {
                Some(arm::OsType::Linux) => OsFamily::Linux,
                Some(arm::OsType::Windows) => OsFamily::Windows,
                _ => OsFamily::Other,
            },
            ..blank(instance)
        };
        told.validate()?;
        Ok(told)
    }

    pub(super) async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        machine.validate()?;
        let instance = &machine.instance;
        if instance.site != self.name {
            let message = format!("{} stands at {}, this is {}", instance.name, instance.site, self.name);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let seen = self.seen().await?;
        let found = seen.machines.iter().find(|m| m.name.eq_ignore_ascii_case(&instance.name));
        let held = self.marked(&instance.name).await?;
        if let Some(held) = held.as_ref().filter(|held| held.mark.machine != instance.machine) {
            let message = format!("{} carries the mark of {}", instance.name, held.mark.machine);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let now = match (&held, found) {
            (Some(held), _) => self.marked_machine(&held.mark, found, &seen)?,
            (None, Some(found)) => self.stranger(found, &seen).await?,
            (None, None) => {
                let message = format!("no machine {} is in group {}", instance.name, self.group);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
        };
        let _turn = self.turn(op, &instance.machine).await?;
        let disks = self.matched(machine, &now, held.as_ref().map(|held| &held.mark), &seen)?;
        match self.marked(&instance.name).await? {
            Some(mut marked) if marked.mark.machine == instance.machine => {
                let next = Mark { description: machine.clone(), disks, ..marked.mark.clone() };
                self.set_mark(&mut marked, next).await
            }
            Some(other) => {
                let message = format!("{} carries the mark of {}", instance.name, other.mark.machine);
                Err(Error::new(ErrorKind::Conflict, message))
            }
            None => {
                let mark = Mark { disks, ..Mark::new(&instance.name, instance.generation, machine.clone()) };
                self.create_mark(mark).await.map(drop)
            }
        }
    }

    /// The resource of each disk that is told: by its id where the mark has it, else by its place.
    fn matched(
        &self,
        told: &Machine,
        now: &Machine,
        mark: Option<&Mark>,
        seen: &Seen,
    ) -> Result<BTreeMap<site_recovery::DiskId, Held>> {
        told.must_fit(now)?;
        let mut disks = BTreeMap::new();
        for (told, now) in told.disks.iter().zip(&now.disks) {
            let marked = mark.and_then(|mark| mark.disks.get(&now.id));
            let resource = marked.map_or_else(|| now.id.to_string(), |held| held.resource.clone());
            let found = seen.disks.values().find(|disk| disk.name.eq_ignore_ascii_case(&resource));
            let unique = found.and_then(|disk| disk.unique_id.clone());
            disks.insert(told.id.clone(), Held { resource, size: told.size, unique });
        }
        Ok(disks)
    }

    pub(super) async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let turn = self.turn(op, &instance.machine).await?;
        let Some(marked) = self.mark_if_there(instance).await? else { return Ok(()) };
        self.delete_snapshots(&turn, &marked.mark.cuts).await?;
        if let Some(made) = &marked.mark.made {
            self.delete_base(&turn, &marked.mark, made).await?;
        }
        self.remove_mark(&marked.mark.name).await
    }
}

/// # Errors
/// `NotFound` where the machine has another disk in the place of this one: it would write past us.
fn must_be_the_same(mark: &Mark, held: &Held, machine: Option<&arm::Machine>, seen: &Seen) -> Result<()> {
    let name = &held.resource;
    let Some(disk) = seen.disks.values().find(|disk| disk.name.eq_ignore_ascii_case(name)) else {
        return Ok(());
    };
    let has = |machine: &arm::Machine| machine.disks.iter().any(|id| id.eq_ignore_ascii_case(&disk.id));
    let changed = if machine.is_some_and(|machine| !has(machine)) {
        format!("{} does not have disk {name} any more", mark.name)
    } else if held.unique.is_some() && held.unique != disk.unique_id {
        format!("disk {name} of {} is another one than was enrolled", mark.name)
    } else {
        return Ok(());
    };
    let message = format!("{changed}: dismiss the machine, and enrol it as it is");
    Err(Error::new(ErrorKind::NotFound, message))
}

/// The bytes of a disk: as it was made, without what it was rounded up by, unless somebody grew it since.
fn size(held: &Held, disk: &arm::Disk) -> u64 {
    let uploaded = disk.upload_bytes.unwrap_or_default().saturating_sub(vhd::FOOTER);
    if disk.size_bytes > vhd::rounded(held.size).max(uploaded) { disk.size_bytes } else { held.size }
}

/// The network of a subnet's id.
pub(super) fn network_of(subnet: &str) -> String {
    let network = subnet.rsplit_once("/subnets/").map_or(subnet, |(network, _)| network);
    last(network).to_owned()
}

fn blank(instance: Instance) -> Machine {
    Machine {
        instance,
        title: None,
        disks: vec![],
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Other,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}
