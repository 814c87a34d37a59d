//! What this kind of site asks of settings, and how it describes the machines that it makes.

use crate::Site;
use crate::description::{DescribedDisk, DescribedNic, DescribedRole, Description, Format};
use crate::home::plain;
use crate::network::ISOLATED;
use crate::sidecars::Kind;
use site_recovery::{
    DiskRole, DiskSpec, Error, ErrorKind, Finding, Machine, Placement, Purpose, Recovery, Result, Settings,
    Severity,
};

/// The only place for disks.
pub(crate) const DATASTORE: &str = "directory";
/// Keys of [`Settings::site`] that mean something here.
const OURS: [&str; 2] = ["serial", "console"];

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
        if let Some((key, value)) = settings.site.iter().find(|(k, _)| !OURS.contains(&k.as_str())) {
            let rule = format!("a setting of this kind of site: {}", OURS.join(", "));
            found.push(Finding::setting(&format!("site.{key}"), value, &rule, "remove it"));
        }
        if let Some(other) = settings.datastore.as_deref().filter(|d| *d != DATASTORE) {
            let rule = format!("the only datastore is {DATASTORE}");
            found.push(Finding::setting("datastore", other, &rule, "name it, or leave it out"));
        }
        self.check_networks(machine, settings, &mut found);
        check_disks(machine, settings, &mut found);
        self.check_firmware(machine, &mut found);
        let unused = [
            ("group", settings.group.is_some()),
            ("size", settings.size.is_some()),
            ("placement", settings.placement != Placement::Any),
            ("licence", settings.licence.is_some()),
        ];
        for (field, _) in unused.iter().filter(|(_, given)| *given) {
            let cause = format!("{field} has no meaning for QEMU and is not used");
            found.push(Finding::new(format!("setting.{field}"), Severity::Info, cause, "leave it out"));
        }
        found
    }

    fn check_networks(&self, machine: &Machine, settings: &Settings, found: &mut Vec<Finding>) {
        for id in settings.nics.keys().filter(|id| !machine.nics.iter().any(|n| &n.id == *id)) {
            found.push(Finding::setting("nics", id, "a NIC of the machine", "name one that it has"));
        }
        let known: Vec<&str> = self.options.networks.keys().map(String::as_str).collect();
        let rule = format!("a network of this site: {}", known.join(", "));
        let mut names: Vec<(&str, &String)> = vec![];
        names.extend(settings.network.iter().map(|n| ("network", n)));
        names.extend(settings.test_network.iter().map(|n| ("test_network", n)));
        if settings.network.is_none() {
            names.extend(machine.nics.iter().filter_map(|n| n.network.as_ref()).map(|n| ("network", n)));
        }
        for (field, name) in names {
            match self.options.networks.get(name) {
                None => found.push(Finding::setting(field, name, &rule, "name one, or tell the site of it")),
                Some(network) if field == "test_network" && !network.isolated => {
                    let rule = "drills run in a network that is told to be apart from production";
                    found.push(Finding::setting(field, name, rule, ISOLATED));
                }
                Some(_) => {}
            }
        }
    }

    /// A firmware that the host lacks, or one with other rules about what may boot, is found before anybody needs it.
    fn check_firmware(&self, machine: &Machine, found: &mut Vec<Finding>) {
        // The machine type travels with the point; its family decides about firmware.
        if let Err(error) = self.firmware("q35", machine.firmware.into()) {
            let remedy = "install it on this host, or turn the setting of the machine's firmware off";
            found.push(Finding::new("target.firmware", Severity::Critical, error.message(), remedy));
        }
    }

    /// Room for the disks, should they fill up.
    pub(crate) fn check_space(&self, machine: &Machine) -> Result<Option<Finding>> {
        let (free, _) = self.space()?;
        let need: u64 = machine.included().map(|d| d.size).sum();
        let cause = format!("the disks may grow to {need} bytes, {free} are free in {}", self.root.display());
        let remedy = "make room, before the disks fill up";
        let finding = Finding::new("target.space", Severity::Warning, cause, remedy);
        Ok((need > free).then_some(finding))
    }

    /// Bytes free, and bytes in all, where the site stands.
    pub(crate) fn space(&self) -> Result<(u64, u64)> {
        let found = rustix::fs::statvfs(&self.root).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("cannot measure {}", self.root.display())).caused_by(e)
        })?;
        Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
    }
}

fn check_disks(machine: &Machine, settings: &Settings, found: &mut Vec<Finding>) {
    for (id, disk) in &settings.disks {
        let mut wrong = |field: &str, value: &str, rule: &str, remedy: &str| {
            found.push(Finding::setting(&format!("disks.{field}"), value, rule, remedy));
        };
        if machine.disk(id).is_none() {
            wrong("id", id.as_str(), "a disk of the machine", "name one that it has");
        }
        if let Some(kind) = disk.kind.as_deref().filter(|k| *k != "qcow2") {
            wrong("kind", kind, "recovered disks are qcow2 images", "write qcow2, or leave it out");
        }
        if let Some(name) = disk.name.as_deref().filter(|n| plain(n) != **n) {
            let rule = "lower-case letters, digits and hyphens, at most 63";
            wrong("name", name, rule, "choose another name");
        }
    }
    let files: Vec<String> = machine.included().map(|d| file_of(d, settings)).collect();
    if let Some((_, file)) = files.iter().enumerate().find(|(at, f)| files[..*at].contains(f)) {
        let rule = "each disk has a file of its own";
        found.push(Finding::setting("disks.name", file, rule, "rename one of the disks"));
    }
    for disk in machine.included().filter(|d| d.size % 512 != 0) {
        let rule = "QEMU's disks are whole sectors of 512 bytes";
        found.push(Finding::setting("disks.size", disk.size, rule, "grow the disk to whole sectors"));
    }
}

fn named(name: &str) -> Result<()> {
    Settings { name: Some(name.to_owned()), ..Settings::default() }.validate()
}

pub(crate) fn file_of(disk: &DiskSpec, settings: &Settings) -> String {
    let given = settings.disks.get(&disk.id).and_then(|s| s.name.clone());
    format!("{}.qcow2", given.unwrap_or_else(|| format!("disk-{}", plain(disk.id.as_str()))))
}

/// The description of a machine that holds these disks.
pub(crate) fn describe(machine: &Machine, settings: &Settings, kind: Kind) -> Description {
    let disk = |d: &DiskSpec| DescribedDisk {
        id: d.id.0.clone(),
        file: file_of(d, settings),
        format: Format::Qcow2,
        role: Some(match d.role {
            DiskRole::System => DescribedRole::System,
            DiskRole::Data => DescribedRole::Data,
        }),
        included: true,
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
    let mut smbios = kind.smbios;
    smbios.extend(settings.site.get("serial").map(|s| ("serial".to_owned(), s.clone())));
    Description {
        disks: machine.included().map(disk).collect(),
        nics: nics.into_iter().map(nic).collect(),
        cpus: machine.cpus,
        memory: machine.memory,
        machine: kind.machine,
        cpu: kind.cpu,
        firmware: machine.firmware.into(),
        tpm: kind.tpm,
        os: machine.os.into(),
        uuid: kind.uuid,
        agent: kind.agent,
        smbios,
        console: settings.site.get("console").is_some_and(|c| c == "on"),
        arguments: vec![],
    }
}

/// The machine that a recovery makes: of the captured one, what is replicated.
pub(crate) fn recovered(what: &Recovery, instance: site_recovery::Instance) -> Machine {
    let disks = what.machine.included().cloned().collect();
    Machine { disks, ..what.machine.standing_as(instance) }
}
