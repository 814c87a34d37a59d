//! The recovery points of a machine: what there is, what must stay, what a choice would lose.

use super::ItemHandle;
use crate::alarm::ALARM;
use crate::engine::choose::choose;
use crate::engine::steps::{BEFORE_RESYNC, DRILL_PIN, PIN};
use crate::{
    DataLoss, Error, ErrorKind, Finding, Item, LOSING_SIDE, Op, POINT_ZERO, Point, PointChoice, PointId,
    RecoveryPointStore, Result, Timestamp, Verb,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pins that the engine sets and takes away.
const ENGINES: [&str; 4] = [PIN, DRILL_PIN, BEFORE_RESYNC, POINT_ZERO];

impl ItemHandle {
    /// Its recovery points, oldest first, each with what is known of its boot.
    ///
    /// # Errors
    /// Those of the replica.
    pub async fn points(&self) -> Result<Vec<Point>> {
        let item = self.item()?;
        Ok(item.with_proofs(self.shared.leg_of(&item)?.replica.points(&self.machine).await?))
    }

    /// What each choice of a point would lose now, for the choice before the go.
    ///
    /// # Errors
    /// Those of the replica.
    pub async fn loss_of(&self, choice: PointChoice) -> Result<DataLoss> {
        let points = self.points().await?;
        let members = BTreeMap::from([(self.machine.clone(), points.clone())]);
        let chosen = choose(&members, choice)?;
        let point = points.iter().find(|p| Some(&p.id) == chosen.get(&self.machine));
        let taken = point.map(|p| p.taken).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such point"))?;
        Ok(DataLoss::since(taken, self.shared.clock.now()))
    }

    /// Keeps a point from being dropped, for this reason; also by a commit.
    ///
    /// # Errors
    /// `NotFound`, naming the point; `Invalid` for no reason, and for one of the engine's own: `failover`, `drill`,
    /// `before resync`, `point zero`, `losing side`, `alarm`.
    pub async fn pin(&self, point: PointId, why: &str) -> Result<()> {
        if why.is_empty() || ENGINES.contains(&why) || [LOSING_SIDE, ALARM].contains(&why) {
            let rule = "a pin has a reason of its own";
            return Err(Error::invalid("pin.why", format!("{why:?}"), rule, "say why it is kept"));
        }
        self.authorize(Verb::Keep)?;
        let item = self.item()?;
        self.shared.leg_of(&item)?.replica.pin(&self.op(&item, "pin", point), &self.machine, point, why).await
    }

    /// Takes a reason away again.
    ///
    /// # Errors
    /// `NotFound`; `Refused` for pins that the engine takes away itself: `failover`, `drill`, `before resync`,
    /// `point zero`.
    pub async fn unpin(&self, point: PointId, why: &str) -> Result<()> {
        if ENGINES.contains(&why) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{why} is the engine's own pin; it goes by itself"),
            ));
        }
        self.authorize(Verb::Keep)?;
        let item = self.item()?;
        self.shared
            .leg_of(&item)?
            .replica
            .unpin(&self.op(&item, "unpin", point), &self.machine, point, why)
            .await
    }

    /// Keeps a point from being dropped by anybody until then; never shortened.
    ///
    /// # Errors
    /// `Unsupported` where the replica cannot enforce it; `Refused` for an earlier end than it has.
    pub async fn lock(&self, point: PointId, until: Timestamp) -> Result<()> {
        self.authorize(Verb::Keep)?;
        let item = self.item()?;
        self.store(&item)?.lock(&self.op(&item, "lock", point), &self.machine, point, until).await
    }

    /// Reads a point whole and names what is damaged.
    ///
    /// # Errors
    /// `Unsupported` where the replica cannot scrub; `NotFound`.
    pub async fn scrub(&self, point: PointId) -> Result<Vec<Finding>> {
        let item = self.item()?;
        self.store(&item)?.scrub(&self.machine, point).await
    }

    fn store(&self, item: &Item) -> Result<Arc<dyn RecoveryPointStore>> {
        let leg = self.shared.leg_of(item)?;
        let message = format!("{} keeps points for the way back only", leg.replica.name());
        leg.store.clone().ok_or_else(|| Error::new(ErrorKind::Unsupported, message))
    }

    fn op(&self, item: &Item, verb: &str, point: PointId) -> Op {
        item.op(format!("{}/{verb}-{point}-{:08x}", self.machine, self.shared.random.bits() as u32))
    }
}
