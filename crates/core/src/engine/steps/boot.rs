use super::fence::grace;
use super::prepare::recovery_of;
use crate::engine::context::{Context, Effect, Effects};
use crate::engine::survivor::{Survivor, survivors};
use crate::state::{Location, Trigger};
use crate::{
    Armed, Error, ErrorKind, Event, Instance, Leg, Op, Operation, PointId, Promotion, Request, Result, Start,
    Verdict,
};

/// The pivot: proves again that nothing else runs, and records the intent to boot. A group passes it together.
///
/// Where a planned failover finds that somebody ran since the last changes were shipped, they are shipped and prepared
/// again.
pub(super) async fn intend(context: &Context) -> Result<Effects> {
    let planned = context.run.operation == Operation::PlannedFailover;
    context
        .each(async |mut m| {
            let promotion = match (&m.item.promotion, &m.progress.armed) {
                (_, Some(armed)) if context.run.operation != Operation::RetryFailover => Some(Promotion {
                    armed: armed.clone(),
                    recovery: m.progress.recovery.clone(),
                    made_by: m.progress.made_by.clone().unwrap_or_else(|| m.op.key.clone()),
                    previous: match &m.item.promotion {
                        Some(earlier) if !earlier.committed => earlier.previous.clone(),
                        _ => m.item.active().clone(),
                    },
                    booted: None,
                    verdict: None,
                    loss: m.progress.loss.clone(),
                    observed: vec![],
                    committed: false,
                }),
                _ => None,
            };
            let Some(armed) = promotion.as_ref().or(m.item.promotion.as_deref()).map(|p| p.armed.clone())
            else {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("nothing of {} is prepared to boot", m.item.id()),
                ));
            };
            let silent: Vec<Instance> = match promotion {
                Some(_) => m.progress.unproven.clone(),
                None => m.item.unproven.clone(),
            };
            let force = context.force().cloned().or_else(|| inherited(&silent));
            let grace = grace(&context.run.request);
            let clearance = context
                .shared
                .clear(&m.op, &m.item, Some(&armed.instance), &silent, force.as_ref(), grace)
                .await?;
            let seen = |o: &&crate::Observed| !o.instance.is(&armed.instance);
            let before: Vec<_> = m.progress.observed.iter().filter(seen).cloned().collect();
            if planned && before != clearance.observed {
                m.progress.observed = clearance.observed;
                return Ok(Effect { progress: m.progress, events: vec![], again: true });
            }
            let trigger = match context.run.operation {
                Operation::PromoteOther => {
                    Trigger::Promoted(survivor_side(&m.item, &armed.instance, context))
                }
                _ => Trigger::Intended,
            };
            m.progress.unproven.clone_from(&clearance.unproven);
            let events = match promotion.map(|p| Promotion { observed: clearance.observed, ..p }) {
                Some(promotion) => vec![Event::Intended { trigger, promotion, unproven: clearance.unproven }],
                None => vec![],
            };
            Ok(Effect::and(m.progress, events))
        })
        .await
}

fn inherited(silent: &[Instance]) -> Option<crate::Force> {
    (!silent.is_empty()).then(|| crate::Force::by("engine", "answered for at the failover"))
}

fn survivor_side(item: &crate::Item, survivor: &Instance, context: &Context) -> Location {
    let source = item.state.direction.source();
    if survivor.site == context.leg.source.name() { source } else { source.other() }
}

/// Starts the machine. The permit is proven once more, right before.
pub(super) async fn boot(context: &Context) -> Result<Effects> {
    let shared = &context.shared;
    context
        .each(async |mut m| {
            let promotion = m.item.promotion.clone();
            let promotion =
                promotion.ok_or_else(|| Error::new(ErrorKind::Refused, "nothing is prepared to boot"))?;
            let instance = &promotion.armed.instance;
            let force = context.force().cloned().or_else(|| inherited(&m.item.unproven));
            let op = m.op.part("permit");
            let grace = grace(&context.run.request);
            let clearance =
                shared.clear(&op, &m.item, Some(instance), &m.item.unproven, force.as_ref(), grace).await?;
            // The direction may have turned since the run began: the leg that ends where the machine stands.
            let leg = shared.leg_of(&m.item)?;
            let booted = match &promotion.recovery {
                Some(recovery) => {
                    // Edited since the disks were made: a size that can be had, a network that exists.
                    let settings = leg.settings_of(&m.item);
                    let recovery = &crate::Recovery { settings, ..recovery.clone() };
                    tend(context, leg, &m.op, &promotion.armed).await?;
                    let boot = leg.recovery_site.boot(&m.op, recovery, &promotion.armed, clearance.permit);
                    shared.within(shared.deadlines.recovery_site, "boot", boot).await?
                }
                None => {
                    let source = shared.sources.get(&instance.site).ok_or_else(|| {
                        Error::new(
                            ErrorKind::NotFound,
                            format!("no source named {} is known here", instance.site),
                        )
                    })?;
                    let start = source.unfence(&m.op, instance, clearance.permit, Start::Run);
                    let lifted = shared.within(shared.deadlines.source, "unfence", start).await?;
                    crate::Booted { reach: vec![], running: lifted.running }
                }
            };
            if !booted.running {
                let message = format!("{} was started, and does not run now", instance.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            m.progress.booted = Some(booted.clone());
            m.progress.point = promotion.recovery.as_ref().map(|r| r.point);
            m.progress.loss.clone_from(&promotion.loss);
            Ok(Effect::and(m.progress, vec![Event::Booted(booted)]))
        })
        .await
}

/// What the machine stands on may have been served by an engine that is no more.
pub(super) async fn tend(context: &Context, leg: &Leg, op: &Op, armed: &Armed) -> Result<()> {
    let (shared, op) = (&context.shared, op.part("tend"));
    let tended = leg.recovery_site.tend(&op, armed, &leg.replica);
    shared.within(shared.deadlines.recovery_site, "tend", tended).await
}

/// Runs the user's validation. Its verdict is recorded, never acted on here.
pub(super) async fn validate(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let promotion = m.item.promotion.as_ref();
            let (Some(validation), Some(recovery), Some(booted)) =
                (&context.shared.validation, promotion.and_then(|p| p.recovery.as_ref()), &m.progress.booted)
            else {
                return Ok(m.progress.into());
            };
            let limit = context.shared.deadlines.validation;
            let looked = validation.validate(recovery, booted);
            let verdict = context.shared.within(limit, "validation", looked).await;
            let verdict = verdict.unwrap_or_else(|e| Verdict::Bad { reason: e.to_string() });
            m.progress.verdict = Some(verdict.clone());
            Ok(Effect::and(m.progress, vec![Event::Judged(verdict)]))
        })
        .await
}

/// Finds the complete copy of the side that is left, and prepares it.
pub(super) async fn find_survivor(context: &Context) -> Result<Effects> {
    let Request::Promote(request) = &context.run.request else {
        return Err(Error::new(ErrorKind::Refused, "nobody answers for this"));
    };
    let shared = &context.shared;
    let copies = survivors(shared, &context.unit, request.copy).await?;
    context
        .each(async |mut m| {
            let active = m.item.active().clone();
            // One that says that it is off is fenced before the boot; one that is silent is answered for.
            m.progress.unproven = match shared.runs(&active).await {
                Ok(true) => {
                    let message =
                        format!("{} runs; the other side is started only when it is lost", active.name);
                    return Err(Error::new(ErrorKind::Refused, message));
                }
                Ok(false) => vec![],
                Err(_) => vec![active],
            };
            let generation = m.item.lineage.unused();
            match copies[m.item.id()].clone() {
                Survivor::Machine { instance, loss } => {
                    m.progress.loss = Some(loss);
                    let instance = Instance { generation, ..instance };
                    m.progress.armed = Some(Armed { instance, cursor: None, point: PointId(0) });
                }
                Survivor::Point { point, leg, loss } => {
                    let recovery = recovery_of(&leg, &m.item, point.id, generation).await?;
                    m.progress.point = Some(point.id);
                    m.progress.loss = Some(loss);
                    m.progress.made_by = Some(m.op.key.clone());
                    m.progress.armed =
                        Some(leg.recovery_site.materialise(&m.op, &recovery, &leg.replica).await?);
                    m.progress.recovery = Some(recovery);
                }
            }
            Ok(Effect::and(m.progress, vec![Event::Minted(generation)]))
        })
        .await
}

/// Takes back what was prepared of the side that is left.
pub(super) async fn forget_survivor(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let Some(recovery) = m.progress.recovery.take() else { return Ok(m.progress.into()) };
            let made_by = context.key_of(&m.item, crate::Step::FindSurvivor);
            let leg =
                [&context.leg, &context.far].into_iter().find(|l| l.source.name() == m.item.active().site);
            if let Some(leg) = leg {
                leg.recovery_site.withdraw(&m.op.part("withdraw"), &made_by, &recovery).await?;
            }
            Ok(m.progress.into())
        })
        .await
}
