//! Whether a machine could be brought up here with these settings, and settings with which it could.

use super::Site;
use super::import::generation;
use super::rules;
use site_recovery::{
    Error, ErrorKind, Finding, Machine, NicSettings, Placement, Purpose, Result, Settings, Severity,
};
use site_recovery_azure_arm::{Network, Size};
use std::net::IpAddr;

impl Site {
    /// Changes nothing.
    pub(super) async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let mut found = self.profile.rules().check(machine);
        found.extend(rules::preparation(machine, self.preparation.is_some()));
        found.extend(self.check_name(machine, settings).await?);
        let Some(group) = self.arm.group(&self.group).await? else {
            let remedy = "make the group, or name another";
            found.push(Finding::setting(
                "group",
                &self.group,
                "it is a resource group that is there",
                remedy,
            ));
            return Ok(found);
        };
        if let Some(other) = settings.group.as_ref().filter(|other| !other.eq_ignore_ascii_case(&group.name))
        {
            let rule = format!("this site makes machines in group {}", group.name);
            found.push(Finding::setting("group", other, &rule, "leave it out, or open a site of that group"));
        }
        found.extend(self.check_size(machine, settings).await?);
        found.extend(self.check_placement(settings).await?);
        found.extend(self.check_networks(machine, settings).await?);
        found.extend(settings.site.keys().map(|key| {
            Finding::setting("site", key, "this site knows no settings of its own", "leave it out")
        }));
        Ok(found)
    }

    async fn check_name(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        if let Err(error) = settings.validate() {
            let field = error.fact("field").unwrap_or("settings").trim_start_matches("settings.").to_owned();
            let remedy = "choose another";
            return Ok(vec![Finding::new(
                format!("setting.{field}"),
                Severity::Critical,
                error.message(),
                remedy,
            )]);
        }
        let mut found = vec![];
        for purpose in [Purpose::Failover, Purpose::Drill] {
            let name = settings.name_for(machine, purpose);
            if rules::is_reserved(&name) {
                let rule = "it is a word that Azure keeps for itself";
                found.push(Finding::setting("name", &name, rule, "choose another"));
            }
            if name.len() > 64 {
                let rule = "Azure takes 64 letters, with what a drill adds";
                found.push(Finding::setting("name", &name, rule, "choose a shorter one"));
            }
            let ours = self.marked(&name).await?.is_some_and(|marked| marked.mark.machine == *machine.id());
            if !ours && self.arm.machines(&self.group).get(&name).await?.is_some() {
                let rule = format!("a machine of that name is in group {}", self.group);
                found.push(Finding::setting("name", &name, &rule, "choose another, or remove that machine"));
            }
        }
        Ok(found)
    }

    async fn check_size(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let sizes = self.sizes().await?;
        let Some(asked) = &settings.size else {
            let fits = self.size_for(machine, settings).await.err();
            return Ok(fits
                .map(|e| Finding::new("setting.size", Severity::Critical, e.message(), "name a size"))
                .into_iter()
                .collect());
        };
        let Some(size) = sizes.iter().find(|size| size.name.eq_ignore_ascii_case(asked)) else {
            let rule = format!("{} has no such size", self.location);
            return Ok(vec![Finding::setting("size", asked, &rule, "choose another")]);
        };
        let mut found: Vec<_> = misfits(size, machine, settings)
            .into_iter()
            .map(|rule| Finding::setting("size", asked, &rule, "choose a larger one"))
            .collect();
        let usages = self.arm.usages(&self.location).await?;
        if let Some(cores) = usages.iter().find(|usage| usage.name == "cores")
            && cores.current + u64::from(size.cores) > cores.limit
        {
            let cause = format!(
                "{} of {} processors of {} are used, and {asked} has {}",
                cores.current, cores.limit, self.location, size.cores
            );
            found.push(Finding::new(
                "azure.quota",
                Severity::Critical,
                cause,
                "ask Azure for a larger quota",
            ));
        }
        Ok(found)
    }

    async fn check_placement(&self, settings: &Settings) -> Result<Option<Finding>> {
        Ok(match &settings.placement {
            Placement::AvailabilitySet(name) => {
                let found = self.arm.availability_set(&self.group, name).await?;
                let rule = format!("it is an availability set of group {}", self.group);
                found
                    .is_none()
                    .then(|| Finding::setting("placement", name, &rule, "make it, or name another"))
            }
            Placement::Host(host) => {
                let rule = "machines here are placed in sets or zones";
                Some(Finding::setting("placement", host, rule, "name a set, a zone, or nothing"))
            }
            Placement::Any | Placement::Zone(_) => None,
        })
    }

    async fn check_networks(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let mut found = vec![];
        let network = settings.network.as_ref().or(self.network.as_ref());
        let Some(network) = network else {
            let rule = "a machine is in a network";
            return Ok(vec![Finding::setting("network", "not set", rule, "name a virtual network")]);
        };
        let missing = |field: &str, name: &str| {
            let rule = format!("it is a virtual network of region {}", self.location);
            Finding::setting(field, name, &rule, "name another")
        };
        let here = |network: &Network| network.location.eq_ignore_ascii_case(&self.location);
        match self.arm.network(&self.network_id(network)).await?.filter(here) {
            None => found.push(missing("network", network)),
            Some(there) => found.extend(self.check_cards(machine, settings, &there).await?),
        }
        if let Some(test) = settings.test_network.as_ref().or(self.test_network.as_ref())
            && self.arm.network(&self.network_id(test)).await?.filter(here).is_none()
        {
            found.push(missing("test_network", test));
        }
        Ok(found)
    }

    async fn check_cards(
        &self,
        machine: &Machine,
        settings: &Settings,
        network: &Network,
    ) -> Result<Vec<Finding>> {
        let mut found = vec![];
        let cards: Vec<(&site_recovery::NicId, &NicSettings)> =
            settings.nics.iter().filter(|(_, nic)| !nic.excluded).collect();
        let known = |id: &site_recovery::NicId| machine.nics.iter().any(|nic| nic.id == *id);
        for (id, nic) in cards {
            if !known(id) {
                found.push(Finding::setting("nics", id, "the machine has no such card", "leave it out"));
            }
            if let Some(subnet) = &nic.subnet
                && network.subnets.iter().all(|there| there.name != *subnet)
            {
                let rule = format!("it is a subnet of {}", network.id);
                found.push(Finding::setting("nics.subnet", subnet, &rule, "name another"));
            }
            if let Some(address) = nic.address
                && !self.is_free_for(machine, network, address).await?
            {
                let rule = "it is free, in a subnet of the network";
                found.push(Finding::setting("nics.address", address, rule, "choose another, or DHCP"));
            }
        }
        Ok(found)
    }

    /// An address that a card of the same machine has is no hindrance.
    async fn is_free_for(&self, machine: &Machine, network: &Network, address: IpAddr) -> Result<bool> {
        if self.arm.address_is_free(&network.id, address).await? {
            return Ok(true);
        }
        let cards = self.arm.nics(&self.group).list().await?;
        let own = cards.iter().find(|card| card.address == Some(address));
        Ok(own.is_some_and(|card| card.tags.get(super::names::MACHINE) == Some(&machine.id().to_string())))
    }

    /// The first size that satisfies disks, cards, processors and memory; the smallest come first.
    ///
    /// # Errors
    /// `Invalid` where none does, naming what each lacks least.
    pub(super) async fn size_for(&self, machine: &Machine, settings: &Settings) -> Result<Size> {
        let mut sizes: Vec<_> = self.sizes().await?.to_vec();
        sizes.sort_by(|a, b| (a.cores, a.memory_bytes, &a.name).cmp(&(b.cores, b.memory_bytes, &b.name)));
        let fits = sizes.iter().find(|size| misfits(size, machine, settings).is_empty());
        fits.cloned().ok_or_else(|| {
            let value = format!(
                "for {} processors, {} bytes of memory, {} disks and {} cards",
                machine.cpus,
                machine.memory,
                machine.included().count(),
                machine.nics.len()
            );
            let rule = format!("region {} has a size that fits", self.location);
            Error::invalid("settings.size", value, &rule, "exclude disks or cards, or choose another region")
        })
    }

    pub(super) async fn propose(&self, machine: &Machine) -> Result<Settings> {
        let base = machine.proper_name();
        let mut settings = Settings {
            group: Some(self.group.clone()),
            network: self.network.clone(),
            test_network: self.test_network.clone(),
            ..Settings::default()
        };
        for number in 1..1000 {
            let name = if number == 1 { base.clone() } else { format!("{base}-{number}") };
            settings.name = Some(name);
            if self.check_name(machine, &settings).await?.is_empty() {
                settings.size = self.size_for(machine, &settings).await.ok().map(|size| size.name);
                return Ok(settings);
            }
        }
        Err(Error::new(ErrorKind::Refused, format!("no name like {base} is free in group {}", self.group)))
    }
}

/// Why a size does not do.
fn misfits(size: &Size, machine: &Machine, settings: &Settings) -> Vec<String> {
    let mut why = vec![];
    if let Some(reason) = &size.restricted {
        why.push(format!("this subscription cannot have it: {reason}"));
    }
    let mut least = |what: &str, has: u64, wants: u64| {
        if has < wants {
            why.push(format!("it has {has} {what}, the machine {wants}"));
        }
    };
    let excluded = |nic: &site_recovery::Nic| settings.nics.get(&nic.id).is_some_and(|nic| nic.excluded);
    let cards = machine.nics.iter().filter(|nic| !excluded(nic)).count() as u64;
    let disks = machine.included().count().saturating_sub(1) as u64;
    least("processors", size.cores.into(), machine.cpus.into());
    least("bytes of memory", size.memory_bytes, machine.memory);
    least("places for data disks", size.data_disks.into(), disks);
    least("network cards", size.nics.into(), cards);
    if !size.generations.contains(&generation(machine.firmware)) {
        why.push(format!("it starts no machine of generation {}", generation(machine.firmware).as_str()));
    }
    let premium =
        |disk: &site_recovery::DiskSettings| disk.kind.as_ref().is_some_and(|k| k.starts_with("Premium"));
    if !size.premium && settings.disks.values().any(premium) {
        why.push("it takes no premium disks".to_owned());
    }
    why
}
