//! The complete copies that the side holds which is left when the active one is lost.

use super::choose::choose;
use super::shared::Shared;
use crate::state::Phase;
use crate::{
    CompleteCopy, DataLoss, Error, ErrorKind, Instance, Item, Leg, MachineId, Point, PointChoice, Result,
    Timestamp, Unit,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A complete copy.
#[allow(clippy::large_enum_variant, reason = "few of them exist at a time")]
#[derive(Clone)]
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

/// Finds the copies that are asked for: of a group the machines of all members, or one cut that all of them have sealed.
///
/// # Errors
/// `NotFound` where there is no such copy; `Unavailable` while nobody says whether a machine stands.
pub(crate) async fn survivors(
    shared: &Arc<Shared>,
    unit: &Unit,
    copy: CompleteCopy,
) -> Result<BTreeMap<MachineId, Survivor>> {
    let choice = match copy {
        CompleteCopy::Point(id) => PointChoice::Custom(id),
        CompleteCopy::Newest | CompleteCopy::Machine => {
            if let Some(standing) = machines(shared, unit).await? {
                return Ok(standing);
            }
            PointChoice::Latest
        }
    };
    if copy == CompleteCopy::Machine {
        let message = format!("no whole machine of {} stands at the side that is left", unit.id);
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    points(shared, unit, choice).await
}

/// The machines that ran before, where all of them stand.
async fn machines(shared: &Arc<Shared>, unit: &Unit) -> Result<Option<BTreeMap<MachineId, Survivor>>> {
    let mut standing = BTreeMap::new();
    for item in &unit.members {
        let Some(instance) = machine(shared, item).await? else { return Ok(None) };
        let recovered = item.promotion.as_ref().and_then(|p| p.recovery.as_ref());
        let since = recovered.map_or(Timestamp(0), |r| r.taken);
        let loss = DataLoss::since(since, shared.clock.now());
        standing.insert(item.id().clone(), Survivor::Machine { instance, loss });
    }
    Ok(Some(standing))
}

/// The machine that ran before, unless a landing on its disks is unfinished.
async fn machine(shared: &Arc<Shared>, item: &Item) -> Result<Option<Instance>> {
    let reprotects = matches!(item.state.phase, Phase::ReprotectFailed | Phase::ReprotectInitiated);
    let unfinished = reprotects && shared.far_leg_of(item)?.store.is_none();
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

async fn points(
    shared: &Arc<Shared>,
    unit: &Unit,
    choice: PointChoice,
) -> Result<BTreeMap<MachineId, Survivor>> {
    let (mut legs, mut listed) = (BTreeMap::new(), BTreeMap::new());
    for item in &unit.members {
        let both = [shared.leg_of(item)?, shared.far_leg_of(item)?];
        let leg = both.into_iter().find(|leg| leg.source.name() == item.active().site);
        let leg =
            leg.ok_or_else(|| Error::new(ErrorKind::NotFound, "no leg ends at the side that is left"))?;
        listed.insert(item.id().clone(), leg.replica.points(item.id()).await?);
        legs.insert(item.id().clone(), leg);
    }
    let chosen = choose(&listed, choice)?;
    let mut found = BTreeMap::new();
    for (machine, points) in listed {
        let point = points.into_iter().find(|p| Some(&p.id) == chosen.get(&machine));
        let (Some(point), Some(leg)) = (point, legs.remove(&machine)) else {
            let message = "the side that is left holds no complete copy: no machine, no point";
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let loss = DataLoss::since(point.taken, shared.clock.now());
        found.insert(machine, Survivor::Point { point, leg: leg.clone(), loss });
    }
    Ok(found)
}
