//! What a network and an address of one side are at the other.

use serde::{Deserialize, Serialize};
use site_recovery::state::Direction;
use site_recovery::{Error, Result};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network of the primary side, and the one that stands for it at the recovery side. The way back reads it the other way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkMap {
    /// Its name at the primary side.
    pub from: String,
    /// Its name at the recovery side.
    pub to: String,
}

/// A subnet of the primary side, and the one that stands for it at the recovery side, of the same size: an address keeps its
/// host part. The way back reads it the other way.
///
/// With a machine it is for that one alone, and goes before those for all; with single addresses it is a fixed address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AddressMap {
    /// For this machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Subnet, or address, at the primary side.
    pub from: Subnet,
    /// Subnet, or address, at the recovery side.
    pub to: Subnet,
}

impl AddressMap {
    /// From, and to, of a run in this direction.
    pub(crate) fn sides(&self, direction: Direction) -> (Subnet, Subnet) {
        match direction {
            Direction::PrimaryToRecovery => (self.from, self.to),
            Direction::RecoveryToPrimary => (self.to, self.from),
        }
    }

    /// What an address is on the other side.
    pub(crate) fn map(&self, address: IpAddr, direction: Direction) -> Option<IpAddr> {
        let (from, to) = self.sides(direction);
        from.host(address).map(|host| to.address(host))
    }

    /// An address that is of the other side already, which stays as it is.
    pub(crate) fn keep(&self, address: IpAddr, direction: Direction) -> Option<IpAddr> {
        self.sides(direction).1.contains(address).then_some(address)
    }
}

impl NetworkMap {
    /// What a network is on the other side.
    pub(crate) fn map(&self, network: &str, direction: Direction) -> Option<&str> {
        let (from, to) = self.sides(direction);
        (network == from).then_some(to)
    }

    /// A network that is of the other side already, which stays as it is.
    pub(crate) fn keep(&self, network: &str, direction: Direction) -> Option<&str> {
        let to = self.sides(direction).1;
        (network == to).then_some(to)
    }

    fn sides(&self, direction: Direction) -> (&str, &str) {
        match direction {
            Direction::PrimaryToRecovery => (&self.from, &self.to),
            Direction::RecoveryToPrimary => (&self.to, &self.from),
        }
    }
}

/// A subnet, as `10.0.1.0/24` or `fd00::/64`; without a prefix it is one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    first: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// Bits of the host part.
    pub(crate) fn host_bits(self) -> u8 {
        width(self.first) - self.prefix
    }

    /// Whether it is one address.
    pub(crate) fn is_single(self) -> bool {
        self.host_bits() == 0
    }

    /// Its first address.
    pub(crate) fn first(self) -> IpAddr {
        self.first
    }

    /// Whether the address is in it.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.host(address).is_some()
    }

    /// Whether some address is in both.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether both are of one family and of one size.
    pub(crate) fn fits(self, other: Self) -> bool {
        (width(self.first), self.prefix) == (width(other.first), other.prefix)
    }

    fn host(self, address: IpAddr) -> Option<u128> {
        let mask = mask(self.host_bits());
        let inside = width(address) == width(self.first) && bits(address) & !mask == bits(self.first);
        inside.then_some(bits(address) & mask)
    }

    fn address(self, host: u128) -> IpAddr {
        let all = bits(self.first) | host;
        match self.first {
            IpAddr::V4(_) => IpAddr::from((all as u32).to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(all.to_be_bytes()),
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(host_bits: u8) -> u128 {
    1_u128.checked_shl(u32::from(host_bits)).map_or(u128::MAX, |bit| bit - 1)
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |rule: &str| {
            Error::invalid("plan.addresses", format!("{text:?}"), rule, "write it as 10.0.1.0/24")
        };
        let (first, prefix) = match text.split_once('/') {
            Some((first, prefix)) => (first, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|e| refused("it is no address").caused_by(e))?;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|e| refused("it has no length").caused_by(e))?,
            None => width(first),
        };
        if prefix > width(first) {
            return Err(refused("its prefix is longer than an address"));
        }
        let subnet = Self { first, prefix };
        if bits(first) & mask(subnet.host_bits()) != 0 {
            return Err(refused("its host part is not zero"));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Subnet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Subnet".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A subnet, as 10.0.1.0/24 or fd00::/64; without a prefix it is one address."
        })
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::state::Direction::{PrimaryToRecovery as OUT, RecoveryToPrimary as BACK};

    fn subnet(text: &str) -> Subnet {
        text.parse().expect(text)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn an_address_keeps_its_host_part_both_ways() {
        for (from, to, here, there) in [
            ("10.0.1.0/24", "10.9.1.0/24", "10.0.1.17", "10.9.1.17"),
            ("10.0.0.0/8", "11.0.0.0/8", "10.1.2.3", "11.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0", "1.2.3.4", "1.2.3.4"),
            ("10.0.1.7", "10.9.1.70", "10.0.1.7", "10.9.1.70"),
            ("fd00:1::/64", "fd00:9::/64", "fd00:1::ab", "fd00:9::ab"),
        ] {
            let map = AddressMap { machine: None, from: subnet(from), to: subnet(to) };
            assert_eq!(map.map(ip(here), OUT), Some(ip(there)));
            assert_eq!(map.map(ip(there), BACK), Some(ip(here)));
            assert_eq!(map.keep(ip(there), OUT), Some(ip(there)), "it is there already");
            assert_eq!(map.keep(ip(here), BACK), Some(ip(here)), "it is there already");
        }
        let map = AddressMap { machine: None, from: subnet("10.0.1.0/24"), to: subnet("10.9.1.0/24") };
        assert_eq!(map.map(ip("10.0.2.1"), OUT), None);
        assert_eq!(map.map(ip("fd00::1"), OUT), None);
    }

    #[test]
    fn what_is_no_subnet_is_refused_with_its_text() {
        for bad in ["", "10.0.1", "10.0.1.0/33", "10.0.1.0/x", "10.0.1.5/24", "web/24", "fd00::/129"] {
            let error = bad.parse::<Subnet>().expect_err(bad);
            assert_eq!(error.fact("field"), Some("plan.addresses"));
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn subnets_overlap_where_one_holds_the_other() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.3.0.0/16")));
        assert!(subnet("10.3.0.0/16").overlaps(subnet("10.0.0.0/8")));
        assert!(!subnet("10.0.0.0/16").overlaps(subnet("10.1.0.0/16")));
        assert!(!subnet("10.0.0.0/16").overlaps(subnet("fd00::/64")));
        assert_eq!(subnet("10.0.0.0/16").to_string(), "10.0.0.0/16");
        assert_eq!(subnet("10.0.0.7/32").to_string(), "10.0.0.7");
    }
}
