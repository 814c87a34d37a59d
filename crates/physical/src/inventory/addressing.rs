//! Who gives the primary adapter its addresses, and whether by DHCP: read from the configuration, since a lease of now says
//! nothing of the next start.

use super::{Adapter, Root};
use serde::{Deserialize, Serialize};
use site_recovery::Result;
use std::fmt;

/// A program that sets up network adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkService {
    /// systemd-networkd, by itself or as netplan's renderer.
    Networkd,
    /// NetworkManager, by itself or as netplan's renderer.
    NetworkManager,
    /// Debian's `/etc/network/interfaces`.
    Ifupdown,
    /// `ifcfg-` files of Red Hat's or SUSE's older scripts.
    Ifcfg,
    /// dhcpcd on all adapters.
    Dhcpcd,
}

impl fmt::Display for NetworkService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Networkd => "systemd-networkd",
            Self::NetworkManager => "NetworkManager",
            Self::Ifupdown => "ifupdown",
            Self::Ifcfg => "ifcfg scripts",
            Self::Dhcpcd => "dhcpcd",
        })
    }
}

type Found = Option<(NetworkService, Option<bool>)>;

/// Who sets up an adapter, or what lies on it and has its addresses, and whether by DHCP; `None` where that cannot be seen.
pub(crate) fn addressing(root: &Root, adapter: &Adapter) -> Result<(Option<NetworkService>, Option<bool>)> {
    // NetworkManager and networkd leave alone what `interfaces` names, so that is asked first.
    let ways: [fn(&Root, &Adapter) -> Result<Found>; 5] =
        [ifupdown, networkd, network_manager, ifcfg, dhcpcd];
    for way in ways {
        if let Some((service, dhcp)) = way(root, adapter)? {
            return Ok((Some(service), dhcp));
        }
    }
    Ok((None, None))
}

/// Whether systemd starts a service.
pub(crate) fn is_enabled(root: &Root, service: &str) -> Result<bool> {
    for dir in
        ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
    {
        for wants in root.names(dir)?.iter().filter(|n| n.ends_with(".wants")) {
            if root.names(format!("{dir}/{wants}"))?.iter().any(|n| n == service) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn ifupdown(root: &Root, adapter: &Adapter) -> Result<Found> {
    let mut text = root.text("/etc/network/interfaces")?.unwrap_or_default();
    for name in root.names("/etc/network/interfaces.d")? {
        text.push('\n');
        text += &root.text(format!("/etc/network/interfaces.d/{name}"))?.unwrap_or_default();
    }
    // `iface eno1 inet dhcp`
    let methods: Vec<&str> = text
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>())
        .filter(|f| f.len() >= 4 && f[0] == "iface" && f[1] == adapter.name && f[2] == "inet")
        .map(|f| f[3])
        .collect();
    Ok(methods.first().map(|_| (NetworkService::Ifupdown, Some(methods.contains(&"dhcp")))))
}

fn networkd(root: &Root, adapter: &Adapter) -> Result<Found> {
    if !is_enabled(root, "systemd-networkd.service")? {
        return Ok(None);
    }
    // A name in /etc hides the same name in /run and /usr/lib; then they count in the order of names (systemd.network(5)).
    let mut files: Vec<(String, String)> = vec![];
    for dir in
        ["/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"]
    {
        for name in root.names(dir)?.into_iter().filter(|n| n.ends_with(".network")) {
            if !files.iter().any(|(known, _)| *known == name) {
                let text = root.text(format!("{dir}/{name}"))?.unwrap_or_default();
                files.push((name, text));
            }
        }
    }
    files.sort();
    let (driver, kind) = (driver(root, adapter), made_as(root, adapter));
    let mut texts = files.iter().map(|(_, text)| text);
    let ours = texts.find(|text| matches(text, adapter, driver.as_deref(), kind.as_deref()));
    let dhcp = ours.map(|text| {
        let told = values(text, "Network", "DHCP");
        told.last()
            .is_some_and(|v| matches!(v.as_str(), "yes" | "true" | "on" | "1" | "both" | "ipv4" | "v4"))
    });
    // An adapter that no file matches is left alone.
    Ok(dhcp.map(|dhcp| (NetworkService::Networkd, Some(dhcp))))
}

/// Whether a `.network` file is for this adapter: each kind of condition must hold, one of its values is enough.
fn matches(text: &str, adapter: &Adapter, driver: Option<&str>, kind: Option<&str>) -> bool {
    let words = |key: &str| -> Vec<String> {
        values(text, "Match", key).iter().flat_map(|v| v.split_whitespace()).map(str::to_owned).collect()
    };
    let holds = |key: &str, value: Option<&str>| {
        let words = words(key);
        words.is_empty() || value.is_some_and(|v| words.iter().any(|w| glob(w, &v.to_lowercase())))
    };
    let mac = adapter.mac.as_deref();
    let kinds = [
        ("Name", Some(adapter.name.as_str())),
        ("MACAddress", mac),
        ("PermanentMACAddress", mac),
        ("Driver", driver),
        ("Type", kind.or(Some("ether"))),
        ("Kind", kind),
    ];
    let said = kinds.iter().any(|(key, _)| !words(key).is_empty());
    // Those of radio are for no adapter that has a cable.
    let other = ["SSID", "BSSID", "WLANInterfaceType"].iter().any(|key| !words(key).is_empty());
    said && !other && kinds.iter().all(|(key, value)| holds(key, *value))
}

/// Shell's `*` and `?`, and nothing else of it; letters of either case.
fn glob(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|n| go(rest, &text[n..])),
            (Some((b'?', rest)), Some((_, text))) => go(rest, text),
            (Some((p, rest)), Some((t, text))) => p.eq_ignore_ascii_case(t) && go(rest, text),
            _ => false,
        }
    }
    go(pattern.as_bytes(), text.as_bytes())
}

fn network_manager(root: &Root, adapter: &Adapter) -> Result<Found> {
    if !is_enabled(root, "NetworkManager.service")? {
        return Ok(None);
    }
    let mut profiles = vec![];
    for dir in ["/etc/NetworkManager/system-connections", "/run/NetworkManager/system-connections"] {
        for name in root.names(dir)? {
            profiles.push(root.text(format!("{dir}/{name}"))?.unwrap_or_default());
        }
    }
    let first = |text: &str, section: &str, key: &str| values(text, section, key).into_iter().next_back();
    let wired = |text: &&String| {
        let kind = first(text, "connection", "type").unwrap_or_default();
        let name = first(text, "connection", "interface-name");
        let mac = first(text, "ethernet", "mac-address");
        let fits = |told: Option<String>, own: Option<&str>| {
            told.is_none_or(|t| own.is_some_and(|o| o.eq_ignore_ascii_case(&t)))
        };
        // What lies on adapters is always named.
        let is = match made_as(root, adapter) {
            None => matches!(kind.as_str(), "ethernet" | "802-3-ethernet"),
            Some(_) => name.is_some(),
        };
        is && values(text, "match", "driver").is_empty()
            && first(text, "connection", "autoconnect").is_none_or(|a| a != "false")
            && fits(name, Some(&adapter.name))
            && fits(mac, adapter.mac.as_deref())
    };
    let mut ours: Vec<&String> = profiles.iter().filter(wired).collect();
    let priority = |text: &String| -> i64 {
        first(text, "connection", "autoconnect-priority").and_then(|p| p.parse().ok()).unwrap_or(0)
    };
    ours.sort_by_key(|text| -priority(text));
    let profile = ours.first().map(|text| first(text, "ipv4", "method").is_some_and(|m| m == "auto"));
    // Without a profile NetworkManager makes one, with DHCP; but older profiles may stand in `ifcfg-` files.
    let dhcp = match profile {
        Some(dhcp) => dhcp,
        None => ifcfg(root, adapter)?.and_then(|(_, dhcp)| dhcp).unwrap_or(true),
    };
    Ok(Some((NetworkService::NetworkManager, Some(dhcp))))
}

fn ifcfg(root: &Root, adapter: &Adapter) -> Result<Found> {
    for dir in ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"] {
        if let Some(text) = root.text(format!("{dir}/ifcfg-{}", adapter.name))? {
            let told = text.lines().filter_map(|l| l.trim().strip_prefix("BOOTPROTO=")).next_back();
            let told = told.map(|v| v.trim_matches(['"', '\'']).to_lowercase());
            let dhcp = told.is_some_and(|v| v.starts_with("dhcp"));
            return Ok(Some((NetworkService::Ifcfg, Some(dhcp))));
        }
    }
    Ok(None)
}

fn dhcpcd(root: &Root, _: &Adapter) -> Result<Found> {
    Ok(is_enabled(root, "dhcpcd.service")?.then_some((NetworkService::Dhcpcd, Some(true))))
}

/// The values of a key in a file of sections.
fn values(text: &str, section: &str, key: &str) -> Vec<String> {
    let mut here = false;
    let mut found = vec![];
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            here = name == section;
        } else if here
            && let Some((k, value)) = line.split_once('=')
            && k.trim() == key
        {
            found.push(value.trim().to_owned());
        }
    }
    found
}

/// What the kernel made an interface as (`bond`, `vlan`, `bridge`, …), where it is no hardware.
fn made_as(root: &Root, adapter: &Adapter) -> Option<String> {
    let text = root.attribute(format!("/sys/class/net/{}/uevent", adapter.name))?;
    text.lines().find_map(|l| l.strip_prefix("DEVTYPE=")).map(str::to_owned)
}

/// The driver of an adapter.
pub(crate) fn driver(root: &Root, adapter: &Adapter) -> Option<String> {
    root.link_name(format!("/sys/class/net/{}/device/driver", adapter.name))
}
