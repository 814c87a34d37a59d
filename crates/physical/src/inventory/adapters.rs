//! Network adapters that are hardware.

use super::{Adapter, Root};
use site_recovery::{Error, ErrorKind, Result};
use std::collections::BTreeSet;

/// The kernel's number for Ethernet (`ARPHRD_ETHER`).
const ETHERNET: &str = "1";

/// Interface and address of this process's network namespace, in the kernel's order; those of a link alone are not told.
pub(crate) fn addresses() -> Result<Vec<(String, String)>> {
    let all = nix::ifaddrs::getifaddrs().map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the system does not tell its network addresses").caused_by(e)
    })?;
    let told = all.filter_map(|found| {
        let address = found.address?;
        let text = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(four), _) => four.ip().to_string(),
            (_, Some(six)) if !six.ip().is_unicast_link_local() => six.ip().to_string(),
            _ => return None,
        };
        Some((found.interface_name, text))
    });
    Ok(told.collect())
}

/// The adapters, the one with the default route first. What a bond, a bridge or a VLAN above has for addresses is the
/// first adapter's below it.
pub(crate) fn find(root: &Root, addresses: &[(String, String)]) -> Result<Vec<Adapter>> {
    let mut found = vec![];
    let mut told = BTreeSet::new();
    for name in hardware(root)? {
        let own: Vec<&(String, String)> = {
            let above = above(root, &name)?;
            addresses.iter().filter(|(on, _)| above.contains(on)).collect()
        };
        let fresh = own.into_iter().filter(|pair| told.insert((*pair).clone())).map(|(_, a)| a.clone());
        found.push(Adapter { addresses: fresh.collect(), mac: mac(root, &name), name });
    }
    if let Some(route) = default_route(root)? {
        let mut first = vec![];
        let mut others = vec![];
        for adapter in found {
            let carries = above(root, &adapter.name)?.contains(&route);
            if carries { first.push(adapter) } else { others.push(adapter) }
        }
        first.append(&mut others);
        return Ok(first);
    }
    Ok(found)
}

/// Bonds and teams that have an adapter below them.
pub(crate) fn bonds(root: &Root) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for adapter in hardware(root)? {
        let masters = above(root, &adapter)?;
        let teams = masters.into_iter().filter(|n| {
            let kind = root.attribute(format!("/sys/class/net/{n}/uevent")).unwrap_or_default();
            *n != adapter
                && (root.has(format!("/sys/class/net/{n}/bonding"))
                    || kind.lines().any(|l| l == "DEVTYPE=bond" || l == "DEVTYPE=team"))
        });
        found.extend(teams);
    }
    Ok(found.into_iter().collect())
}

/// What has the adapter's addresses: itself, or the bond, bridge or VLAN above it that has the default route.
pub(crate) fn carrier(root: &Root, adapter: &Adapter) -> Result<Adapter> {
    let above = above(root, &adapter.name)?;
    let name = default_route(root)?.filter(|route| above.contains(route));
    Ok(Adapter { name: name.unwrap_or_else(|| adapter.name.clone()), ..adapter.clone() })
}

fn hardware(root: &Root) -> Result<Vec<String>> {
    let mut names = root.names("/sys/class/net")?;
    names.retain(|n| {
        let dir = format!("/sys/class/net/{n}");
        root.has(format!("{dir}/device"))
            && root.attribute(format!("{dir}/type")).as_deref() == Some(ETHERNET)
    });
    Ok(names)
}

/// An interface and all that lie on it.
fn above(root: &Root, name: &str) -> Result<BTreeSet<String>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![name.to_owned()]);
    while let Some(name) = open.pop() {
        let uppers = root.names(format!("/sys/class/net/{name}"))?;
        open.extend(uppers.iter().filter_map(|n| n.strip_prefix("upper_")).map(str::to_owned));
        open.extend(root.link_name(format!("/sys/class/net/{name}/master")));
        // Each interface is looked at once.
        found.insert(name);
        open.retain(|n| !found.contains(n));
    }
    Ok(found)
}

/// The address of the hardware: in a bond an adapter shows the bond's.
fn mac(root: &Root, name: &str) -> Option<String> {
    let dir = format!("/sys/class/net/{name}");
    let told = root.attribute(format!("{dir}/bonding_slave/perm_hwaddr"));
    told.or_else(|| root.attribute(format!("{dir}/address"))).filter(|m| m != "00:00:00:00:00:00")
}

/// The interface of the default route that is preferred.
fn default_route(root: &Root) -> Result<Option<String>> {
    let four = root.text("/proc/net/route")?.unwrap_or_default();
    // Interface, destination, gateway, flags, references, use, metric, mask.
    let four = four.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, to, metric, mask) = (fields.first()?, fields.get(1)?, fields.get(6)?, fields.get(7)?);
        (*to == "00000000" && *mask == "00000000")
            .then_some((metric.parse::<u32>().ok()?, (*name).to_owned()))
    });
    if let Some((_, name)) = four.min_by_key(|(metric, _)| *metric) {
        return Ok(Some(name));
    }
    let six = root.text("/proc/net/ipv6_route")?.unwrap_or_default();
    // Destination, its length, source, its length, next hop, metric, references, use, flags, interface; all in hex.
    let six = six.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (to, long, hop) = (fields.first()?, fields.get(1)?, fields.get(4)?);
        let (metric, name) = (u32::from_str_radix(fields.get(5)?, 16).ok()?, fields.get(9)?);
        let zero = |text: &str| text.bytes().all(|b| b == b'0');
        (zero(to) && *long == "00" && !zero(hop)).then(|| (metric, (*name).to_owned()))
    });
    Ok(six.min_by_key(|(metric, _)| *metric).map(|(_, name)| name))
}
