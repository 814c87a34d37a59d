use super::probe::judged;
use crate::engine::choose::choose;
use crate::engine::context::{Context, Effect, Effects, Member};
use crate::state::{DrillState, Trigger};
use crate::{
    BootPermit, DataLoss, Drill, DrillRequest, Error, ErrorKind, Event, Operation, PointChoice, Purpose,
    Recovery, Request, Result, Step,
};
use std::collections::BTreeMap;

pub(crate) const DRILL_PIN: &str = "drill";

/// Chooses the drill's point. A point older than three times the interval is refused unless asked for by
/// name: a drill of stale data proves little. A boot proof takes the newest point however old it is, since a failover would.
pub(super) async fn choose_point(context: &Context) -> Result<Effects> {
    let (shared, leg) = (&context.shared, &context.leg);
    let request = match &context.run.request {
        Request::Drill(request) => request.clone(),
        _ => DrillRequest::default(),
    };
    let mut points = BTreeMap::new();
    for item in &context.unit.members {
        points.insert(item.id().clone(), item.with_proofs(leg.replica.points(item.id()).await?));
    }
    let proof = context.run.operation == Operation::VerifyBoot;
    let lives = if proof { shared.deadlines.validation } else { request.expires_after };
    let chosen = choose(&points, request.point)?;
    context
        .each(async |mut m| {
            let id = m.item.id();
            let point = *chosen.get(id).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no point for {id}")))?;
            let manifest = leg.replica.manifest(id, point).await?;
            let newest = points[id].last().map_or(manifest.taken, |p| p.taken);
            let age = shared.clock.now().since(newest);
            let stale = age > 3 * m.item.policy.interval;
            if stale && !proof && !matches!(request.point, PointChoice::Custom(_)) {
                let message = format!("the newest point of {id} is {age:?} old, more than three intervals; name it to drill it all the same");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            let settings = leg.settings_of(&m.item);
            let network = request.network.clone().or_else(|| settings.test_network.clone());
            let network = network.unwrap_or_else(|| "isolated".into());
            if settings.network.as_ref() == Some(&network) {
                let rule = "a drill cannot reach the production network";
                return Err(Error::invalid("drill.network", network, rule, "name an isolated network"));
            }
            let generation = m.item.lineage.unused();
            let recovery = Recovery::of(manifest, point, generation, Purpose::Drill, settings);
            let drill = Drill {
                recovery,
                made_by: context.key_of(&m.item, Step::DrillPrepare),
                armed: None,
                booted: None,
                network,
                expires: shared.clock.now().after(lives),
                proof,
            };
            m.progress.point = Some(point);
            let mut events = vec![];
            if proof {
                m.progress.loss = Some(DataLoss::since(drill.recovery.taken, shared.clock.now()));
                let gone = m.item.boots_of_none(&points[m.item.id()]);
                events.extend((!gone.is_empty()).then_some(Event::BootForgotten(gone)));
            }
            events.push(Event::DrillBegan(drill));
            Ok(Effect::and(m.progress, events))
        })
        .await
}

/// Pins the point, prepares the disks, and the guest on them. The drill is journalled by now, so that whatever this does is
/// found again.
pub(super) async fn prepare(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let Drill { recovery, .. } = existing(&m.item)?.clone();
            context.leg.replica.pin(&m.op.part("pin"), m.item.id(), recovery.point, DRILL_PIN).await?;
            let prepared = async {
                let armed =
                    context.leg.recovery_site.materialise(&m.op, &recovery, &context.leg.replica).await?;
                if let Some(preparation) = &context.shared.preparation {
                    preparation.prepare(&recovery, &armed).await?;
                }
                Ok(armed)
            };
            let prepared = prepared.await;
            let armed = judged(context, &mut m, prepared)?;
            let events = armed.map(|armed| Event::DrillMoved { armed, booted: None });
            Ok(Effect::and(m.progress, events.into_iter().collect()))
        })
        .await
}

/// Starts it in its network.
pub(super) async fn boot(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let drill = existing(&m.item)?.clone();
            if m.progress.verdict.is_some() {
                return Ok(m.progress.into());
            }
            let no_disks = || Error::new(ErrorKind::Refused, "the drill has no disks");
            let armed = drill.armed.clone().ok_or_else(no_disks)?;
            m.progress.boot_asked = drill.proof.then(|| context.shared.clock.now());
            let permit = BootPermit::Isolated { network: drill.network.clone() };
            super::boot::tend(context, &context.leg, &m.op, &armed).await?;
            let boot = context.leg.recovery_site.boot(&m.op, &drill.recovery, &armed, permit);
            let booted = context.shared.within(context.shared.deadlines.recovery_site, "boot", boot).await;
            let Some(booted) = judged(context, &mut m, booted)? else { return Ok(m.progress.into()) };
            m.progress.booted = Some(booted.clone());
            if let Some(validation) = context.shared.validation.as_ref().filter(|_| !drill.proof) {
                let looked = validation.validate(&drill.recovery, &booted);
                let limit = context.shared.deadlines.validation;
                m.progress.verdict = context.shared.within(limit, "validation", looked).await.ok();
            }
            Ok(Effect::and(m.progress, vec![Event::DrillMoved { armed, booted: Some(booted) }]))
        })
        .await
}

pub(super) fn existing(item: &crate::Item) -> Result<&Drill> {
    item.drill
        .as_deref()
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{} has no drill", item.id())))
}

/// Removes it: machine, disks, pin. Also what was only half made.
pub(super) async fn remove(context: &Context) -> Result<Effects> {
    // Drills run at the recovery side of the way out, whichever way the item replicates now.
    context
        .each(async |mut m| {
            let Some(drill) = m.item.drill.clone() else {
                // It never got as far as a point.
                let left = !matches!(m.item.state.drill, DrillState::None | DrillState::Promoting);
                return Ok(Effect::and(m.progress, if left { gone_from(&m.item) } else { vec![] }));
            };
            let mut removed = gone(context, &m, &drill).await;
            for _ in 1..context.shared.deadlines.tries {
                if !removed.as_ref().is_err_and(crate::Error::is_temporary) {
                    break;
                }
                context.shared.clock.sleep(context.shared.deadlines.retry_after).await;
                removed = gone(context, &m, &drill).await;
            }
            let moving = matches!(m.item.state.drill, DrillState::CleanupInitiated | DrillState::Promoting);
            let begin = Event::Moved(Trigger::Begin(Operation::TestFailoverCleanup));
            let mut events = if moving { vec![] } else { vec![begin] };
            let own = matches!(
                context.run.operation,
                Operation::PromoteTestFailover | Operation::Commit | Operation::CompleteMigration
            );
            match removed {
                Ok(()) => events.push(Event::DrillGone),
                // A drill that is left over never holds up a failover or its commit.
                Err(error) if own && error.kind() != ErrorKind::StaleEpoch => {
                    m.progress.notes.push(format!("the drill is still there: {error}"));
                    events.push(Event::Moved(Trigger::DrillCleanupFailed));
                }
                Err(error) => return Err(error),
            }
            Ok(Effect::and(m.progress, events))
        })
        .await
}

/// The events by which a drill ends, from whatever state it is in.
fn gone_from(item: &crate::Item) -> Vec<Event> {
    match item.state.drill {
        DrillState::CleanupInitiated | DrillState::Promoting => vec![Event::DrillGone],
        _ => vec![Event::Moved(Trigger::Begin(Operation::TestFailoverCleanup)), Event::DrillGone],
    }
}

async fn gone(context: &Context, m: &Member, drill: &Drill) -> Result<()> {
    let leg = context.shared.leg(&m.item.out)?;
    match &drill.armed {
        Some(armed) => leg.recovery_site.destroy(&m.op, &armed.instance).await?,
        None => leg.recovery_site.withdraw(&m.op, &drill.made_by, &drill.recovery).await?,
    }
    match leg.replica.unpin(&m.op, m.item.id(), drill.recovery.point, DRILL_PIN).await {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
