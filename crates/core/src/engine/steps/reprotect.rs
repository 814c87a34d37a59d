use super::prepare::PIN;
use crate::engine::context::{Context, Effect, Effects, Member};
use crate::engine::replicate::{Effort, all_sealed, replicate, unit_op};
use crate::engine::shared::Slot;
use crate::state::{Direction, Divergence};
use crate::{
    Changes, Consistency, Error, ErrorKind, Event, Fate, Instance, LOSING_SIDE, Location, Owed, POINT_ZERO,
    PointId, ReprotectRequest, Request, Result, Seed, Settings,
};
use std::time::Duration;

fn request(context: &Context) -> ReprotectRequest {
    match &context.run.request {
        Request::Reprotect(request) => request.clone(),
        _ => ReprotectRequest::default(),
    }
}

/// Proves the side off that will be replicated to: it stays off from here until hand-over.
pub(super) async fn fence_other(context: &Context) -> Result<Effects> {
    let request = request(context);
    context
        .each(async |mut m| {
            if m.item.state.divergence != Divergence::None && !request.other_side_loses {
                let message = format!(
                    "both sides of {} may hold writes that the other lacks ({:?}); name the other side as the one that loses",
                    m.item.id(), m.item.state.divergence
                );
                return Err(Error::new(ErrorKind::Refused, message));
            }
            if !context.shared.runs(m.item.active()).await? {
                let message = format!("{} does not run; start it first", m.item.active().name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            context.shared.clear(&m.op, &m.item, Some(m.item.active()), &[], None, Duration::ZERO).await?;
            if let Some(previous) = m.item.promotion.as_ref().map(|p| p.previous.clone()) {
                without_snapshots(context, &mut m, &previous, request.consolidate).await?;
            }
            // Looked at before this run opens the timeline itself.
            let existing = context.far.replica.points(m.item.id()).await?;
            m.progress.broken_off |= existing.iter().any(|p| p.pins.iter().any(|pin| pin == POINT_ZERO));
            Ok(m.progress.into())
        })
        .await
}

/// What a machine is to be where it lands: it lands on what was looked at, also where its leg says something else by now.
fn settled(context: &Context, m: &mut Member) -> Settings {
    let asked = request(context).settings;
    let now = || context.far.settings_by(&m.item, asked.as_ref());
    m.progress.landing.get_or_insert_with(now).clone()
}

/// A machine to land on in place has no snapshots: written blocks would fall out of them.
async fn without_snapshots(
    context: &Context,
    m: &mut Member,
    landing: &Instance,
    consolidate: bool,
) -> Result<()> {
    let elsewhere = settled(context, m).location != Location::Original;
    let source = &context.near.source;
    if context.far.store.is_some() || landing.site != source.name() || elsewhere {
        return Ok(());
    }
    let found = source.discover().await?;
    let count = found.iter().find(|f| f.instance.is(landing)).and_then(|f| f.guest.snapshots).unwrap_or(0);
    if count == 0 {
        return Ok(());
    }
    if !consolidate {
        let message = format!("{} has {count} snapshots; remove them, or ask to consolidate", landing.name);
        return Err(Error::new(ErrorKind::Refused, message).with("field", "reprotect.consolidate"));
    }
    source.consolidate(&m.op.part("consolidate"), landing).await?;
    // Change tracking is known to lose blocks in a merge (Broadcom KB 317933): the landing is compared.
    m.progress.broken_off = true;
    m.progress.notes.push(format!("{count} snapshots of {} were merged", landing.name));
    Ok(())
}

/// Opens the timeline of the other direction, as near to the source as what is known allows.
pub(super) async fn seed(context: &Context) -> Result<Effects> {
    let request = request(context);
    context
        .each(async |mut m| {
            let site = context.far.recovery_site.name();
            let settings = settled(context, &mut m);
            let findings = context.far.recovery_site.check(&m.item.machine, &settings).await?;
            if let Some(blocking) = findings.iter().find(|f| f.blocks()) {
                return Err(blocking.error(ErrorKind::Refused));
            }
            let (seed, held) = distance(context, &m, &settings).await?;
            m.progress.ahead = held.is_some();
            m.progress.notes.extend(held);
            m.progress.known = matches!(seed, Seed::Known { landing: Some(_), .. });
            context.far.replica.prepare(&m.op, &m.item.machine, &seed, &settings).await?;
            let events =
                request.settings.iter().map(|s| Event::Set { site: site.clone(), settings: s.clone() });
            Ok(Effect::and(m.progress.clone(), events.collect()))
        })
        .await
}

/// How far the other side's bytes are from the source: what changed on the recovered side since it was armed is the
/// cursor's part; where the other replica's content differs from the booted point is told here. The note says that the
/// other side holds what the booted point lacks.
async fn distance(context: &Context, m: &Member, settings: &Settings) -> Result<(Seed, Option<String>)> {
    let (id, far, leg, source) = (m.item.id(), &context.far, &context.leg, &context.near.source);
    let promotion = m.item.promotion.as_ref();
    let cursor = promotion.and_then(|p| p.armed.cursor.clone());
    let booted = promotion.and_then(|p| p.recovery.as_ref()).map(|r| r.point);
    let existing = far.replica.points(id).await?;
    if far.store.is_some() {
        if existing.is_empty() {
            return Ok((Seed::Fresh, None));
        }
        // A timeline with points: the base of the last failover in that direction is pinned there.
        let base = existing.iter().find(|p| p.pins.iter().any(|pin| pin == PIN)).map(|p| p.id);
        // Only where the way back started from a known distance and shipped by delta does its replica list all that
        // may differ from the base.
        let differs = match booted.filter(|_| m.item.traced) {
            Some(booted) => leg.replica.changed(id, None, booted).await?,
            None => None,
        };
        return Ok(match (base, cursor, differs) {
            (Some(at), Some(cursor), Some(differs)) => {
                (Seed::Known { at: Some(at), landing: None, cursor, differs }, None)
            }
            _ => (Seed::Unknown { landing: None }, None),
        });
    }
    let other = promotion.map(|p| p.previous.clone()).filter(|p| m.item.instances.iter().any(|i| i.is(p)));
    let other =
        other.filter(|o| settings.location == Location::Original && o.site != leg.recovery_site.name());
    // Of a machine elsewhere nothing can be landed on.
    let Some(landing) = other.filter(|other| other.site == source.name()) else {
        return Ok((Seed::Fresh, None));
    };
    let unknown = |why: &str| (Seed::Unknown { landing: Some(landing.clone()) }, Some(why.to_owned()));
    if m.progress.broken_off {
        return Ok(unknown("the landing is compared: a reprotect was broken off, or snapshots were merged"));
    }
    let newest = leg.replica.points(id).await?.last().map(|p| p.id);
    let (Some(cursor), Some(booted), Some(newest)) = (cursor, booted, newest) else {
        return Ok(unknown("the way back compares: not everything that changed is known"));
    };
    let between = leg.replica.changed(id, Some(booted), newest).await?;
    let last = leg.replica.manifest(id, newest).await?.cursor;
    let (Some(between), Some(last)) = (between, last) else {
        return Ok(unknown("the way back compares: the old side's position is not known"));
    };
    if !source.capability().captures_off {
        return Ok(unknown("the way back compares: the old side cannot be read while it is off"));
    }
    let op = m.op.part("since");
    let capture = source.capture(&op, std::slice::from_ref(&landing), Consistency::Crash).await?;
    let since = source.changes(&capture, id, &last).await;
    source.release(&op, &capture, id, Fate::Abandoned).await?;
    match since? {
        Changes::Known(since) => {
            let ahead = (!since.is_empty() || !between.is_empty())
                .then(|| "the old side holds what the booted point lacks".to_owned());
            let differs = between.union(&since);
            Ok((Seed::Known { at: None, landing: Some(landing), cursor, differs }, ahead))
        }
        Changes::Lost { reason } => Ok(unknown(&format!("the way back compares: {reason}"))),
    }
}

/// Seals the first point of the new leg.
pub(super) async fn first_reverse(context: &Context, slot: &Slot) -> Result<Effects> {
    let request = request(context);
    let mut members = context.members();
    let op = unit_op(&members, "copy")?;
    let effort = if request.compare { Effort::Compare } else { Effort::DeltaOrCompare };
    let results =
        replicate(&context.shared, slot, &context.unit, &context.far, &op, Consistency::Crash, effort)
            .await?;
    let sealed = all_sealed(results)?;
    let mut effects = Effects::new();
    for m in &mut members {
        let (id, mut events) = (m.item.id().clone(), vec![]);
        if let Some(s) = sealed.get(&id) {
            m.progress.point = s.point.as_ref().map(|p| p.id);
            (m.progress.shipped, m.progress.changed) = (s.shipped, s.changed);
        }
        let delta = sealed.get(&id).is_some_and(|s| !s.compared);
        events.push(Event::Opened { traced: m.progress.known && delta });
        if let Some((out, back)) = &request.legs {
            events.push(Event::Routed { out: out.clone(), back: back.clone() });
        }
        effects.insert(id, Effect::and(m.progress.clone(), events));
    }
    Ok(effects)
}

/// Now that the new leg has a point of its own: lets go of what was kept until then. What cannot be done now stays owed;
/// it never fails the reprotect.
pub(super) async fn pay_owed(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let (id, far) = (m.item.id().clone(), &context.far);
            let points = far.replica.points(&id).await?;
            let diverged = m.item.state.divergence != Divergence::None;
            if let Some(zero) = points.iter().find(|p| p.id == PointId(0)) {
                let ahead = diverged || m.progress.ahead;
                if ahead && !zero.pins.iter().any(|p| p == LOSING_SIDE) {
                    far.replica.pin(&m.op, &id, zero.id, LOSING_SIDE).await?;
                    m.progress
                        .notes
                        .push("what stood on the other side is kept as point 0, losing side".into());
                }
                far.replica.unpin(&m.op, &id, zero.id, POINT_ZERO).await?;
            }
            let mut events = vec![];
            let turned_out = m.item.state.direction == Direction::RecoveryToPrimary;
            if turned_out {
                for base in points.iter().filter(|p| p.pins.iter().any(|pin| pin == PIN)) {
                    far.replica.unpin(&m.op, &id, base.id, PIN).await?;
                }
                for owed in &m.item.owed {
                    let Owed::Remove { site, instance, seen } = owed else { continue };
                    // It may have been started, and stopped, past everybody who looks.
                    let ran = context.shared.ran_since(instance, seen).await;
                    if diverged || matches!(ran, Ok(true)) {
                        m.progress
                            .notes
                            .push(format!("{} is kept: it holds what the winner lacks", instance.name));
                        events.push(Event::Paid(owed.clone()));
                        continue;
                    }
                    let leg = [&context.leg, far].into_iter().find(|l| &l.recovery_site.name() == site);
                    let Some(leg) = leg else { continue };
                    let op = m.op.part(&instance.name);
                    let gone = async {
                        match ran {
                            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                            _ => leg.recovery_site.destroy(&op, instance).await,
                        }
                    };
                    match context.shared.within(context.shared.deadlines.recovery_site, "remove", gone).await
                    {
                        Ok(()) => {
                            events.extend([Event::Removed(instance.clone()), Event::Paid(owed.clone())])
                        }
                        Err(e) => {
                            m.progress.notes.push(format!("owed: {} is still there: {e}", instance.name))
                        }
                    }
                }
                let mine = |pin: &String| pin == PIN || pin == POINT_ZERO;
                let old = context.leg.replica.points(&id).await.unwrap_or_default();
                if old.iter().any(|p| p.pins.iter().any(|pin| !mine(pin))) {
                    m.progress.notes.push("the way back's points are kept: some are pinned".into());
                    return Ok(Effect::and(m.progress, events));
                }
                let delete = context.leg.replica.delete(&m.op, &id);
                if let Err(e) =
                    context.shared.within(context.shared.deadlines.replica, "delete", delete).await
                {
                    m.progress.notes.push(format!("the way back's points are still there: {e}"));
                }
            }
            Ok(Effect::and(m.progress, events))
        })
        .await
}

/// Rolls an unfinished landing back to what stood there first.
pub(super) async fn restore_landing(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let unfinished = m.item.state.phase == crate::state::Phase::ReprotectFailed
                || (m.item.state.phase == crate::state::Phase::DisablingProtection
                    && m.item.promotion.is_some());
            let landing = context.far.replica.name() == context.far.recovery_site.name();
            if unfinished && landing {
                let sealed =
                    context.far.replica.points(m.item.id()).await?.iter().any(|p| p.id != PointId(0));
                if !sealed {
                    context.far.replica.delete(&m.op, m.item.id()).await?;
                    m.progress.notes.push("the landing stands as it was first".into());
                }
            }
            Ok(m.progress.into())
        })
        .await
}
