//! Space that comes back.
//!
//! What a dropped point wrote is needed only by the next point that is kept, or by nobody: what later points need of it,
//! that one needs too. So the bytes between two kept points are one *gap*, counted with the later one. Each drop adds to
//! the count what has just died there; once a quarter of a gap is dead, and that is more than a few bytes, it is looked
//! through: segments that nobody needs go, and of those that are mostly dead the rest is copied, sealed as it is, into a
//! pack.

use crate::Points;
use crate::attached::Attached;
use crate::catalogue::{Edits, Gap, Kept, Space};
use crate::extent_map::{Place, share};
use crate::folder::Found;
use crate::ledger::Garbage;
use crate::line::Line;
use crate::pack::{self, Frame, PackRef};
use crate::sealed::Sealed;
use crate::segment::SegmentId;
use bytes::Bytes;
use site_recovery::{DiskId, ErrorKind, MachineId, Op, Result, Run};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The most frame bytes of one pack, but for the end of a segment.
const PACK: u64 = 64 << 20;
/// The most frame bytes that one prune writes anew: the rest is found by the next one.
pub(crate) const REWRITTEN: u64 = 256 << 20;
/// A gap is not looked through for less dead than this, unless so many points were dropped.
const WORTH_IT: u64 = 256 << 10;
const DROPPED: u64 = 64;

/// Frames that are needed, per segment.
pub(crate) type Needed = BTreeMap<SegmentId, BTreeMap<u64, u32>>;

/// An object with frames that are needed, and one that is to be written anew.
#[derive(Debug, Default)]
struct Plan {
    kept: u64,
    /// Of what is kept although most of it is dead.
    dead: u64,
    /// What may be written anew still.
    left: u64,
    rewritten: Vec<Frame>,
    garbage: Vec<Garbage>,
}

impl Gap {
    /// Whether a look at it gives back enough.
    pub(crate) fn is_due(&self) -> bool {
        let Space { stored, dead } = self.space;
        dead * 4 >= stored && (dead >= WORTH_IT || self.dropped >= DROPPED)
    }
}

impl Points {
    /// Looks through the gaps that are due, each by a ledger of its own: what is dropped is dropped, whatever becomes of
    /// this, and what is broken off here comes with the next prune. `left` is what may be written anew.
    pub(crate) async fn give_back_space(&self, op: &Op, machine: &MachineId, left: &mut u64) {
        loop {
            match self.look_through_one(op, machine, left).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    return tracing::warn!(%error, %machine, "the space of dropped points does not come back for now");
                }
            }
        }
    }

    /// False where none is due.
    async fn look_through_one(&self, op: &Op, machine: &MachineId, left: &mut u64) -> Result<bool> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        let timeline = next.timeline_mut()?;
        let Some(point) = timeline.due.pop_first() else { return Ok(false) };
        let mut kept = match timeline.catalogue.get(&line.folder, point).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                line.commit(next).await?;
                return Ok(true);
            }
            kept => kept?,
        };
        let before = timeline.catalogue.before(&line.folder, point).await?;
        let number = line.attaching();
        match line.looked_through(before.as_ref(), &mut kept, left).await {
            Ok(garbage) => {
                let edits = Edits::from([(point, Some(kept))]);
                let replaced = timeline.catalogue.edit(&line.folder, number, &edits).await?;
                next.garbage.extend(replaced.into_iter().map(Garbage::Attached).chain(garbage));
            }
            // Where something is damaged that says what is needed, everything stays.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, %machine, %point, "the space before it does not come back");
            }
            Err(error) => return Err(error),
        }
        line.commit(next).await?;
        line.collect().await;
        Ok(true)
    }
}

impl Line {
    /// Takes `point` out from between two others: what the later one becomes, and what is garbage then. Where something
    /// is damaged that says what is needed, everything stays.
    pub(crate) async fn take_over(
        &mut self,
        before: Option<&Kept>,
        point: &Kept,
        mut after: Kept,
    ) -> Result<(Kept, Vec<Garbage>)> {
        after.gap.space = after.gap.space.and(point.gap.space).and(point.own);
        after.gap.packs.extend(point.gap.packs.iter().cloned());
        after.gap.dropped += point.gap.dropped + 1;
        after.gap.swept = point.gap.swept;
        match self.give_back(before, point, after.clone()).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, point = %point.id, "its space does not come back");
                Ok((after, vec![]))
            }
            given => given,
        }
    }

    async fn give_back(
        &mut self,
        before: Option<&Kept>,
        point: &Kept,
        mut after: Kept,
    ) -> Result<(Kept, Vec<Garbage>)> {
        let folder = &self.folder.clone();
        let since = before.map_or(0, |kept| kept.last);
        let map = Sealed::read(folder, &point.object).await?.map(folder);
        let later = Sealed::read(folder, &after.object).await?.map(folder);
        let mut covered: Vec<(DiskId, Run)> = vec![];
        let newer =
            |disk: &DiskId, run, session| if session > point.last { Some((disk.clone(), run)) } else { None };
        later
            .above(point.last)
            .visit(|disk, run, held| covered.extend(newer(disk, run, held.session())))
            .await?;
        let mut died = 0;
        for (disk, run) in covered {
            let pieces = map.pieces(&disk, run).await?;
            let places = pieces.iter().filter_map(|(run, held)| Some((*run, held.as_ref()?.place()?)));
            died +=
                places.filter(|(_, p)| p.segment.session > since).map(|(run, p)| share(run, &p)).sum::<u64>();
        }
        let mut garbage = vec![];
        let (objects, stay) = (map.objects(), later.objects());
        let mut also: BTreeSet<_> = BTreeSet::new();
        if let Some(before) = before {
            let earlier = Sealed::read(folder, &before.object).await?.map(folder);
            also.extend(earlier.objects().into_iter().cloned());
        }
        for object in objects.into_iter().chain([&point.object]).collect::<BTreeSet<_>>() {
            if !stay.contains(object) && !also.contains(object) {
                garbage.push(Garbage::Attached(object.clone()));
            }
        }
        after.gap.space = after.gap.space.and(Space { stored: 0, dead: died });
        Ok((after, garbage))
    }

    /// What the point needs of the sessions after the one before it.
    pub(crate) async fn needed(&self, before: Option<&Kept>, point: &Kept) -> Result<Needed> {
        let since = before.map_or(0, |kept| kept.last);
        let map = Sealed::read(&self.folder, &point.object).await?.map(&self.folder);
        let mut needed = Needed::new();
        let mut need = |place: Place| {
            if place.segment.session > since {
                needed.entry(place.segment).or_default().insert(place.offset, place.len);
            }
        };
        map.above(since).visit(|_, _, held| held.place().into_iter().for_each(&mut need)).await?;
        Ok(needed)
    }

    /// What is garbage of the gap before a point; what is needed of it, and lies badly, is written anew.
    async fn looked_through(
        &self,
        before: Option<&Kept>,
        point: &mut Kept,
        left: &mut u64,
    ) -> Result<Vec<Garbage>> {
        let since = before.map_or(0, |kept| kept.last);
        let needed = self.needed(before, point).await?;
        let mut plan = Plan { left: *left, ..Plan::default() };
        // What a store would not delete yet lies there still.
        let known: HashSet<&Garbage> = self.ledger.garbage.iter().collect();
        let (mut packs, mut attached) = (vec![], vec![]);
        let mut first = point.first;
        for found in self.folder.list_sessions(since.max(point.gap.swept) + 1, point.last).await? {
            match found {
                Found::Segment(id, _) if known.contains(&Garbage::Segment(id)) => {}
                // Its own sessions are no part of the gap.
                Found::Segment(id, size) if id.session < point.first => {
                    let frames = needed.get(&id).map(|frames| of(id, frames)).unwrap_or_default();
                    if !plan.judge(frames, size, Garbage::Segment(id)) {
                        first = first.min(id.session);
                    }
                }
                Found::Segment(..) => {}
                Found::Attached(name, _) => attached.push(name),
            }
        }
        let mut garbage = self.left_over(attached, point).await?;
        garbage.retain(|garbage| !known.contains(garbage));
        let before = std::mem::take(&mut point.gap.packs);
        for pack in before.clone() {
            let index = self.folder.pack_index(&pack.object).await?;
            let is_needed = |frame: &&Frame| needed.get(&frame.0).is_some_and(|of| of.contains_key(&frame.1));
            let frames: Vec<Frame> = index.frames().iter().filter(is_needed).copied().collect();
            let size = index.frames().iter().map(|frame| u64::from(frame.2)).sum();
            if !plan.judge(frames, size, Garbage::Attached(pack.object.clone())) {
                packs.push(pack);
            }
        }
        let moved: u64 = plan.rewritten.iter().map(|frame| u64::from(frame.2)).sum();
        *left = left.saturating_sub(moved);
        plan.rewritten.sort_unstable();
        for frames in in_packs(&plan.rewritten) {
            packs.push(self.write_pack(point.last, frames, &before).await?);
        }
        let space = Space { stored: plan.kept + moved, dead: plan.dead };
        point.gap = Gap { space, dropped: 0, packs, swept: first - 1 };
        garbage.extend(plan.garbage);
        Ok(garbage)
    }

    /// Of the objects of a gap and the point behind it, those that calls left which were broken off.
    async fn left_over(&self, attached: Vec<Attached>, point: &Kept) -> Result<Vec<Garbage>> {
        let map = Sealed::read(&self.folder, &point.object).await?.map(&self.folder);
        let packs = point.gap.packs.iter().map(|pack| &pack.object);
        let named: BTreeSet<_> = map.objects().into_iter().chain([&point.object]).chain(packs).collect();
        let unnamed = attached.into_iter().filter(|name| !named.contains(name));
        Ok(unnamed.filter(|name| !self.may_be_named_yet(name)).map(Garbage::Attached).collect())
    }

    /// Whether another process may have made it for a ledger to come.
    pub(crate) fn may_be_named_yet(&self, name: &Attached) -> bool {
        name.ledger().is_some_and(|ledger| ledger > self.number)
    }

    async fn write_pack(&self, number: u64, frames: &[Frame], packs: &[PackRef]) -> Result<PackRef> {
        let mut bytes = pack::encode(frames);
        let mut rest = frames;
        while let Some((segment, ..)) = rest.first() {
            let count = rest.iter().take_while(|frame| frame.0 == *segment).count();
            let of_segment: Vec<(u64, u32)> = rest[..count].iter().map(|frame| (frame.1, frame.2)).collect();
            for frame in self.get_wherever(*segment, &of_segment, packs).await? {
                bytes.extend_from_slice(&frame);
            }
            rest = &rest[count..];
        }
        let (first, last) = (frames[0].0, frames[frames.len() - 1].0);
        let kind = Attached::pack_of(self.next());
        Ok(PackRef { object: self.folder.attach(number, &kind, bytes).await?, first, last })
    }

    async fn get_wherever(
        &self,
        segment: SegmentId,
        frames: &[(u64, u32)],
        packs: &[PackRef],
    ) -> Result<Vec<Bytes>> {
        if let Some(found) = self.folder.get_frames(segment, frames).await? {
            return Ok(found);
        }
        let packed = self.folder.get_packed(packs, segment, frames).await?;
        packed.ok_or_else(|| self.folder.is_gone(segment))
    }
}

impl Plan {
    /// Whether an object goes: at once, or because the rest of it is written anew.
    fn judge(&mut self, frames: Vec<Frame>, size: u64, garbage: Garbage) -> bool {
        let live: u64 = frames.iter().map(|frame| u64::from(frame.2)).sum();
        if live * 2 >= size {
            self.kept += live;
            return false;
        }
        if live > self.left {
            self.kept += size;
            self.dead += size - live;
            return false;
        }
        self.left -= live;
        self.rewritten.extend(frames);
        self.garbage.push(garbage);
        true
    }
}

fn of(id: SegmentId, frames: &BTreeMap<u64, u32>) -> Vec<Frame> {
    frames.iter().map(|(offset, len)| (id, *offset, *len)).collect()
}

/// Cut so that each part fits a pack.
fn in_packs(frames: &[Frame]) -> Vec<&[Frame]> {
    let (mut packs, mut start, mut size) = (vec![], 0, 0);
    for (at, frame) in frames.iter().enumerate() {
        // Frames of one segment are asked for together, so they stay together.
        let begins = at == 0 || frames[at - 1].0 != frame.0;
        if begins && size + u64::from(frame.2) > PACK && at > start {
            packs.push(&frames[start..at]);
            (start, size) = (at, 0);
        }
        size += u64::from(frame.2);
    }
    packs.extend((start < frames.len()).then(|| &frames[start..]));
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_one_segment_stay_in_one_pack() {
        let frame = |session, offset| (SegmentId { session, batch: 0 }, offset, 40 << 20);
        let frames = [frame(1, 0), frame(1, 1), frame(2, 0), frame(3, 0), frame(3, 1)];
        let packs: Vec<usize> = in_packs(&frames).into_iter().map(<[Frame]>::len).collect();
        assert_eq!(packs, [2, 1, 2]);
        assert!(in_packs(&[]).is_empty());
    }

    #[test]
    fn no_more_is_written_anew_than_may_be_and_the_rest_counts_as_dead() {
        let mut plan = Plan { left: 100, ..Plan::default() };
        let segment = |session| SegmentId { session, batch: 0 };
        let mut judge = |session, live: u32, size| {
            plan.judge(vec![(segment(session), 20, live)], size, Garbage::Segment(segment(session)))
        };
        assert_eq!([judge(1, 60, 100), judge(2, 80, 1000), judge(3, 80, 1000)], [false, true, false]);
        assert!(plan.judge(vec![], 500, Garbage::Segment(segment(4))), "what nobody needs goes in any case");
        let garbage = [2, 4].map(|session| Garbage::Segment(segment(session)));
        assert_eq!((plan.kept, plan.dead, plan.left), (60 + 1000, 920, 20));
        assert_eq!(plan.garbage, garbage);
    }
}
