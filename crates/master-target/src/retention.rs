//! Which points stay, and what of the log they need.

use crate::desk::{Desk, Entered};
use crate::layer::{Kept, Layer};
use crate::line::{Line, manifest_name};
use crate::log::Writer;
use crate::timeline::Timeline;
use site_recovery::{ChangeSet, Error, ErrorKind, MachineId, Op, PointId, Result};

/// More files than this for one link are written into one.
const MOST_FILES: usize = 8;

impl Desk {
    pub(crate) async fn pin(&self, op: &Op, machine: &MachineId, point: &PointId, why: &str) -> Result<()> {
        let point = *point;
        let mut line = self.enter(op, machine).await?;
        if line.listed(point)?.pins.iter().any(|p| p == why) {
            return Ok(());
        }
        line.publish(|t| {
            t.points.iter_mut().filter(|s| s.point.id == point).for_each(|s| s.point.pins.push(why.into()))
        })
        .await
    }

    pub(crate) async fn unpin(&self, op: &Op, machine: &MachineId, point: &PointId, why: &str) -> Result<()> {
        let point = *point;
        let mut line = self.enter(op, machine).await?;
        if !line.listed(point)?.pins.iter().any(|p| p == why) {
            return Ok(());
        }
        line.publish(|t| {
            for sealed in t.points.iter_mut().filter(|s| s.point.id == point) {
                sealed.point.pins.retain(|p| p != why);
                if sealed.point.pins.is_empty() && sealed.undo {
                    sealed.whole = None;
                }
            }
        })
        .await?;
        line.blocking(|line| line.sweep(line.known()?)).await
    }

    pub(crate) async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        let mut line = self.enter(op, machine).await?;
        let Some(timeline) = &line.timeline else { return Ok(vec![]) };
        if timeline.handed_over().is_some() {
            return Ok(vec![]);
        }
        let (newest, now) = (timeline.newest(), self.clock.now());
        let free =
            |p: &&site_recovery::Point| p.pins.is_empty() && p.locked_until.is_none_or(|until| until < now);
        let points =
            timeline.points.iter().map(|s| &s.point).filter(|p| drop.contains(&p.id) && Some(p.id) != newest);
        let loose: Vec<PointId> = points.filter(free).map(|p| p.id).collect();
        line.blocking(move |line| {
            let mut gone = vec![];
            for point in loose {
                if !line.is_open(point)? {
                    gone.push(point);
                }
            }
            if gone.is_empty() {
                return Ok(gone);
            }
            let mut next = line.known()?.clone();
            next.drop_points(&gone);
            line.publish(next)?;
            line.tidy()?;
            line.sweep(line.known()?)?;
            Ok(gone)
        })
        .await
    }

    pub(crate) async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        let looking = self.look_at(machine).await?;
        crate::desk::blocking(move || {
            let timeline = looking.known()?;
            if let Some(never) = [Some(to), from].into_iter().flatten().find(|p| p.0 >= timeline.next_point) {
                return Err(Error::new(ErrorKind::NotFound, format!("there never was a point {never}")));
            }
            let Some(links) = timeline.between(from, to) else { return Ok(None) };
            let mut all = ChangeSet::new();
            for link in links {
                all = all.union(&looking.runs(link)?);
            }
            Ok(Some(all))
        })
        .await
    }
}

impl Entered {
    fn listed(&self, point: PointId) -> Result<&site_recovery::Point> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no point {point}"));
        self.known()?.sealed(point).map(|s| &s.point).ok_or_else(missing)
    }
}

impl Line {
    /// Whether anybody, in any process, has a point open.
    pub(crate) fn is_open(&self, point: PointId) -> Result<bool> {
        let name = manifest_name(point);
        match self.folder.open(&name)?.try_lock() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(e)) => Err(self.folder.failed(&name, e)),
        }
    }

    /// Gives back what no listed point needs: bytes that lead to none, and bytes that an older file overrules.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        let mut next = self.known()?.clone();
        for point in next.idle() {
            self.strip(&mut next, point)?;
        }
        let long: Vec<PointId> = next.links().filter(|l| l.parts.len() > 1).map(|l| l.to).collect();
        for point in long {
            self.compact(&mut next, point)?;
        }
        if next == *self.known()? {
            return Ok(());
        }
        self.publish(next)?;
        self.sweep(self.known()?)
    }

    /// Of one link only the runs stay.
    fn strip(&self, next: &mut Timeline, to: PointId) -> Result<()> {
        let number = next.file();
        let Some(link) = next.links().find(|l| l.to == to) else { return Ok(()) };
        self.write_set(number, &self.runs(link)?)?;
        (link.parts, link.bare) = (vec![], vec![number]);
        Ok(())
    }

    /// Writes the files of one link into one, where that gives back half or there are many.
    fn compact(&self, next: &mut Timeline, to: PointId) -> Result<()> {
        let Some(link) = next.links().find(|l| l.to == to) else { return Ok(()) };
        let (mut all, mut bytes) = (Layer::default(), 0);
        for part in &link.parts {
            let log = self.log(*part)?;
            bytes += log.bytes();
            log.layer.pieces().for_each(|(disk, run, piece)| all.add(disk, run, &log.stored(run, piece)));
        }
        let live: u64 = all
            .pieces()
            .filter(|(_, _, s)| matches!(s.kept(), Kept::Data { .. }))
            .map(|(_, r, _)| r.len)
            .sum();
        if link.parts.len() <= MOST_FILES && bytes < 2 * live.max(1) {
            return Ok(());
        }
        let number = next.file();
        let mut file = Writer::new(&self.folder, number)?;
        for (disk, run, stored) in all.pieces() {
            match stored.kept() {
                Kept::Data { .. } => file.data(disk, run, &stored.cut(run).read()?.unwrap_or_default())?,
                kept => file.mark(disk, run, kept)?,
            }
        }
        let part = file.finish()?;
        if let Some(link) = next.links().find(|l| l.to == to) {
            link.parts = vec![part];
        }
        Ok(())
    }
}
