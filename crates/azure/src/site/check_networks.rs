//! Whether a machine could be in its networks, that of production and that of drills.

use super::Site;
use super::cards::subnet_of;
use super::names::last;
use site_recovery::{ErrorKind, Finding, Machine, NicSettings, Result, Settings};
use site_recovery_azure_arm::{Network, Subnet};
use std::net::IpAddr;

impl Site {
    pub(super) async fn check_networks(
        &self,
        machine: &Machine,
        settings: &Settings,
    ) -> Result<Vec<Finding>> {
        let mut found = vec![];
        for (id, _) in settings.nics.iter().filter(|(_, nic)| !nic.excluded) {
            if machine.nics.iter().all(|nic| nic.id != *id) {
                found.push(Finding::setting("nics", id, "the machine has no such card", "leave it out"));
            }
        }
        let cards = cards(machine, settings);
        if cards.is_empty() {
            let rule = "a machine has a network card";
            found.push(Finding::setting("nics", "all excluded", rule, "leave one in"));
        }
        let Some(network) = settings.network.as_ref().or(self.network.as_ref()) else {
            let rule = "a machine is in a network";
            found.push(Finding::setting("network", "not set", rule, "name a virtual network"));
            return Ok(found);
        };
        found.extend(self.check_network(machine, network, &cards, false).await?);
        if let Some(test) = settings.test_network.as_ref().or(self.test_network.as_ref()) {
            if self.is_production(test, settings) {
                let rule = "it is another network than that of production";
                found.push(Finding::setting("test_network", test, rule, "name another"));
            } else {
                found.extend(self.check_network(machine, test, &cards, true).await?);
            }
        }
        Ok(found)
    }

    async fn check_network(
        &self,
        machine: &Machine,
        name: &str,
        cards: &[NicSettings],
        is_drill: bool,
    ) -> Result<Vec<Finding>> {
        let [network, subnet, address] = match is_drill {
            false => ["network", "nics.subnet", "nics.address"],
            true => ["test_network", "nics.test_subnet", "nics.test_address"],
        };
        let here = |network: &Network| network.location.eq_ignore_ascii_case(&self.location);
        let Some(there) = self.arm.network(&self.network_id(name)).await?.filter(here) else {
            let rule = format!("it is a virtual network of region {}", self.location);
            return Ok(vec![Finding::setting(network, name, &rule, "name another")]);
        };
        let mut found = vec![];
        for card in cards {
            let id = match subnet_of(&there, card, is_drill) {
                Ok(id) => id,
                Err(error) if error.kind() == ErrorKind::Invalid => {
                    let asked = if is_drill { &card.test_subnet } else { &card.subnet };
                    let (field, value) =
                        asked.as_ref().map_or((network, name), |asked| (subnet, asked.as_str()));
                    let rule = format!("it is, or has, a subnet of {}", there.id);
                    found.push(Finding::setting(field, value, &rule, "name another"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(wanted) = (if is_drill { card.test_address } else { card.address }) else { continue };
            let within = there.subnets.iter().any(|subnet| subnet.id == id && has(subnet, wanted));
            if !within || !self.is_free_for(machine, &there, wanted).await? {
                let rule = format!("it is free, in subnet {}", last(&id));
                found.push(Finding::setting(address, wanted, &rule, "choose another, or DHCP"));
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

    /// The network of machines that are all in one: of the first that is there.
    pub(super) async fn network_of(&self, machines: &[String]) -> Result<Option<String>> {
        for id in machines {
            let Some(machine) = self.arm.machines(&self.group).get(last(id)).await? else { continue };
            for nic in &machine.nics {
                let Some(nic) = self.arm.nics(&self.group).get(last(nic)).await? else { continue };
                let subnet = nic.subnet_id.unwrap_or_default();
                if let Some((network, _)) = subnet.rsplit_once("/subnets/") {
                    return Ok(Some(network.to_owned()));
                }
            }
        }
        Ok(None)
    }
}

/// The settings of each card that is made.
fn cards(machine: &Machine, settings: &Settings) -> Vec<NicSettings> {
    if machine.nics.is_empty() {
        return vec![NicSettings::default()];
    }
    let of = |nic: &site_recovery::Nic| settings.nics.get(&nic.id).cloned().unwrap_or_default();
    machine.nics.iter().map(of).filter(|nic| !nic.excluded).collect()
}

fn has(subnet: &Subnet, address: IpAddr) -> bool {
    subnet.prefixes.iter().any(|prefix| is_within(prefix, address))
}

/// Whether an address is in `10.0.0.0/24`.
fn is_within(prefix: &str, address: IpAddr) -> bool {
    let parts = prefix.split_once('/').and_then(|(net, len)| Some((net.parse().ok()?, len.parse().ok()?)));
    let Some((net, len)): Option<(IpAddr, u32)> = parts else { return false };
    let (net, address, bits) = match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (net.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let shift = bits - len.min(bits);
    let front = |it: u128| it.checked_shr(shift).unwrap_or(0);
    front(net) == front(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_the_prefix_that_begins_it() {
        for (prefix, address, expected) in [
            ("10.0.1.0/24", "10.0.1.77", true),
            ("10.0.1.0/24", "10.0.2.77", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("10.0.1.7/32", "10.0.1.8", false),
            ("fd00:1::/32", "fd00:1::5", true),
            ("::/0", "fd00::1", true),
            ("10.0.1.0/24", "fd00::1", false),
            ("nonsense", "10.0.1.7", false),
        ] {
            assert_eq!(is_within(prefix, address.parse().expect(address)), expected, "{prefix} {address}");
        }
    }
}
