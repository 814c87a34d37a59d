use crate::engine::context::{Clearance, Context, Effect, Effects};
use crate::state::DrillState;
use crate::{
    Cutover, Error, ErrorKind, Event, Force, Instance, Owed, Request, Result, Shutdown, Start, Step,
};
use std::time::Duration;

/// Guests have this long when a request says nothing.
const GRACE: Duration = Duration::from_secs(120);

pub(super) fn grace(request: &Request) -> Duration {
    match request {
        Request::Failover(r) => match &r.cutover {
            Cutover::Unplanned { shutdown: Shutdown::Try { limit }, .. } => r.grace.min(*limit),
            _ => r.grace,
        },
        _ => GRACE,
    }
}

/// Proves every instance of each member off, as far as the request demands.
pub(super) async fn fence(context: &Context) -> Result<Effects> {
    let skip = matches!(&context.run.request, Request::Failover(r)
        if matches!(r.cutover, Cutover::Unplanned { shutdown: Shutdown::Skip, .. }));
    context
        .each(async |mut m| {
            let active = m.item.active().clone();
            let shared = &context.shared;
            if m.progress.ran.is_none() && !skip {
                m.progress.ran = shared.runs(&active).await.ok();
            }
            // What was skipped, or did not answer an earlier try of this step, is not asked again.
            let silent: Vec<Instance> = if skip { vec![active.clone()] } else { vec![] };
            let clearance =
                shared.clear(&m.op, &m.item, None, &silent, context.force(), grace(&context.run.request));
            let Clearance { unproven, observed, .. } = clearance.await?;
            m.progress.fenced_at = unproven.is_empty().then(|| shared.clock.now());
            if !unproven.is_empty() {
                let names: Vec<&str> = unproven.iter().map(|i| i.name.as_str()).collect();
                m.progress.notes.push(format!("not proven off: {}", names.join(", ")));
            }
            (m.progress.unproven, m.progress.observed) = (unproven, observed);
            Ok(m.progress.into())
        })
        .await
}

/// Lifts the fence and starts again what ran before: the undo of [`fence`].
///
/// Nothing was booted on the other side, since the intent is not recorded: where that side does not answer, the missing
/// intent stands for reading it back.
pub(super) async fn unfence(context: &Context) -> Result<Effects> {
    let nobody = Force::by("engine", "the journal holds no intent to boot the other side");
    context
        .each(async |m| {
            if m.progress.unproven.iter().any(|i| i.is(m.item.active())) && m.progress.ran.is_none() {
                // It was never touched, or never answered: settled by the watch when it does.
                let owed = Event::Owes(Owed::Lift(m.item.active().clone()));
                return Ok(Effect::and(m.progress, vec![owed]));
            }
            lift(context, m.item.active().clone(), m, Start::AsBefore, Some(&nobody)).await
        })
        .await
}

/// Fences the machine that was recovered last, and notes what is being taken back.
pub(super) async fn fence_recovered(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let Some(promotion) = &m.item.promotion else {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("{} has no failover to take back", m.item.id()),
                ));
            };
            let (armed, shared) = (promotion.armed.clone(), &context.shared);
            if context.run.operation == crate::Operation::UndoFailover {
                // Nothing is stopped for a source that does not answer.
                shared.runs(&promotion.previous).await?;
            }
            m.progress.armed = Some(armed);
            let spared =
                (context.run.operation == crate::Operation::UndoFailover).then(|| promotion.previous.clone());
            let known = &m.item.unproven;
            let silent: Vec<Instance> =
                known.iter().filter(|i| spared.as_ref().is_none_or(|s| !s.is(i))).cloned().collect();
            let inherited = Force::by("engine", "answered for at the failover");
            let force = context.force().or((!silent.is_empty()).then_some(&inherited));
            let clearance = shared.clear(&m.op, &m.item, spared.as_ref(), &silent, force, GRACE).await?;
            m.progress.unproven = clearance.unproven;
            Ok(m.progress.into())
        })
        .await
}

/// Starts the recovered machine again, where it ran: the undo of [`fence_recovered`].
pub(super) async fn unfence_recovered(context: &Context) -> Result<Effects> {
    let set_aside = context.run.tasks.iter().any(|t| t.step == Step::SetAside);
    context
        .each(async |m| match (&m.item.promotion, m.progress.ran) {
            (Some(promotion), Some(true)) if !set_aside => {
                let instance = promotion.armed.instance.clone();
                let inherited = Force::by("engine", "answered for at the failover");
                let force = context.force().cloned().or((!m.item.unproven.is_empty()).then_some(inherited));
                lift(context, instance, m, Start::AsBefore, force.as_ref()).await
            }
            _ => Ok(m.progress.into()),
        })
        .await
}

async fn lift(
    context: &Context,
    instance: Instance,
    m: crate::engine::context::Member,
    start: Start,
    force: Option<&Force>,
) -> Result<Effect> {
    let shared = &context.shared;
    let op = m.op.part("lift");
    let source = shared.sources.get(&instance.site).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("no source named {} is known here", instance.site))
    })?;
    let clearance = shared.clear(&op, &m.item, Some(&instance), &[], force, Duration::ZERO).await?;
    let unfence = source.unfence(&op, &instance, clearance.permit, start);
    let lifted = shared.within(shared.deadlines.source, "unfence", unfence).await?;
    if m.progress.ran == Some(true) && !lifted.running {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} ran before, and does not start again", instance.name),
        ));
    }
    Ok(m.progress.into())
}

/// Whether a drill of this item is becoming a failover.
pub(super) fn promotes_drill(item: &crate::Item) -> bool {
    item.state.drill == DrillState::Promoting
}
