//! What a recovery site is asked to bring up.

use crate::{Consistency, Generation, Machine, Manifest, PointId, Settings, Sidecar, Timestamp};
use serde::{Deserialize, Serialize};

/// What the recovered machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Production.
    Failover,
    /// A drill: named `<name>-test`, in an isolated network, gone afterwards.
    Drill,
}

impl Purpose {
    /// How a thing of this name is called that is made for it: a drill's with `-test` after it.
    #[must_use]
    pub fn named(self, name: String) -> String {
        match self {
            Self::Failover => name,
            Self::Drill => format!("{name}-test"),
        }
    }
}

/// Everything that `materialise` and `boot` need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The machine as captured.
    pub machine: Machine,
    /// Its small files.
    pub sidecars: Vec<Sidecar>,
    /// The point.
    pub point: PointId,
    /// Its instant.
    pub taken: Timestamp,
    /// What it is good for.
    pub consistency: Consistency,
    /// The promotion's number, durable before this is asked for.
    pub generation: Generation,
    /// What it is for.
    pub purpose: Purpose,
    /// What the machine shall be.
    pub settings: Settings,
}

impl Recovery {
    /// What a point's manifest says, for this purpose.
    pub fn of(
        manifest: Manifest,
        point: PointId,
        generation: Generation,
        purpose: Purpose,
        settings: Settings,
    ) -> Self {
        Self {
            machine: manifest.machine,
            sidecars: manifest.sidecars,
            point,
            taken: manifest.taken,
            consistency: manifest.consistency,
            generation,
            purpose,
            settings,
        }
    }
}

/// What a master target's host offers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offers {
    /// Datastores for disks that must be made.
    pub datastores: Vec<Offer>,
    /// Volumes for the retention log.
    pub retention_volumes: Vec<Offer>,
}

/// One place with room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Bytes in all.
    pub size: u64,
    /// Bytes free.
    pub free: u64,
    /// Why it cannot be used, where it cannot.
    pub ineligible: Option<String>,
}
