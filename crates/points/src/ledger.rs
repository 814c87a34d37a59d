//! All that is true of one machine, in one small object. Every change is the next number of it, created or not at all:
//! so the check of the epoch and the effect are one atomic act.

use crate::folder::Attached;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use site_recovery::{
    Consistency, Cursor, CutId, DiskId, Epoch, Error, ErrorKind, Generation, Machine, MachineId, Manifest,
    Op, PhaseRecord, Point, PointId, Result, Timestamp,
};
use site_recovery_record::{checksum, hash};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const VERSION: u32 = 1;
/// Calls that are remembered, so that a late repeat changes nothing.
const REMEMBERED: usize = 256;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    version: u32,
    pub(crate) machine: MachineId,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) phase: Option<PhaseRecord>,
    pub(crate) next_point: u64,
    pub(crate) next_session: u64,
    pub(crate) timeline: Option<Timeline>,
    done: VecDeque<Done>,
}

/// A call that took effect, and what it answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Done {
    call: String,
    dropped: Vec<PointId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) machine: Machine,
    /// The largest size that each disk ever had here.
    pub(crate) sizes: BTreeMap<DiskId, u64>,
    /// The first point that this timeline could have.
    pub(crate) first: PointId,
    pub(crate) seed: Option<Seeded>,
    /// Oldest first.
    pub(crate) points: Vec<Kept>,
    /// Sessions that were closed since the last seal, oldest first.
    pub(crate) carried: Vec<Carried>,
    pub(crate) open: Option<Open>,
}

/// What the head says since `prepare`, until the next seal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seeded {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) touched: Attached,
}

/// A closed session, and which of its batches had landed by then: one that comes later counts for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) session: u64,
    pub(crate) op: Op,
    pub(crate) cut: CutId,
    /// First and last batch of each run of them; none while it has not been counted.
    pub(crate) landed: Option<Vec<(u64, u64)>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) session: u64,
    pub(crate) op: Op,
    pub(crate) cut: CutId,
    pub(crate) plan: Attached,
}

/// A sealed point, and where its bytes and its manifest are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: PointId,
    pub(crate) cut: CutId,
    members: Vec<MachineId>,
    taken: Timestamp,
    consistency: Consistency,
    generation: Generation,
    pub(crate) pins: BTreeSet<String>,
    pub(crate) locked_until: Option<Timestamp>,
    pub(crate) manifest: Attached,
    /// What was written since the point before.
    pub(crate) delta: Attached,
    /// How many pieces that has.
    pub(crate) pieces: u64,
    /// The whole content, where it was written out so that opening stays short, and how many pieces that has.
    pub(crate) whole: Option<(Attached, u64)>,
}

impl Kept {
    pub(crate) fn new(id: PointId, of: &Manifest, manifest: Attached, delta: Attached, pieces: u64) -> Self {
        Self {
            id,
            cut: of.cut.clone(),
            members: of.members.clone(),
            taken: of.taken,
            consistency: of.consistency,
            generation: of.machine.instance.generation,
            pins: BTreeSet::new(),
            locked_until: None,
            manifest,
            delta,
            pieces,
            whole: None,
        }
    }

    pub(crate) fn point(&self) -> Point {
        Point {
            id: self.id,
            cut: self.cut.clone(),
            members: self.members.clone(),
            taken: self.taken,
            consistency: self.consistency,
            generation: self.generation,
            pins: self.pins.iter().cloned().collect(),
            locked_until: self.locked_until,
            verified: true,
        }
    }
}

impl Ledger {
    pub(crate) fn new(machine: MachineId) -> Self {
        Self {
            version: VERSION,
            machine,
            epoch: None,
            phase: None,
            next_point: 1,
            next_session: 1,
            timeline: None,
            done: VecDeque::new(),
        }
    }

    /// The next ledger, with the authority of `op`.
    pub(crate) fn admit(&self, op: &Op) -> Result<Ledger> {
        if !op.epoch.passes(self.epoch.as_ref()) {
            let message = format!("{} is held by another engine", self.machine);
            let held = self.epoch.as_ref().map(|e| format!("{} of {}", e.number, e.owner));
            return Err(Error::new(ErrorKind::StaleEpoch, message).with("register", held.unwrap_or_default()));
        }
        Ok(Ledger { epoch: Some(op.epoch.clone()), ..self.clone() })
    }

    pub(crate) fn timeline(&self) -> Result<&Timeline> {
        self.timeline.as_ref().ok_or_else(|| no_timeline(&self.machine))
    }

    pub(crate) fn timeline_mut(&mut self) -> Result<&mut Timeline> {
        self.timeline.as_mut().ok_or_else(|| no_timeline(&self.machine))
    }

    /// What a call answered that took effect earlier.
    pub(crate) fn done(&self, call: &str) -> Option<&[PointId]> {
        self.done.iter().find(|d| d.call == call).map(|d| d.dropped.as_slice())
    }

    pub(crate) fn remember_done(&mut self, call: String, dropped: &[PointId]) {
        self.done.push_back(Done { call, dropped: dropped.to_vec() });
        while self.done.len() > REMEMBERED {
            self.done.pop_front();
        }
    }

    /// Everything that this ledger refers to.
    pub(crate) fn attached(&self) -> BTreeSet<&Attached> {
        let Some(timeline) = &self.timeline else { return BTreeSet::new() };
        let points = timeline.points.iter().flat_map(|p| {
            [&p.manifest, &p.delta].into_iter().chain(p.whole.as_ref().map(|(attached, _)| attached))
        });
        let seed = timeline.seed.iter().map(|s| &s.touched);
        points.chain(seed).chain(timeline.open.iter().map(|o| &o.plan)).collect()
    }

    /// A line with the checksum of the rest, and the rest: JSON.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let json = serde_json::to_string(self).map_err(|e| {
            Error::new(ErrorKind::Unsupported, "the ledger cannot be written as JSON").caused_by(e)
        })?;
        Ok(format!("{:016x}\n{json}", checksum(json.as_bytes())).into())
    }

    /// # Errors
    /// What is wrong with it, in words; a version that is not known is `Unsupported`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Ledger> {
        let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("the ledger is damaged: {why}"));
        let text = std::str::from_utf8(bytes).map_err(|_| corrupt("it is no text"))?;
        let (sum, json) = text.split_once('\n').ok_or_else(|| corrupt("it has no checksum"))?;
        if u64::from_str_radix(sum, 16).ok() != Some(checksum(json.as_bytes())) {
            return Err(corrupt("it does not match its checksum"));
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_str::<Version>(json) {
            Ok(Version { version: VERSION }) => {}
            Ok(Version { version }) => {
                let message =
                    format!("the ledger has version {version}, {VERSION} is known: use a newer release");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            Err(e) => return Err(corrupt("it has no version").caused_by(e)),
        }
        serde_json::from_str(json).map_err(|e| corrupt("it does not parse").caused_by(e))
    }
}

impl Timeline {
    pub(crate) fn new(machine: &Machine, first: PointId) -> Self {
        let sizes = machine.disks.iter().map(|d| (d.id.clone(), d.size)).collect();
        let (points, carried) = (vec![], vec![]);
        Self { machine: machine.clone(), sizes, first, seed: None, points, carried, open: None }
    }

    pub(crate) fn newest(&self) -> Option<&Kept> {
        self.points.last()
    }

    pub(crate) fn point(&self, id: PointId) -> Result<&Kept> {
        self.points.iter().find(|p| p.id == id).ok_or_else(|| no_point(id))
    }

    /// All points up to this one, which is the last of them.
    pub(crate) fn upto(&self, id: PointId) -> Result<&[Kept]> {
        let at = self.points.iter().position(|p| p.id == id).ok_or_else(|| no_point(id))?;
        Ok(&self.points[..=at])
    }

    pub(crate) fn point_mut(&mut self, id: PointId) -> Result<&mut Kept> {
        self.points.iter_mut().find(|p| p.id == id).ok_or_else(|| no_point(id))
    }

    /// The machine as it is now. A disk never shrinks.
    pub(crate) fn describe(&mut self, machine: &Machine) -> Result<()> {
        for disk in &machine.disks {
            let size = self.sizes.entry(disk.id.clone()).or_insert(disk.size);
            if disk.size < *size {
                let rule = format!("the timeline has it with {size} bytes, and disks only grow");
                return Err(
                    Error::invalid("disk.size", disk.size, &rule, "give it a new id").with("disk", &disk.id)
                );
            }
            *size = disk.size;
        }
        self.machine = machine.clone();
        Ok(())
    }

    /// Closes the open session; what it landed is counted once no write of it can land any more.
    pub(crate) fn close(&mut self) {
        if let Some(Open { session, op, cut, .. }) = self.open.take() {
            self.carried.push(Carried { session, op, cut, landed: None });
        }
    }
}

/// Names a call: what, by whom, with what. The same call again is a repeat.
pub(crate) fn call(what: &str, op: &Op, with: &impl Serialize) -> String {
    let text = serde_json::to_vec(&(what, &op.key, with)).expect("plain data is JSON");
    format!("{:032x}", hash(&text))
}

fn no_timeline(machine: &MachineId) -> Error {
    Error::new(ErrorKind::NotFound, format!("{machine} has no timeline here: prepare one"))
}

fn no_point(id: PointId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no point {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o9_a_newer_version_is_refused_and_damage_is_named() {
        let ledger = Ledger::new("web".into());
        let text = ledger.encode().expect("JSON");
        assert_eq!(Ledger::decode(&text).expect("readable"), ledger);
        let newer = Ledger { version: 2, ..ledger }.encode().expect("JSON");
        assert_eq!(Ledger::decode(&newer).expect_err("newer").kind(), ErrorKind::Unsupported);
        let mut bad = text.to_vec();
        bad[20] ^= 1;
        assert_eq!(Ledger::decode(&bad).expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(Ledger::decode(b"").expect_err("empty").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn o9_ledgers_of_version_1_stay_readable() {
        let json = r#"{"version":1,"machine":"web","epoch":{"number":3,"owner":"e"},"phase":null,"next_point":5,"next_session":9,"timeline":null,"done":[{"call":"00","dropped":[1,2]}]}"#;
        let text = format!("{:016x}\n{json}", checksum(json.as_bytes()));
        let ledger = Ledger::decode(text.as_bytes()).expect("readable");
        assert_eq!((ledger.next_point, ledger.next_session), (5, 9));
        assert_eq!(ledger.encode().expect("JSON"), text);
    }
}
