//! What a guest says of itself, read without trust.

use serde_json::Value;
use std::net::IpAddr;

/// The guest agent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentInfo {
    /// Its version, as it says it.
    pub version: String,
    /// The commands that it knows and that are not switched off.
    pub commands: Vec<String>,
}

impl AgentInfo {
    /// Whether it takes this command.
    pub fn can(&self, command: &str) -> bool {
        self.commands.iter().any(|known| known == command)
    }
}

/// A network interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name in the guest.
    pub name: String,
    /// Its hardware address, as `52:54:00:12:34:56`; nothing where it has none.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of a guest's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// The bits of its network, where the guest says them.
    pub prefix: Option<u8>,
}

/// The system of a guest, as far as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestOs {
    /// `debian`, `mswindows`.
    pub id: Option<String>,
    /// `Debian GNU/Linux`.
    pub name: Option<String>,
    /// `12 (bookworm)`.
    pub version: Option<String>,
    /// Of the kernel: `6.1.0-18-amd64`.
    pub kernel: Option<String>,
}

pub(crate) fn info(answer: &Value) -> Option<AgentInfo> {
    let is_on = |c: &&Value| c.get("enabled").and_then(Value::as_bool) == Some(true);
    let commands = answer.get("supported_commands")?.as_array()?.iter();
    let commands = commands.filter(is_on).filter_map(|c| text(c, "name")).collect();
    Some(AgentInfo { version: text(answer, "version")?, commands })
}

pub(crate) fn interfaces(answer: &Value) -> Option<Vec<Interface>> {
    let interface = |interface: &Value| {
        let addresses = interface.get("ip-addresses").and_then(Value::as_array).into_iter().flatten();
        Some(Interface {
            name: text(interface, "name")?,
            mac: text(interface, "hardware-address").and_then(|mac| self::mac(&mac)),
            addresses: addresses.filter_map(address).collect(),
        })
    };
    Some(answer.as_array()?.iter().filter_map(interface).collect())
}

pub(crate) fn os(answer: &Value) -> GuestOs {
    GuestOs {
        id: text(answer, "id"),
        name: text(answer, "name"),
        version: text(answer, "version"),
        kernel: text(answer, "kernel-release"),
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn address(value: &Value) -> Option<InterfaceAddress> {
    // Link-local addresses come with their interface on some systems: fe80::1%2.
    let ip: IpAddr = value.get("ip-address")?.as_str()?.split('%').next()?.parse().ok()?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = value.get("prefix").and_then(Value::as_u64).filter(|prefix| *prefix <= bits);
    Some(InterfaceAddress { ip, prefix: prefix.map(|prefix| prefix as u8) })
}

fn mac(text: &str) -> Option<String> {
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let right = text.split(':').count() == 6 && text.split(':').all(is_byte);
    right.then(|| text.to_ascii_lowercase())
}
