//! Whether a machine could be brought up here with these settings, and settings with which it could.

use super::Site;
use super::claim::LONGEST;
use super::import::generation;
use super::once::Once;
use super::rules;
use site_recovery::{Error, ErrorKind, Finding, Machine, Placement, Purpose, Result, Settings, Severity};
use site_recovery_azure_arm::Size;
use std::sync::{Arc, PoisonError};

impl Site {
    /// Changes nothing.
    pub(super) async fn check(
        &self,
        machine: &Machine,
        settings: &Settings,
        once: &Once,
    ) -> Result<Vec<Finding>> {
        let mut found = self.profile.rules().check(machine);
        let prepares = self.preparation.is_some();
        found.extend(rules::preparation(machine, prepares));
        let means = rules::Means { is_near: self.is_near, points: self.points.is_some(), prepares };
        found.extend(rules::uploads(machine, means));
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
        found.extend(self.check_size(machine, settings, once).await?);
        found.extend(self.check_placement(settings).await?);
        found.extend(self.check_disks(machine, settings).await?);
        found.extend(rules::tags(&settings.tags));
        found.extend(self.check_pace(machine, settings, once).await?);
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
            let is_taken = match self.marked(&name).await? {
                Some(marked) => marked.mark.machine != *machine.id(),
                None => self.arm.machines(&self.group).get(&name).await?.is_some(),
            };
            if is_taken {
                let rule = format!("a machine of that name is in group {}", self.group);
                found.push(Finding::setting("name", &name, &rule, "choose another, or remove that machine"));
            }
        }
        Ok(found)
    }

    async fn check_size(&self, machine: &Machine, settings: &Settings, once: &Once) -> Result<Vec<Finding>> {
        let Some(asked) = &settings.size else {
            return match self.size_for(machine, settings).await {
                Ok(size) => self.check_quota(machine, settings, &size, once).await,
                Err(e) if e.kind() == ErrorKind::Invalid => {
                    Ok(vec![Finding::new("setting.size", Severity::Critical, e.message(), "name a size")])
                }
                Err(e) => Err(e),
            };
        };
        let sizes = self.sizes().await?;
        let Some(size) = sizes.iter().find(|size| size.name.eq_ignore_ascii_case(asked)) else {
            let rule = format!("{} has no such size", self.location);
            return Ok(vec![Finding::setting("size", asked, &rule, "choose another")]);
        };
        let mut found: Vec<_> = misfits(size, machine, settings)
            .into_iter()
            .map(|rule| Finding::setting("size", asked, &rule, "choose a larger one"))
            .collect();
        found.extend(self.check_quota(machine, settings, size, once).await?);
        Ok(found)
    }

    async fn check_placement(&self, settings: &Settings) -> Result<Option<Finding>> {
        let told = |value: &str, rule: &str, remedy: &str| Finding::setting("placement", value, rule, remedy);
        Ok(match &settings.placement {
            Placement::AvailabilitySet(name) => {
                let found = self.arm.availability_set(&self.group, name).await?;
                let found = found.filter(|set| set.location.eq_ignore_ascii_case(&self.location));
                let Some(set) = found else {
                    let rule =
                        format!("it is an availability set of group {} in {}", self.group, self.location);
                    return Ok(Some(told(name, &rule, "make it, or name another")));
                };
                let Some(other) = self.network_of(&set.machines).await? else { return Ok(None) };
                let ours = settings.network.as_ref().or(self.network.as_ref());
                ours.filter(|ours| !self.network_id(ours).eq_ignore_ascii_case(&other)).map(|_| {
                    let rule = format!("its machines are in network {other}, and all are in one");
                    told(name, &rule, "name another set, or that network")
                })
            }
            Placement::Host(host) => {
                let rule = "machines here are placed in sets or zones";
                Some(told(host, rule, "name a set, a zone, or nothing"))
            }
            Placement::Zone(zone) if !matches!(zone.as_str(), "1" | "2" | "3") => {
                Some(told(zone, "zones are 1, 2 and 3", "name one of them"))
            }
            Placement::Any | Placement::Zone(_) => None,
        })
    }

    /// Names of disks and their kinds.
    async fn check_disks(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let mut found = vec![];
        let mut names = std::collections::BTreeSet::new();
        for (id, disk) in &settings.disks {
            if machine.disk(id).is_none() {
                found.push(Finding::setting("disks", id, "the machine has no such disk", "leave it out"));
            }
            if let Some(kind) = disk.kind.as_ref().filter(|kind| !rules::is_disk_kind(kind)) {
                let rule = format!("it is one of {}", rules::DISK_KINDS.join(", "));
                found.push(Finding::setting("disks.kind", kind, &rule, "choose one"));
            }
            let Some(chosen) = &disk.name else { continue };
            for purpose in [Purpose::Failover, Purpose::Drill] {
                let name = purpose.named(chosen.clone());
                if !rules::is_resource_name(&name) {
                    let rule = "1-80 letters, digits, _, - and ., a letter or digit first, no - or . last, with \
                        what a drill adds";
                    found.push(Finding::setting("disks.name", &name, rule, "choose another"));
                    break;
                }
                let there = self.arm.disks(&self.group).get(&name).await?;
                let is_other = there.is_some_and(|it| !self.is_of(machine.id(), &it.tags));
                if !names.insert(name.to_ascii_lowercase()) || is_other {
                    let rule = format!("no other disk of group {} has this name", self.group);
                    found.push(Finding::setting("disks.name", &name, &rule, "choose another"));
                }
            }
        }
        Ok(found)
    }

    /// All sizes of machines in the region. What is restricted may be another one in an hour.
    pub(super) async fn sizes(&self) -> Result<Arc<Vec<Size>>> {
        let now = self.clock.now();
        let kept = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, sizes)) = kept.filter(|(asked, _)| now.since(*asked) < LONGEST) {
            return Ok(sizes);
        }
        let sizes = Arc::new(self.arm.sizes(&self.location).await?);
        let fresh = Some((now, Arc::clone(&sizes)));
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(sizes)
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
