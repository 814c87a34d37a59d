//! All that is true of one machine, in one small object. Every change is the next number of it, created or not at all:
//! so the check of the epoch and the effect are one atomic act.

use crate::attached::Attached;
use crate::catalogue::{Catalogue, Kept};
use crate::segment::SegmentId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use site_recovery::{
    ChangeSet, Cursor, CutId, DiskId, Epoch, Error, ErrorKind, Machine, MachineId, Op, PhaseRecord, PointId,
    Result,
};
use site_recovery_record::{checksum, hash};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const VERSION: u32 = 1;
/// Calls that are remembered, so that a late repeat changes nothing.
const REMEMBERED: usize = 256;
/// Batches that can wait for a seal: of 4 MiB each these are 64 TiB.
const MOST_BATCHES: u64 = 1 << 24;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    version: u32,
    /// Its own, so that an older one in its place is no older state; 0 where it was written before that was kept.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) number: u64,
    pub(crate) machine: MachineId,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) phase: Option<PhaseRecord>,
    pub(crate) next_point: u64,
    pub(crate) next_session: u64,
    pub(crate) timeline: Option<Timeline>,
    /// What nothing refers to any more, until it is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) garbage: Vec<Garbage>,
    done: VecDeque<Done>,
}

/// Objects that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Garbage {
    Attached(Attached),
    Segment(SegmentId),
    /// Everything of sessions up to this one, and the pages of ledgers up to this one: a timeline that was deleted.
    Timeline {
        session: u64,
        ledger: u64,
    },
}

/// A change set: here where it is short, else in an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Noted {
    Here(ChangeSet),
    There(Attached),
}

/// A call that took effect, and what it answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Done {
    call: String,
    dropped: Vec<PointId>,
    /// It took effect in part so far.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unfinished: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) machine: Machine,
    /// The largest size that each disk ever had here.
    pub(crate) sizes: BTreeMap<DiskId, u64>,
    /// The first point that this timeline could have.
    pub(crate) first: PointId,
    pub(crate) seed: Option<Seeded>,
    pub(crate) catalogue: Catalogue,
    /// Segments of which the newest point needs something that was found damaged: what it has of them matches nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) damaged: BTreeSet<SegmentId>,
    /// Points with a gap before them of which space can come back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) due: BTreeSet<PointId>,
    /// Sessions that were closed since the last seal, oldest first.
    pub(crate) carried: Vec<Carried>,
    pub(crate) open: Option<Open>,
}

/// What the head says since `prepare`, until the next seal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seeded {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) touched: Noted,
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

impl Carried {
    /// How many batches these name.
    fn batches<'a>(carried: impl Iterator<Item = &'a Carried>) -> Option<u64> {
        let mut runs = carried.flat_map(|carried| carried.landed.iter().flatten());
        runs.try_fold(0_u64, |sum, (first, last)| sum.checked_add(last.checked_sub(*first)?.checked_add(1)?))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) session: u64,
    pub(crate) op: Op,
    pub(crate) cut: CutId,
    pub(crate) plan: Noted,
}

impl Ledger {
    pub(crate) fn new(machine: MachineId) -> Self {
        Self {
            version: VERSION,
            number: 0,
            machine,
            epoch: None,
            phase: None,
            next_point: 1,
            next_session: 1,
            timeline: None,
            garbage: vec![],
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
        let done = self.done.iter().find(|d| d.call == call && !d.unfinished);
        done.map(|d| d.dropped.as_slice())
    }

    /// What a call dropped that was broken off.
    pub(crate) fn begun(&self, call: &str) -> &[PointId] {
        self.done.iter().find(|d| d.call == call).map_or(&[], |d| d.dropped.as_slice())
    }

    pub(crate) fn remember_done(&mut self, call: String, dropped: &[PointId]) {
        self.remember(call, dropped, false);
    }

    /// A call that took effect in part, and goes on.
    pub(crate) fn remember_begun(&mut self, call: String, dropped: &[PointId]) {
        self.remember(call, dropped, true);
    }

    fn remember(&mut self, call: String, dropped: &[PointId], unfinished: bool) {
        self.done.retain(|done| done.call != call);
        self.done.push_back(Done { call, dropped: dropped.to_vec(), unfinished });
        while self.done.len() > REMEMBERED {
            self.done.pop_front();
        }
    }

    /// A line with the checksum of the rest, and the rest: JSON.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let json = serde_json::to_string(self).map_err(|e| {
            Error::new(ErrorKind::Unsupported, "the ledger cannot be written as JSON").caused_by(e)
        })?;
        Ok(format!("{:016x}\n{json}", checksum(json.as_bytes())).into())
    }

    /// The ledger of this number.
    ///
    /// # Errors
    /// What is wrong with it, in words; a version that is not known is `Unsupported`.
    pub(crate) fn decode(number: u64, bytes: &[u8]) -> Result<Ledger> {
        let ledger: Ledger = parse(number, bytes, |ledger: &Ledger| (ledger.version, ledger.number))?;
        let carried = ledger.timeline.iter().flat_map(|timeline| &timeline.carried);
        match Carried::batches(carried) {
            Some(batches) if batches <= MOST_BATCHES => Ok(ledger),
            _ => Err(corrupt(&format!("it names more than {MOST_BATCHES} batches that wait for a seal"))),
        }
    }

    /// The newest point of the ledger of this number. What it passes over is not looked at, but for the checksum of all.
    ///
    /// # Errors
    /// As of [`decode`](Self::decode), of what it looks at.
    pub(crate) fn newest(number: u64, bytes: &[u8]) -> Result<Option<Kept>> {
        #[derive(Deserialize)]
        struct Short {
            version: u32,
            #[serde(default)]
            number: u64,
            timeline: Option<Points>,
        }
        #[derive(Deserialize)]
        struct Points {
            catalogue: Catalogue,
        }
        let short = parse(number, bytes, |short: &Short| (short.version, short.number))?;
        Ok(short.timeline.and_then(|timeline| timeline.catalogue.newest().cloned()))
    }
}

/// The JSON of a ledger of this number, once its checksum, its version and the number that it gives are seen to be right.
fn parse<'a, T: Deserialize<'a>>(number: u64, bytes: &'a [u8], told: impl Fn(&T) -> (u32, u64)) -> Result<T> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let text = std::str::from_utf8(bytes).map_err(|_| corrupt("it is no text"))?;
    let (sum, json) = text.split_once('\n').ok_or_else(|| corrupt("it has no checksum"))?;
    if u64::from_str_radix(sum, 16).ok() != Some(checksum(json.as_bytes())) {
        return Err(corrupt("it does not match its checksum"));
    }
    let read = serde_json::from_str::<T>(json);
    // Another form need not be one that we can read.
    let version = match &read {
        Ok(read) => told(read).0,
        Err(_) => match serde_json::from_str::<Version>(json) {
            Ok(Version { version }) => version,
            Err(e) => return Err(corrupt("it has no version").caused_by(e)),
        },
    };
    if version != VERSION {
        let message = format!("the ledger has version {version}, {VERSION} is known: use a newer release");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let read = read.map_err(|e| corrupt("it does not parse").caused_by(e))?;
    let its = told(&read).1;
    if ![0, number].contains(&its) {
        return Err(corrupt(&format!("it is ledger {its}, in the place of another")));
    }
    Ok(read)
}

fn corrupt(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the ledger is damaged: {why}"))
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

impl Timeline {
    pub(crate) fn new(machine: &Machine, first: PointId) -> Self {
        let sizes = machine.disks.iter().map(|d| (d.id.clone(), d.size)).collect();
        Self {
            machine: machine.clone(),
            sizes,
            first,
            seed: None,
            catalogue: Catalogue::default(),
            damaged: BTreeSet::new(),
            due: BTreeSet::new(),
            carried: vec![],
            open: None,
        }
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

    /// The pages that it names beside its catalogue.
    pub(crate) fn noted(&self) -> Vec<Attached> {
        let noted = self.seed.iter().map(|seed| &seed.touched).chain(self.open.iter().map(|open| &open.plan));
        let pages = noted.filter_map(|noted| match noted {
            Noted::There(object) => Some(object.clone()),
            Noted::Here(_) => None,
        });
        pages.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o9_a_newer_version_is_refused_and_damage_is_named() {
        let ledger = Ledger::new("web".into());
        let text = ledger.encode().expect("JSON");
        assert_eq!(Ledger::decode(7, &text).expect("readable"), ledger);
        let sixth = Ledger { number: 6, ..ledger.clone() }.encode().expect("JSON");
        assert_eq!(Ledger::decode(6, &sixth).expect("readable").number, 6);
        assert_eq!(Ledger::decode(7, &sixth).expect_err("of another place").kind(), ErrorKind::Corrupt);
        let newer = Ledger { version: 2, ..ledger }.encode().expect("JSON");
        assert_eq!(Ledger::decode(7, &newer).expect_err("newer").kind(), ErrorKind::Unsupported);
        let mut bad = text.to_vec();
        bad[20] ^= 1;
        assert_eq!(Ledger::decode(7, &bad).expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(Ledger::decode(7, b"").expect_err("empty").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn batches_that_cannot_be_are_no_memory_but_damage() {
        let text = serde_json::to_string(&crate::fuzz::ledger()).expect("JSON");
        assert!(text.contains("[[0,3],[5,5]]"), "{text}");
        let read = |runs: &str| {
            let json = text.replace("[[0,3],[5,5]]", runs);
            Ledger::decode(7, format!("{:016x}\n{json}", checksum(json.as_bytes())).as_bytes())
        };
        read("[[0,3],[5,5]]").expect("readable");
        for runs in ["[[0,18446744073709551615]]", "[[3,0]]", "[[0,16777216]]"] {
            assert_eq!(read(runs).expect_err(runs).kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn o9_ledgers_of_version_1_stay_readable() {
        let json = r#"{"version":1,"machine":"web","epoch":{"number":3,"owner":"e"},"phase":null,"next_point":5,"next_session":9,"timeline":null,"done":[{"call":"00","dropped":[1,2]}]}"#;
        let text = format!("{:016x}\n{json}", checksum(json.as_bytes()));
        let ledger = Ledger::decode(7, text.as_bytes()).expect("readable");
        assert_eq!((ledger.next_point, ledger.next_session), (5, 9));
        assert_eq!(ledger.encode().expect("JSON"), text);
    }
}
