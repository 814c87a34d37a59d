//! An address by DHCP at the other site, and there alone: our configuration is for the drivers of that hardware, which the
//! server's own adapters do not have.

use super::file::{MARK, OurFile};
use super::program::Runner;
use super::{Destination, MEND};
use crate::inventory::{NetworkService, Root, Server, driver};
use site_recovery::{Finding, Result, Severity};
use std::collections::BTreeSet;

/// Before all others, so that a file for every adapter does not come first; it matches none of the server's own.
pub(crate) const NETWORKD: &str = "/etc/systemd/network/05-site-recovery.network";
/// Starts networkd when such an adapter appears, where the server itself does not use it.
pub(crate) const RULE: &str = "/etc/udev/rules.d/99-site-recovery.rules";
pub(crate) const PROFILE: &str = "/etc/NetworkManager/system-connections/site-recovery.nmconnection";
/// The first NetworkManager whose profiles can be for a driver (`NMSettingMatch`, 1.26). Older ones would take the profile
/// for every adapter.
const MATCHES_DRIVERS: (u32, u32) = (1, 26);

/// What is to be done about addresses.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) files: Vec<OurFile>,
    pub(crate) findings: Vec<Finding>,
}

pub(crate) fn wanted(
    root: &Root,
    runner: &Runner,
    server: &Server,
    towards: &BTreeSet<Destination>,
) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let own: BTreeSet<String> = server.adapters.iter().filter_map(|a| driver(root, a)).collect();
    let all: BTreeSet<&str> = towards.iter().flat_map(|d| d.adapters()).copied().collect();
    let (shared, apart): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|d| own.contains(*d));
    let mut tell = |code: &str, cause: String, remedy: &str| {
        wanted.findings.push(Finding::new(format!("preparation.{code}"), Severity::Warning, cause, remedy));
    };
    if !shared.is_empty() {
        let cause =
            format!("the server's own adapters use {}, as those of the other site may", shared.join(", "));
        tell("dhcp.same-driver", cause, "there they are set up as here: see that this fits");
    }
    if apart.is_empty() {
        return Ok(wanted);
    }
    match server.system.network {
        // It asks for an address on every adapter.
        Some(NetworkService::Dhcpcd) => {}
        Some(NetworkService::Networkd) => wanted.files.push(networkd(&apart)),
        Some(NetworkService::NetworkManager) => {
            let version = runner.run(root, "NetworkManager", &["--version"])?;
            if number(&version).is_some_and(|v| v >= MATCHES_DRIVERS) {
                wanted.files.push(profile(&apart));
            } else {
                let cause = format!("NetworkManager {} has no profiles for drivers", version.trim());
                tell(
                    "dhcp.unsupported",
                    cause,
                    "give the server 1.26 or newer, or set up its address by hand there",
                );
            }
        }
        Some(NetworkService::Ifupdown | NetworkService::Ifcfg) | None => {
            let unit = "systemd-networkd.service";
            if ["/usr/lib", "/lib"].iter().any(|lib| root.has(format!("{lib}/systemd/system/{unit}"))) {
                wanted.files.extend([networkd(&apart), rule(&apart, unit)]);
            } else {
                let who = server.system.network.map_or("what sets up the network".into(), |s| s.to_string());
                let cause = format!("{who} cannot tell other hardware, and systemd-networkd is absent");
                tell(
                    "dhcp.unsupported",
                    cause,
                    "install systemd-networkd, or set up the address by hand there",
                );
            }
        }
    }
    let mut missing = vec![];
    for file in &wanted.files {
        if !file.stands(root)? {
            missing.push(file.path.as_str());
        }
    }
    if !missing.is_empty() {
        let cause = format!("nothing asks for an address on {}: no {}", apart.join(", "), missing.join(", "));
        wanted.findings.push(Finding::new("preparation.dhcp", Severity::Warning, cause, MEND));
    }
    Ok(wanted)
}

// Its own user reads it: for all.
fn networkd(drivers: &[&str]) -> OurFile {
    let text = format!("{MARK}\n[Match]\nDriver={}\n\n[Network]\nDHCP=yes\n", drivers.join(" "));
    OurFile { path: NETWORKD.into(), text, mode: 0o644 }
}

fn rule(drivers: &[&str], unit: &str) -> OurFile {
    let text = format!(
        "{MARK}\nACTION==\"add\", SUBSYSTEM==\"net\", DRIVERS==\"{}\", TAG+=\"systemd\", ENV{{SYSTEMD_WANTS}}+=\"{unit}\"\n",
        drivers.join("|")
    );
    OurFile { path: RULE.into(), text, mode: 0o644 }
}

// NetworkManager reads no profile that others may read.
fn profile(drivers: &[&str]) -> OurFile {
    let text = format!(
        "{MARK}\n[connection]\nid=site-recovery\ntype=ethernet\nautoconnect-priority=100\nmulti-connect=3\n\n\
         [match]\ndriver={};\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n",
        drivers.join(";")
    );
    OurFile { path: PROFILE.into(), text, mode: 0o600 }
}

/// `1.42.4`, `1.30.6-1.fc33`
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim().split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
