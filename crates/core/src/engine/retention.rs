//! Which points a policy drops. Pure; the replica only refuses.

use crate::{Consistency, Point, PointId, Policy, Retention, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: u64 = 3_600_000;

/// The points to drop. Time is counted back from the newest point, not from now, and between two points at most twice what
/// the policy puts between them there: so a clock that jumps, or a source that is dead for a month, drops nothing. In a slot
/// the application-consistent point survives, else the newest.
///
/// Never among them: the newest point, the newest verified one, pinned and locked ones. Points of one cut are dropped by
/// the same rule in every member, since they carry the same instant.
pub(crate) fn to_drop(points: &[Point], policy: &Policy, now: Timestamp) -> Vec<PointId> {
    let Some(newest) = points.last() else { return vec![] };
    let verified = points.iter().rev().find(|p| p.verified).map(|p| p.id);
    let mut slots: BTreeMap<(u64, u64), &Point> = BTreeMap::new();
    for (point, age) in points.iter().zip(ages(points, policy)) {
        let Some(slot) = slot(&policy.retention, age, point) else { continue };
        let better = |held: &&Point| {
            let rank = |p: &Point| (p.consistency == Consistency::Application, p.id);
            rank(point) > rank(held)
        };
        if slots.get(&slot).is_none_or(better) {
            slots.insert(slot, point);
        }
    }
    let kept: Vec<PointId> = slots.values().map(|p| p.id).collect();
    let floor = |p: &Point| {
        p.id == newest.id
            || Some(p.id) == verified
            || !p.pins.is_empty()
            || p.locked_until.is_some_and(|until| until > now)
    };
    points.iter().filter(|p| !floor(p) && !kept.contains(&p.id)).map(|p| p.id).collect()
}

/// How old each point is, by the newest.
fn ages(points: &[Point], policy: &Policy) -> Vec<Duration> {
    let mut ages = vec![Duration::ZERO; points.len()];
    for at in (1..points.len()).rev() {
        let age = ages[at];
        let most = 2 * policy.interval.max(Duration::from_millis(width(&policy.retention, age)));
        ages[at - 1] = age + points[at].taken.since(points[at - 1].taken).min(most);
    }
    ages
}

/// How wide a slot is at this age, in milliseconds; 0 where each point has one for itself.
fn width(retention: &Retention, age: Duration) -> u64 {
    let ms = age.as_millis() as u64;
    match retention {
        Retention::KeepAll { .. } => 0,
        Retention::Grid { .. } if ms <= 2 * HOUR => 0,
        Retention::Grid { days: 0 | 1 } => HOUR,
        Retention::Grid { .. } if ms <= 7 * 24 * HOUR => 2 * HOUR,
        Retention::Grid { .. } => 4 * HOUR,
    }
}

/// The slot that a point competes in; `None`: too old. A point for itself has a slot for itself.
fn slot(retention: &Retention, age: Duration, point: &Point) -> Option<(u64, u64)> {
    let kept = match retention {
        Retention::KeepAll { span } => age <= *span,
        Retention::Grid { days: 0 } => false,
        Retention::Grid { days } => age.as_millis() as u64 <= u64::from(*days) * 24 * HOUR,
    };
    kept.then(|| match width(retention, age) {
        0 => (0, point.id.0),
        width => (width, point.taken.0 / width),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::choose::tests;
    use crate::engine::choose::tests::point;

    const MINUTE: u64 = 60_000;

    fn history(minutes: u64) -> Vec<Point> {
        (0..=minutes / 5)
            .map(|i| point(i + 1, &format!("c{i}"), &["m"], i * 5 * MINUTE, Consistency::Crash))
            .collect()
    }

    #[test]
    fn the_grid_is_azures() {
        let mut points = history(24 * 60);
        points[10].consistency = Consistency::Application; // 50 minutes in: alone in its hour
        let dropped = to_drop(&points, &grid(1), Timestamp(24 * HOUR));
        let kept: Vec<&Point> = points.iter().filter(|p| !dropped.contains(&p.id)).collect();
        let recent = kept.iter().filter(|p| p.taken.0 >= (22 * 60) * MINUTE).count();
        assert_eq!(recent, 25, "all of the last two hours");
        let old: Vec<u64> =
            kept.iter().filter(|p| p.taken.0 < 22 * 60 * MINUTE).map(|p| p.taken.0 / MINUTE).collect();
        assert_eq!(old.len(), 22, "one an hour before that: {old:?}");
        assert_eq!(old[0], 50, "the application-consistent point survives in its slot");
        assert_eq!(old[1], 115, "else the newest");
    }

    #[test]
    fn d8_floors_hold_whatever_the_clock_did() {
        let mut points = history(60);
        points[2].pins.push("base".into());
        points[3].locked_until = Some(Timestamp(2 * HOUR));
        points.iter_mut().skip(6).for_each(|p| p.verified = false);
        let dropped = to_drop(&points, &grid(0), Timestamp(HOUR));
        let kept: Vec<u64> = points.iter().filter(|p| !dropped.contains(&p.id)).map(|p| p.id.0).collect();
        assert_eq!(kept, [3, 4, 6, 13], "pinned, locked, newest verified, newest");
        // The clock jumped a year back, then forward: ages are never negative, nothing is dropped for that.
        let jumped = [
            tests::point(1, "a", &["m"], 400 * 24 * HOUR, Consistency::Crash),
            tests::point(2, "b", &["m"], 1, Consistency::Crash),
        ];
        assert!(to_drop(&jumped, &grid(1), Timestamp(2)).is_empty());
    }

    #[test]
    fn d8_a_clock_that_jumps_deletes_nothing() {
        let year = 365 * 24 * HOUR;
        let keep = Policy::default().keep(Retention::KeepAll { span: Duration::from_secs(24 * 3600) });
        for policy in [grid(1), grid(15), keep] {
            let before: Vec<Point> = history(24 * 60);
            let mut kept: Vec<Point> = before.clone();
            let gone = to_drop(&kept, &policy, Timestamp(24 * HOUR));
            kept.retain(|p| !gone.contains(&p.id));
            let steady = kept.len();
            // The clock is a year ahead for an hour, then right again.
            for (number, at) in (0..12)
                .map(|n| year + n * 5 * MINUTE)
                .chain((0..12).map(|n| 25 * HOUR + n * 5 * MINUTE))
                .enumerate()
            {
                kept.push(point(1000 + number as u64, "j", &["m"], at, Consistency::Crash));
                let gone = to_drop(&kept, &policy, Timestamp(at));
                kept.retain(|p| !gone.contains(&p.id));
                let old = kept.iter().filter(|p| p.id.0 < 1000).count();
                assert!(
                    old + 2 * (number + 2) >= steady,
                    "{policy:?}: {old} of {steady} are left after {number} points"
                );
            }
        }
    }

    fn grid(days: u8) -> Policy {
        Policy::default().keep(Retention::Grid { days })
    }
}
