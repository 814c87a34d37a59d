//! What a physical server must be like to be protected, as data.
//!
//! The rules are those that Azure publishes for physical servers and VMware machines (*Support matrix for disaster recovery
//! of VMware VMs and physical servers to Azure*), as far as they are about the server itself; how bad each is, is said for
//! this library, which replicates blocks and starts machines elsewhere than at Azure, too. Rules of a target stand with its
//! adapter.

use super::{LayerKind, Reach, Server, ServerDisk};
use site_recovery::{DiskRole, Finding, Severity};
use std::collections::BTreeMap;
use std::net::IpAddr;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    /// The finding's code: `physical.<what>`.
    pub code: &'static str,
    /// How bad it is not to meet it.
    pub severity: Severity,
    /// What has to hold.
    pub rule: &'static str,
    /// What to do where it does not.
    pub remedy: &'static str,
    /// What breaks it: one text each, empty where nothing does.
    broken_by: fn(&Server) -> Vec<String>,
}

/// All rules.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        code: "physical.disk.none",
        severity: Severity::Critical,
        rule: "a server has a disk that can be replicated",
        remedy: "see which devices were left out and why, and name a disk",
        broken_by: |s| if s.disks.is_empty() { vec!["no disk was found".into()] } else { vec![] },
    },
    Requirement {
        code: "physical.disk.system",
        severity: Severity::Warning,
        rule: "the system lies on one of the disks",
        remedy: "name the disk that it starts from, or it cannot be started elsewhere",
        broken_by: |s| {
            let none = !s.disks.is_empty() && s.disks.iter().all(|d| d.role != DiskRole::System);
            if none { vec!["no disk holds / or a boot loader".into()] } else { vec![] }
        },
    },
    Requirement {
        code: "physical.disk.unstable",
        severity: Severity::Warning,
        rule: "a disk has a world-wide name or a serial number",
        remedy: "never change the order of disks, or put it behind a controller that tells one",
        broken_by: |s| {
            disks(s, |d| (!d.layout.stable).then(|| "has no identity but its name of today".into()))
        },
    },
    Requirement {
        code: "physical.disk.twice",
        severity: Severity::Critical,
        rule: "no two disks have the same identity",
        remedy: "set up multipath where they are one disk, else name the disks that count",
        broken_by: |s| twice(s.disks.iter().map(|d| (d.id.clone(), d.device.display().to_string()))),
    },
    Requirement {
        code: "physical.device.case",
        severity: Severity::Warning,
        rule: "names of devices and volumes differ by more than the case of letters",
        remedy: "rename one of them",
        broken_by: |s| twice(s.system.volumes.iter().map(|v| (v.to_lowercase(), v.clone()))),
    },
    Requirement {
        code: "physical.disk.sector",
        severity: Severity::Critical,
        rule: "logical sectors have 512 bytes: disks of virtual machines show no others",
        remedy: "leave it out, or format the disk with sectors of 512 bytes where it can",
        broken_by: |s| {
            disks(s, |d| (d.sector != 512).then(|| format!("has logical sectors of {} bytes", d.sector)))
        },
    },
    Requirement {
        code: "physical.disk.encrypted",
        severity: Severity::Warning,
        rule: "no disk is encrypted by the server itself",
        remedy: "it is replicated as it is; make sure that it can be opened on other hardware: a key in a TPM cannot",
        broken_by: |s| disks(s, encrypted),
    },
    Requirement {
        code: "physical.disk.shared",
        severity: Severity::Critical,
        rule: "no disk is shared with another server",
        remedy: "leave it out, and protect what is on it by its own means",
        broken_by: |s| {
            disks(s, |d| {
                let shared =
                    d.file_systems.iter().find(|f| ["gfs2", "ocfs2", "gpfs"].contains(&f.kind.as_str()));
                shared.map(|f| {
                    format!("holds a file system of a cluster ({}, {})", f.kind, f.mounted.display())
                })
            })
        },
    },
    Requirement {
        code: "physical.disk.multipath",
        severity: Severity::Warning,
        rule: "each disk has one path",
        remedy: "elsewhere it has one: take care that the system starts without multipath",
        broken_by: |s| reached(s, Reach::Multipath, "is reached by several paths"),
    },
    Requirement {
        code: "physical.disk.iscsi",
        severity: Severity::Warning,
        rule: "no disk is the server's own by iSCSI",
        remedy: "elsewhere it is a disk of the machine: take care that the initiator does not attach the old one, too",
        broken_by: |s| reached(s, Reach::Iscsi, "is reached by iSCSI"),
    },
    Requirement {
        code: "physical.disk.fibre-channel",
        severity: Severity::Warning,
        rule: "no disk is reached by Fibre Channel",
        remedy: "elsewhere it is a disk of the machine; make sure that no other server has it",
        broken_by: |s| reached(s, Reach::FibreChannel, "is reached by Fibre Channel"),
    },
    Requirement {
        code: "physical.disk.fabrics",
        severity: Severity::Warning,
        rule: "no disk is reached by NVMe over a network",
        remedy: "elsewhere it is a disk of the machine; take care that the old one is not attached, too",
        broken_by: |s| reached(s, Reach::Fabrics, "is reached by NVMe over a network"),
    },
    Requirement {
        code: "physical.boot.spread",
        severity: Severity::Warning,
        rule: "what the system boots from lies on the disks of /",
        remedy: "drill it: elsewhere the firmware has to be told which disk comes first",
        broken_by: boot_spread,
    },
    Requirement {
        code: "physical.filesystem.spread",
        severity: Severity::Warning,
        rule: "no btrfs or ZFS lies on several disks",
        remedy: "replicate all of its disks, and none of them without the others",
        broken_by: file_system_spread,
    },
    Requirement {
        code: "physical.filesystem.elsewhere",
        severity: Severity::Info,
        rule: "what is mounted lies on the disks that are replicated",
        remedy: "it is not replicated: see that it can be reached from the other site",
        broken_by: |s| {
            let tell = |f: &super::FileSystem| {
                format!("{} ({} of {})", f.mounted.display(), f.kind, f.device.display())
            };
            s.system.elsewhere.iter().map(tell).collect()
        },
    },
    Requirement {
        code: "physical.space.root",
        severity: Severity::Warning,
        rule: "2 GB are free on /",
        remedy: "make room",
        broken_by: |s| room(s.system.free, 2 * GIB, "/"),
    },
    Requirement {
        code: "physical.space.installation",
        severity: Severity::Warning,
        rule: "600 MB are free where the agent is installed",
        remedy: "make room",
        broken_by: |s| room(s.system.installation_free, 600 * MIB, "/usr/local"),
    },
    Requirement {
        code: "physical.network.none",
        severity: Severity::Warning,
        rule: "a server has a network adapter",
        remedy: "see why none is found",
        broken_by: |s| if s.adapters.is_empty() { vec!["no adapter is hardware".into()] } else { vec![] },
    },
    Requirement {
        code: "physical.network.static",
        severity: Severity::Warning,
        rule: "the primary adapter gets its address by DHCP",
        remedy: "prepare the server, so that it asks for an address elsewhere",
        broken_by: |s| match (s.guest.dhcp, s.adapters.first()) {
            (Some(false), Some(a)) => {
                vec![format!("{} has a static address, which does not follow it", a.name)]
            }
            _ => vec![],
        },
    },
    Requirement {
        code: "physical.network.ipv6-only",
        severity: Severity::Warning,
        rule: "the primary adapter has an IPv4 address",
        remedy: "give it one: not every site has IPv6",
        broken_by: |s| {
            let six = |a: &&super::Adapter| {
                let parsed: Vec<IpAddr> = a.addresses.iter().filter_map(|t| t.parse().ok()).collect();
                !parsed.is_empty() && parsed.iter().all(IpAddr::is_ipv6)
            };
            s.adapters
                .first()
                .filter(six)
                .map(|a| format!("{} has IPv6 addresses alone", a.name))
                .into_iter()
                .collect()
        },
    },
    Requirement {
        code: "physical.network.bonded",
        severity: Severity::Warning,
        rule: "no adapters are bonded",
        remedy: "elsewhere each is an adapter of its own: prepare the server, so that one of them asks for an address",
        broken_by: |s| s.system.bonds.clone(),
    },
];

/// What a server breaks of [`REQUIREMENTS`], in their order: one finding for each rule that is broken.
pub fn check(server: &Server) -> Vec<Finding> {
    let broken = REQUIREMENTS.iter().map(|r| (r, (r.broken_by)(server))).filter(|(_, by)| !by.is_empty());
    broken
        .map(|(r, by)| Finding::new(r.code, r.severity, format!("{}: {}", by.join("; "), r.rule), r.remedy))
        .collect()
}

/// What became of the disks since `earlier`: those that are gone, smaller, larger or new, and those of other sectors.
pub fn changes(earlier: &Server, now: &Server) -> Vec<Finding> {
    let known = |server: &Server, disk: &ServerDisk| server.disks.iter().find(|d| d.id == disk.id).cloned();
    let mut found = vec![];
    let mut tell = |code: &str, severity, cause: String, remedy: &str| {
        found.push(Finding::new(format!("physical.disk.{code}"), severity, cause, remedy));
    };
    for old in &earlier.disks {
        let Some(new) = known(now, old) else {
            let cause = format!("{} ({}) is gone", old.id, old.device.display());
            tell("removed", Severity::Critical, cause, "put it back, or protect the server anew without it");
            continue;
        };
        let cause = format!("{} had {} bytes and has {}", old.id, old.size, new.size);
        match new.size.cmp(&old.size) {
            std::cmp::Ordering::Less => {
                tell("shrunk", Severity::Critical, cause, "protect the server anew: its points are larger");
            }
            std::cmp::Ordering::Greater => {
                tell("grown", Severity::Critical, cause, "protect the server anew: its points are smaller");
            }
            std::cmp::Ordering::Equal => {}
        }
        if new.sector != old.sector {
            let cause = format!("{} had sectors of {} bytes and has {}", old.id, old.sector, new.sector);
            tell("sector", Severity::Critical, cause, "protect the server anew");
        }
    }
    for new in now.disks.iter().filter(|d| known(earlier, d).is_none()) {
        let cause = format!("{} ({}) is new and not replicated", new.id, new.device.display());
        tell("added", Severity::Warning, cause, "protect it, or leave it out by name");
    }
    found
}

fn disks(server: &Server, what: impl Fn(&ServerDisk) -> Option<String>) -> Vec<String> {
    let told = server.disks.iter().filter_map(|d| Some(format!("{} {}", d.device.display(), what(d)?)));
    told.collect()
}

fn reached(server: &Server, reach: Reach, how: &str) -> Vec<String> {
    disks(server, |d| (d.layout.reach == reach).then(|| how.to_owned()))
}

fn encrypted(disk: &ServerDisk) -> Option<String> {
    let layer = disk.layout.layers.iter().find(|l| {
        l.kind == LayerKind::Crypt || matches!(l.content.as_deref(), Some("crypto_LUKS" | "BitLocker"))
    })?;
    let by = layer.content.as_deref().filter(|c| *c == "BitLocker").unwrap_or("LUKS or dm-crypt");
    Some(format!("holds {}, encrypted by {by}", layer.device.display()))
}

/// Those that share a key with another.
fn twice(pairs: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, name) in pairs {
        by_key.entry(key).or_default().push(name);
    }
    by_key.into_values().filter(|names| names.len() > 1).map(|names| names.join(" and ")).collect()
}

fn boot_spread(server: &Server) -> Vec<String> {
    let boot = &server.system.boot;
    let Some((_, root)) = boot.iter().find(|(at, _)| at.as_os_str() == "/") else { return vec![] };
    let apart = boot.iter().filter(|(_, on)| !on.is_empty() && !on.iter().any(|d| root.contains(d)));
    apart
        .map(|(at, on)| format!("{} lies on {}, / on {}", at.display(), on.join(", "), root.join(", ")))
        .collect()
}

fn file_system_spread(server: &Server) -> Vec<String> {
    let mut on: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for disk in &server.disks {
        for fs in disk.file_systems.iter().filter(|f| f.kind == "btrfs") {
            on.entry(format!("btrfs of {}", fs.mounted.display()))
                .or_default()
                .push(disk.device.display().to_string());
        }
        if disk.layout.layers.iter().any(|l| l.content.as_deref() == Some("zfs_member")) {
            on.entry("ZFS".into()).or_default().push(disk.device.display().to_string());
        }
    }
    let spread = on.into_iter().filter(|(_, disks)| disks.len() > 1);
    spread.map(|(what, disks)| format!("{what} lies on {}", disks.join(", "))).collect()
}

fn room(free: Option<u64>, least: u64, at: &str) -> Vec<String> {
    free.filter(|f| *f < least).map(|f| format!("{} MiB are free on {at}", f / MIB)).into_iter().collect()
}
