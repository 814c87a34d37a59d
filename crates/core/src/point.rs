//! Recovery points and where a timeline stands.

use crate::{
    BootProof, ChangeSet, Consistency, Cursor, CutId, Generation, Instance, Item, Machine, MachineId,
    PointId, Sidecar, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a timeline stands at its replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// Nothing landed yet: first copy.
    Empty,
    /// The working copy is this point.
    Sealed {
        /// Which.
        point: PointId,
        /// Where the next delta starts.
        cursor: Option<Cursor>,
    },
    /// The working copy differs from the source's state at `cursor` in at most `touched`. Without a cursor the
    /// distance is unknown: compare.
    Unsettled {
        /// The newest sealed point, if any; it stays whole.
        point: Option<PointId>,
        /// Where the next delta starts.
        cursor: Option<Cursor>,
        /// What the next delta must contain besides.
        touched: ChangeSet,
    },
}

/// From where a timeline goes on, at protect and reprotect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seed {
    /// From nothing.
    Fresh,
    /// The source at `cursor` differs in at most `differs` from point `at`; where that is none, from the disks of
    /// `landing` as they stand; with neither, from the working copy as it stands.
    Known {
        /// A point of this replica.
        at: Option<PointId>,
        /// The disks to land on.
        landing: Option<Instance>,
        /// The source's position.
        cursor: Cursor,
        /// The distance.
        differs: ChangeSet,
    },
    /// Disks (of `landing`) or points exist, the distance is unknown: compare.
    Unknown {
        /// The disks to land on.
        landing: Option<Instance>,
    },
}

/// A sealed recovery point: all disks of the machine at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its number.
    pub id: PointId,
    /// The cut it belongs to.
    pub cut: CutId,
    /// The members of that cut.
    pub members: Vec<MachineId>,
    /// The instant of the capture.
    pub taken: Timestamp,
    /// What it is good for.
    pub consistency: Consistency,
    /// The generation it was captured in.
    pub generation: Generation,
    /// Why it must not be dropped.
    pub pins: Vec<String>,
    /// Until when it cannot be dropped by anybody.
    pub locked_until: Option<Timestamp>,
    /// False while it rests on bytes that somebody else may have changed.
    pub verified: bool,
    /// What its boot proof came to, where one was tried. Filled in by the engine where it lists points; a replica leaves it
    /// empty. Boxed: histories are long, and most points have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_boot: Option<Box<BootProof>>,
}

/// What is sealed inside a point beside its bytes: all that is needed to go on without journal and source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The machine as captured.
    pub machine: Machine,
    /// The members of the cut.
    pub members: Vec<MachineId>,
    /// The cut.
    pub cut: CutId,
    /// The instant.
    pub taken: Timestamp,
    /// What it is good for.
    pub consistency: Consistency,
    /// Where the next delta starts.
    pub cursor: Option<Cursor>,
    /// Small files of the machine.
    pub sidecars: Vec<Sidecar>,
    /// The item's control state at the time of the capture.
    pub control: Control,
}

/// Control state as it travels: inside every sealed point, and beside the replica as [`PhaseRecord`](crate::PhaseRecord).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The unit that the machine is operated in.
    pub unit: crate::UnitId,
    /// The members of that unit.
    pub members: Vec<MachineId>,
    /// The item as it stood.
    pub item: Item,
}

/// Cuts that every one of `members` has sealed: the only points that a group has. Oldest first.
pub fn group_cuts(members: &BTreeMap<MachineId, Vec<Point>>) -> Vec<CutId> {
    let Some(first) = members.values().next() else { return vec![] };
    let whole = |p: &&Point| {
        // A member that has left its group is in the older cuts still.
        members.keys().all(|m| p.members.contains(m))
            && members.values().all(|points| points.iter().any(|q| q.cut == p.cut))
    };
    first.iter().filter(whole).map(|p| p.cut.clone()).collect()
}
