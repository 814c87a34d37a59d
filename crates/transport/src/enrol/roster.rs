//! Where every service is, and which roles it serves there.

use super::service::Service;
use crate::fault::Result;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, RoleName};
use std::fmt;
use std::str::FromStr;

/// The most roles that one service serves.
const MOST_ROLES: usize = 256;

/// What a role is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RoleKind {
    /// [`Source`](site_recovery::Source).
    Source,
    /// [`ProcessServer`](site_recovery::ProcessServer).
    ProcessServer,
    /// [`RecoveryPointStore`](site_recovery::RecoveryPointStore).
    Store,
    /// [`Target`](site_recovery::Target).
    Target,
    /// [`MasterTarget`](site_recovery::MasterTarget).
    MasterTarget,
    /// [`LandingSite`](site_recovery::LandingSite).
    LandingSite,
}

/// A role that a service serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServedRole {
    /// What it is.
    pub kind: RoleKind,
    /// Its name.
    pub name: RoleName,
}

/// What a service says of itself when it joins, and whenever it renews.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stated {
    /// Host and port where others reach it; `None` where it serves nothing.
    pub address: Option<String>,
    /// What it serves there: no more than its token allowed.
    pub roles: Vec<ServedRole>,
}

/// A service of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// Who.
    pub service: Service,
    /// Where.
    pub address: String,
    /// What it serves.
    pub roles: Vec<ServedRole>,
}

impl RoleKind {
    const ALL: [Self; 6] =
        [Self::Source, Self::ProcessServer, Self::Store, Self::Target, Self::MasterTarget, Self::LandingSite];

    /// As text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::ProcessServer => "process-server",
            Self::Store => "store",
            Self::Target => "target",
            Self::MasterTarget => "master-target",
            Self::LandingSite => "landing-site",
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RoleKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            let shown: String = text.chars().take(80).collect();
            Error::invalid(
                "role",
                format!("{shown:?}"),
                &format!("its kind is one of {all}"),
                "name one of them",
            )
        })
    }
}

impl ServedRole {
    /// The role of this kind and name.
    pub fn new(kind: RoleKind, name: impl Into<RoleName>) -> Self {
        Self { kind, name: name.into() }
    }

    pub(super) fn check_all(roles: &[Self]) -> Result<()> {
        if roles.len() > MOST_ROLES {
            let rule = format!("a service serves at most {MOST_ROLES}");
            return Err(Error::invalid(
                "roles",
                format!("{} roles", roles.len()),
                &rule,
                "use several services",
            ));
        }
        for role in roles {
            if !(1..=255).contains(&role.name.0.len()) || role.name.0.chars().any(char::is_control) {
                let shown: String = role.name.0.chars().take(80).collect();
                let rule = "its name has 1 to 255 bytes, and no control characters";
                return Err(Error::invalid("role", format!("{shown:?}"), rule, "choose another name"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for ServedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name.0)
    }
}

impl Stated {
    pub(super) fn check(&self) -> Result<()> {
        match &self.address {
            Some(address) => address_rule(address)?,
            None if self.roles.is_empty() => {}
            None => {
                let rule = "whoever serves roles says where";
                return Err(Error::invalid("address", "absent", rule, "state an address"));
            }
        }
        ServedRole::check_all(&self.roles)
    }
}

/// Host and port: a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn address_rule(address: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let host = |host: &str| match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&host.len()) && host.bytes().all(fine),
    };
    let port = |port: &str| port.parse::<u16>().is_ok_and(|p| p > 0);
    match address.rsplit_once(':') {
        Some((h, p)) if host(h) && port(p) => Ok(()),
        _ => {
            let shown: String = address.chars().take(80).collect();
            let rule = "it is a host and a port";
            Err(Error::invalid("address", format!("{shown:?}"), rule, "write host:7443 or [::1]:7443"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_and_ports() {
        for fine in ["a:1", "dr.example.net:7443", "10.0.0.1:65535", "[::1]:1"] {
            assert!(address_rule(fine).is_ok(), "{fine}");
        }
        for odd in ["", "a", ":1", "a:", "a:0", "a:65536", "::1:1", "[a]:1", "a b:1", "a\n:1", "http://a:1"] {
            assert!(address_rule(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn kinds_read_back() {
        for kind in RoleKind::ALL {
            assert_eq!(kind.as_str().parse::<RoleKind>().expect("its text"), kind);
            assert_eq!(serde_json::to_string(&kind).expect("JSON"), format!("\"{kind}\""));
        }
    }
}
