//! `boot`: the machine is made of its disks, which starts it.

use super::Site;
use super::import::os_type;
use super::mark::{Mark, Marked};
use super::names::resource;
use super::register::Turn;
use site_recovery::{
    Armed, BootPermit, Booted, DiskRole, Error, ErrorKind, Nic, NicSettings, Op, Placement, Purpose,
    Recovery, Result,
};
use site_recovery_azure_arm::{self as arm, NewMachine, NewNic, Power as Runs, Provisioning};
use std::net::IpAddr;

impl Site {
    pub(super) async fn boot(
        &self,
        op: &Op,
        what: &Recovery,
        armed: &Armed,
        permit: BootPermit,
    ) -> Result<Booted> {
        permit.admits(op, &armed.instance, what.purpose)?;
        if *what.machine.id() != armed.instance.machine {
            let message = format!("{} is no machine of {}", armed.instance.name, what.machine.id());
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let network = match &permit {
            BootPermit::Isolated { network } => Some(network.clone()),
            _ => what.settings.network.clone().or_else(|| self.network.clone()),
        };
        let turn = self.turn(op, &armed.instance.machine).await?;
        let mut marked = self.mark_of(&armed.instance).await?;
        let made = self.must_be_made(&marked.mark)?;
        if made.base.is_empty() {
            let message = format!("{} is not prepared: materialise it first", marked.mark.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        if made.purpose != what.purpose {
            let message = format!("{} was made for another purpose: {:?}", marked.mark.name, made.purpose);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let by = made.by.clone();
        let machines = self.arm.machines(&self.group);
        if let Some(view) = self.settled_view(&marked.mark.name).await?
            && let Some(found) = machines.get(&marked.mark.name).await?
        {
            self.must_be_made_by(&found.name, &found.tags, &by)?;
            let was_made = found.provisioning != Provisioning::Failed;
            if was_made || !marked.mark.started.is_empty() || view.power == Runs::Running {
                let running = self.ignite(&turn, &op.key, &mut marked).await?;
                return Ok(Booted { reach: self.reach(&marked).await?, running });
            }
            // It never ran: its disks and cards are taken by the next one.
            let next = Mark { starting: None, ..marked.mark.clone() };
            self.set_mark(&mut marked, next).await?;
            self.ask(&turn, machines.delete(&marked.mark.name)).await?.done().await?;
        } else if marked.mark.has_started(&op.key) || self.came_to_start(&op.key, &marked.mark).await? {
            return Ok(Booted { reach: vec![], running: false });
        }
        self.build(&turn, op, what, &mut marked, network.as_deref()).await?;
        let running = self.ignite(&turn, &op.key, &mut marked).await?;
        Ok(Booted { reach: self.reach(&marked).await?, running })
    }

    async fn build(
        &self,
        turn: &Turn,
        op: &Op,
        what: &Recovery,
        marked: &mut Marked,
        network: Option<&str>,
    ) -> Result<()> {
        let by = self.must_be_made(&marked.mark)?.by.clone();
        let disks = self.disks_of(&marked.mark).await?;
        let id_of = |held: &super::mark::Held| {
            let found = disks.iter().find(|disk| disk.name.eq_ignore_ascii_case(&held.resource));
            let gone = || Error::new(ErrorKind::NotFound, format!("disk {} is gone", held.resource));
            found.map(|disk| disk.id.clone()).ok_or_else(gone)
        };
        let (mut system, mut data) = (None, vec![]);
        for spec in &marked.mark.description.disks {
            let Some(held) = marked.mark.disks.get(&spec.id) else { continue };
            match spec.role {
                DiskRole::System if system.is_none() => system = Some(id_of(held)?),
                _ => data.push(id_of(held)?),
            }
        }
        let Some(os_disk) = system else {
            let rule = "a machine starts from a disk whose role is System";
            return Err(Error::invalid("machine.disks", "none", rule, "say which disk it starts from"));
        };
        let size = match &what.settings.size {
            Some(size) => size.clone(),
            None => self.size_for(&what.machine, &what.settings).await?.name,
        };
        let nics = self.cards(turn, what, marked, network).await?;
        let mut tags = what.settings.tags.clone();
        tags.extend(self.tags(&marked.mark, &by));
        let availability_set = match &what.settings.placement {
            Placement::AvailabilitySet(name) => {
                let found = self.arm.availability_set(&self.group, name).await?;
                let rule = "it is in the machine's group";
                let missing = || Error::invalid("settings.placement", name, rule, "make it, or name another");
                Some(found.ok_or_else(missing)?.id)
            }
            _ => None,
        };
        let new = NewMachine {
            location: self.location.clone(),
            size,
            os_disk,
            os_type: os_type(what.machine.os),
            data_disks: (0..).zip(data).collect(),
            nics,
            availability_set,
            zone: match &what.settings.placement {
                Placement::Zone(zone) => Some(zone.clone()),
                _ => None,
            },
            licence: what.settings.licence.clone(),
            tags,
            boot_diagnostics: true,
        };
        let machines = self.arm.machines(&self.group);
        self.note_starting(&op.key, marked).await?;
        self.ask(turn, machines.put(&marked.mark.name, &new)).await?.done().await?;
        Ok(())
    }

    /// The machine's network cards, the primary one first. They are in the mark before they are made.
    async fn cards(
        &self,
        turn: &Turn,
        what: &Recovery,
        marked: &mut Marked,
        network: Option<&str>,
    ) -> Result<Vec<String>> {
        let by = self.must_be_made(&marked.mark)?.by.clone();
        let default = NicSettings::default();
        let settings = |nic: &Nic| what.settings.nics.get(&nic.id).unwrap_or(&default).clone();
        let mut wanted: Vec<_> =
            what.machine.nics.iter().map(|nic| (nic.id.clone(), settings(nic))).collect();
        if wanted.is_empty() {
            // Azure makes no machine without one.
            wanted.push(("nic-0".into(), default.clone()));
        }
        wanted.retain(|(_, nic)| !nic.excluded);
        wanted.sort_by_key(|(_, nic)| !nic.primary);
        let network = network.ok_or_else(|| {
            let rule = "a machine is in a network";
            Error::invalid(
                "settings.network",
                "not set",
                rule,
                "name the network, or give the site a default",
            )
        })?;
        let network = self.network_id(network);
        let found = self.arm.network(&network).await?;
        let found = found.ok_or_else(|| {
            Error::invalid(
                "settings.network",
                &network,
                "it is a network of the subscription",
                "name another",
            )
        })?;
        let mut next = marked.mark.clone();
        for (id, _) in &wanted {
            next.nics.entry(id.clone()).or_insert_with(|| resource(&marked.mark.name, id.as_str(), &by));
        }
        self.set_mark(marked, next).await?;
        let mut ids = vec![];
        for (id, nic) in wanted {
            let is_drill = what.purpose == Purpose::Drill;
            let name = &marked.mark.nics[&id];
            let nics = self.arm.nics(&self.group);
            if let Some(found) = nics.get(name).await?.filter(|n| n.provisioning != Provisioning::Failed) {
                self.must_be_made_by(&found.name, &found.tags, &by)?;
                ids.push(found.id);
                continue;
            }
            let subnet = subnet_of(&found, &nic, is_drill)?;
            let address = self.address_for(&found.id, &nic, is_drill).await?;
            let tags = self.tags(&marked.mark, &by);
            let new = NewNic {
                location: self.location.clone(),
                subnet_id: subnet,
                address,
                tags,
                accelerated: false,
            };
            ids.push(self.ask(turn, nics.put(name, &new)).await?.done().await?.id);
        }
        Ok(ids)
    }

    /// A fixed address, where one is asked for. In a drill: the same if it is free there.
    async fn address_for(&self, network: &str, nic: &NicSettings, is_drill: bool) -> Result<Option<IpAddr>> {
        if !is_drill {
            return Ok(nic.address);
        }
        match (nic.test_address, nic.address) {
            (Some(address), _) => Ok(Some(address)),
            (None, Some(address)) => Ok(self.arm.address_is_free(network, address).await?.then_some(address)),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn network_id(&self, network: &str) -> String {
        if network.starts_with('/') {
            return network.to_owned();
        }
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Network/virtualNetworks/{network}",
            self.subscription, self.group
        )
    }

    async fn reach(&self, marked: &Marked) -> Result<Vec<String>> {
        let mut reach = vec![];
        for name in marked.mark.nics.values() {
            let nic = self.arm.nics(&self.group).get(name).await?;
            reach.extend(nic.and_then(|nic| nic.address).map(|address| address.to_string()));
        }
        Ok(reach)
    }
}

/// The subnet that is named, in drills the one of the same name where there is one, else the first by name.
fn subnet_of(network: &arm::Network, nic: &NicSettings, is_drill: bool) -> Result<String> {
    let by_name = |name: &str| network.subnets.iter().find(|subnet| subnet.name == name);
    let asked = if is_drill { nic.test_subnet.as_ref() } else { nic.subnet.as_ref() };
    if let Some(name) = asked {
        let missing = || {
            let rule = format!("it is a subnet of {}", network.id);
            Error::invalid("settings.nics.subnet", name, &rule, "name another")
        };
        return by_name(name).map(|subnet| subnet.id.clone()).ok_or_else(missing);
    }
    let same = nic.subnet.as_ref().filter(|_| is_drill).and_then(|name| by_name(name));
    let first = network.subnets.iter().min_by_key(|subnet| &subnet.name);
    same.or(first).map(|subnet| subnet.id.clone()).ok_or_else(|| {
        let rule = "it has a subnet";
        Error::invalid("settings.network", &network.id, rule, "give the network a subnet")
    })
}
