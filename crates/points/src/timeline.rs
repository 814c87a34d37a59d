//! Where a timeline stands, what changed in it, and what keeps its points.

use crate::Points;
use crate::catalogue::{Edits, Kept};
use crate::extent_map::{Held, Piece};
use crate::folder::json;
use crate::ledger::{Garbage, Noted, Seeded, Timeline, call};
use crate::line::Line;
use crate::point_disk::PointDisk;
use crate::reader::{Reader, shown};
use crate::sealed::Sealed;
use crate::segment::SegmentId;
use serde::Serialize;
use site_recovery::{
    ChangeSet, Disk, DiskId, Disks, Error, ErrorKind, HASH_BLOCK, Hash, Head, Machine, MachineId, Op,
    PhaseRecord, Point, PointId, Result, Run, Seed, Timestamp,
};
use site_recovery_record::hash;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A change set up to this many bytes of JSON stands in the ledger itself.
const SHORT: usize = 2048;
/// The hash of a block that is to be shipped again, whatever the other side holds. Of real bytes it is as rare as any.
const MATCHES_NOTHING: Hash = Hash::MAX;

impl Points {
    pub(crate) async fn set_up(&self, op: &Op, machine: &Machine, seed: &Seed) -> Result<()> {
        machine.validate()?;
        let mut line = self.enter(machine.id()).await?;
        let mut next = line.ledger.admit(op)?;
        let call = call("prepare", op, seed);
        if next.done(&call).is_some() {
            return line.commit(next).await;
        }
        let first = PointId(next.next_point);
        let has_points = next.timeline.as_ref().is_some_and(|t| !t.catalogue.is_empty());
        if *seed == Seed::Fresh && has_points {
            let message =
                format!("{} has points here: prepare it from one of them, or delete it", machine.id());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if *seed == Seed::Fresh || next.timeline.is_none() {
            next.timeline = Some(Timeline::new(machine, first));
        }
        let timeline = next.timeline_mut()?;
        timeline.describe(machine)?;
        timeline.close();
        if matches!(seed, Seed::Unknown { .. }) {
            line.give_up_damaged(timeline).await?;
        }
        let (cursor, touched) = match seed {
            Seed::Fresh => (None, None),
            Seed::Unknown { .. } => (None, Some(ChangeSet::new())),
            Seed::Known { at: None, cursor, differs, .. } => (Some(cursor.clone()), Some(differs.clone())),
            Seed::Known { at: Some(at), cursor, differs, .. } => {
                let at = timeline.catalogue.get(&line.folder, *at).await?;
                let since = line.written_after(at.last).await?;
                (Some(cursor.clone()), Some(since.union(differs)))
            }
        };
        timeline.seed = match touched {
            Some(touched) => Some(Seeded { cursor, touched: line.note("seed", touched).await? }),
            None => None,
        };
        next.remember_done(call, &[]);
        line.commit(next).await
    }

    pub(crate) async fn stand(&self, machine: &MachineId) -> Result<Head> {
        let mut line = self.enter(machine).await?;
        if line.ledger.timeline.is_none() {
            return Ok(Head::Empty);
        }
        line.sync().await?;
        let timeline = line.ledger.timeline()?;
        let landed = line.working.delta.touched();
        let newest = timeline.catalogue.newest();
        let point = newest.map(|p| p.id);
        let cursor = match (&timeline.seed, newest) {
            (Some(seed), _) => seed.cursor.clone(),
            (None, Some(newest)) => Sealed::read(&line.folder, &newest.object).await?.manifest.cursor,
            (None, None) => None,
        };
        match (&timeline.seed, point) {
            (Some(seed), _) => {
                let seeded: ChangeSet = line.folder.noted(&seed.touched).await?;
                Ok(Head::Unsettled { point, cursor, touched: seeded.union(&landed) })
            }
            (None, _) if !landed.is_empty() => Ok(Head::Unsettled { point, cursor, touched: landed }),
            (None, Some(point)) => Ok(Head::Sealed { point, cursor }),
            (None, None) => Ok(Head::Empty),
        }
    }

    /// At most `most` points after this one, oldest first; none for a machine that is not known.
    pub(crate) async fn list(
        &self,
        machine: &MachineId,
        after: Option<PointId>,
        most: usize,
    ) -> Result<Vec<Point>> {
        let line = self.enter(machine).await?;
        let Some(timeline) = &line.ledger.timeline else { return Ok(vec![]) };
        let kept = timeline.catalogue.after(&line.folder, after, most).await?;
        Ok(kept.iter().map(Kept::point).collect())
    }

    pub(crate) async fn disks_at(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let line = self.enter(machine).await?;
        let kept = line.ledger.timeline()?.catalogue.get(&line.folder, point).await?;
        let hold = Arc::new(self.open.hold(machine, point));
        let folder = line.folder.clone();
        drop(line);
        let sealed = Sealed::read(&folder, &kept.object).await?;
        let map = Arc::new(sealed.map(&folder));
        let disk = |spec: &site_recovery::DiskSpec| {
            let (id, size) = (spec.id.clone(), spec.size);
            let (reader, map, hold) =
                (Reader::new(folder.clone(), machine, &self.records), Arc::clone(&map), Arc::clone(&hold));
            (id.clone(), Arc::new(PointDisk { id, size, map, reader, _hold: hold }) as Arc<dyn Disk>)
        };
        Ok(sealed.manifest.machine.included().map(disk).collect())
    }

    /// Holds the line while it reads, so that nothing moves under it.
    pub(crate) async fn hash_run(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let mut line = self.enter(machine).await?;
        let Some(spec) = line.ledger.timeline()?.machine.included().find(|d| d.id == *disk) else {
            return Err(Error::new(ErrorKind::NotFound, format!("{machine} has no replicated disk {disk}")));
        };
        let size = spec.size;
        if !run.start.is_multiple_of(HASH_BLOCK)
            || run.start.checked_add(run.len).is_none_or(|end| end > size)
        {
            let rule = format!(
                "it starts at a multiple of {HASH_BLOCK} and ends inside the {size} bytes of the disk"
            );
            return Err(Error::invalid("run", shown(run), &rule, "ask for whole blocks").with("disk", disk));
        }
        line.sync().await?;
        let Line { folder, ledger, working, .. } = &mut *line;
        let timeline = ledger.timeline()?;
        let base = working.base(folder, timeline).await?;
        let reader = Reader::new(folder.clone(), machine, &self.records);
        let mut hashes = vec![];
        for block in run.pieces(HASH_BLOCK) {
            let pieces = working.pieces(&base, disk, block).await?;
            hashes.push(match known(block, &pieces, &timeline.damaged) {
                Known::Hash(hash) => hash,
                Known::Zeros => hash(&ZEROS[..block.len as usize]),
                Known::Damaged => MATCHES_NOTHING,
                Known::Nothing => {
                    let bytes = reader.fill(disk, pieces, block.start, vec![0; block.len as usize]).await;
                    match bytes {
                        Ok(bytes) => hash(&bytes),
                        Err(error) if is_unreadable(&error) => MATCHES_NOTHING,
                        Err(error) => return Err(error),
                    }
                }
            });
        }
        Ok(hashes)
    }

    pub(crate) async fn difference(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        let line = self.enter(machine).await?;
        let timeline = line.ledger.timeline()?;
        for point in from.into_iter().chain([to]) {
            if point.0 == 0 || point.0 >= line.ledger.next_point {
                return Err(Error::new(ErrorKind::NotFound, format!("there was never a point {point}")));
            }
            if point < timeline.first {
                return Ok(None);
            }
        }
        let (older, newer) = (from.map(|from| from.min(to)), from.map_or(to, |from| from.max(to)));
        let (folder, catalogue) = (&line.folder, &timeline.catalogue);
        // Of a point that was dropped, the next older one stands on the safe side, and the next newer one.
        let since = match older {
            Some(older) => catalogue.before(folder, PointId(older.0 + 1)).await?.map_or(0, |kept| kept.last),
            None => 0,
        };
        let Some(newer) = catalogue.at_or_after(folder, newer).await? else { return Ok(None) };
        let map = Sealed::read(folder, &newer.object).await?.map(folder);
        map.written_after(since).await.map(Some)
    }

    /// Changes one point by `edit`, once per call.
    pub(crate) async fn mark(
        &self,
        op: &Op,
        machine: &MachineId,
        what: (&str, &impl Serialize),
        point: PointId,
        edit: impl FnOnce(&mut Kept) -> Result<()>,
    ) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        let call = call(what.0, op, what.1);
        if next.done(&call).is_none() {
            let timeline = next.timeline_mut()?;
            let mut kept = timeline.catalogue.get(&line.folder, point).await?;
            edit(&mut kept)?;
            let edits = Edits::from([(point, Some(kept))]);
            let number = line.attaching();
            let replaced = timeline.catalogue.edit(&line.folder, number, &edits).await?;
            next.garbage.extend(replaced.into_iter().map(Garbage::Attached));
            next.remember_done(call, &[]);
        }
        line.commit(next).await
    }

    pub(crate) async fn note_phase(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        if let Some(kept) = &next.phase
            && kept != record
            && record.order() < kept.order()
        {
            let (epoch, revision) = kept.order();
            let message =
                format!("a phase record of epoch {epoch}, revision {revision} stands here: read it first");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        next.phase = Some(record.clone());
        line.commit(next).await
    }

    pub(crate) fn lock_point(kept: &mut Kept, until: Timestamp) -> Result<()> {
        if kept.locked_until.is_some_and(|locked| until < locked) {
            let message = format!(
                "point {} is locked for longer than until {until}: a lock is never shortened",
                kept.id
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        kept.locked_until = Some(until);
        Ok(())
    }
}

static ZEROS: [u8; HASH_BLOCK as usize] = [0; HASH_BLOCK as usize];

impl Line {
    pub(crate) async fn sync(&mut self) -> Result<()> {
        self.working.sync(&self.folder, self.ledger.timeline()?).await
    }

    /// A change set as the ledger takes it.
    pub(crate) async fn note(&mut self, kind: &str, set: ChangeSet) -> Result<Noted> {
        let bytes = json(kind, &set)?;
        if bytes.len() <= SHORT {
            return Ok(Noted::Here(set));
        }
        let number = self.attaching();
        Ok(Noted::There(self.folder.attach(number, kind, bytes).await?))
    }

    /// All that was written after this session, sealed or not.
    async fn written_after(&mut self, session: u64) -> Result<ChangeSet> {
        let timeline = self.ledger.timeline()?;
        self.working.sync(&self.folder, timeline).await?;
        let base = self.working.base(&self.folder, timeline).await?;
        Ok(base.written_after(session).await?.union(&self.working.delta.touched()))
    }

    /// What was not sealed and cannot be read any more must not stand in the way of a comparison.
    async fn give_up_damaged(&mut self, timeline: &mut Timeline) -> Result<()> {
        match self.working.sync(&self.folder, timeline).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, machine = %self.ledger.machine, "unsealed bytes are damaged and given up");
                timeline.carried.clear();
                Ok(())
            }
            other => other,
        }
    }
}

/// What is known of a block without reading it.
enum Known {
    Hash(Hash),
    Zeros,
    Damaged,
    Nothing,
}

fn known(block: Run, pieces: &[Piece], damaged: &BTreeSet<SegmentId>) -> Known {
    let places = || pieces.iter().filter_map(|(_, held)| held.as_ref().and_then(Held::place));
    if places().any(|place| damaged.contains(&place.segment)) {
        return Known::Damaged;
    }
    match pieces {
        [(_, Some(Held::Data(place)))] if place.run == block => Known::Hash(place.checksum),
        _ if places().next().is_none() => Known::Zeros,
        _ => Known::Nothing,
    }
}

/// Damaged, or sealed with a key that is not here: what cannot be read matches nothing, so that it is shipped again.
fn is_unreadable(error: &Error) -> bool {
    [ErrorKind::Corrupt, ErrorKind::Denied].contains(&error.kind())
}
