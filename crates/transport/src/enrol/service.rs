//! Who a service is: a kind and a name, which its certificate bears.

use crate::fault::Result;
use serde::{Deserialize, Serialize};
use site_recovery::Error;
use std::fmt;
use std::str::FromStr;

/// Under which all services have their DNS names: a domain that no public name is in.
const DOMAIN: &str = "site-recovery.internal";
const URN: &str = "urn:site-recovery:";

/// What a service is for. It says nothing about what it may do: that is told by rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ServiceKind {
    /// Runs a vault. Its name is its engine id.
    Engine,
    /// Serves the bytes of the one server that it runs on; in its rescue system, its bare disks.
    Agent,
    /// Answers for all servers of a site.
    Keeper,
    /// Moves bytes to replicas.
    ProcessServer,
    /// Keeps recovery points.
    PointStore,
    /// Runs recovered machines.
    Target,
    /// Receives the way back.
    MasterTarget,
    /// Signs the certificates of all others. No token is made for one.
    Authority,
}

/// A service: `agent/web-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Service {
    kind: ServiceKind,
    name: String,
}

impl ServiceKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Engine,
        Self::Agent,
        Self::Keeper,
        Self::ProcessServer,
        Self::PointStore,
        Self::Target,
        Self::MasterTarget,
        Self::Authority,
    ];

    /// As text, and as a label of a DNS name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Agent => "agent",
            Self::Keeper => "keeper",
            Self::ProcessServer => "process-server",
            Self::PointStore => "point-store",
            Self::Target => "target",
            Self::MasterTarget => "master-target",
            Self::Authority => "authority",
        }
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ServiceKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid("kind", format!("{text:?}"), &format!("it is one of {all}"), "name one of them")
        })
    }
}

impl Service {
    /// The service of this name.
    ///
    /// # Errors
    /// `Invalid` where the name is no label of a DNS name: 1 to 63 lower-case letters, digits and hyphens, none of these at
    /// either end.
    pub fn new(kind: ServiceKind, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let label = (1..=63).contains(&name.len()) && name.bytes().all(fine);
        if !label || name.starts_with('-') || name.ends_with('-') {
            let rule =
                "it is a label of a DNS name: 1 to 63 of a-z, 0-9 and hyphens, none of these at either end";
            let shown: String = name.chars().take(80).collect();
            return Err(Error::invalid("service", format!("{shown:?}"), rule, "choose another name"));
        }
        Ok(Self { kind, name })
    }

    /// Its kind.
    pub fn kind(&self) -> ServiceKind {
        self.kind
    }

    /// Its name, once among all of its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What clients ask for in the handshake, wherever they reach it: `web-1.agent.site-recovery.internal`.
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{DOMAIN}", self.name, self.kind)
    }

    /// What rules are about: `urn:site-recovery:agent:web-1`.
    pub fn uri(&self) -> String {
        format!("{URN}{}:{}", self.kind, self.name)
    }

    /// The one with this URI.
    pub(crate) fn of_uri(uri: &str) -> Option<Self> {
        let (kind, name) = uri.strip_prefix(URN)?.split_once(':')?;
        Self::new(kind.parse().ok()?, name).ok()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for Service {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown: String = text.chars().take(80).collect();
        let (kind, name) = text.split_once('/').ok_or_else(|| {
            Error::invalid("service", format!("{shown:?}"), "it is a kind and a name", "write agent/web-1")
        })?;
        Self::new(kind.parse()?, name)
    }
}

impl TryFrom<String> for Service {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Service> for String {
    fn from(service: Service) -> Self {
        service.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back() {
        for kind in ServiceKind::ALL {
            let service = Service::new(kind, "web-1").expect("a label");
            assert_eq!(service.to_string().parse::<Service>().expect("its text"), service);
            assert_eq!(Service::of_uri(&service.uri()), Some(service.clone()));
            let json = serde_json::to_string(&service).expect("JSON");
            assert_eq!(serde_json::from_str::<Service>(&json).expect("JSON"), service);
            assert!(rustls::pki_types::DnsName::try_from(service.dns_name()).is_ok());
        }
    }

    #[test]
    fn names_that_are_no_label_are_refused() {
        let long = "a".repeat(64);
        for name in ["", "-a", "a-", "A", "a.b", "a/b", "a:b", "ä", "a b", "*", &long] {
            let error = Service::new(ServiceKind::Agent, name).expect_err(name);
            assert_eq!(error.fact("field"), Some("service"), "{error}");
        }
        assert!(Service::new(ServiceKind::Agent, "a".repeat(63)).is_ok());
        for text in ["", "web-1", "demon/web-1", "agent/", "agent/a/b"] {
            assert!(text.parse::<Service>().is_err(), "{text}");
        }
        for uri in ["urn:site-recovery:agent", "urn:site-recovery:agent:A", "urn:other:agent:a", "agent:a"] {
            assert_eq!(Service::of_uri(uri), None, "{uri}");
        }
    }
}
