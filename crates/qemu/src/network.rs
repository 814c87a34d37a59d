//! Networks of the site: what a NIC is attached to, and whether that is apart from production.

use std::collections::BTreeMap;

/// The network that every site has: no host, no other guest, no world.
pub const ISOLATED: &str = "isolated";

/// What the NICs of one network are attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub(crate) backend: String,
    pub(crate) isolated: bool,
}

impl Network {
    /// A network of `qemu-system-* -netdev`, without its `id`: `bridge,br=br0`, `tap,ifname=tap0,script=no`.
    pub fn production(backend: impl Into<String>) -> Self {
        Self { backend: backend.into(), isolated: false }
    }

    /// A network that cannot reach production: a bridge without an uplink, `user,restrict=on`. Drills run in such a
    /// network alone. That it is apart is the word of whoever names it so.
    pub fn isolated(backend: impl Into<String>) -> Self {
        Self { backend: backend.into(), isolated: true }
    }
}

/// The networks of a site that was told of these.
pub(crate) fn all(told: BTreeMap<String, Network>) -> BTreeMap<String, Network> {
    let mut all = BTreeMap::from([(ISOLATED.to_owned(), Network::isolated("user,restrict=on"))]);
    all.extend(told);
    all
}
