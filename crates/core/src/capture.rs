//! One consistent instant, what changed since another, and what became of it.

use crate::{ChangeSet, CutId, Error, Generation, Machine, MachineId, Result, Sidecar, Timestamp};
use serde::{Deserialize, Serialize};

/// A source's own position in a machine's history, opaque to everybody else, bound to the generation in which it
/// was read. It is stored inside the sealed point, never in a journal, so that cursor and content cannot part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The generation of the instance that it belongs to.
    pub generation: Generation,
    /// What the source needs to find its place again; at most 64 KiB.
    pub token: Vec<u8>,
}

/// What changed between a cursor and a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Changes {
    /// At most this. May be too big, never too small.
    Known(ChangeSet),
    /// The source cannot tell, or doubts it: compare. Costs a read of both sides, not data.
    Lost {
        /// Why, for health and audit.
        reason: String,
    },
}

/// How far the content of a capture is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Consistency {
    /// Each disk at an instant of its own. Bytes for the next delta to stand on; never a point to boot from.
    PerDisk,
    /// As after a power cut.
    Crash,
    /// File systems were frozen, applications were not asked.
    FileSystem,
    /// Applications agreed: writers or hooks all succeeded.
    Application,
}

/// A machine as it stood in a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The machine, its sizes as of the instant.
    pub machine: Machine,
    /// Where the next delta can start; `None` where the source does not track.
    pub cursor: Option<Cursor>,
    /// Small files of the machine, as of the instant.
    pub sidecars: Vec<Sidecar>,
}

/// One instant over all disks of all its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Names the instant: the text of the key of the operation that asked for it, by which the source finds the
    /// capture again.
    pub cut: CutId,
    /// When it was, by the source's clock.
    pub taken: Timestamp,
    /// What was reached, which may be less than what was asked for.
    pub consistency: Consistency,
    /// Why less was reached than asked for.
    pub quiesce_failed: Option<String>,
    /// Those who are in it.
    pub members: Vec<Member>,
}

impl Capture {
    /// One member.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a machine that is not in the capture.
    pub fn member(&self, machine: &MachineId) -> Result<&Member> {
        self.members.iter().find(|m| m.machine.id() == machine).ok_or_else(|| {
            let rule = "it is a member of the capture";
            Error::invalid("machine", machine, rule, "name one that was captured").with("cut", &self.cut)
        })
    }
}

/// What became of a captured member. Decides which tracking the source keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Sealed as a point: tracking from this instant on is enough.
    Sealed,
    /// In a spool: let the instant go, keep tracking since the last *sealed* point as well.
    Spooled,
    /// Never became a point: keep, or merge back, the older tracking.
    Abandoned,
}
