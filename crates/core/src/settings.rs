//! What a machine shall be at its recovery site: plain data, validated by the site.

use crate::{DiskId, Error, Machine, NicId, Purpose, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Properties of the recovered machine, changeable until failover. Every field is optional: what is left out is
/// proposed by the site ([`Target::propose`](crate::Target::propose)). The words are neutral; what only one kind of
/// site knows goes into `site`, where a key that the site does not know is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Name of the recovered machine. A drill adds `-test`.
    pub name: Option<String>,
    /// Where it is kept: a resource group, a folder.
    pub group: Option<String>,
    /// The size's name; otherwise the first that satisfies disks, NICs, processors and memory.
    pub size: Option<String>,
    /// Where it is placed.
    pub placement: Placement,
    /// Network of the recovered machine.
    pub network: Option<String>,
    /// Network of drills; must not be the production network.
    pub test_network: Option<String>,
    /// Per NIC; the one marked `primary` comes first.
    pub nics: BTreeMap<NicId, NicSettings>,
    /// Per disk.
    pub disks: BTreeMap<DiskId, DiskSettings>,
    /// Datastore for disks that must be made.
    pub datastore: Option<String>,
    /// Volume of the retention log, for a master target.
    pub retention_volume: Option<String>,
    /// Which place on the way back.
    pub location: Location,
    /// Marks for the platform's own bookkeeping.
    pub tags: BTreeMap<String, String>,
    /// The licence that the guest brings along.
    pub licence: Option<String>,
    /// What only this kind of site knows.
    pub site: BTreeMap<String, String>,
}

/// Where a recovered machine is placed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Placement {
    /// Anywhere.
    #[default]
    Any,
    /// Apart from other members of a set.
    AvailabilitySet(String),
    /// In a zone.
    Zone(String),
    /// On a host.
    Host(String),
}

/// Original machine or a new one, on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Location {
    /// The original machine's disks, only changes; a new machine where it is gone.
    #[default]
    Original,
    /// A new machine on the master target's host, everything.
    Alternate,
}

/// One NIC of the recovered machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NicSettings {
    /// Whether it is made at all.
    pub excluded: bool,
    /// Whether it is the first.
    pub primary: bool,
    /// Subnet of the network.
    pub subnet: Option<String>,
    /// Fixed address; none: DHCP. One that is taken at failover makes the failover fail.
    pub address: Option<std::net::IpAddr>,
    /// Subnet in drills: else the one of the same name, else the first alphabetically.
    pub test_subnet: Option<String>,
    /// Fixed address in drills: else the same if it is free, else another.
    pub test_address: Option<std::net::IpAddr>,
}

/// One disk of the recovered machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSettings {
    /// Name of the disk. A drill adds `-test`.
    pub name: Option<String>,
    /// Kind of the disk: `Premium_LRS`, `thin`, …
    pub kind: Option<String>,
}

impl Settings {
    /// How a machine that is made by these is called, where every machine has a [proper name](Machine::proper_name): the name
    /// that is set, or that one. A drill's copy is called so with `-test` after it.
    pub fn name_for(&self, machine: &Machine, purpose: Purpose) -> String {
        purpose.named(self.name.clone().unwrap_or_else(|| machine.proper_name()))
    }

    /// Checks what is wrong at every site.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): a name that no site takes (1–63 letters, digits and hyphens, a letter
    /// or digit first and last: Azure's rule for machine names), two primary NICs, a test network that is the
    /// production network.
    pub fn validate(&self) -> Result<()> {
        if let Some(name) = &self.name {
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            let mut chars = name.chars();
            if name.len() > 63
                || !name.chars().all(inside)
                || !ends(chars.next())
                || !ends(name.chars().last())
            {
                let rule = "1-63 letters, digits and hyphens, a letter or digit first and last";
                return Err(Error::invalid(
                    "settings.name",
                    format!("{name:?}"),
                    rule,
                    "choose another name",
                ));
            }
        }
        if self.nics.values().filter(|n| n.primary && !n.excluded).count() > 1 {
            return Err(Error::invalid("settings.nics", "two primary", "one NIC is primary", "unmark one"));
        }
        if let (Some(test), Some(network)) = (&self.test_network, &self.network)
            && test == network
        {
            let rule = "a drill cannot reach the production network";
            return Err(Error::invalid("settings.test_network", test, rule, "name an isolated network"));
        }
        Ok(())
    }

    /// These, and in each field that says nothing what `others` say. Tags and what only the site knows are told key by key.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        fn either(own: &Option<String>, other: &Option<String>) -> Option<String> {
            own.as_ref().or(other.as_ref()).cloned()
        }
        fn set<T: Clone + Default + PartialEq>(own: &T, other: &T) -> T {
            if *own == T::default() { other.clone() } else { own.clone() }
        }
        fn keys(
            own: &BTreeMap<String, String>,
            others: &BTreeMap<String, String>,
        ) -> BTreeMap<String, String> {
            others.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        Self {
            name: either(&self.name, &others.name),
            group: either(&self.group, &others.group),
            size: either(&self.size, &others.size),
            placement: set(&self.placement, &others.placement),
            network: either(&self.network, &others.network),
            test_network: either(&self.test_network, &others.test_network),
            nics: set(&self.nics, &others.nics),
            disks: set(&self.disks, &others.disks),
            datastore: either(&self.datastore, &others.datastore),
            retention_volume: either(&self.retention_volume, &others.retention_volume),
            location: set(&self.location, &others.location),
            tags: keys(&self.tags, &others.tags),
            licence: either(&self.licence, &others.licence),
            site: keys(&self.site, &others.site),
        }
    }

    /// The first field here that only one machine can have: one of `name`, `nics` and `disks`.
    pub fn of_one_machine(&self) -> Option<&'static str> {
        let said = [
            ("name", self.name.is_some()),
            ("nics", !self.nics.is_empty()),
            ("disks", !self.disks.is_empty()),
        ];
        said.into_iter().find(|(_, said)| *said).map(|(field, _)| field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_site_takes_are_refused() {
        let long = "x".repeat(64);
        for bad in ["", "-web", "web-", "we_b", long.as_str()] {
            let settings = Settings { name: Some(bad.into()), ..Settings::default() };
            let error = settings.validate().expect_err(bad);
            assert_eq!(error.fact("field"), Some("settings.name"));
        }
        for good in ["w", "web-1", "7", &"x".repeat(63)] {
            Settings { name: Some(good.into()), ..Settings::default() }.validate().expect(good);
        }
    }
}
