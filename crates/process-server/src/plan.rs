//! What a transfer must settle, and what it may take as equal.

use crate::base::Base;
use site_recovery::{
    ALIGNMENT, Basis, Capture, ChangeSet, Changes, Head, Machine, MachineId, Result, Source,
};
use std::sync::Arc;

/// The set to settle, aligned and cut to the replicated disks.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) set: ChangeSet,
    pub(crate) find: Find,
}

/// How it is found what of the set must cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Find {
    /// The replica holds zeros: what is zero is equal.
    ZerosAreThere,
    /// The replica holds who knows what: everything crosses, zeros as such.
    Everything,
    /// By comparing hashes.
    ByHash,
}

/// The plan, or why there is none.
#[derive(Debug)]
pub(crate) enum Planned {
    Go(Plan),
    NeedsCompare { reason: String },
}

impl Plan {
    /// Below which key it is ingested. Whole plans of one capture are the same set, by whatever means; a delta is
    /// another. Two keys keep what landed of one from being taken for the other.
    pub(crate) fn key(&self) -> &'static str {
        match self.find {
            Find::ZerosAreThere | Find::ByHash => "whole",
            Find::Everything => "delta",
        }
    }

    /// The same, where `touched` is no longer what it was before the first copy.
    pub(crate) fn over(mut self, touched: &ChangeSet) -> Plan {
        if self.find == Find::ZerosAreThere && !touched.is_empty() {
            self.find = Find::Everything;
        }
        self
    }
}

/// Whether every run of `part` is in `set`.
pub(crate) fn covers(set: &ChangeSet, part: &ChangeSet) -> bool {
    part.disks().all(|(disk, runs)| runs.iter().all(|run| set.contains(disk, *run)))
}

/// Decides by where the timeline stands. `spooled` is what captures that wait in the spool will have touched by then.
pub(crate) async fn plan(
    capture: &Capture,
    machine: &Machine,
    basis: Basis,
    base: &Base,
    spooled: &ChangeSet,
    source: &Arc<dyn Source>,
) -> Result<Planned> {
    let whole = |find| Planned::Go(Plan { set: ChangeSet::whole(machine.included()), find });
    if base.head == Head::Empty {
        return Ok(whole(Find::ZerosAreThere));
    }
    let Some(cursor) = base.cursor().filter(|_| basis == Basis::Delta) else {
        return Ok(whole(Find::ByHash));
    };
    let id: &MachineId = machine.id();
    match source.changes(capture, id, cursor).await? {
        Changes::Lost { reason } => Ok(Planned::NeedsCompare { reason }),
        Changes::Known(changes) => {
            let all = changes.union(&base.added(machine)).union(spooled);
            let all = base.touched().map_or(all.clone(), |touched| all.union(touched));
            let set = cut_to(machine, &all).aligned(ALIGNMENT, &machine.disks);
            Ok(Planned::Go(Plan { set, find: Find::Everything }))
        }
    }
}

/// The runs of replicated disks, as far as the disks reach.
pub(crate) fn cut_to(machine: &Machine, set: &ChangeSet) -> ChangeSet {
    let mut cut = ChangeSet::new();
    for disk in machine.included() {
        let whole = site_recovery::Run::new(0, disk.size);
        for run in set.runs(&disk.id).iter().filter_map(|r| r.intersection(whole)) {
            cut.add(&disk.id, run);
        }
    }
    cut
}
