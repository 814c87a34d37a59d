//! What this kind of site asks of settings, and how it describes the machines that it makes.

use crate::description::{Commands, DescribedDisk, DescribedNic, DescribedSidecar, Description};
use crate::home::plain;
use crate::{Site, copies};
use site_recovery::{Finding, Machine, Placement, Purpose, Recovery, Result, Settings, Severity, Sidecar};
use site_recovery_register::durable;
use std::path::Path;

/// The only place for disks.
pub(crate) const DATASTORE: &str = "directory";

impl Site {
    /// Rules that hold whatever stands in the directory.
    pub(crate) fn check_settings(&self, machine: &Machine, settings: &Settings) -> Vec<Finding> {
        let mut found = vec![];
        for error in [machine.validate().err(), settings.validate().err()].into_iter().flatten() {
            let field = error.fact("field").unwrap_or("settings").to_owned();
            let remedy = "mend the field named";
            found.push(Finding::new(format!("setting.{field}"), Severity::Critical, error.message(), remedy));
        }
        for purpose in [Purpose::Failover, Purpose::Drill] {
            if settings.validate().is_ok()
                && let Err(error) = named(&settings.name_for(machine, purpose))
            {
                let remedy = "choose another name in settings.name";
                found.push(Finding::new("setting.name", Severity::Critical, error.message(), remedy));
            }
        }
        if let Some((key, value)) = settings.site.iter().next() {
            let rule = "a directory knows no settings of its own";
            found.push(Finding::setting(&format!("site.{key}"), value, rule, "remove it"));
        }
        if let Some(other) = settings.datastore.as_deref().filter(|d| *d != DATASTORE) {
            let rule = format!("the only datastore is {DATASTORE}");
            found.push(Finding::setting("datastore", other, &rule, "name it, or leave it out"));
        }
        for id in settings.nics.keys().filter(|id| !machine.nics.iter().any(|n| &n.id == *id)) {
            found.push(Finding::setting("nics", id, "a NIC of the machine", "name one that it has"));
        }
        for (id, disk) in &settings.disks {
            let mut wrong = |field: &str, value: &str, rule: &str, remedy: &str| {
                found.push(Finding::setting(&format!("disks.{field}"), value, rule, remedy));
            };
            if machine.disk(id).is_none() {
                wrong("id", id.as_str(), "a disk of the machine", "name one that it has");
            }
            if let Some(kind) = disk.kind.as_deref().filter(|k| *k != "raw") {
                wrong("kind", kind, "disks are raw files", "write raw, or leave it out");
            }
            if let Some(name) = disk.name.as_deref().filter(|n| plain(n) != **n) {
                let rule = "lower-case letters, digits and hyphens, at most 63";
                wrong("name", name, rule, "choose another name");
            }
        }
        let files: Vec<String> = describe(machine, settings, &[]).disks.into_iter().map(|d| d.file).collect();
        if let Some((_, file)) = files.iter().enumerate().find(|(at, f)| files[..*at].contains(f)) {
            let rule = "each disk has a file of its own";
            found.push(Finding::setting("disks.name", file, rule, "rename one of the disks"));
        }
        let unused = [
            ("group", settings.group.is_some()),
            ("size", settings.size.is_some()),
            ("placement", settings.placement != Placement::Any),
            ("licence", settings.licence.is_some()),
        ];
        for (field, _) in unused.iter().filter(|(_, given)| *given) {
            let cause = format!("{field} has no meaning for a directory and is not used");
            found.push(Finding::new(format!("setting.{field}"), Severity::Info, cause, "leave it out"));
        }
        found
    }

    /// Room for the disks, should they fill up.
    pub(crate) fn check_space(&self, machine: &Machine) -> Result<Option<Finding>> {
        let (free, _) = copies::space(&self.root)?;
        let need: u64 = machine.included().map(|d| d.size).sum();
        let cause = format!("the disks may grow to {need} bytes, {free} are free in {}", self.root.display());
        let remedy = "make room, before the disks fill up";
        let finding = Finding::new("target.space", Severity::Warning, cause, remedy);
        Ok((need > free).then_some(finding))
    }
}

fn named(name: &str) -> Result<()> {
    Settings { name: Some(name.to_owned()), ..Settings::default() }.validate()
}

/// The description of a machine that holds these disks.
pub(crate) fn describe(machine: &Machine, settings: &Settings, sidecars: &[Sidecar]) -> Description {
    let disk = |d: &site_recovery::DiskSpec| {
        let given = settings.disks.get(&d.id).and_then(|s| s.name.clone());
        let file = format!("{}.raw", given.unwrap_or_else(|| format!("disk-{}", plain(d.id.as_str()))));
        DescribedDisk { id: d.id.0.clone(), file, role: d.role, included: true }
    };
    let set = |n: &site_recovery::Nic| settings.nics.get(&n.id).cloned().unwrap_or_default();
    let mut nics: Vec<_> = machine.nics.iter().map(|n| (n, set(n))).filter(|(_, s)| !s.excluded).collect();
    nics.sort_by_key(|(_, s)| !s.primary);
    let nic = |(n, s): (&site_recovery::Nic, site_recovery::NicSettings)| DescribedNic {
        id: n.id.0.clone(),
        mac: n.mac.clone(),
        network: settings.network.clone().or_else(|| n.network.clone()),
        addresses: s.address.map_or_else(|| n.addresses.clone(), |a| vec![a.to_string()]),
    };
    Description {
        disks: machine.included().map(disk).collect(),
        nics: nics.into_iter().map(nic).collect(),
        cpus: machine.cpus,
        memory: machine.memory,
        firmware: machine.firmware,
        os: machine.os,
        sidecars: sidecars
            .iter()
            .map(|s| DescribedSidecar { name: s.name.clone(), file: sidecar_file(s) })
            .collect(),
        commands: Commands::default(),
    }
}

pub(crate) fn write_sidecars(dir: &Path, sidecars: &[Sidecar]) -> Result<()> {
    sidecars.iter().try_for_each(|s| durable::write_bytes(&dir.join(sidecar_file(s)), &s.bytes))
}

fn sidecar_file(sidecar: &Sidecar) -> String {
    format!("sidecar-{}.bin", plain(&sidecar.name))
}

/// The machine that a recovery makes: of the captured one, what is replicated.
pub(crate) fn recovered(what: &Recovery, instance: site_recovery::Instance) -> Machine {
    let disks = what.machine.included().cloned().collect();
    Machine { disks, ..what.machine.standing_as(instance) }
}
