//! Whether a machine runs, and what keeps it from running.

use crate::{Instance, Timestamp};
use serde::{Deserialize, Serialize};

/// A value of a platform that every start from outside changes for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub Vec<u8>);

/// Whether an instance can write now. An instance is its machine *or its disks*: while either exists it is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// It runs.
    On,
    /// It does not run.
    Off {
        /// What keeps it off.
        start: StartGuard,
    },
    /// The platform does not say. Silence is never off.
    Unknown,
}

/// What keeps an instance that is off from being started past us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartGuard {
    /// Nobody can start it without lifting our fence first.
    Blocked {
        /// The block ends by itself then, where it does; past that it proves nothing.
        until: Option<Timestamp>,
    },
    /// It can be started from outside, but that would change this stamp for ever.
    Tells(Stamp),
    /// It can be started, and nothing would tell.
    Free,
}

/// What to do with a machine when our fence is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Leave it off.
    Stay,
    /// Start it if it ran when we fenced it.
    AsBefore,
    /// Start it.
    Run,
}

/// What `unfence` found or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// Whether the machine runs now.
    pub running: bool,
}

/// Disks stand and change tracking for the way back is on; nothing has booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The machine that can be booted.
    pub instance: Instance,
    /// The position of its `Source` before its first boot; `None` where it cannot track.
    pub cursor: Option<crate::Cursor>,
    /// The point that its disks hold.
    pub point: crate::PointId,
}

/// What `boot` found or made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Booted {
    /// How to reach the machine: addresses, console, path.
    pub reach: Vec<String>,
    /// Whether it runs. A repeat of `boot` reports what is, and starts nothing that already ran under that key.
    pub running: bool,
}
