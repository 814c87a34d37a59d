//! Names of objects that the ledger, directly or not, refers to.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use site_recovery_record::hash;
use std::sync::Arc;

/// Kinds that are numbered by the ledger that brought them, and lie together.
const PAGES: [&str; 4] = ["leaf", "node", "plan", "seed"];

/// Names an immutable object: a number, what it is, and the digest and length of its bytes. The number is that of the
/// ledger that brought a page, and that of the session that wrote all else; the kind of a pack names its ledger, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attached(Arc<str>);

impl Attached {
    pub(crate) fn new(number: u64, kind: &str, bytes: &[u8]) -> Self {
        Self(format!("{number:020}-{kind}-{:032x}-{}", hash(bytes), bytes.len()).into())
    }

    /// The name, if it is one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let number = parts.next()?;
        let is_one = number.len() == 20 && number.parse::<u64>().is_ok() && parts.count() == 3;
        is_one.then(|| Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn describes(&self, bytes: &[u8]) -> bool {
        self.0.ends_with(&format!("-{:032x}-{}", hash(bytes), bytes.len()))
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.get(..20).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The kind of a pack that this ledger is to bring: one that lost against another ledger is made again by another
    /// name, so that what was deleted of it is nothing that is needed.
    pub(crate) fn pack_of(ledger: u64) -> String {
        format!("pack.{ledger}")
    }

    /// The ledger that was to bring it, where it is a pack.
    pub(crate) fn ledger(&self) -> Option<u64> {
        self.0.split('-').nth(1)?.strip_prefix("pack.")?.parse().ok()
    }

    pub(crate) fn is_page(&self) -> bool {
        self.0.split('-').nth(1).is_some_and(|kind| PAGES.contains(&kind))
    }
}

impl Serialize for Attached {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Attached {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom(format!("{name} names no object")))
    }
}
