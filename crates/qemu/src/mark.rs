//! `mark.json` of a machine's directory, which says whose it is, and `fence.json`, which says why it may not start.

use crate::known::Known;
use serde::{Deserialize, Serialize};
use site_recovery::{
    Cursor, DiskId, DiskSpec, Epoch, Error, Generation, Machine, MachineId, NicId, OpKey, PointId, Result,
    Timestamp,
};
use std::collections::BTreeMap;

/// Whose the machine is: the ids all round the circle, the generation, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) machine: MachineId,
    /// The directory that it was written for: a directory that was copied by hand does not carry two marks.
    pub(crate) name: String,
    /// Where the directory is being moved.
    pub(crate) moving_to: Option<String>,
    pub(crate) generation: Generation,
    /// By the description's own ids.
    pub(crate) disks: BTreeMap<String, MarkedDisk>,
    pub(crate) nics: BTreeMap<String, NicId>,
    /// The key that made the directory; none where a person did.
    pub(crate) made: Option<Made>,
    /// How tracking for the way back was armed.
    pub(crate) armed: Option<ArmedBy>,
    pub(crate) settled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedDisk {
    pub(crate) id: DiskId,
    pub(crate) size: u64,
    /// Whether it is replicated.
    pub(crate) included: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) by: OpKey,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Materialised,
    Attached,
    Parted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArmedBy {
    pub(crate) key: OpKey,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) generation: Generation,
    pub(crate) point: PointId,
}

/// `fence.json`: who blocks the start, and how that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FenceMark {
    pub(crate) by: OpKey,
    pub(crate) epoch: Epoch,
    pub(crate) when: Timestamp,
    pub(crate) ran_before: bool,
    /// Whether the guest was asked to shut down: it may still do so.
    pub(crate) asked: bool,
    pub(crate) why: String,
    pub(crate) lift: String,
}

impl Known {
    /// A mark for this machine: ids by the description's own ids where they are the same, by place where not.
    pub(crate) fn mark_as(&self, machine: &Machine, made: Option<Made>) -> Result<Mark> {
        let mut disks = BTreeMap::new();
        let found = self.machine(&machine.instance.site, None).disks;
        for held in &self.disks {
            let at = found.iter().position(|d| d.id == held.spec.id).unwrap_or(held.n);
            let by_id = machine.disks.iter().find(|d| d.id == held.spec.id || d.id.0 == held.local);
            let free = |d: &&DiskSpec| !self.disks.iter().any(|h| h.spec.id == d.id || h.local == d.id.0);
            let by_place = machine.disks.get(at).filter(free);
            let Some(spec) = by_id.or(by_place) else {
                let rule = "every disk of the machine is told";
                return Err(Error::invalid("machine.disks", "incomplete", rule, "discover it anew")
                    .with("disk", &held.local));
            };
            let (id, size, included) = (spec.id.clone(), held.spec.size, spec.included);
            disks.insert(held.local.clone(), MarkedDisk { id, size, included });
        }
        if let Some(gone) = machine.disks.iter().find(|d| !disks.values().any(|m| m.id == d.id)) {
            let rule = "the machine has this disk";
            return Err(Error::invalid("machine.disks", &gone.id, rule, "discover it anew"));
        }
        let nics = self.description.nics.iter().enumerate().filter_map(|(at, n)| {
            let same = machine.nics.iter().find(|m| m.id.0 == n.id);
            same.or(machine.nics.get(at)).map(|m| (n.id.clone(), m.id.clone()))
        });
        Ok(Mark {
            machine: machine.id().clone(),
            name: self.home.name.clone(),
            moving_to: None,
            generation: machine.instance.generation,
            disks,
            nics: nics.collect(),
            made,
            armed: None,
            settled: false,
        })
    }

    /// The mark with the sizes that the disks have now.
    pub(crate) fn with_sizes(&self, mut mark: Mark) -> Mark {
        for held in &self.disks {
            if let Some(marked) = mark.disks.get_mut(&held.local) {
                marked.size = held.spec.size;
            }
        }
        mark
    }
}
