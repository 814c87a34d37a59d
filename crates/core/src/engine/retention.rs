//! Which points a policy drops. Pure; the replica only refuses.

use crate::{Consistency, Point, PointId, Policy, Retention, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HOUR: u64 = 3_600_000;

/// How long a cycle takes is read from so many points on each side.
const AROUND: usize = 8;

/// The points to drop. Time is counted back from the newest point, not from now, and between two points no more of it than
/// is usual around them: a clock that jumps, or a source that is dead for a month, drops nothing, and where cycles really
/// take longer than the policy wants, each counts for as long as it took. In a slot the application-consistent point
/// survives, else the newest; points that a clock which was set back put out of order do not compete.
///
/// Never among them: the newest point, the newest verified one, the newest that was proven to boot, pinned and locked ones. Points of one cut are dropped by
/// the same rule in every member, since they carry the same instant.
pub(crate) fn to_drop(points: &[Point], policy: &Policy, now: Timestamp) -> Vec<PointId> {
    let Some(newest) = points.last() else { return vec![] };
    let verified = points.iter().rev().find(|p| p.verified).map(|p| p.id);
    let proven = points.iter().rev().find(|p| p.boots()).map(|p| p.id);
    let mut slots: BTreeMap<(usize, u64, u64), &Point> = BTreeMap::new();
    let mut clock = 0;
    for (at, (point, age)) in points.iter().zip(ages(points, policy)).enumerate() {
        clock += usize::from(at > 0 && point.taken <= points[at - 1].taken);
        let Some((width, number)) = slot(&policy.retention, age, point) else { continue };
        let slot = (clock, width, number);
        let better = |held: &&Point| {
            let rank = |p: &Point| (p.consistency == Consistency::Application, p.id);
            rank(point) > rank(held)
        };
        if slots.get(&slot).is_none_or(better) {
            slots.insert(slot, point);
        }
    }
    let kept: BTreeSet<PointId> = slots.values().map(|p| p.id).collect();
    let floor = |p: &Point| {
        p.id == newest.id
            || Some(p.id) == verified
            || Some(p.id) == proven
            || !p.pins.is_empty()
            || p.locked_until.is_some_and(|until| until > now)
    };
    points.iter().filter(|p| !floor(p) && !kept.contains(&p.id)).map(|p| p.id).collect()
}

/// How old each point is, by the newest.
fn ages(points: &[Point], policy: &Policy) -> Vec<Duration> {
    let mut ages = vec![Duration::ZERO; points.len()];
    for at in (0..points.len().saturating_sub(1)).rev() {
        let age = ages[at + 1];
        let around = at.saturating_sub(AROUND)..points.len().min(at + 2 + AROUND);
        let cycle = usual_cycle(&points[around]).max(policy.interval);
        let gap = Gap::between(&points[at], &points[at + 1]);
        let time = gap.time.min(cycle.saturating_mul(gap.cycles));
        ages[at] = age
            + match 2 * Duration::from_millis(width(&policy.retention, age)) {
                Duration::ZERO => time,
                // Survivors of two slots side by side are less than two slots apart, whatever their numbers say.
                slots => time.min(slots.max(cycle)),
            };
    }
    ages
}

/// How long a cycle takes, by these points: the longest that is believed. The longest quarter is not, nor as many as the
/// clock was set back: each time it must have been ahead. At least one is not; so two points alone tell nothing.
fn usual_cycle(points: &[Point]) -> Duration {
    let gaps = points.windows(2).map(|p| Gap::between(&p[0], &p[1]));
    let mut cycles: Vec<Duration> = gaps.map(|gap| gap.time / gap.cycles).collect();
    let set_back = points.windows(2).filter(|p| p[1].taken <= p[0].taken).count();
    let doubted = (cycles.len() / 4).max(set_back + 1);
    cycles.sort_unstable();
    cycles.iter().rev().nth(doubted).copied().unwrap_or_default()
}

/// From one point that is left to the next.
struct Gap {
    time: Duration,
    /// One, and one more for each point that was dropped between them.
    cycles: u32,
}

impl Gap {
    fn between(older: &Point, newer: &Point) -> Gap {
        let numbers = newer.id.0.saturating_sub(older.id.0).max(1);
        Gap { time: newer.taken.since(older.taken), cycles: numbers.try_into().unwrap_or(u32::MAX) }
    }
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
            let next = before.len() as u64 + 1;
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
                kept.push(point(next + number as u64, "j", &["m"], at, Consistency::Crash));
                let gone = to_drop(&kept, &policy, Timestamp(at));
                kept.retain(|p| !gone.contains(&p.id));
                let old = kept.iter().filter(|p| p.id.0 < next).count();
                assert!(
                    old + 2 * (number + 2) >= steady,
                    "{policy:?}: {old} of {steady} are left after {number} points"
                );
            }
        }
    }

    /// So often seals a point at what the clock then shows, and prunes. Each time `left` is told the number of the cycle,
    /// which is the point's too, and the points that are left.
    fn seal_and_prune(
        policy: &Policy,
        cycles: u64,
        clock: impl Fn(u64) -> u64,
        mut left: impl FnMut(u64, &[Point]),
    ) {
        let mut points = vec![];
        for number in 0..cycles {
            let now = clock(number);
            points.push(point(number, "c", &["m"], now, Consistency::Crash));
            let gone = to_drop(&points, policy, Timestamp(now));
            points.retain(|p| !gone.contains(&p.id));
            left(number, &points);
        }
    }

    /// As [`to_drop`] is to be for points without pins and locks, where the clock is right.
    fn due(points: &[Point], policy: &Policy) -> Vec<PointId> {
        let newest = points.last().expect("a point");
        let mut slots = BTreeMap::new();
        for point in points {
            if let Some(slot) = slot(&policy.retention, newest.taken.since(point.taken), point) {
                slots.insert(slot, point.id);
            }
        }
        let kept: BTreeSet<PointId> = slots.into_values().chain([newest.id]).collect();
        points.iter().map(|p| p.id).filter(|id| !kept.contains(id)).collect()
    }

    const EPOCH: u64 = 20_000 * 24 * HOUR + 17 * MINUTE;

    #[test]
    fn cycles_of_any_length_are_kept_for_as_long_as_was_asked() {
        for (policy, hours) in [(keep(9), 9), (keep(2), 2), (grid(1), 24), (grid(3), 72), (grid(15), 360)] {
            for seconds in [120, 300, 301, 437, 660, 1200, 2820, 3000, 3660, 5400, 9000, 6 * 3600, 20 * 3600]
            {
                let cycle = seconds * 1000;
                let cycles = ((hours + 10) * HOUR / cycle + 20).min(1000);
                let (clock, mut want) = (|number| EPOCH + number * cycle, vec![]);
                seal_and_prune(&policy, cycles, clock, |number, left| {
                    want.push(left.last().expect("the newest stays").clone());
                    let gone = due(&want, &policy);
                    want.retain(|p| !gone.contains(&p.id));
                    // Of two points alone nobody knows whether the clock was right.
                    let unknown = usize::from(cycle > hours * HOUR || left.len() == 2);
                    assert!(
                        left.len() <= want.len() + unknown && want.iter().all(|p| left.contains(p)),
                        "{policy:?}, cycles of {seconds} s, after {number}: {:?}, and not {:?}",
                        ids(left),
                        ids(&want)
                    );
                });
            }
        }
    }

    #[test]
    fn what_a_grid_has_thinned_out_goes_in_time_when_all_of_a_span_is_wanted() {
        for (days, hours) in [(1, 3), (1, 12), (3, 24), (15, 24), (15, 72)] {
            for minutes in [5, 7, 20, 50, 90] {
                let (cycle, wanted) = (minutes * MINUTE, hours * HOUR);
                let before = (u64::from(days) * 24 + 3) * HOUR / cycle;
                let mut points = vec![];
                let mut pruned = |number, policy: &Policy| {
                    let now = EPOCH + number * cycle;
                    points.push(point(number, "c", &["m"], now, Consistency::Crash));
                    let there = points.clone();
                    let gone = to_drop(&points, policy, Timestamp(now));
                    points.retain(|p| !gone.contains(&p.id));
                    (there, points.clone(), now)
                };
                (0..before).for_each(|number| drop(pruned(number, &grid(days))));
                for number in before..before + wanted / cycle + 2 {
                    let (there, left, now) = pruned(number, &keep(hours));
                    let due: Vec<Point> = there.into_iter().filter(|p| now - p.taken.0 <= wanted).collect();
                    assert_eq!(
                        ids(&left),
                        ids(&due),
                        "a grid of {days} days, then {hours} h, cycles of {minutes} min, after {number}"
                    );
                }
            }
        }
    }

    #[test]
    fn d8_a_jump_of_any_size_drops_nothing_that_would_be_kept_without_it() {
        let jumps: [i64; 12] = [1, 4, 6, 50, 59, 61, 90, 150, 600, 2000, 60_000, 525_600];
        for (policy, hours, slot) in [(keep(9), 9, 0), (grid(1), 24, HOUR), (grid(3), 72, 2 * HOUR)] {
            for minutes in [5, 7, 20, 50, 90] {
                let (cycle, at) = (minutes * MINUTE, 10 * 60 / minutes);
                let cycles = at + (hours + 3) * HOUR / cycle;
                let right = |number| EPOCH + number * cycle;
                let mut steady = vec![];
                seal_and_prune(&policy, cycles, right, |_, left| steady.push(ids(left)));
                for jump in jumps.iter().flat_map(|minutes| [*minutes, -*minutes]) {
                    let moved = |number| if number < at { 0 } else { jump * MINUTE as i64 };
                    let jumped = |number| right(number).saturating_add_signed(moved(number));
                    seal_and_prune(&policy, cycles, jumped, |number, left| {
                        let left = ids(left);
                        // Slots begin elsewhere after the jump: another point of the same length of time may stand for one.
                        let stands = |id: &u64| left.iter().any(|l| l.abs_diff(*id) <= slot.div_ceil(cycle));
                        let lost: Vec<&u64> =
                            steady[number as usize].iter().filter(|id| !stands(id)).collect();
                        assert!(
                            lost.is_empty(),
                            "{policy:?}, cycles of {minutes} min, a jump of {jump} at {at}, after {number}: {lost:?}"
                        );
                    });
                }
            }
        }
    }

    #[test]
    fn d8_points_before_and_after_a_clock_was_set_back_do_not_compete() {
        let policy = grid(1);
        let back = |number: u64| EPOCH + number * 5 * MINUTE - if number < 144 { 0 } else { 6 * HOUR };
        let mut left = vec![];
        seal_and_prune(&policy, 240, back, |_, points| left = points.to_vec());
        let before = left.iter().filter(|p| p.id.0 < 144).count();
        assert!(before >= 12, "one for each of the twelve hours before: {:?}", ids(&left));
    }

    #[test]
    fn d8_a_clock_that_goes_to_and_fro_drops_nothing() {
        let year = 365 * 24 * HOUR;
        let clock =
            |number: u64| EPOCH + number * 5 * MINUTE + if number > 60 { number % 2 * year } else { 0 };
        for policy in [keep(24), grid(1)] {
            seal_and_prune(&policy, 200, clock, |number, left| {
                let steady = if policy == keep(24) { number.min(60) } else { number.min(5) };
                let left = left.iter().filter(|p| p.id.0 <= 60).count() as u64;
                assert!(left >= steady, "{policy:?}: {left} are left after {number}");
            });
        }
    }

    fn ids(points: &[Point]) -> Vec<u64> {
        points.iter().map(|p| p.id.0).collect()
    }

    fn keep(hours: u64) -> Policy {
        Policy::default().keep(Retention::KeepAll { span: Duration::from_millis(hours * HOUR) })
    }

    fn grid(days: u8) -> Policy {
        Policy::default().keep(Retention::Grid { days })
    }
}
