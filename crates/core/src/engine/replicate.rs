//! One instant of all members, shipped and sealed. First copy, cycle, last delta, reprotect and resync are this.

use super::context::Member;
use super::events::NoticeKind;
use super::shared::{Pulse, Shared, Slot};
use crate::alarm::{ALARM, Alarm, Cycle};
use crate::state::Phase;
use crate::{
    AlarmRule, Basis, Capture, Consistency, Control, Error, ErrorKind, Fate, Finding, Instance, Item, Leg,
    MachineId, Op, Point, PointId, Result, Severity, Shipment, Shipped, Unit,
};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one member's shipment came to.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) point: Option<Point>,
    pub(crate) changed: u64,
    pub(crate) shipped: u64,
    pub(crate) incompressible: u64,
    /// Whether both sides were compared: then what was equal was not written.
    pub(crate) compared: bool,
}

/// How to go about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// By the changes; where they are unknown, say so.
    Delta,
    /// By the changes; where they are unknown, compare.
    DeltaOrCompare,
    /// Compare.
    Compare,
}

/// Captures all members at one instant, ships each, lets go of the capture. A member that fails keeps its tracking, and
/// the others seal all the same: then the cut is not a point of the group.
///
/// # Errors
/// When the capture fails. What became of each member is in the map.
///
/// # Cancel safety
/// What was captured is swept before the next cycle.
pub(crate) async fn replicate(
    shared: &Arc<Shared>,
    slot: &Slot,
    unit: &Unit,
    leg: &Leg,
    op: &Op,
    want: Consistency,
    effort: Effort,
) -> Result<BTreeMap<MachineId, Result<Sealed>>> {
    let instances: Vec<Instance> = unit.members.iter().map(|i| i.active().clone()).collect();
    // Until a member is let go of, something of it may be left: also where the capture fails, or nobody waits any more.
    let take = |i: &Item| slot.with_pulse(i.id(), |pulse| std::mem::take(&mut pulse.swept));
    let swept: Vec<bool> = unit.members.iter().map(take).collect();
    let capture = leg.source.capture(op, &instances, want).await?;
    for item in &unit.members {
        if capture.member(item.id()).is_err() {
            let message = format!("the capture {} lacks its member {}", capture.cut, item.id());
            return Err(Error::new(ErrorKind::Corrupt, message).at(&leg.source.name(), "capture"));
        }
    }
    let shipments = unit.members.iter().map(|item| one(shared, unit, leg, op, &capture, item, effort));
    let shipped = join_all(shipments).await;
    let now = shared.clock.now();
    let mut all = BTreeMap::new();
    for ((item, was_swept), (result, released)) in unit.members.iter().zip(swept).zip(shipped) {
        let raised = slot.with_pulse(item.id(), |pulse| alarming(item, pulse, &result));
        slot.with_pulse(item.id(), |pulse| {
            pulse.last_attempt = Some(now);
            pulse.swept = was_swept && released;
            pulse.quiesce_failed.clone_from(&capture.quiesce_failed);
            match &result {
                Ok(Sealed { point: Some(point), changed, shipped, .. }) => {
                    if point.consistency == Consistency::Application {
                        pulse.newest_application = Some(point.taken);
                    }
                    pulse.newest = Some(point.clone());
                    pulse.failing_since = None;
                    pulse.changed += changed;
                    pulse.shipped += shipped;
                }
                Ok(_) => {}
                Err(error) => {
                    let since = pulse.failing_since.take().map_or(now, |(since, _)| since);
                    pulse.failing_since = Some((since, error.to_string()));
                }
            }
        });
        measure(item.id(), now, &result);
        let notice = match &result {
            Ok(Sealed { point: Some(point), changed, shipped, .. }) => {
                NoticeKind::Sealed { point: point.clone(), changed: *changed, shipped: *shipped }
            }
            Ok(_) => {
                NoticeKind::CycleFailed { reason: "the replica is away; the cut is in the spool".into() }
            }
            Err(error) => NoticeKind::CycleFailed { reason: error.to_string() },
        };
        shared.bus.publish(now, &unit.id, Some(item.id()), notice);
        if let Some(why) = raised {
            tracing::error!(machine = %item.id(), why, "alarm");
            let remedy = "see what rewrites the machine; the point before it is pinned as `alarm`";
            let finding = Finding::new("alarm", Severity::Critical, why, remedy);
            shared.bus.publish(now, &unit.id, Some(item.id()), NoticeKind::Alert(finding));
        }
        pin_quiet(shared, slot, unit, leg, item).await;
        all.insert(item.id().clone(), result);
    }
    Ok(all)
}

/// Whether this cycle raises an alarm; then the point before it is to be pinned.
fn alarming(item: &Item, pulse: &mut Pulse, result: &Result<Sealed>) -> Option<String> {
    if item.state.phase != Phase::Protected {
        // Another direction, or a new start: what was usual says nothing any more.
        pulse.alarm = Alarm::default();
        return None;
    }
    let Some(rule) = super::schedule::policy(item).alarm else {
        pulse.alarm = Alarm::default();
        return None;
    };
    let Ok(Sealed { point: Some(point), changed, incompressible, compared: false, .. }) = result else {
        return None;
    };
    let quiet = pulse.newest.as_ref().filter(|newest| newest.id < point.id)?;
    let (changed, incompressible) = (*changed, *incompressible);
    let cycle = Cycle { changed, incompressible, span: point.taken.since(quiet.taken) };
    let why = pulse.alarm.raise(&rule, cycle)?;
    pulse.to_pin = Some(quiet.id);
    Some(why)
}

/// Pins what an alarm wants pinned; at the next cycle, where the replica does not answer.
async fn pin_quiet(shared: &Arc<Shared>, slot: &Slot, unit: &Unit, leg: &Leg, item: &Item) {
    let Some(point) = slot.pulse(item.id()).to_pin else { return };
    match pin_for_alarm(shared, unit, leg, item, point).await {
        Err(error) => {
            tracing::warn!(machine = %item.id(), %point, %error, "the point before an alarm is not pinned yet");
        }
        Ok(()) => slot.with_pulse(item.id(), |pulse| pulse.to_pin = None),
    }
}

/// Pins the point, and takes the oldest pins of alarms away where there are too many: a load that goes up and down would
/// keep more and more points for ever.
async fn pin_for_alarm(
    shared: &Arc<Shared>,
    unit: &Unit,
    leg: &Leg,
    item: &Item,
    point: PointId,
) -> Result<()> {
    let (limit, machine, replica) = (shared.deadlines.replica, item.id(), &leg.replica);
    let op = |what: &str, point: PointId| item.op(format!("{machine}/{what}-{point}"));
    let pin = op("alarm", point);
    match shared.within(limit, "pin", replica.pin(&pin, machine, point, ALARM)).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let points = shared.within(limit, "points", replica.points(machine)).await?;
    let pinned = points.iter().rev().filter(|p| p.pins.iter().any(|why| why == ALARM));
    for old in pinned.skip(AlarmRule::MOST_PINS) {
        let unpin = op("alarm-is-old", old.id);
        shared.within(limit, "unpin", replica.unpin(&unpin, machine, old.id, ALARM)).await?;
        tracing::warn!(%machine, point = %old.id, "an old alarm's pin has made room for a newer one");
        let notice = NoticeKind::Unpinned { point: old.id, why: ALARM.into() };
        shared.bus.publish(shared.clock.now(), &unit.id, Some(machine), notice);
    }
    Ok(())
}

/// Ships one member, and lets go of its capture: what it came to, and whether the capture is gone.
async fn one(
    shared: &Arc<Shared>,
    unit: &Unit,
    leg: &Leg,
    op: &Op,
    capture: &Capture,
    item: &Item,
    effort: Effort,
) -> (Result<Sealed>, bool) {
    let machine = item.id();
    let op = &op.part(machine.as_str());
    let ship = async |basis| {
        let control = Control { unit: unit.id.clone(), members: unit.machines(), item: item.clone() };
        let what = Shipment { capture: capture.clone(), machine: machine.clone(), basis, control };
        leg.process_server.ship(op, &what, &leg.source, &leg.replica).await
    };
    let first = if effort == Effort::Compare { Basis::Compare } else { Basis::Delta };
    let mut compared = effort == Effort::Compare;
    let shipped = match ship(first).await {
        Ok(Shipped::NeedsCompare { .. }) if effort == Effort::DeltaOrCompare => {
            compared = true;
            ship(Basis::Compare).await
        }
        other => other,
    };
    let fate = match &shipped {
        // A repeat of a cut that was sealed before a crash: the point is of that capture, and so is its cursor.
        Ok(Shipped::Sealed { point, .. }) if point.taken != capture.taken => Fate::Abandoned,
        Ok(Shipped::Sealed { .. }) => Fate::Sealed,
        Ok(Shipped::Spooled { .. }) => Fate::Spooled,
        Ok(Shipped::NeedsCompare { .. }) | Err(_) => Fate::Abandoned,
    };
    let release = leg.source.release(op, capture, machine, fate);
    let released = shared.within(shared.deadlines.source, "release", release).await;
    if let Err(error) = &released {
        tracing::warn!(%machine, %error, "a capture could not be released; it is swept before the next one");
    }
    (shipped.and_then(|shipped| sealed(shipped, compared)), released.is_ok())
}

fn sealed(shipped: Shipped, compared: bool) -> Result<Sealed> {
    match shipped {
        Shipped::Sealed { point, changed, shipped, incompressible } => {
            Ok(Sealed { point: Some(point), changed, shipped, incompressible, compared })
        }
        Shipped::Spooled { .. } => {
            Ok(Sealed { point: None, changed: 0, shipped: 0, incompressible: 0, compared })
        }
        Shipped::NeedsCompare { reason } => {
            Err(Error::new(ErrorKind::Corrupt, reason).with("compare", "needed"))
        }
    }
}

/// Whether an error of [`replicate`] says that the sides must be compared.
pub(crate) fn needs_compare(error: &Error) -> bool {
    error.fact("compare") == Some("needed")
}

/// The members' points, all sealed, or the first error.
pub(crate) fn all_sealed(
    results: BTreeMap<MachineId, Result<Sealed>>,
) -> Result<BTreeMap<MachineId, Sealed>> {
    let mut all = BTreeMap::new();
    for (machine, result) in results {
        let sealed = result?;
        if sealed.point.is_none() {
            let message = format!("the replica of {machine} is away; what was captured is in the spool");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        all.insert(machine, sealed);
    }
    Ok(all)
}

/// The operation of a whole unit's capture: the first member's, since all members share one epoch.
pub(crate) fn unit_op(members: &[Member], part: &str) -> Result<Op> {
    let first = members.first().ok_or_else(|| Error::new(ErrorKind::NotFound, "the unit has no member"))?;
    Ok(first.op.part(part))
}

/// What a program's metrics see of replication, by the `metrics` facade.
fn measure(machine: &MachineId, now: crate::Timestamp, result: &Result<Sealed>) {
    let label = [("machine", machine.to_string())];
    match result {
        Ok(Sealed { point: Some(point), changed, shipped, .. }) => {
            metrics::counter!("site_recovery_points_sealed_total", &label).increment(1);
            metrics::counter!("site_recovery_changed_bytes_total", &label).increment(*changed);
            metrics::counter!("site_recovery_shipped_bytes_total", &label).increment(*shipped);
            metrics::gauge!("site_recovery_rpo_seconds", &label).set(now.since(point.taken).as_secs_f64());
        }
        Ok(_) => metrics::counter!("site_recovery_cuts_spooled_total", &label).increment(1),
        Err(_) => metrics::counter!("site_recovery_cycles_failed_total", &label).increment(1),
    }
}
