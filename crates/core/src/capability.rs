//! What a role can do, said up front.

use serde::{Deserialize, Serialize};

/// The form of records that a replica takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// Plain bytes: disks are written.
    Plain,
    /// Sealed frames: kept as they come.
    Sealed,
}

/// What a role can do. Suites skip, aloud, what a role says it cannot; readiness tells an operator at protect time.
/// Each field is meant for the roles named; others leave it as it is in [`Capability::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capability {
    /// Replica: the form of records it takes.
    pub takes: Form,
    /// Source: knows what changed since a cursor. Otherwise every cycle compares.
    pub tracks: bool,
    /// Source: `FileSystem` captures.
    pub freezes: bool,
    /// Source: `Application` captures.
    pub quiesces_applications: bool,
    /// Source: one instant over several machines.
    pub groups: bool,
    /// Source: can take a machine's power and keep it. Where not, only a forced failover is left.
    pub fences: bool,
    /// Source: can read the disks of a machine that is off: the last delta of a planned failover. Where not, readiness
    /// warns, and a planned failover is refused.
    pub captures_off: bool,
    /// Replica: points can be opened while the machine runs on its disks.
    pub opens_while_booted: bool,
    /// Replica: can enforce a lock against everybody.
    pub locks: bool,
    /// Recovery site: can boot a copy in an isolated network while replication goes on.
    pub drills: bool,
    /// Recovery site, landing site: can put a branch under disks. Where not: no undo in place, no change of point
    /// in place.
    pub branches: bool,
}

impl Default for Capability {
    fn default() -> Self {
        Self {
            takes: Form::Plain,
            tracks: true,
            freezes: false,
            quiesces_applications: false,
            groups: true,
            fences: true,
            captures_off: true,
            opens_while_booted: true,
            locks: false,
            drills: true,
            branches: true,
        }
    }
}
