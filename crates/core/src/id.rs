//! Names. Each is a plain string or number of its own type, so that none is taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }
        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// Names one machine's timeline all round the circle. The vault mints it when protection is enabled; it
    /// is never a platform's own id. A site reports the id it was given for every instance that it made.
    MachineId,
    /// Names a disk of a machine, stable all round the circle like [`MachineId`].
    DiskId,
    /// Names a NIC of a machine, stable all round the circle.
    NicId,
    /// A role's stable name. Another process resolves it in its own table of roles.
    RoleName,
    /// The idempotency key of one effect: same key, same effect, at most once.
    OpKey,
    /// One instant over all disks of all members of a capture.
    CutId,
    /// One running engine. Two engines never share an id.
    EngineId,
    /// What is operated as a whole: one machine, or one replication group.
    UnitId,
    /// One run of an operation.
    JobId,
}

impl OpKey {
    /// The key as a name that every platform takes: lower-case letters, digits and hyphens, at most 63 bytes,
    /// different for different keys (the end is a digest where the key had to be shortened or changed).
    pub fn to_name(&self) -> String {
        let plain: String = self
            .0
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        if plain == self.0 && plain.len() <= 63 {
            return plain;
        }
        let digest = crate::audit::sha256_hex(self.0.as_bytes());
        let kept = &plain[..plain.len().min(46)];
        format!("{}-{}", kept.trim_matches('-'), &digest[..16])
    }
}

/// Number of a recovery point on one machine's timeline at one replica. Later points have higher numbers, each the next one
/// after the last that was sealed, also where that was dropped: retention reads from it how many cycles two points are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PointId(pub u64);

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a promotion. Minted anew each time a machine is brought up at another place, durable before its
/// first boot; a delta never crosses a generation that both sides do not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_are_short_plain_and_distinct() {
        let plain = OpKey::from("fo-7");
        assert_eq!(plain.to_name(), "fo-7");
        let (a, b) = (OpKey::from("web/fo/7").to_name(), OpKey::from("web/fo-7").to_name());
        assert_ne!(a, b);
        let long = OpKey("x".repeat(300)).to_name();
        assert!(long.len() <= 63 && a.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }
}
