//! Reads what the server says, and has it judged. Changes nothing there, and keeps nothing here.

use super::rights::{Object, On, Way};
use super::{appliance, host, machines, place, reading, rights, server};
use crate::discover::{belongs, landing_folder};
use crate::estate::Estate;
use crate::notes::Notes;
use crate::rules;
use site_recovery::{Finding, Location, Machine, Offer, Offers, Result, Settings, Severity, Survey};
use site_recovery_vim::{self as vim, Compute, Datastore, Host, Moref, Vim};
use std::collections::BTreeSet;

/// At what is looked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) vim: &'a Vim,
    pub(crate) estate: &'a dyn Estate,
    /// The instance UUID of the appliance.
    pub(crate) appliance: Option<&'a str>,
    /// By what else disks of machines that run are read: [`Way::Vddk`], [`Way::Lease`].
    pub(crate) means: &'a [Way],
}

/// What the server has beside machines, read once.
struct Inventory {
    hosts: Vec<Host>,
    computes: Vec<Compute>,
    datastores: Vec<Datastore>,
}

impl Look<'_> {
    /// All that can be said without a machine that is to land.
    pub(crate) async fn whole(&self) -> Result<Vec<Finding>> {
        let vim = self.vim;
        let mut found = server::findings(vim.about(), vim.skew().await?);
        let appliance = self.find_appliance().await?;
        let its = appliance.as_ref().ok();
        found.extend(self.of_kind(its.map(|machine| &machine.moref)).await?);
        let there = self.inventory().await?;
        let chosen = self.estate.chosen(vim).await?;
        let all = vim.machines_whole(&vim.content().root_folder).await?;
        let but: Vec<Moref> = its.map(|machine| machine.moref.clone()).into_iter().collect();
        let ours: Vec<&vim::Machine> = all.iter().filter(|m| belongs(m, &but, chosen.as_ref())).collect();
        found.push(seen(vim, &ours, &there));
        found.extend(machines::findings(&ours));
        found.extend(machines::snapshots(&ours));
        let at = its.and_then(|machine| there.host_of(machine));
        let others: Vec<&Host> =
            there.hosts.iter().filter(|h| at.is_none_or(|at| at.moref != h.moref)).collect();
        found.extend(host::others(&others));
        let asked: &[Way] = match &appliance {
            Ok(machine) => {
                found.extend(appliance::findings(machine, None));
                match at {
                    Some(at) => {
                        found.extend(self.of_host(machine, at, &there, &there.offers(at)).await?);
                    }
                    None => found.push(host::unseen(&machine.name)),
                }
                &[Way::Protect, Way::Original, Way::Alternate]
            }
            Err(why) => {
                found.push(why.clone());
                if self.means.is_empty() {
                    found.extend(reading::findings(&reading::attempt(vim, &ours).await?));
                }
                &[Way::Protect]
            }
        };
        let mut objects = there.objects(&ours);
        if let Some(machine) = its {
            objects.extend(self.of_appliance(machine, &there).await?);
            objects.extend(at.and_then(|at| there.cluster_of(at)));
        }
        let asked = [asked, self.means].concat();
        let (lacking, unchecked) = rights::ask(vim, &self.rooted(objects), &asked).await?;
        found.extend(rights::findings(&lacking));
        found.extend(unchecked);
        Ok(found)
    }

    /// What stands in the way of landing a machine, and where there is room. `here` is the machine as it stands at this server.
    pub(crate) async fn survey(
        &self,
        machine: &Machine,
        settings: &Settings,
        here: Option<&vim::Machine>,
    ) -> Result<Survey> {
        let vim = self.vim;
        let mut found = rules::check(machine, settings);
        found.extend(server::findings(vim.about(), vim.skew().await?));
        found.extend(machines::findings(here.as_slice()));
        let stands = match self.find_appliance().await? {
            Ok(stands) => stands,
            Err(why) => {
                found.push(Finding { severity: Severity::Critical, ..why });
                return Ok(Survey { findings: found, offers: Offers::default() });
            }
        };
        found.extend(self.of_kind(Some(&stands.moref)).await?);
        let there = self.inventory().await?;
        let Some(at) = there.host_of(&stands) else {
            found.push(host::unseen(&stands.name));
            return Ok(Survey { findings: found, offers: Offers::default() });
        };
        let offers = there.offers(at);
        let networks = vim.networks().await?;
        let original = settings.location == Location::Original;
        found.extend(rules::check_datastore(&offers, machine, settings, original));
        found.extend(rules::check_networks(machine, settings, &networks, &at.networks));
        found.extend(self.of_host(&stands, at, &there, &offers).await?);
        found.extend(appliance::findings(&stands, Some(wanted(machine, here, &stands))));
        // Where the machine is gone, a new one is made at the original location, too.
        let mut objects = there.objects(here.as_slice());
        let ways: &[Way] = match here.filter(|_| original) {
            Some(here) => {
                let used = here.details.as_ref().map(|details| &details.datastores[..]).unwrap_or_default();
                let pairs = there.datastores.iter().zip(&offers);
                let its: Vec<_> =
                    pairs.filter(|(d, _)| used.contains(&d.moref)).map(|(_, offer)| offer).collect();
                found.extend(place::reach(&here.name, &its));
                &[Way::Protect, Way::Original]
            }
            None => {
                let name = settings.name.clone().unwrap_or_else(|| machine.called().to_owned());
                let taken = self.is_taken(&name, machine).await?;
                found.extend(place::name(&name, settings.name.is_some(), taken));
                objects.extend(there.cluster_of(at));
                let named = |d: &&Datastore| Some(&d.name) == settings.datastore.as_ref();
                objects.extend(there.datastores.iter().filter(named).filter_map(pod_of));
                &[Way::Protect, Way::Alternate]
            }
        };
        objects.extend(self.of_appliance(&stands, &there).await?);
        let (lacking, unchecked) = rights::ask(vim, &self.rooted(objects), ways).await?;
        found.extend(rights::findings(&lacking));
        found.extend(unchecked);
        Ok(Survey { findings: found, offers: Offers { datastores: offers, retention_volumes: vec![] } })
    }

    /// The appliance, or what is to be said instead.
    async fn find_appliance(&self) -> Result<std::result::Result<vim::Machine, Finding>> {
        let Some(uuid) = self.appliance else { return Ok(Err(appliance::none(Severity::Warning))) };
        match self.vim.find(uuid).await? {
            Some(moref) => Ok(Ok(self.vim.machine(&moref).await?)),
            None => Ok(Err(appliance::unseen(uuid))),
        }
    }

    /// What this kind of server says; of another one that it is another.
    async fn of_kind(&self, appliance: Option<&Moref>) -> Result<Vec<Finding>> {
        match server::kind(self.vim.about(), &self.estate.product()) {
            Some(other) => Ok(vec![other]),
            None => self.estate.check(self.vim, appliance).await,
        }
    }

    async fn inventory(&self) -> Result<Inventory> {
        let vim = self.vim;
        let (hosts, computes, datastores) =
            (vim.hosts().await?, vim.computes().await?, vim.datastores().await?);
        Ok(Inventory { hosts, computes, datastores })
    }

    /// What the host is like on which machines land, and what of it is seen.
    async fn of_host(
        &self,
        appliance: &vim::Machine,
        at: &Host,
        there: &Inventory,
        offers: &[Offer],
    ) -> Result<Vec<Finding>> {
        let (pool, folder) = (there.pool_of(at), landing_folder(self.vim, appliance, at).await?);
        let mut found = host::of_appliance(at);
        found.extend(place::any(offers));
        found.extend(host::incomplete(at, offers, pool.is_some(), folder.is_some()));
        Ok(found)
    }

    /// What the appliance and its surroundings have to allow.
    async fn of_appliance(&self, appliance: &vim::Machine, there: &Inventory) -> Result<Vec<Object>> {
        let mut objects = vec![(On::Appliance, appliance.moref.clone(), appliance.name.clone())];
        let Some(at) = there.host_of(appliance) else { return Ok(objects) };
        let near = format!("of {}", at.name);
        objects.extend(there.pool_of(at).map(|pool| (On::Pool, pool, near.clone())));
        objects.extend(
            landing_folder(self.vim, appliance, at).await?.map(|folder| (On::Folder, folder, near.clone())),
        );
        objects.extend(at.networks.iter().map(|network| (On::Network, network.clone(), near.clone())));
        let eligible = |d: &&Datastore| rules::offer(d, &at.moref).ineligible.is_none();
        let near = there.datastores.iter().filter(eligible);
        objects.extend(near.map(|d| (On::Datastore, d.moref.clone(), d.name.clone())));
        Ok(objects)
    }

    /// With the root, and each object once.
    fn rooted(&self, objects: Vec<Object>) -> Vec<Object> {
        let root = (On::Root, self.vim.content().root_folder.clone(), "of the inventory".to_owned());
        let mut seen = BTreeSet::new();
        let all = std::iter::once(root).chain(objects);
        all.filter(|(on, moref, _)| seen.insert((*on, moref.clone()))).collect()
    }

    /// Whether a machine of this name is there that was not made for this one.
    async fn is_taken(&self, name: &str, machine: &Machine) -> Result<bool> {
        let all = self.vim.machines(&self.vim.content().root_folder).await?;
        for found in all.iter().filter(|found| found.name == name) {
            let whole = self.vim.machine(&found.moref).await?;
            let notes = whole.details.as_ref().and_then(|details| Notes::of(&details.extra).ok());
            let mark = notes.and_then(|notes| notes.mark);
            if mark.is_none_or(|mark| mark.machine != *machine.id() || mark.made.is_none()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Inventory {
    fn host_of(&self, machine: &vim::Machine) -> Option<&Host> {
        self.hosts.iter().find(|host| Some(&host.moref) == machine.host.as_ref())
    }

    fn offers(&self, host: &Host) -> Vec<Offer> {
        self.datastores.iter().map(|datastore| rules::offer(datastore, &host.moref)).collect()
    }

    fn pool_of(&self, host: &Host) -> Option<Moref> {
        self.computes.iter().find(|c| c.hosts.contains(&host.moref)).and_then(|compute| compute.pool.clone())
    }

    fn cluster_of(&self, host: &Host) -> Option<Object> {
        let its = self.computes.iter().find(|c| c.is_cluster() && c.hosts.contains(&host.moref));
        its.map(|cluster| (On::Cluster, cluster.moref.clone(), cluster.name.clone()))
    }

    /// What machines need by themselves: they, their hosts and clusters, their datastores and the pods of these.
    fn objects(&self, machines: &[&vim::Machine]) -> Vec<Object> {
        let mut objects: Vec<Object> =
            machines.iter().map(|m| (On::Machine, m.moref.clone(), m.name.clone())).collect();
        let on: BTreeSet<&Moref> = machines.iter().filter_map(|m| m.host.as_ref()).collect();
        let hosts = self.hosts.iter().filter(|host| on.contains(&host.moref));
        for host in hosts {
            objects.push((On::Host, host.moref.clone(), host.name.clone()));
            objects.extend(self.cluster_of(host));
        }
        let used: BTreeSet<&Moref> = machines
            .iter()
            .filter_map(|m| m.details.as_ref())
            .flat_map(|details| &details.datastores)
            .collect();
        for datastore in self.datastores.iter().filter(|d| used.contains(&d.moref)) {
            objects.push((On::Datastore, datastore.moref.clone(), datastore.name.clone()));
            objects.extend(pod_of(datastore));
        }
        objects
    }
}

fn pod_of(datastore: &Datastore) -> Option<Object> {
    let pod = datastore.parent.clone().filter(|parent| parent.kind == "StoragePod")?;
    Some((On::Pod, pod, format!("of {}", datastore.name)))
}

fn seen(vim: &Vim, machines: &[&vim::Machine], there: &Inventory) -> Finding {
    let name = &vim.about().full_name;
    let (machines, hosts, datastores) = (machines.len(), there.hosts.len(), there.datastores.len());
    let cause =
        format!("{name} shows {machines} machines to protect, {hosts} hosts, {datastores} datastores");
    let remedy = "nothing; where it should be more, the user may not see the rest";
    Finding::new("server.inventory", Severity::Info, cause, remedy)
}

/// How many disks the machine brings, and how many of them are at the appliance already.
fn wanted(machine: &Machine, here: Option<&vim::Machine>, appliance: &vim::Machine) -> appliance::Wanted {
    let disks = |machine: Option<&vim::Machine>| -> Vec<vim::DatastorePath> {
        let details = machine.and_then(|machine| machine.details.as_ref());
        details
            .into_iter()
            .flat_map(|d| &d.devices.disks)
            .filter_map(|disk| disk.backing.file.clone())
            .collect()
    };
    let there = disks(Some(appliance));
    let held = disks(here).iter().filter(|file| there.contains(file)).count();
    appliance::Wanted { os: machine.os, disks: machine.included().count(), held }
}
