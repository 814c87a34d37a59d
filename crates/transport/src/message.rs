//! Control: what is said in JSON, beside the bytes.

use crate::frame::{Malformed, has_end};
use serde::{Deserialize, Serialize};
use site_recovery::{
    Capability, Capture, ChangeSet, CutId, DiskId, Ingest, Instance, Machine, MachineId, Manifest, Op,
    PhaseRecord, PointId, RoleName, Run, Seed, Settings, Timestamp,
};
use std::fmt;
use std::time::Duration;

/// Versions of the protocol that this build speaks.
pub(crate) const SPOKEN: Versions = Versions { oldest: 1, newest: 1 };

/// Versions of the control plane that this build speaks.
pub(crate) const CONTROL: Versions = Versions { oldest: 1, newest: 1 };

/// The application protocol of the TLS handshake, so that no other service of the same authority is taken for this one.
pub(crate) const ALPN: &[u8] = b"site-recovery-transport";

/// The most bytes of a hello, a welcome or an error.
pub(crate) const LONGEST_WORD: u32 = 64 * 1024;

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    pub(crate) oldest: u32,
    pub(crate) newest: u32,
}

impl Versions {
    /// The newest version of both.
    pub(crate) fn common(self, other: Versions) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    pub(crate) fn contains(self, version: u32) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

/// What a client says first. Its shape, as that of [`Welcome`], is the same in all versions; fields may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) versions: Versions,
    /// Whom it wants to talk to.
    pub(crate) role: RoleName,
    /// What it takes that for, as in the control plane: one name may be several roles. Empty: whichever is there.
    #[serde(default)]
    pub(crate) kind: String,
    /// Random, the same for all connections of one client.
    pub(crate) client: String,
    /// Counts the client's connections. A newer one ends the older.
    pub(crate) connection: u64,
    /// It hangs up when nothing comes for so many milliseconds.
    pub(crate) silence: u64,
    /// The most bytes of an answer that it takes, all parts together.
    pub(crate) longest: u32,
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The version that is spoken from now on.
    pub(crate) version: u32,
    pub(crate) capability: Capability,
    /// The credit: bytes of requests that may be unanswered at a time.
    pub(crate) credit: u32,
    /// Requests that may be unanswered at a time.
    pub(crate) requests: u32,
    /// It hangs up when nothing comes for so many milliseconds.
    pub(crate) silence: u64,
}

/// How often to say "still there" to a peer that hangs up after so many milliseconds of silence. Not more often than is sane,
/// whatever it says.
pub(crate) fn beat(silence: u64) -> Duration {
    Duration::from_millis(silence.clamp(100, 3_600_000)) / 3
}

/// One call of a role, but for `write`.
#[allow(clippy::large_enum_variant, reason = "one per request, and never many of them in one place")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Call {
    Claim {
        op: Op,
        machine: MachineId,
    },
    Machines,
    Prepare {
        op: Op,
        machine: Machine,
        seed: Seed,
        settings: Settings,
    },
    Head {
        machine: MachineId,
    },
    Begin {
        op: Op,
        machine: Machine,
        cut: CutId,
        plan: ChangeSet,
    },
    Seal {
        ingest: Ingest,
        manifest: Manifest,
        records: u64,
        digest: u64,
    },
    Points {
        machine: MachineId,
    },
    Manifest {
        machine: MachineId,
        point: PointId,
    },
    /// Opens disks under a handle of the client's choice. Again after a connection broke, and then only if it is the same
    /// cut still.
    Open {
        handle: u64,
        what: Openable,
        cut: Option<CutId>,
    },
    /// Of an opened landing disk.
    Zero {
        handle: u64,
        run: Run,
    },
    /// Of an opened landing disk.
    Flush {
        handle: u64,
    },
    Hashes {
        machine: MachineId,
        disk: DiskId,
        run: Run,
    },
    Changed {
        machine: MachineId,
        from: Option<PointId>,
        to: PointId,
    },
    Pin {
        op: Op,
        machine: MachineId,
        point: PointId,
        why: String,
    },
    Unpin {
        op: Op,
        machine: MachineId,
        point: PointId,
        why: String,
    },
    Prune {
        op: Op,
        machine: MachineId,
        drop: Vec<PointId>,
    },
    Delete {
        op: Op,
        machine: MachineId,
    },
    Remember {
        op: Op,
        machine: MachineId,
        record: PhaseRecord,
    },
    Recall {
        machine: MachineId,
    },
    Lock {
        op: Op,
        machine: MachineId,
        point: PointId,
        until: Timestamp,
    },
    Scrub {
        machine: MachineId,
        point: PointId,
    },
}

/// What has disks.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Openable {
    /// A replica's point.
    Point { machine: MachineId, point: PointId },
    /// One member of a source's capture.
    Captured { op: Op, capture: Capture, machine: MachineId },
    /// One disk of a landing site.
    Landing { instance: Instance, disk: DiskId },
}

/// Disks that are open, by name, with their sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Of a point and of a capture.
    pub(crate) cut: Option<CutId>,
    pub(crate) disks: Vec<(DiskId, u64)>,
}

impl Call {
    /// A call whose runs have an end; those of a set of changes have one.
    pub(crate) fn checked(self) -> Result<Self, Malformed> {
        match self {
            Self::Hashes { run, .. } | Self::Zero { run, .. } if !has_end(run) => {
                Err(Malformed::Run { start: run.start, len: run.len })
            }
            call => Ok(call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o9_versions_meet_at_the_newest_of_both() {
        let of = |oldest, newest| Versions { oldest, newest };
        assert_eq!(of(1, 3).common(of(2, 9)), Some(3));
        assert_eq!(of(1, 3).common(of(4, 9)), None);
        assert_eq!(of(4, 9).common(of(1, 3)), None);
    }

    #[test]
    fn runs_of_a_peer_are_sorted_and_have_an_end() {
        let unsorted = r#"{"d":[{"start":8,"len":8},{"start":0,"len":9}]}"#;
        serde_json::from_str::<ChangeSet>(unsorted).expect_err("unsorted");
        let endless = format!(r#"{{"d":[{{"start":9,"len":{}}}]}}"#, u64::MAX);
        serde_json::from_str::<ChangeSet>(&endless).expect_err("endless");
        let run = Run { start: 9, len: u64::MAX };
        let call = Call::Hashes { machine: "web".into(), disk: "d".into(), run };
        assert_eq!(call.checked(), Err(Malformed::Run { start: 9, len: u64::MAX }));
    }
}
