//! What dropped points leave behind: what they changed counts for the next one. And what ingests leave behind that come to nothing:
//! what they were to write counts for the next point. Of more than a few, one is made.

use super::line::Line;
use super::sealed::{Layer, Sealed};
use super::session::resumed;
use super::state::{Owed, Timeline};
use super::sums::Note;
use crate::document;
use site_recovery::{ChangeSet, Result};
use std::collections::BTreeSet;

/// So many are left as they are.
const MOST: usize = 32;
/// So many plans are.
const MOST_PLANS: usize = 8;
/// A layer whose notes have more bytes than this, as a first copy's have, is kept as it is.
const SMALL: u64 = 64 << 20;

impl Line {
    /// Folds what too many dropped points left behind. Nothing is lost where it is broken off.
    pub(super) async fn fold(&mut self) -> Result<()> {
        let mut next = self.state.clone();
        let Some(timeline) = &mut next.timeline else { return Ok(()) };
        let mut owed = vec![];
        for kept in timeline.points.iter_mut().filter(|kept| kept.inherits.len() > MOST) {
            let (document, gone) = self.folded(&kept.inherits).await?;
            kept.inherits = vec![document];
            owed.extend(gone);
        }
        next.owed.extend(owed);
        self.commit(next).await
    }

    /// Makes one plan of those of many sessions that nobody resumes; gives what is not needed any more then.
    pub(super) async fn fold_plans(&self, timeline: &mut Timeline) -> Result<Vec<Owed>> {
        let Some(open) = &timeline.open else { return Ok(vec![]) };
        let broken = timeline.carried.len() - resumed(&timeline.carried, open).len();
        if broken <= MOST_PLANS {
            return Ok(vec![]);
        }
        let before: Vec<_> = timeline.plans().into_iter().map(str::to_owned).collect();
        let broken: Vec<_> = timeline.carried.drain(..broken).collect();
        let mut all = ChangeSet::new();
        for plan in broken.iter().map(|open| &open.plan).chain(&timeline.lost).collect::<BTreeSet<_>>() {
            all = all.union(&self.plan(plan).await?);
        }
        timeline.lost = Some(self.keep_plan(timeline, &all).await?);
        let gone = before.into_iter().filter(|name| !timeline.plans().contains(name.as_str()));
        let notes = broken.iter().map(|open| Owed::Notes { notes: self.names.notes(open.session) });
        Ok(gone.map(|name| Owed::Document { name }).chain(notes).collect())
    }

    /// One document instead of these, and what is not needed any more then.
    async fn folded(&self, documents: &[String]) -> Result<(String, Vec<Owed>)> {
        let mut all = Sealed { manifest: None, changes: ChangeSet::new(), layers: vec![] };
        let (mut gone, mut small) = (vec![], Note::default());
        for document in documents {
            let sealed = self.store.sealed(document).await?;
            all.changes = all.changes.union(&sealed.changes);
            gone.push(Owed::Document { name: document.clone() });
            for layer in sealed.layers {
                if self.size_of(&layer).await? > SMALL {
                    all.layers.extend(self.noted(std::mem::take(&mut small)).await?);
                    all.layers.push(layer);
                    continue;
                }
                small.forget(&layer.unknown);
                for notes in layer.notes {
                    for note in self.store.notes(&notes).await? {
                        small.overlay(note);
                    }
                    gone.push(Owed::Notes { notes });
                }
            }
        }
        all.layers.extend(self.noted(small).await?);
        let bytes = document::encode(&all)?;
        let document = self.names.folded(self.next_number(), &bytes);
        self.put(&document, bytes).await?;
        Ok((document, gone))
    }

    async fn size_of(&self, layer: &Layer) -> Result<u64> {
        let mut size = 0;
        for notes in &layer.notes {
            size += self.store.container.list(notes).await?.iter().map(|listed| listed.size).sum::<u64>();
        }
        Ok(size)
    }

    /// A layer of one note, unless it tells nothing.
    async fn noted(&self, note: Note) -> Result<Option<Layer>> {
        if note == Note::default() {
            return Ok(None);
        }
        let bytes = note.encode()?;
        let notes = self.names.folded_notes(&bytes);
        self.put(&format!("{notes}0"), bytes).await?;
        Ok(Some(Layer { unknown: ChangeSet::new(), notes: vec![notes] }))
    }
}
