//! Dropping points, and deleting what nobody refers to after that.

use crate::Points;
use crate::catalogue::{Catalogue, Edits, Kept};
use crate::folder::Found;
use crate::ledger::{Garbage, Ledger, call};
use crate::line::Line;
use crate::space::REWRITTEN;
use site_recovery::{Error, ErrorKind, MachineId, Op, PointId, Result};
use std::collections::BTreeSet;

/// Points that one call drops at most; what is over comes with the next one.
const MOST: usize = 256;
/// Points that are dropped by one ledger: between two of them others have their turn, and a call that is broken off has
/// done this much.
const SLICE: usize = 16;
/// Objects that the store does not delete, until no more of them are tried.
const REFUSED: usize = 8;

impl Points {
    pub(crate) async fn drop_points(
        &self,
        op: &Op,
        machine: &MachineId,
        list: &[PointId],
    ) -> Result<Vec<PointId>> {
        let (call, mut left) = (call("prune", op, &list), REWRITTEN);
        loop {
            let mut line = self.enter(machine).await?;
            let mut next = line.ledger.admit(op)?;
            if let Some(dropped) = next.done(&call) {
                let dropped = dropped.to_vec();
                line.commit(next).await?;
                line.collect().await;
                drop(line);
                self.give_back_space(op, machine, &mut left).await;
                return Ok(dropped);
            }
            let mut ids = next.begun(&call).to_vec();
            let slice = SLICE.min(MOST.saturating_sub(ids.len()));
            let dropped = self.droppable(&line, &next.timeline()?.catalogue, list, slice).await?;
            ids.extend(dropped.iter().map(|kept| kept.id));
            let is_last = dropped.len() < SLICE || ids.len() == MOST;
            line.without(&mut next, dropped).await?;
            if is_last {
                next.remember_done(call.clone(), &ids);
            } else {
                next.remember_begun(call.clone(), &ids);
            }
            line.commit(next).await?;
            line.collect().await;
            drop(line);
            self.give_back_space(op, machine, &mut left).await;
            if is_last {
                return Ok(ids);
            }
        }
    }

    pub(crate) async fn forget(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        let call = call("delete", op, &());
        if next.done(&call).is_none() {
            if let Some(timeline) = &next.timeline {
                self.deletable(&line, machine, &timeline.catalogue).await?;
                next.garbage =
                    vec![Garbage::Timeline { session: next.next_session - 1, ledger: line.number }];
            }
            next.timeline = None;
            next.remember_done(call, &[]);
        }
        line.commit(next).await?;
        line.collect().await;
        Ok(())
    }

    async fn deletable(&self, line: &Line, machine: &MachineId, catalogue: &Catalogue) -> Result<()> {
        let now = self.clock.now();
        let all = catalogue.after(&line.folder, None, usize::MAX).await?;
        if let Some(point) = all.iter().find(|p| p.locked_until.is_some_and(|until| until > now)) {
            let message = format!("point {} is locked: delete the timeline after that", point.id);
            let until = point.locked_until.map(|t| t.to_string()).unwrap_or_default();
            return Err(Error::new(ErrorKind::Refused, message).with("locked_until", until));
        }
        if let Some(point) = self.open.of(machine).first() {
            let message = format!("point {point} is being read: delete the timeline after that");
            return Err(Error::new(ErrorKind::Busy, message));
        }
        Ok(())
    }

    /// What of the list may go, oldest first.
    async fn droppable(
        &self,
        line: &Line,
        catalogue: &Catalogue,
        drop: &[PointId],
        most: usize,
    ) -> Result<Vec<Kept>> {
        let (now, open) = (self.clock.now(), self.open.of(&line.ledger.machine));
        let newest = catalogue.newest().map(|kept| kept.id);
        let mut found = vec![];
        for id in drop.iter().collect::<BTreeSet<_>>() {
            if found.len() == most {
                break;
            }
            let kept = match catalogue.get(&line.folder, *id).await {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                kept => kept?,
            };
            let stays = !kept.pins.is_empty()
                || kept.locked_until.is_some_and(|until| until > now)
                || open.contains(id)
                || Some(*id) == newest;
            found.extend((!stays).then_some(kept));
        }
        Ok(found)
    }
}

impl Line {
    /// Takes points out of a timeline, oldest first.
    async fn without(&mut self, next: &mut Ledger, dropped: Vec<Kept>) -> Result<()> {
        if dropped.is_empty() {
            return Ok(());
        }
        let number = self.attaching();
        let (mut edits, mut last): (Edits, Option<(PointId, Option<Kept>)>) = (Edits::new(), None);
        let (mut garbage, timeline) = (vec![], next.timeline_mut()?);
        for point in dropped {
            let point = edits.get(&point.id).cloned().flatten().unwrap_or(point);
            let before = match (timeline.catalogue.before(&self.folder, point.id).await?, last.take()) {
                (Some(before), Some((id, kept))) if before.id == id => kept,
                (before, _) => before.map(|kept| edits.get(&kept.id).cloned().flatten().unwrap_or(kept)),
            };
            let after = PointId(point.id.0 + 1);
            let after = timeline.catalogue.at_or_after(&self.folder, after).await?;
            let after = after.expect("the newest point is never dropped");
            let after = edits.get(&after.id).cloned().flatten().unwrap_or(after);
            let (after, dead) = self.take_over(before.as_ref(), &point, after).await?;
            garbage.extend(dead);
            edits.insert(after.id, Some(after));
            edits.insert(point.id, None);
            last = Some((point.id, before));
        }
        let replaced = timeline.catalogue.edit(&self.folder, number, &edits).await?;
        garbage.extend(replaced.into_iter().map(Garbage::Attached));
        for (point, kept) in &edits {
            timeline.due.remove(point);
            timeline.due.extend(kept.iter().filter(|kept| kept.gap.is_due()).map(|kept| kept.id));
        }
        next.garbage.extend(garbage);
        Ok(())
    }

    /// Deletes what the ledger does not refer to. What cannot be deleted now is found the next time.
    pub(crate) async fn collect(&mut self) {
        if let Err(error) = self.try_collect().await {
            tracing::warn!(%error, machine = %self.ledger.machine, "unused objects stay for now");
        }
    }

    async fn try_collect(&mut self) -> Result<()> {
        let mut refused = vec![];
        let mut garbage = self.ledger.garbage.clone();
        let from = self.collected.min(garbage.len());
        garbage.rotate_left(from);
        for (at, garbage) in garbage.into_iter().enumerate() {
            if self.deleted.contains(&garbage) {
                continue;
            }
            let gone = match &garbage {
                Garbage::Attached(name) => self.folder.delete_attached(name).await,
                Garbage::Segment(id) => self.folder.delete_segment(*id).await,
                Garbage::Timeline { session, ledger } => self.delete_upto(*session, *ledger).await,
            };
            match gone {
                Ok(()) => drop(self.deleted.insert(garbage)),
                // A store with a retention policy lets go of the older ones first, and they stand anywhere here.
                Err(error) => refused.push(error),
            }
            if refused.len() == REFUSED {
                self.collected = (from + at + 1) % self.ledger.garbage.len();
                break;
            }
        }
        if self.suspect {
            self.delete_left_over_pages().await?;
            self.delete_left_over_of_newest().await?;
            self.suspect = false;
        }
        refused.pop().map_or(Ok(()), Err)
    }

    async fn delete_upto(&self, session: u64, ledger: u64) -> Result<()> {
        for found in self.folder.list_sessions(0, session).await? {
            self.delete_found(found).await?;
        }
        for page in self.folder.list_pages().await?.iter().filter(|page| page.number() <= ledger) {
            self.folder.delete_attached(page).await?;
        }
        Ok(())
    }

    async fn delete_left_over_pages(&self) -> Result<()> {
        let mut used = BTreeSet::new();
        if let Some(timeline) = &self.ledger.timeline {
            used = timeline.catalogue.pages(&self.folder).await?;
            used.extend(timeline.noted());
        }
        for page in self.folder.list_pages().await? {
            if page.number() <= self.number && !used.contains(&page) {
                self.folder.delete_attached(&page).await?;
            }
        }
        Ok(())
    }

    /// What was left by seals of the newest point that were broken off, and by sessions that were given up before it.
    async fn delete_left_over_of_newest(&mut self) -> Result<()> {
        let Some(timeline) = &self.ledger.timeline else { return Ok(()) };
        let Some(newest) = timeline.catalogue.newest().cloned() else { return Ok(()) };
        let before = timeline.catalogue.before(&self.folder, newest.id).await?;
        let after = before.as_ref().map_or(0, |kept| kept.last);
        let needed = self.needed(before.as_ref(), &newest).await?;
        let base = self.working.base(&self.folder, self.ledger.timeline()?).await?;
        let packs = newest.gap.packs.iter().map(|pack| &pack.object);
        let objects: BTreeSet<_> = base.objects().into_iter().chain([&newest.object]).chain(packs).collect();
        for found in self.folder.list_sessions(after + 1, newest.last).await? {
            let stays = match &found {
                Found::Segment(id, _) => needed.contains_key(id),
                Found::Attached(name, _) => objects.contains(name) || self.may_be_named_yet(name),
            };
            if !stays {
                self.delete_found(found).await?;
            }
        }
        Ok(())
    }

    async fn delete_found(&self, found: Found) -> Result<()> {
        match found {
            Found::Segment(id, _) => self.folder.delete_segment(id).await,
            Found::Attached(name, _) => self.folder.delete_attached(&name).await,
        }
    }
}
