//! Where a timeline stands, what changed in it, and what keeps its points.

use crate::Points;
use crate::extent_map::{Piece, resolve};
use crate::folder::Attached;
use crate::ledger::{Seeded, Timeline, call};
use crate::line::Line;
use crate::point_disk::PointDisk;
use crate::reader::{Reader, blocking, shown};
use crate::working_copy::content;
use serde::Serialize;
use site_recovery::{
    ChangeSet, Disk, DiskId, Disks, Error, ErrorKind, HASH_BLOCK, Hash, Head, Machine, MachineId, Manifest,
    Op, PhaseRecord, PointId, Result, Run, Seed, Timestamp,
};
use site_recovery_record::hash;
use std::sync::Arc;

/// Bytes of the working copy that are hashed at once.
const HASHED: u64 = 16 * HASH_BLOCK;

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
        let has_points = next.timeline.as_ref().is_some_and(|t| !t.points.is_empty());
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
                timeline.point(*at)?;
                let since = line.distance(timeline, *at, PointId(u64::MAX)).await?;
                (Some(cursor.clone()), Some(since.union(differs)))
            }
        };
        timeline.seed = match touched {
            Some(touched) => Some(Seeded { cursor, touched: line.attach_json("seed", &touched).await? }),
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
        let newest = timeline.newest();
        let point = newest.map(|p| p.id);
        let cursor = match (&timeline.seed, newest) {
            (Some(seed), _) => seed.cursor.clone(),
            (None, Some(newest)) => line.folder.get_json::<Manifest>(&newest.manifest).await?.cursor,
            (None, None) => None,
        };
        match (&timeline.seed, point) {
            (Some(seed), _) => {
                let seeded: ChangeSet = line.folder.get_json(&seed.touched).await?;
                Ok(Head::Unsettled { point, cursor, touched: seeded.union(&landed) })
            }
            (None, _) if !landed.is_empty() => Ok(Head::Unsettled { point, cursor, touched: landed }),
            (None, Some(point)) => Ok(Head::Sealed { point, cursor }),
            (None, None) => Ok(Head::Empty),
        }
    }

    pub(crate) async fn disks_at(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let line = self.enter(machine).await?;
        let points = line.ledger.timeline()?.upto(point)?;
        let hold = Arc::new(self.open.hold(machine, point));
        let folder = line.folder.clone();
        let manifest: Manifest = folder.get_json(&points[points.len() - 1].manifest).await?;
        let map = Arc::new(content(&folder, points).await?);
        let disk = |spec: &site_recovery::DiskSpec| {
            let (id, size) = (spec.id.clone(), spec.size);
            let (reader, map, hold) =
                (Reader::new(folder.clone(), machine, &self.records), Arc::clone(&map), Arc::clone(&hold));
            (id.clone(), Arc::new(PointDisk { id, size, map, reader, _hold: hold }) as Arc<dyn Disk>)
        };
        Ok(manifest.machine.included().map(disk).collect())
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
        let base = working.base(folder, ledger.timeline()?).await?;
        let reader = Reader::new(folder.clone(), machine, &self.records);
        let mut hashes = vec![];
        for part in run.pieces(HASHED) {
            let pieces = resolve(&[&working.delta, &base], disk, part);
            let all_zero = |pieces: &[Piece]| pieces.iter().all(|(_, place)| place.is_none());
            if all_zero(&pieces) {
                hashes.extend(part.pieces(HASH_BLOCK).map(|block| hash(&ZEROS[..block.len as usize])));
                continue;
            }
            let bytes = reader.fill(disk, pieces, part.start, vec![0; part.len as usize]).await?;
            let blocks = move || bytes.chunks(HASH_BLOCK as usize).map(hash).collect::<Vec<_>>();
            hashes.extend(blocking(blocks).await?);
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
        let from = from.unwrap_or(PointId(timeline.first.0 - 1));
        line.distance(timeline, from.min(to), from.max(to)).await.map(Some)
    }

    /// Changes one point by `edit`, once per call.
    pub(crate) async fn mark(
        &self,
        op: &Op,
        machine: &MachineId,
        what: (&str, &impl Serialize),
        edit: impl FnOnce(&mut Timeline) -> Result<()>,
    ) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        let call = call(what.0, op, what.1);
        if next.done(&call).is_none() {
            edit(next.timeline_mut()?)?;
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

    pub(crate) fn lock_point(timeline: &mut Timeline, point: PointId, until: Timestamp) -> Result<()> {
        let kept = timeline.point_mut(point)?;
        if kept.locked_until.is_some_and(|locked| until < locked) {
            let message =
                format!("point {point} is locked for longer than until {until}: a lock is never shortened");
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

    pub(crate) async fn attach_json(&self, kind: &str, what: &impl Serialize) -> Result<Attached> {
        let bytes = serde_json::to_vec(what).map_err(|e| {
            Error::new(ErrorKind::Unsupported, format!("the {kind} cannot be written as JSON")).caused_by(e)
        })?;
        self.folder.attach(self.next(), kind, bytes).await
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

    /// All that was written after `from` up to `to`. A dropped point's writes are in the delta of the next one.
    async fn distance(&self, timeline: &Timeline, from: PointId, to: PointId) -> Result<ChangeSet> {
        let mut set = ChangeSet::new();
        let mut last = from;
        for point in timeline.points.iter().filter(|p| p.id > from) {
            if last >= to {
                break;
            }
            set = set.union(&self.folder.get_map(&point.delta).await?.touched());
            last = point.id;
        }
        Ok(set)
    }
}
