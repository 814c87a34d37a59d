//! Who may ask a service.

use serde::{Deserialize, Deserializer};
use site_recovery::{Error, Result};
use site_recovery_transport::enrol::ServiceKind;
use site_recovery_transport::{Client, Machines, ServerBuilder};

/// Services by kind and name, as in `engine:dr`, or all of a kind, as in `process-server:*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peers(Vec<Client>);

impl Peers {
    /// Of texts.
    ///
    /// # Errors
    /// `Invalid`, naming what is none.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        texts.into_iter().map(peer).collect::<Result<_>>().map(Self)
    }

    /// Whether nobody may.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets them in, for every machine.
    pub fn let_in(&self, server: ServerBuilder) -> ServerBuilder {
        self.0.iter().fold(server, |server, peer| server.allow(peer.clone(), Machines::All))
    }
}

fn peer(text: &str) -> Result<Client> {
    let Some((kind, name)) = text.split_once(':') else {
        let rule = "a peer is kind:name, or kind:* for all of a kind";
        return Err(Error::invalid("allow", text, rule, "as in engine:dr"));
    };
    let kind: ServiceKind = kind.parse()?;
    match name {
        "*" => Ok(Client::kind(kind)),
        name => Client::service(kind, name),
    }
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::of(texts.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}
