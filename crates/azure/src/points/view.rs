//! Where a timeline stands, its points, and what changed between them.

use super::names;
use super::open::Hold;
use super::point_disk::PointDisk;
use super::sealed::{Sealed, documents};
use super::session::shown;
use super::state::{State, call};
use super::{PageBlobs, reports};
use serde::Serialize;
use site_recovery::{
    ChangeSet, Disk, DiskId, Disks, Error, ErrorKind, HASH_BLOCK, Hash, Head, MachineId, Op, PhaseRecord,
    Point, PointId, Result, Run,
};
use site_recovery_record::hash;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one request reads.
const PIECE: u64 = 4 << 20;

impl PageBlobs {
    pub(super) async fn list_machines(&self) -> Result<Vec<MachineId>> {
        let mut machines = vec![];
        for folder in self.0.container.folders(names::MACHINES).await? {
            let name = folder.strip_prefix(names::MACHINES).unwrap_or(&folder).trim_end_matches('/');
            let Some(machine) = names::machine(name) else { continue };
            // Without its turn: whoever lists waits for no machine.
            let document = self.0.container.document(&names::Names::of(&machine).state());
            let state = document.read().await?.map(|(bytes, _)| State::decode(&machine, &bytes));
            match state {
                None => {}
                Some(Ok(state)) if state.timeline.is_none() => {}
                Some(Ok(_)) => machines.push(machine),
                Some(Err(error)) => {
                    tracing::error!(%error, %machine, "its state cannot be read: what is asked of it says so");
                    machines.push(machine);
                }
            }
        }
        Ok(machines)
    }

    pub(super) async fn stand(&self, machine: &MachineId) -> Result<Head> {
        let line = self.enter(machine).await?;
        let Some(timeline) = &line.state.timeline else { return Ok(Head::Empty) };
        let landed = line.unsealed().await?;
        let newest = timeline.newest();
        let point = newest.map(|kept| kept.point.id);
        let cursor = match (&timeline.seed, newest) {
            (Some(seed), _) => seed.cursor.clone(),
            (None, Some(newest)) => line.store.sealed(&newest.document).await?.manifest()?.cursor,
            (None, None) => None,
        };
        match (&timeline.seed, point) {
            (Some(seed), _) => {
                let touched = seed.touched.clone().union(&landed);
                Ok(Head::Unsettled { point, cursor, touched })
            }
            (None, _) if !landed.is_empty() => Ok(Head::Unsettled { point, cursor, touched: landed }),
            (None, Some(point)) => Ok(Head::Sealed { point, cursor }),
            (None, None) => Ok(Head::Empty),
        }
    }

    pub(super) async fn list_points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        let line = self.enter(machine).await?;
        let points = line.state.timeline.iter().flat_map(|t| &t.points);
        Ok(points.map(|kept| kept.point.clone()).collect())
    }

    pub(super) async fn sealed_in(&self, machine: &MachineId, point: PointId) -> Result<Sealed> {
        let line = self.enter(machine).await?;
        let kept = line.timeline()?.point(point)?;
        line.store.sealed(&kept.document).await.map_err(|e| e.with("point", point))
    }

    pub(super) async fn disks_at(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        let line = self.enter(machine).await?;
        let kept = line.timeline()?.point(point)?;
        line.store.sealed(&kept.document).await.map_err(|e| e.with("point", point))?;
        let hold = Arc::new(self.0.open.hold(machine, point));
        let disk = |(id, at): (&DiskId, &super::state::At)| {
            let disk = PointDisk {
                id: id.clone(),
                point,
                size: at.size,
                pages: self.0.container.pages(&at.blob),
                snapshot: at.snapshot.clone(),
                _hold: Arc::clone(&hold),
            };
            (id.clone(), Arc::new(disk) as Arc<dyn Disk>)
        };
        Ok(kept.snapshots.iter().map(disk).collect())
    }

    /// The images of a point as this store keeps them, and what keeps it from dropping them meanwhile.
    pub(crate) async fn images_of(
        &self,
        machine: &MachineId,
        point: PointId,
    ) -> Result<(BTreeMap<DiskId, url::Url>, Hold)> {
        let line = self.enter(machine).await?;
        let kept = line.timeline()?.point(point)?;
        let address = |at: &super::state::At| {
            let mut address = self.0.container.url(&at.blob);
            address.query_pairs_mut().append_pair("snapshot", at.snapshot.as_str());
            address
        };
        let images = kept.snapshots.iter().map(|(id, at)| (id.clone(), address(at))).collect();
        Ok((images, self.0.open.hold(machine, point)))
    }

    /// Reads what stands there now; what the service knows to be empty is not read.
    pub(super) async fn hash_run(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let line = self.enter(machine).await?;
        let timeline = line.timeline()?;
        let spec = timeline.machine.included().find(|d| d.id == *disk);
        let (Some(spec), Some(replicated)) = (spec, timeline.disks.get(disk)) else {
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
        let pages = self.0.container.pages(&replicated.blob);
        drop(line);
        let mut hashes = vec![];
        let mut bytes = vec![0; PIECE.min(run.len) as usize];
        for piece in run.pieces(PIECE) {
            let data = pages.ranges(None, piece).await.map_err(reports)?;
            let bytes = &mut bytes[..piece.len as usize];
            if data.is_empty() {
                bytes.fill(0);
            } else {
                pages.read(None, piece, bytes).await.map_err(reports)?;
            }
            hashes.extend(bytes.chunks(HASH_BLOCK as usize).map(hash));
        }
        Ok(hashes)
    }

    pub(super) async fn difference(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        let line = self.enter(machine).await?;
        for point in from.into_iter().chain([to]) {
            if point.0 == 0 || point.0 >= line.state.next_point {
                return Err(Error::new(ErrorKind::NotFound, format!("there was never a point {point}")));
            }
        }
        let timeline = line.timeline()?;
        let points = &timeline.points;
        let (older, newer) = (from.map(|from| from.min(to)), from.map_or(to, |from| from.max(to)));
        // Of a point that was dropped, the next older one stands on the safe side, and the next newer one.
        let since = older.map_or(0, |older| points.partition_point(|kept| kept.point.id <= older));
        let until = points.partition_point(|kept| kept.point.id < newer);
        let strange = older.unwrap_or(to) < timeline.first;
        if strange
            || until == points.len()
            || points.first().is_none_or(|first| to < first.point.id && first.inherits.is_empty())
        {
            return Ok(None);
        }
        line.changes_of(documents(points[since.min(until + 1)..=until].iter())).await.map(Some)
    }

    /// Changes the reasons that hold a point, once per call.
    pub(super) async fn mark(
        &self,
        op: &Op,
        machine: &MachineId,
        what: (&str, impl Serialize),
        point: PointId,
        edit: impl FnOnce(&mut Vec<String>) + Send,
    ) -> Result<()> {
        let call = call(what.0, op, &(point, &what.1));
        let mut line = self.enter(machine).await?;
        let mut next = line.state.admit(op)?;
        if next.done(&call).is_none() {
            edit(&mut next.timeline_mut()?.point_mut(point)?.point.pins);
            next.remember(call, &[]);
        }
        line.commit(next).await
    }

    pub(super) async fn note_phase(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.state.admit(op)?;
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

    /// The points of a list that nothing holds; the newest stays.
    pub(super) fn droppable(
        &self,
        machine: &MachineId,
        timeline: &super::state::Timeline,
        list: &[PointId],
    ) -> Vec<PointId> {
        let (open, list) = (self.0.open.of(machine), list.iter().collect::<BTreeSet<_>>());
        let newest = timeline.newest().map(|kept| kept.point.id);
        let points = timeline.points.iter().map(|kept| &kept.point).filter(|p| list.contains(&p.id));
        let free = points.filter(|p| p.pins.is_empty() && !open.contains(&p.id) && Some(p.id) != newest);
        free.map(|point| point.id).collect()
    }
}
