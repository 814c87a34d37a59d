//! What was sealed in a point: one document, written once.

use super::Inner;
use super::line::Line;
use super::names::Names;
use super::state::{At, Kept, Timeline};
use super::sums::Note;
use crate::document;
use serde::{Deserialize, Serialize};
use site_recovery::{ChangeSet, Error, ErrorKind, Manifest, PointId, Result};
use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// None of points that were dropped, and made into one.
    pub(crate) manifest: Option<Manifest>,
    /// All that may differ from the point before.
    pub(crate) changes: ChangeSet,
    /// Oldest first.
    pub(crate) layers: Vec<Layer>,
}

/// What is known of the bytes that landed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// What may have landed before these notes, or beside them: no note tells.
    pub(crate) unknown: ChangeSet,
    /// Where the notes stand that tell what landed, oldest first.
    pub(crate) notes: Vec<String>,
}

impl Sealed {
    /// # Errors
    /// `Corrupt` where it is not that of a point.
    pub(crate) fn manifest(self) -> Result<Manifest> {
        self.manifest.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a point's document holds no manifest"))
    }
}

impl Inner {
    /// # Errors
    /// `Corrupt`, naming the document.
    pub(super) async fn sealed(&self, document: &str) -> Result<Sealed> {
        let found = self.container.document(document).read().await?;
        let Some((bytes, _)) = found else {
            let message = format!("{document} is gone, which a point needs");
            return Err(Error::new(ErrorKind::Corrupt, message).with("document", document));
        };
        document::decode(&bytes).map_err(|e| e.with("document", document))
    }

    /// The notes that stand there, in order.
    pub(super) async fn notes(&self, there: &str) -> Result<Vec<Note>> {
        let mut notes = vec![];
        let listed = self.container.list(there).await?;
        let names: BTreeSet<_> = listed.into_iter().map(|listed| listed.name).collect();
        for name in names {
            if let Some((bytes, _)) = self.container.document(&name).read().await? {
                notes.push(Note::decode(&bytes).map_err(|e| e.with("document", &name))?);
            }
        }
        Ok(notes)
    }
}

impl Line {
    /// A change set of a document of its own.
    pub(crate) async fn plan(&self, document: &str) -> Result<ChangeSet> {
        let Some((bytes, _)) = self.store.container.document(document).read().await? else {
            let message = format!("{document} is gone, which tells what an ingest may have written");
            return Err(Error::new(ErrorKind::Corrupt, message).with("document", document));
        };
        document::decode(&bytes).map_err(|e| e.with("document", document))
    }

    /// The document of a plan: one of the timeline that says the same, or a new one.
    pub(crate) async fn keep_plan(&self, timeline: &Timeline, plan: &ChangeSet) -> Result<String> {
        let bytes = document::encode(plan)?;
        if let Some(known) = timeline.plans().into_iter().find(|name| Names::says(name, &bytes)) {
            return Ok(known.to_owned());
        }
        let name = self.names.plan(self.next_number(), &bytes);
        self.put(&name, bytes).await?;
        Ok(name)
    }

    /// What the ingests may have written that were not sealed.
    pub(crate) async fn unsealed(&self) -> Result<ChangeSet> {
        let timeline = self.timeline()?;
        let mut touched = ChangeSet::new();
        for plan in timeline.plans() {
            touched = touched.union(&self.plan(plan).await?);
        }
        Ok(touched)
    }

    /// All that was written after this point, sealed or not.
    pub(crate) async fn written_after(&self, at: PointId) -> Result<ChangeSet> {
        let timeline = self.timeline()?;
        timeline.point(at)?;
        let later = documents(timeline.points.iter().filter(|kept| kept.point.id > at));
        Ok(self.changes_of(later).await?.union(&self.unsealed().await?))
    }

    /// All that what was sealed in these documents changed.
    pub(crate) async fn changes_of(&self, documents: Vec<String>) -> Result<ChangeSet> {
        let mut all = ChangeSet::new();
        for document in documents {
            all = all.union(&self.store.sealed(&document).await?.changes);
        }
        Ok(all)
    }
}

/// The documents of points, each behind those of the points that were dropped right before it.
pub(crate) fn documents<'a>(points: impl Iterator<Item = &'a Kept>) -> Vec<String> {
    points.flat_map(|kept| kept.inherits.iter().chain([&kept.document]).cloned()).collect()
}

/// What a machine's disks are at a point, as the state names them.
pub(crate) type Snapshots = std::collections::BTreeMap<site_recovery::DiskId, At>;
