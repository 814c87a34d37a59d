//! The complete copies that the side holds which is left when the active one is lost.

use super::choose::choose;
use super::shared::Shared;
use crate::state::Phase;
use crate::{
    CompleteCopy, DataLoss, Error, ErrorKind, Instance, Item, Leg, Point, PointChoice, Result, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A complete copy.
pub(crate) enum Survivor {
    /// The machine that ran before, as it stands.
    Machine {
        /// Which.
        instance: Instance,
        /// All since it was fenced for the failover.
        loss: DataLoss,
    },
    /// A point of the leg that ends at that side.
    Point {
        /// Which.
        point: Point,
        /// Whose.
        leg: Leg,
        /// All since it was taken.
        loss: DataLoss,
    },
}

/// Finds the copy that is asked for.
///
/// # Errors
/// `NotFound` where there is no such copy; `Unavailable` while nobody says whether a machine stands.
pub(crate) async fn survivor(shared: &Arc<Shared>, item: &Item, copy: CompleteCopy) -> Result<Survivor> {
    let standing = if matches!(copy, CompleteCopy::Point(_)) { None } else { machine(shared, item).await? };
    match (standing, copy) {
        (Some(instance), _) => {
            let recovered = item.promotion.as_ref().and_then(|p| p.recovery.as_ref());
            let since = recovered.map_or(Timestamp(0), |r| r.taken);
            Ok(Survivor::Machine { instance, loss: DataLoss::since(since, shared.clock.now()) })
        }
        (None, CompleteCopy::Machine) => {
            let message = format!("no whole machine of {} stands at the side that is left", item.id());
            Err(Error::new(ErrorKind::NotFound, message))
        }
        (None, CompleteCopy::Newest) => point(shared, item, PointChoice::Latest).await,
        (None, CompleteCopy::Point(id)) => point(shared, item, PointChoice::Custom(id)).await,
    }
}

/// The machine that ran before, unless a landing on it is unfinished.
async fn machine(shared: &Arc<Shared>, item: &Item) -> Result<Option<Instance>> {
    let unfinished = matches!(item.state.phase, Phase::ReprotectFailed | Phase::ReprotectInitiated);
    let Some(previous) = item.promotion.as_ref().map(|p| &p.previous).filter(|_| !unfinished) else {
        return Ok(None);
    };
    for other in item.must_not_run().filter(|i| previous.is(i)) {
        match shared.runs(other).await {
            Ok(_) => return Ok(Some(other.clone())),
            // Gone for certain; silence is asked again, and never taken for that.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

async fn point(shared: &Arc<Shared>, item: &Item, choice: PointChoice) -> Result<Survivor> {
    let legs = [shared.leg_of(item)?, shared.far_leg_of(item)?];
    let leg = legs.into_iter().find(|leg| leg.source.name() == item.active().site);
    let leg = leg.ok_or_else(|| Error::new(ErrorKind::NotFound, "no leg ends at the side that is left"))?;
    let points = leg.replica.points(item.id()).await?;
    let members = BTreeMap::from([(item.id().clone(), points.clone())]);
    let chosen = choose(&members, choice)?;
    let chosen = points.into_iter().find(|p| Some(&p.id) == chosen.get(item.id()));
    let point = chosen.ok_or_else(|| {
        let message = "the side that is left holds no complete copy: no machine, no point";
        Error::new(ErrorKind::NotFound, message)
    })?;
    let loss = DataLoss::since(point.taken, shared.clock.now());
    Ok(Survivor::Point { point, leg, loss })
}
