//! All that is true of one machine, in one document. Every change replaces it by compare-and-set: so the check of the epoch and the
//! effect are one atomic act.

use crate::document;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use site_recovery::{
    ChangeSet, Cursor, CutId, DiskId, Epoch, Error, ErrorKind, HASH_BLOCK, Machine, MachineId, Op,
    PhaseRecord, Point, PointId, Result, Run,
};
use site_recovery_azure_blob::SnapshotId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const FORMAT: u32 = 1;
/// Calls that are remembered, so that a late repeat changes nothing.
const REMEMBERED: usize = 256;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    /// Raised by each change, so that no two of them are the same bytes.
    pub(crate) number: u64,
    pub(crate) machine: MachineId,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) phase: Option<PhaseRecord>,
    /// The last session that was opened: what the sequence numbers of the page blobs say.
    pub(crate) session: u64,
    pub(crate) next_point: u64,
    pub(crate) timeline: Option<Timeline>,
    /// What nothing refers to any more, until it is deleted.
    pub(crate) owed: Vec<Owed>,
    done: VecDeque<Done>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Owed {
    Snapshot {
        blob: String,
        snapshot: SnapshotId,
    },
    /// With all its snapshots.
    Blob {
        blob: String,
    },
    Document {
        name: String,
    },
    /// All that stand there.
    Notes {
        notes: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Done {
    call: String,
    dropped: Vec<PointId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// What its first point is called, sealed or not. Points before it were another timeline's.
    pub(crate) first: PointId,
    pub(crate) machine: Machine,
    pub(crate) disks: BTreeMap<DiskId, Replicated>,
    pub(crate) seed: Option<Seeded>,
    pub(crate) open: Option<Open>,
    /// Sessions that were closed since the last seal, oldest first.
    pub(crate) carried: Vec<Open>,
    /// The document in which the plans of those before them stand, as one.
    pub(crate) lost: Option<String>,
    /// Oldest first.
    pub(crate) points: Vec<Kept>,
}

/// The page blob of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replicated {
    pub(crate) blob: String,
    /// Of the disk, in bytes: the largest that it ever had here.
    pub(crate) size: u64,
    /// What it had when it was sealed last; 0 before.
    pub(crate) sealed: u64,
}

impl Replicated {
    /// Where the disk ended at the last seal, if that was inside a block and it grew: what is known of that block was of a part of it.
    pub(crate) fn outgrown(&self) -> Option<Run> {
        let is_whole = self.sealed.is_multiple_of(HASH_BLOCK);
        (!is_whole && self.sealed < self.size)
            .then(|| Run::new(self.sealed, 1).aligned(HASH_BLOCK, self.size))
    }
}

/// What the head says since `prepare`, until the next seal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seeded {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) touched: ChangeSet,
}

/// An ingest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) session: u64,
    /// The document in which its plan stands.
    pub(crate) plan: String,
    pub(crate) op: Op,
    pub(crate) cut: CutId,
    /// A disk grew for it: what landed before is not resumed.
    pub(crate) grew: bool,
}

/// A point that was sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) point: Point,
    /// In which its manifest, and what it changed, stand.
    pub(crate) document: String,
    pub(crate) snapshots: BTreeMap<DiskId, At>,
    /// Points that were dropped since the one before: what they changed counts for this one.
    pub(crate) inherits: Vec<String>,
}

/// A disk at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) blob: String,
    pub(crate) snapshot: SnapshotId,
    pub(crate) size: u64,
}

impl State {
    pub(crate) fn new(machine: MachineId) -> Self {
        Self {
            format: FORMAT,
            number: 0,
            machine,
            epoch: None,
            phase: None,
            session: 0,
            next_point: 1,
            timeline: None,
            owed: vec![],
            done: VecDeque::new(),
        }
    }

    /// The next state, with the authority of `op`. An epoch that rises closes the ingest of the older one.
    pub(crate) fn admit(&self, op: &Op) -> Result<State> {
        if !op.epoch.passes(self.epoch.as_ref()) {
            let message = format!("{} is held by another engine", self.machine);
            let held = self.epoch.as_ref().map(|e| format!("{} of {}", e.number, e.owner));
            return Err(Error::new(ErrorKind::StaleEpoch, message).with("register", held.unwrap_or_default()));
        }
        let rises = self.epoch.as_ref() != Some(&op.epoch);
        let mut next = Self { epoch: Some(op.epoch.clone()), ..self.clone() };
        if rises && let Some(timeline) = next.timeline.as_mut().filter(|t| t.open.is_some()) {
            timeline.close();
            next.session += 1;
        }
        Ok(next)
    }

    pub(crate) fn timeline(&self) -> Result<&Timeline> {
        self.timeline.as_ref().ok_or_else(|| no_timeline(&self.machine))
    }

    pub(crate) fn timeline_mut(&mut self) -> Result<&mut Timeline> {
        self.timeline.as_mut().ok_or_else(|| no_timeline(&self.machine))
    }

    /// What a call answered that took effect earlier.
    pub(crate) fn done(&self, call: &str) -> Option<&[PointId]> {
        self.done.iter().find(|done| done.call == call).map(|done| done.dropped.as_slice())
    }

    pub(crate) fn remember(&mut self, call: String, dropped: &[PointId]) {
        self.done.push_back(Done { call, dropped: dropped.to_vec() });
        while self.done.len() > REMEMBERED {
            self.done.pop_front();
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        document::encode(self)
    }

    /// # Errors
    /// `Corrupt`; `Unsupported` for a newer format.
    pub(crate) fn decode(machine: &MachineId, bytes: &[u8]) -> Result<State> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = document::decode(bytes)?;
        if format != FORMAT {
            let message = format!("it is of format {format}, this is {FORMAT}: use a newer release");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let state: State = document::decode(bytes)?;
        if state.machine == *machine {
            return Ok(state);
        }
        Err(Error::new(ErrorKind::Corrupt, format!("it is of {}, another machine", state.machine)))
    }
}

impl Timeline {
    /// Closes what is open. What it landed is remembered by its plan.
    pub(crate) fn close(&mut self) {
        self.carried.extend(self.open.take());
    }

    /// The documents that tell what may have been written since the last seal.
    pub(crate) fn plans(&self) -> BTreeSet<&str> {
        let sessions = self.carried.iter().chain(&self.open).map(|open| &open.plan);
        self.lost.iter().chain(sessions).map(String::as_str).collect()
    }

    pub(crate) fn newest(&self) -> Option<&Kept> {
        self.points.last()
    }

    /// # Errors
    /// `NotFound`.
    pub(crate) fn point(&self, id: PointId) -> Result<&Kept> {
        let found = self.points.iter().find(|kept| kept.point.id == id);
        found.ok_or_else(|| self.no_point(id))
    }

    /// # Errors
    /// `NotFound`.
    pub(crate) fn point_mut(&mut self, id: PointId) -> Result<&mut Kept> {
        let missing = self.no_point(id);
        self.points.iter_mut().find(|kept| kept.point.id == id).ok_or(missing)
    }

    fn no_point(&self, id: PointId) -> Error {
        Error::new(ErrorKind::NotFound, format!("{} has no point {id} here", self.machine.id()))
    }

    /// The machine as it is now. A disk never shrinks.
    ///
    /// # Errors
    /// `Invalid`, naming the disk.
    pub(crate) fn must_take(&self, machine: &Machine) -> Result<()> {
        for disk in machine.included() {
            let Some(had) = self.disks.get(&disk.id).filter(|had| disk.size < had.size) else { continue };
            let rule = format!("the timeline has it with {} bytes, and disks only grow", had.size);
            let remedy = "give it a new id";
            return Err(Error::invalid("disk.size", disk.size, &rule, remedy).with("disk", &disk.id));
        }
        Ok(())
    }
}

fn no_timeline(machine: &MachineId) -> Error {
    Error::new(ErrorKind::NotFound, format!("{machine} has no timeline here"))
}

/// The name under which a call is remembered: its method, key and arguments.
pub(crate) fn call(method: &str, op: &Op, arguments: &impl Serialize) -> String {
    let text = serde_json::to_string(&(method, &op.key, arguments)).unwrap_or_default();
    format!("{:032x}", site_recovery_record::hash(text.as_bytes()))
}
