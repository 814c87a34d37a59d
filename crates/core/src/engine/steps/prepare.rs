use super::fence::{grace, promotes_drill};
use crate::engine::choose::choose;
use crate::engine::context::{Context, Effect, Effects};
use crate::engine::replicate::{Effort, all_sealed, replicate, unit_op};
use crate::engine::shared::Slot;
use crate::state::Trigger;
use crate::{
    Consistency, Cutover, DataLoss, Error, ErrorKind, Event, Fenced, Generation, Item, Leg, Operation, Owed,
    PointChoice, PointId, Purpose, Recovery, Request, Result, Step,
};
use std::collections::BTreeMap;

/// Why the point of a failover is kept.
pub(crate) const PIN: &str = "failover";

/// How often the last delta is shipped again because somebody starts the source in between.
const ROUNDS: u32 = 4;

/// Raises the epoch where the operation will act.
pub(super) async fn claim(context: &Context) -> Result<Effects> {
    let shared = &context.shared;
    context
        .each(async |mut m| {
            // Durable before the fence, so that going back knows it also after a crash.
            if let Some(instance) = will_be_fenced(context, &m.item) {
                m.progress.ran = shared.runs(instance).await.ok();
            }
            let (leg, id) = (&context.leg, m.item.id());
            let claims = async |leg: &crate::Leg| {
                leg.replica.claim(&m.op, id).await?;
                leg.recovery_site.claim(&m.op, id).await
            };
            let mine = shared.within(shared.deadlines.replica, "claim", claims(leg)).await;
            match mine {
                // With somebody who answers for silence, an undo goes on without the recovered side.
                Err(e)
                    if e.kind() == ErrorKind::Unavailable
                        && context.force().is_some()
                        && may_be_silent(context) =>
                {
                    m.progress.notes.push(format!("not claimed: {e}"));
                }
                other => other?,
            }
            if context.run.operation == Operation::ReverseReplicate {
                shared.within(shared.deadlines.replica, "claim", claims(&context.far)).await?;
            }
            Ok(m.progress.into())
        })
        .await
}

/// The machine that this operation will stop; not of an unplanned failover, which asks the failed site for nothing but its
/// bounded shutdown.
fn will_be_fenced<'a>(context: &Context, item: &'a crate::Item) -> Option<&'a crate::Instance> {
    match context.run.operation {
        Operation::PlannedFailover => Some(item.active()),
        Operation::UndoFailover | Operation::ChangePit => item.promotion.as_ref().map(|p| &p.armed.instance),
        _ => None,
    }
}

fn may_be_silent(context: &Context) -> bool {
    matches!(context.run.operation, Operation::UndoFailover)
}

/// Ships what was written last. Planned: until nothing ran between the fence and the seal. Unplanned, to the latest
/// point, with a fence: the same once, if it can be had. Without a fence: only what was received already is drained.
pub(super) async fn ship_last(context: &Context, slot: &Slot) -> Result<Effects> {
    let (shared, leg) = (&context.shared, &context.leg);
    let Request::Failover(request) = &context.run.request else {
        return context.each(async |m| Ok(m.progress.into())).await;
    };
    let mut members = context.members();
    let fenced = members.iter().all(|m| m.progress.unproven.is_empty());
    match request.cutover {
        Cutover::Planned { verify } => {
            for round in 0..ROUNDS {
                let op = unit_op(&members, &format!("last-{round}"))?;
                let results = replicate(
                    shared,
                    slot,
                    &context.unit,
                    leg,
                    &op,
                    Consistency::Crash,
                    Effort::DeltaOrCompare,
                )
                .await?;
                add(&mut members, all_sealed(results)?);
                if verify {
                    let op = unit_op(&members, &format!("verify-{round}"))?;
                    let results =
                        replicate(shared, slot, &context.unit, leg, &op, Consistency::Crash, Effort::Compare)
                            .await?;
                    let compared = all_sealed(results)?;
                    for m in &mut members {
                        if let Some(found) = compared.get(m.item.id()).filter(|s| s.changed > 0) {
                            m.progress.notes.push(format!(
                                "the last delta had left out {} bytes; they were shipped",
                                found.changed
                            ));
                        }
                    }
                    add(&mut members, compared);
                }
                let mut quiet = true;
                for m in &mut members {
                    let op = m.op.part(&format!("again-{round}"));
                    let proof =
                        Fenced::prove(&op, &m.item, None, &shared.sources, grace(&context.run.request))
                            .await?;
                    quiet &= proof.observed() == m.progress.observed.as_slice();
                    m.progress.observed = proof.observed().to_vec();
                    m.progress.shipped_last = true;
                }
                if quiet {
                    return Ok(members
                        .into_iter()
                        .map(|m| (m.item.id().clone(), m.progress.into()))
                        .collect());
                }
            }
            Err(Error::new(
                ErrorKind::Refused,
                "somebody keeps starting the machine; a planned failover never goes on then",
            ))
        }
        Cutover::Unplanned { .. } if request.point != PointChoice::Latest => {
            Ok(members.into_iter().map(|m| (m.item.id().clone(), m.progress.into())).collect())
        }
        Cutover::Unplanned { .. } => {
            if fenced {
                let op = unit_op(&members, "last")?;
                let limit = shared.deadlines.drain;
                let last = async {
                    let mut tries = 1;
                    loop {
                        let effort = Effort::DeltaOrCompare;
                        let results =
                            replicate(shared, slot, &context.unit, leg, &op, Consistency::Crash, effort)
                                .await;
                        match results.and_then(all_sealed) {
                            Err(error) if error.is_temporary() && tries < shared.deadlines.tries => {
                                tries += 1
                            }
                            other => break other,
                        }
                    }
                };
                match shared.within(limit, "last changes", last).await {
                    Ok(sealed) => {
                        add(&mut members, sealed);
                        members.iter_mut().for_each(|m| m.progress.shipped_last = true);
                    }
                    Err(error) => {
                        members.iter_mut().for_each(|m| {
                            m.progress.notes.push(format!("last changes not shipped: {error}"))
                        });
                    }
                }
            }
            for m in &mut members {
                let drain = leg.process_server.drain(&m.op, m.item.id(), &leg.replica);
                if let Err(error) = shared.within(shared.deadlines.drain, "drain", drain).await {
                    m.progress.notes.push(format!("spool not drained: {error}"));
                }
            }
            Ok(members.into_iter().map(|m| (m.item.id().clone(), m.progress.into())).collect())
        }
    }
}

fn add(
    members: &mut [crate::engine::context::Member],
    sealed: BTreeMap<crate::MachineId, crate::engine::replicate::Sealed>,
) {
    for m in members {
        if let Some(s) = sealed.get(m.item.id()) {
            m.progress.shipped += s.shipped;
            m.progress.changed += s.changed;
        }
    }
}

/// Chooses the point of each member, one cut for a group, and an unused generation. Changes nothing: what is chosen is
/// known before it is pinned, so that the pin can be taken back whatever happens in between.
pub(super) async fn choose_point(context: &Context) -> Result<Effects> {
    let (shared, leg) = (&context.shared, &context.leg);
    let mut points = BTreeMap::new();
    for item in &context.unit.members {
        let listed = leg.replica.points(item.id());
        let listed = shared.within(shared.deadlines.replica, "points", listed).await?;
        points.insert(item.id().clone(), item.with_proofs(listed));
    }
    let choice = match &context.run.request {
        Request::Failover(r) => r.point,
        Request::Change(point) => *point,
        Request::Drill(r) => r.point,
        _ => PointChoice::LatestProcessed,
    };
    let promotes = context.run.operation == Operation::PromoteTestFailover;
    let chosen = if promotes && context.unit.members.iter().all(promotes_drill) {
        let drill = |i: &crate::Item| Some((i.id().clone(), i.drill.as_ref()?.recovery.point));
        context.unit.members.iter().filter_map(drill).collect()
    } else {
        choose(&points, choice)?
    };
    let accept = matches!(&context.run.request, Request::Failover(r) if r.accept_unverified);
    context
        .each(async |mut m| {
            let id = m.item.id().clone();
            let point = chosen.get(&id).copied().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no point for {id}")))?;
            let listed = points[&id].iter().find(|p| p.id == point);
            if listed.is_some_and(|p| !p.verified) && !accept {
                let message = format!("point {point} of {id} rests on disks that somebody else may have changed; resynchronise, or accept it by name");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            let generation = m.item.lineage.unused();
            let recovery = recovery_of(leg, &m.item, point, generation).await?;
            let taken = recovery.taken;
            m.progress.recovery = Some(recovery);
            m.progress.point = Some(point);
            let newest = points[&id].last().is_some_and(|p| p.id == point);
            let until = m.progress.fenced_at.unwrap_or_else(|| shared.clock.now());
            m.progress.loss = Some(match m.progress.shipped_last && newest {
                true => DataLoss::none(taken),
                false => DataLoss::since(taken, until),
            });
            let ahead = !m.progress.shipped_last || !newest;
            let fenced = m.progress.unproven.is_empty();
            let none = m.item.state.divergence == crate::state::Divergence::None;
            let mut events = vec![Event::Minted(generation)];
            if ahead && fenced && none {
                events.push(Event::Moved(Trigger::FoundAhead));
            }
            Ok(Effect::and(m.progress, events))
        })
        .await
}

/// What a failover to this point recovers. Point zero was never sealed: it is what stood there before the first byte came,
/// under the description that is known.
pub(super) async fn recovery_of(
    leg: &Leg,
    item: &Item,
    point: PointId,
    generation: Generation,
) -> Result<Recovery> {
    let settings = leg.settings_of(item);
    if point != PointId(0) {
        let manifest = leg.replica.manifest(item.id(), point).await?;
        return Ok(Recovery::of(manifest, point, generation, Purpose::Failover, settings));
    }
    let points = leg.replica.points(item.id()).await?;
    let zero = points.iter().find(|p| p.id == point);
    let zero = zero.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no point zero any more"))?;
    Ok(Recovery {
        machine: item.machine.clone(),
        sidecars: vec![],
        point,
        taken: zero.taken,
        consistency: zero.consistency,
        generation,
        purpose: Purpose::Failover,
        settings,
    })
}

/// Keeps the chosen point: from here on nothing drops it.
pub(super) async fn pin_point(context: &Context) -> Result<Effects> {
    context
        .each(async |m| {
            if let Some(point) = m.progress.point {
                context.leg.replica.pin(&m.op, m.item.id(), point, PIN).await?;
            }
            Ok(m.progress.into())
        })
        .await
}

/// Takes the pin back, unless an earlier run holds the same point. A replica that does not do it owes it: going back is
/// never held up by a pin.
pub(super) async fn unpin_point(context: &Context) -> Result<Effects> {
    let (shared, replica) = (&context.shared, &context.leg.replica);
    context
        .each(async |mut m| {
            let held = m.item.promotion.as_ref().map(|p| p.armed.point);
            let Some(point) = m.progress.point.filter(|p| Some(*p) != held) else {
                return Ok(m.progress.into());
            };
            let unpin = replica.unpin(&m.op, m.item.id(), point, PIN);
            match shared.within(shared.deadlines.replica, "unpin", unpin).await {
                Err(e) if e.kind() == ErrorKind::StaleEpoch => Err(e),
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    m.progress.notes.push(format!("owed: the pin of point {point}: {e}"));
                    let owed = Owed::Unpin { replica: replica.name(), point, why: PIN.into() };
                    Ok(Effect::and(m.progress, vec![Event::Owes(owed)]))
                }
                _ => Ok(m.progress.into()),
            }
        })
        .await
}

/// Prepares the disks, and the guest on them.
pub(super) async fn materialise(context: &Context) -> Result<Effects> {
    let (shared, leg) = (&context.shared, &context.leg);
    context
        .each(async |mut m| {
            let recovery = m
                .progress
                .recovery
                .clone()
                .ok_or_else(|| Error::new(ErrorKind::Refused, "no point is chosen"))?;
            let armed = leg.recovery_site.materialise(&m.op, &recovery, &leg.replica).await?;
            if let Some(preparation) = &shared.preparation {
                preparation.prepare(&recovery, &armed).await?;
            }
            m.progress.made_by = Some(m.op.key.clone());
            m.progress.armed = Some(armed);
            Ok(m.progress.into())
        })
        .await
}

/// Takes back what was prepared. A side that does not answer owes it: nothing there was ever asked to boot.
pub(super) async fn withdraw(context: &Context) -> Result<Effects> {
    let (shared, leg) = (&context.shared, &context.leg);
    context
        .each(async |mut m| {
            let Some(recovery) = m.progress.recovery.clone() else { return Ok(m.progress.into()) };
            let made_by = context.key_of(&m.item, Step::Materialise);
            let op = m.op.part("withdraw");
            let withdrawn = leg.recovery_site.withdraw(&op, &made_by, &recovery);
            m.progress.armed = None;
            match shared.within(shared.deadlines.recovery_site, "withdraw", withdrawn).await {
                Err(e) if e.kind() != ErrorKind::StaleEpoch => {
                    m.progress.notes.push(format!("owed: what was prepared could not be removed: {e}"));
                    let owed = Owed::Withdraw { site: leg.recovery_site.name(), made_by, recovery };
                    Ok(Effect::and(m.progress, vec![Event::Owes(owed)]))
                }
                other => other.map(|()| m.progress.into()),
            }
        })
        .await
}
