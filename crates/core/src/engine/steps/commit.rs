use super::prepare::PIN;
use crate::engine::context::{Context, Effect, Effects};
use crate::engine::shared::Shared;
use crate::state::{Direction, Divergence, Trigger};
use crate::{
    CommitRequest, Error, ErrorKind, Event, Item, Operation, Owed, Point, PointId, Request, Result, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// So many points that are kept are noted one by one.
const NAMED: usize = 8;

fn request(context: &Context) -> CommitRequest {
    match &context.run.request {
        Request::Commit(request) => request.clone(),
        _ => CommitRequest::default(),
    }
}

/// Reads back that the recovered machine runs and, for a failback, that the other side is off. Returns what to note.
///
/// A machine of the other side that is gone counts as off; one that does not answer needs a force. This precedes the
/// beginning of the commit: once that is recorded it goes forward, whatever happens to the machine.
pub(crate) async fn check(shared: &Shared, item: &Item, request: &CommitRequest) -> Result<Vec<String>> {
    let Some(promotion) = item.promotion.as_ref().filter(|p| !p.committed) else { return Ok(vec![]) };
    if request.require_good && promotion.verdict != Some(Verdict::Good) {
        let message =
            format!("the validation of {} did not find it good: {:?}", item.id(), promotion.verdict);
        return Err(Error::new(ErrorKind::Refused, message));
    }
    if request.purge_now && item.state.divergence != Divergence::None {
        let message =
            "the other side may hold what the winner lacks; it is not purged, it goes or stays by itself";
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let (machine, previous) = (&promotion.armed.instance.name, &promotion.previous);
    if !shared.runs(&promotion.armed.instance).await? {
        let message = format!("{machine} does not run; start it, or change the point, or undo");
        return Err(Error::new(ErrorKind::Refused, message));
    }
    if item.state.direction == Direction::PrimaryToRecovery {
        return Ok(vec![]);
    }
    match shared.runs(previous).await {
        Ok(false) => Ok(vec![]),
        Ok(true) => {
            let message = format!("{} still runs; a failback is committed when it is off", previous.name);
            Err(Error::new(ErrorKind::Refused, message))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Ok(vec![format!("{} is gone, which counts as off", previous.name)])
        }
        Err(e) => match &request.force {
            Some(force) => Ok(vec![format!(
                "{} does not answer ({e}); {} answers for it",
                previous.name, force.operator
            )]),
            None => Err(e),
        },
    }
}

/// Makes the booted disks final.
pub(super) async fn settle(context: &Context) -> Result<Effects> {
    context
        .each(async |m| {
            if let Some(promotion) = &m.item.promotion
                && promotion.recovery.is_some()
            {
                super::boot::tend(context, &context.leg, &m.op, &promotion.armed).await?;
                context.leg.recovery_site.settle(&m.op, &promotion.armed).await?;
            }
            Ok(m.progress.into())
        })
        .await
}

/// Removes instances that were set aside: earlier points, undone failovers.
pub(super) async fn remove_kept(context: &Context) -> Result<Effects> {
    context
        .each(async |m| {
            let mut events = vec![];
            for kept in &m.item.kept {
                let here = kept.site == context.leg.source.name();
                let leg = if here { &context.far } else { &context.leg };
                leg.recovery_site.destroy(&m.op.part(&kept.name), kept).await?;
                events.push(Event::Removed(kept.clone()));
            }
            Ok(Effect::and(m.progress, events))
        })
        .await
}

/// The other side's machine after a failback: owed until the next point out is sealed, so that a second copy always
/// exists; at once where that is asked for.
pub(super) async fn remove_other(context: &Context) -> Result<Effects> {
    let request = request(context);
    context
        .each(async |mut m| {
            let Some(promotion) = m.item.promotion.as_ref() else { return Ok(m.progress.into()) };
            if m.item.state.direction == Direction::PrimaryToRecovery {
                return Ok(m.progress.into());
            }
            let (site, instance) = (context.far.recovery_site.name(), promotion.previous.clone());
            let seen = promotion.observed.clone();
            let ran = context.shared.ran_since(&instance, &seen).await;
            match &ran {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    m.progress.notes.push(format!("{} is gone already", instance.name));
                    return Ok(Effect::and(m.progress, vec![Event::Removed(instance)]));
                }
                Ok(true) => {
                    let note = format!("{} was started since the failback, and is kept", instance.name);
                    m.progress.notes.push(note);
                    let events = vec![Event::Moved(Trigger::FoundPossible), Event::Seen(instance)];
                    return Ok(Effect::and(m.progress, events));
                }
                Ok(false) | Err(_) => {}
            }
            if request.purge_now && ran.is_ok() {
                let destroyed = context.far.recovery_site.destroy(&m.op, &instance);
                match context.shared.within(context.shared.deadlines.recovery_site, "remove", destroyed).await
                {
                    Ok(()) => return Ok(Effect::and(m.progress, vec![Event::Removed(instance)])),
                    Err(e) if e.kind() == ErrorKind::Unavailable => {}
                    Err(e) => return Err(e),
                }
            }
            m.progress.notes.push(format!("{} goes when the next point out is sealed", instance.name));
            Ok(Effect::and(m.progress, vec![Event::Owes(Owed::Remove { site, instance, seen })]))
        })
        .await
}

/// Drops the points that the commit ends: all but pinned and locked ones, the booted one (the base of the way back) and
/// the newest. A failback's own points stay listed without bytes where the replica works in place.
pub(super) async fn prune_points(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let replica = &context.leg.replica;
            let points = replica.points(m.item.id()).await?;
            let Some(promotion) = m.item.promotion.as_ref() else { return Ok(m.progress.into()) };
            let base = promotion.recovery.as_ref().map(|r| r.point);
            let newest = points.last().map(|p| p.id);
            if m.item.state.divergence != Divergence::None
                && let Some(newest) = newest
            {
                replica.pin(&m.op, m.item.id(), newest, "newest received").await?;
            }
            let mut left: Vec<_> =
                points.iter().map(|p| p.id).filter(|p| Some(*p) != base && Some(*p) != newest).collect();
            let mut gone = BTreeSet::new();
            // A call may drop only a part; each but the last drops one at least.
            for round in 0..points.len() {
                if left.is_empty() {
                    break;
                }
                let op = m.op.part(&format!("{round}"));
                let dropped = replica.prune(&op, m.item.id(), &left).await?;
                if dropped.is_empty() {
                    break;
                }
                gone.extend(dropped);
                left.retain(|p| !gone.contains(p));
            }
            let kept: Vec<_> = points.iter().filter(|p| !gone.contains(&p.id)).collect();
            m.progress.notes.extend(why_kept(&kept, base, newest));
            let forgotten: Vec<PointId> =
                m.item.boot_proofs.keys().copied().filter(|p| gone.contains(p)).collect();
            let events = if forgotten.is_empty() { vec![] } else { vec![Event::BootForgotten(forgotten)] };
            if context.run.operation == Operation::CompleteMigration {
                m.progress.notes.push("the old side stays fenced".into());
            }
            Ok(Effect::and(m.progress, events))
        })
        .await
}

/// A note for each point that is kept; one for all where there are many.
fn why_kept(kept: &[&Point], base: Option<PointId>, newest: Option<PointId>) -> Vec<String> {
    let why = |point: &Point| {
        let pin = point.pins.iter().find(|pin| *pin != PIN);
        match (Some(point.id) == base, pin, point.locked_until) {
            (true, ..) => ("the way back starts from it", None),
            (_, Some(pin), _) => ("pinned", Some(pin.clone())),
            (.., Some(until)) => ("locked", Some(format!("until {until}"))),
            _ if Some(point.id) == newest => ("it is the newest", None),
            _ => ("it was not dropped", None),
        }
    };
    if kept.len() <= NAMED {
        let note = |point: &&Point| match why(point) {
            (why, Some(more)) => format!("point {} is kept: {why}: {more}", point.id),
            (why, None) => format!("point {} is kept: {why}", point.id),
        };
        return kept.iter().map(note).collect();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    kept.iter().for_each(|point| *counts.entry(why(point).0).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(why, count)| format!("{count}: {why}")).collect();
    vec![format!("{} points are kept; {}", kept.len(), counts.join("; "))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::choose::tests::point;
    use crate::{Consistency, Timestamp};

    #[test]
    fn each_point_that_is_kept_has_its_reason_and_many_have_a_count() {
        let mut points: Vec<Point> =
            (1..=5).map(|id| point(id, "c", &["m"], id, Consistency::Crash)).collect();
        points[1].pins = vec![PIN.into(), "audit".into()];
        points[2].locked_until = Some(Timestamp(9));
        let told = |points: &[Point]| {
            let newest = points.last().map(|p| p.id);
            why_kept(&points.iter().collect::<Vec<_>>(), Some(PointId(1)), newest)
        };
        let expected = [
            "point 1 is kept: the way back starts from it".to_owned(),
            "point 2 is kept: pinned: audit".to_owned(),
            format!("point 3 is kept: locked: until {}", Timestamp(9)),
            "point 4 is kept: it was not dropped".to_owned(),
            "point 5 is kept: it is the newest".to_owned(),
        ];
        assert_eq!(told(&points), expected);
        points.extend((6..=300).map(|id| point(id, "c", &["m"], id, Consistency::Crash)));
        let expected = "300 points are kept; 1: it is the newest; 296: it was not dropped; 1: locked; \
                        1: pinned; 1: the way back starts from it";
        assert_eq!(told(&points), [expected]);
    }
}
