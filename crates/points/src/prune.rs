//! Dropping points, and what nobody refers to after that.

use crate::Points;
use crate::extent_map::ExtentMap;
use crate::ledger::{Kept, Ledger, Timeline, call};
use crate::line::Line;
use site_recovery::{Error, ErrorKind, MachineId, Op, PointId, Result};
use std::collections::BTreeSet;

impl Points {
    pub(crate) async fn drop_points(
        &self,
        op: &Op,
        machine: &MachineId,
        drop: &[PointId],
    ) -> Result<Vec<PointId>> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        let call = call("prune", op, &drop);
        if let Some(dropped) = next.done(&call) {
            let dropped = dropped.to_vec();
            line.commit(next).await?;
            line.collect().await;
            return Ok(dropped);
        }
        let timeline = next.timeline_mut()?;
        let dropped = self.droppable(machine, timeline, drop);
        line.without(timeline, &dropped).await?;
        next.remember_done(call, &dropped);
        line.commit(next).await?;
        line.collect().await;
        Ok(dropped)
    }

    pub(crate) async fn forget(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.ledger.admit(op)?;
        let call = call("delete", op, &());
        if next.done(&call).is_none() {
            let now = self.clock.now();
            let locked = |p: &&Kept| p.locked_until.is_some_and(|until| until > now);
            if let Some(point) = next.timeline.iter().flat_map(|t| &t.points).find(locked) {
                let message = format!("point {} is locked: delete the timeline after that", point.id);
                let until = point.locked_until.map(|t| t.to_string()).unwrap_or_default();
                return Err(Error::new(ErrorKind::Refused, message).with("locked_until", until));
            }
            if let Some(point) = self.open.of(machine).first() {
                let message = format!("point {point} is being read: delete the timeline after that");
                return Err(Error::new(ErrorKind::Busy, message));
            }
            next.timeline = None;
            next.remember_done(call, &[]);
        }
        line.commit(next).await?;
        line.collect().await;
        Ok(())
    }

    fn droppable(&self, machine: &MachineId, timeline: &Timeline, drop: &[PointId]) -> Vec<PointId> {
        let (now, open, newest) = (self.clock.now(), self.open.of(machine), timeline.newest().map(|p| p.id));
        let stays = |p: &Kept| {
            !p.pins.is_empty()
                || p.locked_until.is_some_and(|until| until > now)
                || open.contains(&p.id)
                || Some(p.id) == newest
        };
        let points = timeline.points.iter();
        points.filter(|p| drop.contains(&p.id) && !stays(p)).map(|p| p.id).collect()
    }
}

impl Line {
    /// Takes points out of a timeline: what each of them wrote goes to the next that stays.
    async fn without(&self, timeline: &mut Timeline, dropped: &[PointId]) -> Result<()> {
        let (mut kept, mut merged) = (vec![], None);
        for mut point in std::mem::take(&mut timeline.points) {
            let goes = dropped.contains(&point.id);
            if !goes && merged.is_none() {
                kept.push(point);
                continue;
            }
            let delta = self.folder.get_map(&point.delta).await?;
            let mut written = merged.take().unwrap_or_else(ExtentMap::default);
            written.apply(&delta);
            if goes {
                merged = Some(written);
                continue;
            }
            point.pieces = written.len() as u64;
            point.delta = self.folder.attach(self.next(), "delta", written.encode()).await?;
            kept.push(point);
        }
        timeline.points = kept;
        Ok(())
    }

    /// Deletes what the ledger does not refer to. What cannot be deleted now is found the next time.
    async fn collect(&self) {
        if let Err(error) = self.try_collect().await {
            tracing::warn!(%error, machine = %self.ledger.machine, "unused objects stay for now");
        }
    }

    async fn try_collect(&self) -> Result<()> {
        let attached = self.ledger.attached();
        for name in self.folder.list_attached().await? {
            let is_old = name.number().is_some_and(|number| number <= self.number);
            if is_old && !attached.contains(&name) {
                self.folder.delete_attached(&name).await?;
            }
        }
        let (mut used, live) = (BTreeSet::new(), live_sessions(&self.ledger));
        for point in self.ledger.timeline.iter().flat_map(|t| &t.points) {
            used.extend(self.folder.get_map(&point.delta).await?.segments());
        }
        for id in self.folder.list_segments(None).await? {
            if id.session < self.ledger.next_session && !live.contains(&id.session) && !used.contains(&id) {
                self.folder.delete_segment(id).await?;
            }
        }
        Ok(())
    }
}

/// Sessions whose batches are not in a point yet.
fn live_sessions(ledger: &Ledger) -> BTreeSet<u64> {
    let Some(timeline) = &ledger.timeline else { return BTreeSet::new() };
    let carried = timeline.carried.iter().map(|c| c.session);
    carried.chain(timeline.open.iter().map(|o| o.session)).collect()
}
