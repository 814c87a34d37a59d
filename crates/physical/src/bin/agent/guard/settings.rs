//! Whom the boot guard asks, and how: the table `[guard]`.

use crate::settings::Agent;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use site_recovery::{Error, Result, RoleName};
use site_recovery_physical::guard::AskingNetwork;
use site_recovery_transport::enrol::{Credentials, Service, ServiceKind};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Whom the boot guard asks, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    /// The replicas that have to answer: the store that the server replicates to, and the master target of its way back.
    pub(crate) witnesses: Vec<RoleName>,
    /// The network to ask through.
    pub(crate) network: Option<Through>,
    /// Where hosts are, whose names nobody resolves before there is a network.
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, IpAddr>,
    /// Between two questions.
    #[serde(default = "ten")]
    pub(crate) every_seconds: u64,
}

/// A network to ask through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Through {
    /// One that stands: somebody sets it up before the guard.
    Standing,
    /// One that the guard makes for the question.
    Lent(AskingNetwork),
}

fn ten() -> u64 {
    10
}

impl<'de> Deserialize<'de> for Through {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Through;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"standing\", or a table with adapter and address")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Through, E> {
                match text {
                    "standing" => Ok(Through::Standing),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Through, A::Error> {
                AskingNetwork::deserialize(MapAccessDeserializer::new(map)).map(Through::Lent)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Guard {
    /// Refuses what can be read and cannot be meant.
    pub(crate) fn check(&self, server: &str) -> Result<()> {
        if self.witnesses.is_empty() {
            let rule = "one has to answer: silence is no leave";
            let remedy = "name the store, and the master target of the way back";
            return Err(Error::invalid("guard.witnesses", "[]", rule, remedy));
        }
        if self.every_seconds == 0 {
            let rule = "there is time between two questions";
            return Err(Error::invalid("guard.every_seconds", 0, rule, "say 10, or leave it out"));
        }
        if let Some(host) = self.hosts.keys().find(|host| !is_name(host) || host.contains(':')) {
            let rule = "a host is named as others name it, without its port";
            let remedy = "as in { \"dr.example.net\" = \"192.0.2.10\" }";
            return Err(Error::invalid("guard.hosts", format!("{host:?}"), rule, remedy));
        }
        match &self.network {
            Some(Through::Standing) => {}
            Some(Through::Lent(network)) => network.check()?,
            None => {
                let rule = "before the network there is none to ask through";
                let remedy = "say adapter and address of one for the question; or \"standing\", where one is set up before the guard";
                return Err(Error::invalid("guard.network", "absent", rule, remedy));
            }
        }
        Service::new(ServiceKind::Agent, server).map(drop).map_err(|_| {
            let rule = "with a table [guard] it is the name of the agent's service: 1 to 63 of a-z, 0-9 and hyphens, none of these at either end";
            Error::invalid("server.name", format!("{server:?}"), rule, "give the server such a name at its site")
        })
    }

    /// Where an address is, as far as it is pinned.
    pub(crate) fn pinned(&self, address: &str) -> String {
        let Some((host, port)) = address.rsplit_once(':') else { return address.to_owned() };
        match self.hosts.iter().find(|(name, _)| name.eq_ignore_ascii_case(host)) {
            Some((_, IpAddr::V4(ip))) => format!("{ip}:{port}"),
            Some((_, IpAddr::V6(ip))) => format!("[{ip}]:{port}"),
            None => address.to_owned(),
        }
    }
}

/// Whether a host, or a host and a port, has to be resolved.
pub(crate) fn is_name(host: &str) -> bool {
    host.parse::<IpAddr>().is_err() && host.parse::<std::net::SocketAddr>().is_err()
}

/// Refuses a certificate by which no witness would tell of this server. Blocks.
pub(crate) fn shows_its_own(settings: &Agent) -> Result<()> {
    if settings.guard.is_none() {
        return Ok(());
    }
    let (name, directory) = (&settings.server.name, settings.service.credentials());
    match Credentials::whose(&directory)? {
        Some(service) if service.kind() != ServiceKind::Agent || service.name() != name => {
            let rule = format!(
                "with a table [guard] it is the name of the agent's service, and {} has the certificate of {service}",
                directory.display()
            );
            let remedy = format!("join anew, by a token of agent/{name}");
            Err(Error::invalid("server.name", format!("{name:?}"), &rule, &remedy))
        }
        _ => Ok(()),
    }
}
