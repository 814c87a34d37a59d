//! The network of a machine: its cards, where they are, and with which address.

use super::Site;
use super::mark::Marked;
use super::names::resource;
use super::register::Turn;
use site_recovery::{Error, Nic, NicSettings, Purpose, Recovery, Result, Settings};
use site_recovery_azure_arm::{self as arm, NewNic, Provisioning};
use std::net::IpAddr;

impl Site {
    /// The machine's network cards, the primary one first. They are in the mark before they are made.
    pub(super) async fn cards(
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
        if wanted.is_empty() {
            let rule = "a machine has a network card";
            return Err(Error::invalid("settings.nics", "all excluded", rule, "leave one in"));
        }
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
        let nics = self.arm.nics(&self.group);
        for (id, nic) in wanted {
            let is_drill = what.purpose == Purpose::Drill;
            let name = &marked.mark.nics[&id];
            let held = nics.get(name).await?;
            if let Some(held) = &held {
                self.must_be_made_by(&held.name, &held.tags, &by)?;
            }
            let subnet = subnet_of(&found, &nic, is_drill)?;
            let own = held.as_ref().and_then(|held| held.address);
            let address = self.address_for(&found.id, &nic, is_drill, own).await?;
            if let Some(held) = held {
                let is_it = held.provisioning != Provisioning::Failed
                    && held.subnet_id.as_ref().is_some_and(|it| it.eq_ignore_ascii_case(&subnet))
                    && (address.is_none() || address == held.address);
                if is_it {
                    ids.push(held.id);
                    continue;
                }
                // Of an earlier try, for another network or address.
                self.ask(turn, nics.delete(name)).await?.done().await?;
            }
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

    /// A fixed address, where one is asked for. In a drill: the same if it is free there, or is that of the card itself.
    async fn address_for(
        &self,
        network: &str,
        nic: &NicSettings,
        is_drill: bool,
        own: Option<IpAddr>,
    ) -> Result<Option<IpAddr>> {
        if !is_drill {
            return Ok(nic.address);
        }
        match (nic.test_address, nic.address) {
            (Some(address), _) => Ok(Some(address)),
            (None, Some(address)) if own == Some(address) => Ok(own),
            (None, Some(address)) => Ok(self.arm.address_is_free(network, address).await?.then_some(address)),
            (None, None) => Ok(None),
        }
    }

    /// Whether a network is the one of failovers, by its name or its id.
    pub(super) fn is_production(&self, network: &str, settings: &Settings) -> bool {
        let production = settings.network.as_ref().or(self.network.as_ref());
        let is_it = |other: &String| self.network_id(other).eq_ignore_ascii_case(&self.network_id(network));
        production.is_some_and(is_it)
    }

    pub(super) fn network_id(&self, network: &str) -> String {
        crate::settings::network_id(&self.subscription, &self.group, network)
    }

    pub(super) async fn reach(&self, marked: &Marked) -> Result<Vec<String>> {
        let mut reach = vec![];
        for name in marked.mark.nics.values() {
            let nic = self.arm.nics(&self.group).get(name).await?;
            // One of an earlier try may be nobody's.
            let nic = nic.filter(|nic| nic.machine.is_some());
            reach.extend(nic.and_then(|nic| nic.address).map(|address| address.to_string()));
        }
        Ok(reach)
    }
}

/// The subnet that is named, in drills the one of the same name where there is one, else the first by name.
pub(super) fn subnet_of(network: &arm::Network, nic: &NicSettings, is_drill: bool) -> Result<String> {
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
