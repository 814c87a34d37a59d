//! Which recovery point is the newest that is clean, by bisection.

use site_recovery::{Disks, Error, ErrorKind, MachineId, Point, PointId, Replica, Result};
use std::future::Future;

/// What a check says of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing was found.
    Clean,
    /// What is looked for is there.
    Infected,
}

/// The boundary between clean and infected points. Both its sides were opened and checked, never inferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastClean {
    /// The newest clean point; none where even the oldest is infected.
    pub clean: Option<Point>,
    /// The one after it; none where even the newest is clean.
    pub infected: Option<Point>,
    /// What was opened, in this order, and what the check said.
    pub checked: Vec<(PointId, Health)>,
}

/// Opens points of a machine, and finds the newest that `check` calls clean: for n points with at most ceil(log2(n+1))
/// opens, so 9 for 288.
///
/// It is assumed that what comes after an infected point is infected, too. Where that is not so (somebody cleaned up, and
/// was infected again), the answer is *a* boundary: a clean point that was checked, directly before an infected one that was
/// checked; a newer clean point may exist. The check is asked once per point that is opened; it may read the disks as
/// they are, or through a [`Server`](crate::Server) that it starts on them. The point is held open meanwhile.
///
/// # Errors
/// `NotFound` for a machine without points; those of the replica and of the check, with the point as a fact, as they come:
/// an unreadable point is neither clean nor infected.
///
/// # Cancel safety
/// Dropping the future drops the check that runs. Nothing is left behind.
pub async fn find_last_clean<F>(
    replica: &dyn Replica,
    machine: &MachineId,
    mut check: impl FnMut(Point, Disks) -> F,
) -> Result<LastClean>
where
    F: Future<Output = Result<Health>>,
{
    let points = replica.points(machine).await?;
    if points.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("{machine} has no points")));
    }
    let mut checked = vec![];
    // Points before `clean` are clean, from `infected` on infected.
    let (mut clean, mut infected) = (0, points.len());
    while clean < infected {
        let middle = clean + (infected - clean) / 2;
        let point = &points[middle];
        let examine = async { check(point.clone(), replica.open(machine, point.id).await?).await };
        let health = examine.await.map_err(|e| e.with("point", point.id))?;
        checked.push((point.id, health));
        match health {
            Health::Clean => clean = middle + 1,
            Health::Infected => infected = middle,
        }
    }
    let at = |index: Option<usize>| index.and_then(|i| points.get(i)).cloned();
    Ok(LastClean { clean: at(clean.checked_sub(1)), infected: at(Some(infected)), checked })
}
