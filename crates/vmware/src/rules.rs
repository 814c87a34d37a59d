//! What this kind of site asks of settings for a machine that lands.

use site_recovery::{
    DiskId, Finding, Location, Machine, Nic, Offer, OsFamily, Placement, Settings, Severity,
};
use site_recovery_vim::{ControllerKind, Datastore, Moref, Network, NetworkEntity, NicKind, Provisioning};

/// Settings that only this kind of site knows: the guest that the machine is made for, and what its disks hang at.
const KNOWN: &[&str] = &["guest_id", "controller"];

/// Rules that hold whatever stands at the server.
pub(crate) fn check(machine: &Machine, settings: &Settings) -> Vec<Finding> {
    let mut found = vec![];
    for error in [machine.validate().err(), settings.validate().err()].into_iter().flatten() {
        let field = error.fact("field").unwrap_or("settings").to_owned();
        found.push(Finding::new(
            format!("setting.{field}"),
            Severity::Critical,
            error.message(),
            "mend the field named",
        ));
    }
    for (key, value) in settings.site.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())) {
        let rule = format!("the settings of a site of VMware's are {}", KNOWN.join(" and "));
        found.push(Finding::setting(&format!("site.{key}"), value, &rule, "remove it"));
    }
    if let Some(word) = settings.site.get("controller").filter(|word| controller_named(word).is_none()) {
        found.push(Finding::setting(
            "site.controller",
            word,
            "pvscsi, lsisas, lsilogic, sata or nvme",
            "choose one",
        ));
    }
    for id in settings.nics.keys().filter(|id| !machine.nics.iter().any(|n| &n.id == *id)) {
        found.push(Finding::setting("nics", id, "a NIC of the machine", "name one that it has"));
    }
    for (id, disk) in &settings.disks {
        if machine.disk(id).is_none() {
            found.push(Finding::setting("disks.id", id, "a disk of the machine", "name one that it has"));
        }
        if let Some(kind) = disk.kind.as_deref().filter(|kind| provisioning_named(kind).is_none()) {
            found.push(Finding::setting("disks.kind", kind, "thin, thick or eager", "choose one"));
        }
        if let Some(name) = &disk.name {
            found.push(Finding::setting(
                "disks.name",
                name,
                "the server names the files of disks",
                "leave it out",
            ));
        }
    }
    if !matches!(settings.placement, Placement::Any | Placement::Host(_)) {
        let value = format!("{:?}", settings.placement);
        found.push(Finding::setting(
            "placement",
            value,
            "a machine lands on the host of the appliance",
            "leave it out",
        ));
    }
    let unused = [("size", settings.size.is_some()), ("licence", settings.licence.is_some())];
    for (field, _) in unused.iter().filter(|(_, given)| *given) {
        let cause = format!("{field} has no meaning for a site of VMware's and is not used");
        found.push(Finding::new(format!("setting.{field}"), Severity::Info, cause, "leave it out"));
    }
    found
}

pub(crate) fn controller_named(word: &str) -> Option<ControllerKind> {
    Some(match word {
        "pvscsi" => ControllerKind::ParaVirtual,
        "lsisas" => ControllerKind::LsiLogicSas,
        "lsilogic" => ControllerKind::LsiLogic,
        "sata" => ControllerKind::Ahci,
        "nvme" => ControllerKind::Nvme,
        _ => return None,
    })
}

pub(crate) fn provisioning_named(word: &str) -> Option<Provisioning> {
    Some(match word {
        "thin" => Provisioning::Thin,
        "thick" => Provisioning::Thick,
        "eager" => Provisioning::Eager,
        _ => return None,
    })
}

/// What disks of a new machine hang at: what every such guest has a driver for.
pub(crate) fn controller(machine: &Machine, settings: &Settings) -> ControllerKind {
    let told = settings.site.get("controller").and_then(|word| controller_named(word));
    told.unwrap_or(match machine.os {
        OsFamily::Linux => ControllerKind::ParaVirtual,
        OsFamily::Windows | OsFamily::Other => ControllerKind::LsiLogicSas,
    })
}

/// What a new machine is made for.
pub(crate) fn guest_id(machine: &Machine, settings: &Settings) -> String {
    let told = settings.site.get("guest_id").cloned();
    let usual = match machine.os {
        OsFamily::Linux => "otherLinux64Guest",
        OsFamily::Windows => "windows9Server64Guest",
        OsFamily::Other => "otherGuest64",
    };
    told.unwrap_or_else(|| usual.to_owned())
}

/// The size that a server makes a disk with: of whole KiB.
pub(crate) fn capacity(size: u64) -> u64 {
    size.next_multiple_of(1024)
}

pub(crate) fn provisioning(disk: &DiskId, settings: &Settings) -> Provisioning {
    let kind = settings.disks.get(disk).and_then(|disk| disk.kind.as_deref());
    kind.and_then(provisioning_named).unwrap_or(Provisioning::Thin)
}

/// Whether and why disks can be made on a datastore from a host.
pub(crate) fn offer(datastore: &Datastore, host: &Moref) -> Offer {
    let mount = datastore.mounts.iter().find(|mount| mount.host == *host);
    let ineligible = match mount {
        _ if !datastore.accessible => Some("no host reaches it"),
        None => Some("the host of the appliance does not have it"),
        Some(mount) if !mount.accessible => Some("the host of the appliance does not reach it"),
        Some(mount) if !mount.writable => Some("the host of the appliance may only read it"),
        Some(_) if datastore.maintenance.as_deref().is_some_and(|m| m != "normal") => {
            Some("it is in maintenance")
        }
        Some(_) => None,
    };
    let (name, size, free) = (datastore.name.clone(), datastore.capacity, datastore.free);
    Offer { name, size, free, ineligible: ineligible.map(str::to_owned) }
}

/// The datastore is always named, also where the disks exist already and it is not used.
pub(crate) fn check_datastore(
    offers: &[Offer],
    machine: &Machine,
    settings: &Settings,
    exists: bool,
) -> Vec<Finding> {
    let names: Vec<&str> =
        offers.iter().filter(|o| o.ineligible.is_none()).map(|o| o.name.as_str()).collect();
    let remedy = format!("name one of {}", names.join(", "));
    let Some(name) = &settings.datastore else {
        return vec![Finding::setting(
            "datastore",
            "not said",
            "disks that have to be made go to a datastore",
            &remedy,
        )];
    };
    let need: u64 = machine.included().map(|disk| disk.size).sum();
    match offers.iter().find(|offer| offer.name == *name) {
        None => vec![Finding::setting("datastore", name, "a datastore of this server", &remedy)],
        Some(Offer { ineligible: Some(why), .. }) => vec![Finding::setting("datastore", name, why, &remedy)],
        Some(offer) if offer.free < need && !exists && settings.location == Location::Alternate => {
            let cause = format!("the disks may grow to {need} bytes, {} are free on {name}", offer.free);
            vec![Finding::new(
                "landing.space",
                Severity::Warning,
                cause,
                "make room, or name another datastore",
            )]
        }
        Some(_) => vec![],
    }
}

/// The network that an adapter of a new machine is plugged into: the one set for all, or the one of the same name.
pub(crate) fn network<'a>(
    nic: &Nic,
    settings: &Settings,
    all: &'a [NetworkEntity],
    host: &[Moref],
) -> Option<&'a NetworkEntity> {
    let wanted = settings.network.as_ref().or(nic.network.as_ref())?;
    all.iter().find(|n| n.name == *wanted && n.backing.is_some() && host.contains(&n.moref))
}

/// The adapters of a new machine: those for which there is a network.
pub(crate) fn plugged<'a>(
    machine: &'a Machine,
    settings: &Settings,
    all: &[NetworkEntity],
    host: &[Moref],
) -> Vec<(&'a Nic, Network)> {
    let made = |nic: &&Nic| !settings.nics.get(&nic.id).is_some_and(|nic| nic.excluded);
    let with = |nic: &'a Nic| Some((nic, network(nic, settings, all, host)?.backing.clone()?));
    machine.nics.iter().filter(made).filter_map(with).collect()
}

/// What adapters of a new machine are: what every such guest has a driver for.
pub(crate) fn adapter(machine: &Machine) -> NicKind {
    match machine.os {
        OsFamily::Linux => NicKind::Vmxnet3,
        OsFamily::Windows | OsFamily::Other => NicKind::E1000e,
    }
}

/// Adapters for which there is no network, and a network that is not there.
pub(crate) fn check_networks(
    machine: &Machine,
    settings: &Settings,
    all: &[NetworkEntity],
    host: &[Moref],
) -> Vec<Finding> {
    let there =
        |name: &str| all.iter().any(|n| n.name == name && n.backing.is_some() && host.contains(&n.moref));
    let mut found = vec![];
    if let Some(name) = settings.network.as_deref().filter(|name| !there(name)) {
        let rule = "a network of the appliance's host";
        found.push(Finding::setting("network", name, rule, "name one that it has"));
        return found;
    }
    for nic in &machine.nics {
        let excluded = settings.nics.get(&nic.id).is_some_and(|nic| nic.excluded);
        if !excluded && network(nic, settings, all, host).is_none() {
            let wanted = nic.network.as_deref().unwrap_or("no network that is known");
            let cause = format!(
                "adapter {} was in {wanted}, which the appliance's host does not have: it is not plugged in",
                nic.id
            );
            found.push(Finding::new(
                "landing.network",
                Severity::Warning,
                cause,
                "say which in settings.network",
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery_vim::Mount;

    fn host() -> Moref {
        Moref::new("HostSystem", "host-1")
    }

    /// Mounted at the appliance's host, for writing.
    fn datastore() -> Datastore {
        let mount = Mount { host: host(), writable: true, accessible: true };
        Datastore {
            moref: Moref::new("Datastore", "datastore-1"),
            name: "fast".into(),
            parent: None,
            kind: Some("VMFS".into()),
            url: None,
            capacity: 10 << 30,
            free: 1 << 30,
            accessible: true,
            maintenance: Some("normal".into()),
            mounts: vec![mount],
        }
    }

    fn ineligible(change: impl FnOnce(&mut Datastore)) -> Option<String> {
        let mut changed = datastore();
        change(&mut changed);
        offer(&changed, &host()).ineligible
    }

    #[test]
    fn disks_go_where_the_appliances_host_writes() {
        assert_eq!(ineligible(|_| {}), None);
        for (change, why) in [
            ((|d| d.mounts[0].writable = false) as fn(&mut Datastore), "only read"),
            (|d| d.mounts[0].accessible = false, "does not reach"),
            (|d| d.mounts[0].host.id = "host-2".into(), "does not have"),
            (|d| d.accessible = false, "no host"),
            (|d| d.maintenance = Some("inMaintenance".into()), "maintenance"),
        ] {
            let told = ineligible(change).expect(why);
            assert!(told.contains(why), "{told}");
        }
    }
}
