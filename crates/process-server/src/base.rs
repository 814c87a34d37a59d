//! On what a transfer stands: the head of the replica, as asked or as last seen.

use crate::halt::{Halt, Transfer};
use crate::plan::{covers, cut_to};
use serde::{Deserialize, Serialize};
use site_recovery::{
    ALIGNMENT, ChangeSet, Cursor, CutId, DiskSpec, Error, ErrorKind, Head, Machine, MachineId, Manifest,
    Point, PointId, Replica, Result,
};
use std::sync::Arc;

/// Where a timeline stood when it was last seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) head: Head,
    /// The newest sealed point, where there is one.
    pub(crate) sealed: Option<SealedPoint>,
    /// Cuts of which the replica may have landed something, or everything, since it was last seen.
    pub(crate) begun: Vec<CutId>,
}

/// What the manifest of a point says that a transfer must know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SealedPoint {
    pub(crate) id: PointId,
    pub(crate) cut: CutId,
    /// The replicated disks.
    pub(crate) disks: Vec<DiskSpec>,
}

impl Base {
    /// Asks the replica.
    pub(crate) async fn ask(replica: &Arc<dyn Replica>, machine: &MachineId) -> Transfer<Base> {
        let head = replica.head(machine).await.map_err(Halt::Replica)?;
        let sealed = match point_of(&head) {
            Some(id) => {
                let manifest = replica.manifest(machine, id).await.map_err(Halt::Replica)?;
                Some(SealedPoint::new(id, &manifest))
            }
            None => None,
        };
        Ok(Base { head, sealed, begun: vec![] })
    }

    /// Where it stands once a point was sealed.
    pub(crate) fn sealed(point: &Point, manifest: &Manifest) -> Base {
        Base {
            head: Head::Sealed { point: point.id, cursor: manifest.cursor.clone() },
            sealed: Some(SealedPoint::new(point.id, manifest)),
            begun: vec![],
        }
    }

    /// Where it stands at most once an ingest of `set` has begun.
    pub(crate) fn begun(&self, cut: &CutId, set: &ChangeSet) -> Base {
        let touched = self.touched().cloned().unwrap_or_default().union(set);
        let cursor = self.cursor().cloned();
        let head = Head::Unsettled { point: self.point(), cursor, touched };
        let begun = self.begun.iter().filter(|c| *c != cut).chain([cut]).cloned().collect();
        Base { head, sealed: self.sealed.clone(), begun }
    }

    /// What an ingest of `set` stands on once it has begun, beside the point: what is touched, by the head of then. Until it
    /// had begun, a batch or the seal of an earlier one may have hung and landed; from now on none does.
    ///
    /// # Errors
    /// `Busy` when something landed that `set` does not settle, or another point was sealed: plan again.
    pub(crate) fn once_begun(&self, machine: &Machine, set: &ChangeSet, head: &Head) -> Result<ChangeSet> {
        let touched = match head {
            Head::Unsettled { touched, .. } => cut_to(machine, touched).aligned(ALIGNMENT, &machine.disks),
            Head::Empty | Head::Sealed { .. } => ChangeSet::new(),
        };
        if point_of(head) != self.point() || !covers(set, &touched) {
            let said = "an earlier transfer landed something while this one began: it is planned again";
            return Err(Error::new(ErrorKind::Busy, said).with("machine", machine.id()));
        }
        Ok(touched)
    }

    pub(crate) fn point(&self) -> Option<PointId> {
        point_of(&self.head)
    }

    pub(crate) fn cut(&self) -> Option<&CutId> {
        self.sealed.as_ref().map(|s| &s.cut)
    }

    pub(crate) fn cursor(&self) -> Option<&Cursor> {
        match &self.head {
            Head::Empty => None,
            Head::Sealed { cursor, .. } | Head::Unsettled { cursor, .. } => cursor.as_ref(),
        }
    }

    pub(crate) fn touched(&self) -> Option<&ChangeSet> {
        match &self.head {
            Head::Unsettled { touched, .. } => Some(touched),
            Head::Empty | Head::Sealed { .. } => None,
        }
    }

    /// What the newest point does not have at all: disks that were added or included since, and the ends of disks that
    /// grew.
    pub(crate) fn added(&self, machine: &Machine) -> ChangeSet {
        let mut added = ChangeSet::new();
        let Some(sealed) = &self.sealed else { return added };
        for disk in machine.included() {
            let before = sealed.disks.iter().find(|d| d.id == disk.id).map_or(0, |d| d.size);
            let grown = disk.size.saturating_sub(before);
            added.add(&disk.id, site_recovery::Run::new(before.min(disk.size), grown));
        }
        added
    }
}

impl SealedPoint {
    fn new(id: PointId, manifest: &Manifest) -> Self {
        let disks = manifest.machine.included().cloned().collect();
        Self { id, cut: manifest.cut.clone(), disks }
    }
}

fn point_of(head: &Head) -> Option<PointId> {
    match head {
        Head::Empty => None,
        Head::Sealed { point, .. } => Some(*point),
        Head::Unsettled { point, .. } => *point,
    }
}
