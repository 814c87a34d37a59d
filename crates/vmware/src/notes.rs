//! What we keep in a machine's own configuration (`extraConfig`), where every engine finds it: whose machine it is, why it may
//! not start, which starts were ours, and what it is to the way back.
//!
//! | key | |
//! |---|---|
//! | `site-recovery.mark` | ids of the machine and of its disks, generation, who made it |
//! | `site-recovery.fence` | who keeps it off, since when, and how that ends |
//! | `site-recovery.power` | starts that were ours, keys that are done |
//! | `site-recovery.landing` | branches, kept arms, and whether its disks are ours |
//! | `site-recovery.tracking` | captures that the machine comes from, and disks whose tracking is whole |
//! | `site-recovery.epoch` | the epoch of whoever changed it last |
//!
//! All are JSON. They are written with the version of the configuration that was read, so that of two who write at once one is
//! refused by the server.

use crate::describe::{disk_name, in_order};
use crate::tracking::At;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use site_recovery::{
    DiskId, Epoch, Error, ErrorKind, Generation, Instance, Machine, MachineId, NicId, OpKey, Result,
    RoleName, Timestamp,
};
use site_recovery_register::{Witness, conflict, not_found};
use site_recovery_vim as vim;
use std::collections::BTreeMap;

/// How many keys that are done are remembered: far more than one engine asks about again.
const REMEMBERED: usize = 48;

/// The key of an enrolled machine.
pub(crate) const MARK: &str = "site-recovery.mark";

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    pub(crate) mark: Option<Mark>,
    pub(crate) fence: Option<FenceMark>,
    pub(crate) power: Option<PowerRecord>,
    pub(crate) landing: Option<Landing>,
    pub(crate) tracking: Option<Tracking>,
    pub(crate) epoch: Option<Epoch>,
}

/// Whose the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) machine: MachineId,
    /// The machine that it was written for: a clone does not carry two marks.
    pub(crate) uuid: String,
    pub(crate) generation: Generation,
    /// By the identifier of the disk's backing.
    pub(crate) disks: BTreeMap<String, MarkedDisk>,
    /// By the key of the device.
    pub(crate) nics: BTreeMap<i32, NicId>,
    /// The key that made the machine; none where it was there before.
    pub(crate) made: Option<OpKey>,
    /// Whether we switched change tracking on: then it goes with the mark.
    #[serde(default)]
    pub(crate) tracks: bool,
    /// How tracking for the way back was armed.
    pub(crate) armed: Option<ArmedBy>,
    /// A disk that was added, and has no id yet.
    #[serde(default)]
    pub(crate) adding: Option<Adding>,
}

/// Written in one act with the adding: whatever disk was not there before is this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adding {
    pub(crate) id: DiskId,
    pub(crate) before: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedDisk {
    pub(crate) id: DiskId,
    pub(crate) included: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArmedBy {
    pub(crate) key: OpKey,
    pub(crate) generation: Generation,
    /// Change ids from which tracking goes on, once the disks were given back; by the identifier of the backing.
    pub(crate) since: Option<BTreeMap<String, String>>,
}

/// Why it may not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceMark {
    pub(crate) by: OpKey,
    pub(crate) epoch: Epoch,
    pub(crate) when: Timestamp,
    pub(crate) ran_before: bool,
    /// Whether its host started it when it started itself.
    pub(crate) autostart: bool,
    /// Whether the guest was asked to shut down: it may still do so.
    pub(crate) asked: bool,
    pub(crate) why: String,
    pub(crate) lift: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PowerRecord {
    pub(crate) witness: Witness,
    /// Keys that started it, or lifted its fence: none does so twice.
    pub(crate) done: Vec<OpKey>,
    /// The key whose start was asked for, while nothing was seen of it yet.
    pub(crate) starting: Option<OpKey>,
    /// The newest start that the server told of: it forgets them in time, and that is no start.
    pub(crate) newest: Option<Began>,
}

/// A start, by what the server remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Began {
    pub(crate) key: i64,
    pub(crate) when: Timestamp,
}

/// What it is to the way back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Landing {
    /// Whether its disks are ours now.
    pub(crate) attached: bool,
    pub(crate) branch: Option<Branch>,
    /// Arms that were parted: what each is called, and the snapshot below it.
    pub(crate) kept: BTreeMap<String, String>,
    /// What was done so that it stays where it is.
    pub(crate) pins: Vec<String>,
    /// Branches, parts and merges that are over: none is done twice.
    pub(crate) done: Vec<OpKey>,
}

/// What change tracking may be asked for. It goes back with the machine where somebody reverts that, and so tells of it: tracking
/// by itself may go on as if nothing had been.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tracking {
    /// Captures that the machine comes from, the newest last.
    pub(crate) captures: Vec<OpKey>,
    /// The one of them that became a point last.
    pub(crate) sealed: Option<OpKey>,
    /// Where tracking began while nothing stood below the disk, by the identifier of the backing: it knows all that is in use.
    pub(crate) whole: BTreeMap<String, At>,
}

impl Tracking {
    pub(crate) fn comes_from(&mut self, key: &OpKey) {
        remember(&mut self.captures, key);
    }

    /// Whether the machine comes from this capture, as far as is known.
    pub(crate) fn follows(&self, key: &OpKey) -> bool {
        self.captures.contains(key) || self.sealed.as_ref() == Some(key)
    }
}

/// The snapshot that its disks stand on, and what the machine was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Branch {
    pub(crate) snapshot: String,
    pub(crate) generation: Generation,
    pub(crate) armed: Option<ArmedBy>,
    #[serde(default)]
    pub(crate) tracking: Option<Tracking>,
}

impl PowerRecord {
    pub(crate) fn finish(&mut self, key: &OpKey) {
        self.starting = None;
        remember(&mut self.done, key);
    }
}

impl Landing {
    pub(crate) fn finish(&mut self, key: &OpKey) {
        remember(&mut self.done, key);
    }
}

fn remember(done: &mut Vec<OpKey>, key: &OpKey) {
    if !done.contains(key) {
        done.push(key.clone());
    }
    if done.len() > REMEMBERED {
        done.drain(..done.len() - REMEMBERED);
    }
}

impl Notes {
    /// Those of a machine.
    ///
    /// # Errors
    /// `Corrupt`, naming the key: what cannot be read is never taken for nothing.
    pub(crate) fn of(extra: &BTreeMap<String, String>) -> Result<Self> {
        Ok(Self {
            mark: read(extra, "mark")?,
            fence: read(extra, "fence")?,
            power: read(extra, "power")?,
            landing: read(extra, "landing")?,
            tracking: read(extra, "tracking")?,
            epoch: read(extra, "epoch")?,
        })
    }

    /// What has to be written so that these become those. An empty value takes a key away.
    pub(crate) fn to(&self, new: &Self) -> Vec<(String, String)> {
        let mut changes = vec![];
        write(&mut changes, "mark", &self.mark, &new.mark);
        write(&mut changes, "fence", &self.fence, &new.fence);
        write(&mut changes, "power", &self.power, &new.power);
        write(&mut changes, "landing", &self.landing, &new.landing);
        write(&mut changes, "tracking", &self.tracking, &new.tracking);
        write(&mut changes, "epoch", &self.epoch, &new.epoch);
        changes
    }

    pub(crate) fn power(&mut self) -> &mut PowerRecord {
        self.power.get_or_insert_default()
    }

    /// Refuses another machine's mark.
    pub(crate) fn must_be_of(&self, instance: &Instance) -> Result<()> {
        match &self.mark {
            Some(mark) if mark.machine != instance.machine => {
                let message = format!("{} carries the mark of {}", instance.name, mark.machine);
                Err(conflict(message).with("machine", &instance.machine))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn landed(&self, name: &str) -> Result<&Landing> {
        self.landing.as_ref().ok_or_else(|| not_found(format!("{name} was never attached")))
    }
}

impl Mark {
    /// Of a machine that is taken in, with nothing said of its disks yet.
    pub(crate) fn new(machine: &Machine, uuid: &str) -> Self {
        Self {
            machine: machine.id().clone(),
            uuid: uuid.to_owned(),
            generation: machine.instance.generation,
            disks: BTreeMap::new(),
            nics: BTreeMap::new(),
            made: None,
            tracks: false,
            armed: None,
            adding: None,
        }
    }

    /// What was said of a disk that is replicated.
    pub(crate) fn included(&self, disk: &vim::Disk) -> Option<&MarkedDisk> {
        self.disks.get(&disk_name(disk)).filter(|marked| marked.included)
    }

    pub(crate) fn instance(&self, site: &RoleName) -> Instance {
        let (machine, generation) = (self.machine.clone(), self.generation);
        Instance { machine, site: site.clone(), name: self.uuid.clone(), generation }
    }

    /// Takes over ids and choices of a machine that is described as it was found: disk by disk, adapter by adapter.
    pub(crate) fn describe(&mut self, machine: &Machine, found: &vim::Devices) {
        let marked = |(disk, spec): (&vim::Disk, &site_recovery::DiskSpec)| {
            (disk_name(disk), MarkedDisk { id: spec.id.clone(), included: spec.included })
        };
        self.adding = None;
        self.disks = in_order(found).into_iter().zip(&machine.disks).map(marked).collect();
        self.nics =
            found.nics.iter().zip(&machine.nics).map(|(nic, spec)| (nic.key, spec.id.clone())).collect();
    }
}

fn key(name: &str) -> String {
    format!("site-recovery.{name}")
}

fn read<T: DeserializeOwned>(extra: &BTreeMap<String, String>, name: &str) -> Result<Option<T>> {
    let key = key(name);
    let Some(text) = extra.get(&key).filter(|text| !text.is_empty()) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|e| {
        let message = format!("{key} in the machine's configuration is damaged: mend it, or remove the key");
        Error::new(ErrorKind::Corrupt, message).caused_by(e)
    })
}

fn write<T: Serialize + PartialEq>(
    to: &mut Vec<(String, String)>,
    name: &str,
    old: &Option<T>,
    new: &Option<T>,
) {
    if old != new {
        let text = new.as_ref().map(|new| serde_json::to_string(new).expect("notes are plain data"));
        to.push((key(name), text.unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written_and_what_is_gone_is_taken_away() {
        let mut extra = BTreeMap::new();
        let before = Notes::of(&extra).expect("nothing is fine");
        let landing = Landing { attached: true, ..Landing::default() };
        let power = PowerRecord { done: vec!["a".into()], ..PowerRecord::default() };
        let after = Notes { landing: Some(landing), power: Some(power.clone()), ..Notes::default() };
        for (key, value) in before.to(&after) {
            extra.insert(key, value);
        }
        assert_eq!(Notes::of(&extra).expect("as it was written"), after);
        let last = Notes { power: Some(power), ..Notes::default() };
        assert_eq!(after.to(&last), vec![("site-recovery.landing".to_owned(), String::new())]);
    }

    #[test]
    fn what_is_damaged_is_never_taken_for_nothing() {
        let extra = BTreeMap::from([("site-recovery.fence".to_owned(), "{".to_owned())]);
        let error = Notes::of(&extra).expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("site-recovery.fence"), "{error}");
    }

    #[test]
    fn keys_that_are_done_do_not_pile_up() {
        let mut power = PowerRecord::default();
        for n in 0..200 {
            power.finish(&OpKey(format!("key-{n}")));
        }
        assert_eq!(power.done.len(), REMEMBERED);
        assert_eq!(power.done.last(), Some(&OpKey("key-199".into())));
    }
}
