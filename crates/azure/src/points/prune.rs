//! Dropping points, and forgetting a timeline.

use super::PageBlobs;
use super::state::{Owed, Timeline, call};
use site_recovery::{Error, ErrorKind, MachineId, Op, PointId, Result};

/// Points that one call drops at most; what is over comes with the next one.
const MOST: usize = 64;

impl PageBlobs {
    pub(super) async fn drop_points(
        &self,
        op: &Op,
        machine: &MachineId,
        list: &[PointId],
    ) -> Result<Vec<PointId>> {
        let mut line = self.enter(machine).await?;
        let mut next = line.state.admit(op)?;
        let call = call("prune", op, &list);
        let dropped = match next.done(&call) {
            Some(dropped) => dropped.to_vec(),
            None => {
                let mut dropped = self.droppable(machine, next.timeline()?, list);
                dropped.truncate(MOST);
                for point in &dropped {
                    let owed = without(next.timeline_mut()?, *point);
                    next.owed.extend(owed);
                }
                next.remember(call, &dropped);
                dropped
            }
        };
        line.commit(next).await?;
        line.collect().await;
        Ok(dropped)
    }

    pub(super) async fn forget(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let mut line = self.enter(machine).await?;
        let mut next = line.state.admit(op)?;
        let call = call("delete", op, &());
        if next.done(&call).is_none() {
            if let Some(point) = self.0.open.of(machine).first() {
                let message = format!("point {point} is being read: delete the timeline after that");
                return Err(Error::new(ErrorKind::Busy, message));
            }
            if next.timeline.take().is_some() {
                // Also what no state ever named: a blob that was made before a commit that failed.
                let listed = line.store.container.list(line.names.all()).await?;
                let mut names: Vec<_> = listed.into_iter().map(|listed| listed.name).collect();
                names.dedup();
                names.retain(|name| *name != line.names.state());
                next.owed = names.into_iter().map(|blob| Owed::Blob { blob }).collect();
                next.session += 1;
            }
            next.remember(call, &[]);
        }
        line.commit(next).await?;
        // Nobody comes back for what is left of a timeline that is gone.
        line.collect().await.map_or(Ok(()), Err)
    }
}

/// Takes a point out; the one after it inherits what it changed.
fn without(timeline: &mut Timeline, point: PointId) -> Vec<Owed> {
    let Some(at) = timeline.points.iter().position(|kept| kept.point.id == point) else { return vec![] };
    let gone = timeline.points.remove(at);
    if let Some(after) = timeline.points.get_mut(at) {
        let own = std::mem::take(&mut after.inherits);
        after.inherits = gone.inherits.into_iter().chain([gone.document]).chain(own).collect();
    }
    let snapshots = gone.snapshots.into_values();
    snapshots.map(|at| Owed::Snapshot { blob: at.blob, snapshot: at.snapshot }).collect()
}
