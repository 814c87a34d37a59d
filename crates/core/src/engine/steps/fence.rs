use crate::engine::bench::{Bench, Effect, Effects, Leave};
use crate::state::DrillState;
use crate::{Cutover, Error, ErrorKind, Force, Instance, Request, Result, Shutdown, Start, Step};
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
pub(super) async fn fence(bench: &Bench) -> Result<Effects> {
    let skip = matches!(&bench.run.request, Request::Failover(r)
        if matches!(r.cutover, Cutover::Unplanned { shutdown: Shutdown::Skip, .. }));
    bench
        .each(async |mut m| {
            let active = m.item.active().clone();
            let shared = &bench.shared;
            if m.progress.ran.is_none() && !skip {
                m.progress.ran = shared.runs(&active).await.ok();
            }
            // What was skipped, or did not answer an earlier try of this step, is not asked again.
            let silent: Vec<Instance> = if skip { vec![active.clone()] } else { vec![] };
            let leave = shared.leave(&m.op, &m.item, None, &silent, bench.force(), grace(&bench.run.request));
            let Leave { unproven, observed, .. } = leave.await?;
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
pub(super) async fn unfence(bench: &Bench) -> Result<Effects> {
    let nobody = Force::by("engine", "the journal holds no intent to boot the other side");
    bench
        .each(async |m| {
            if m.progress.unproven.iter().any(|i| i.is(m.item.active())) && m.progress.ran.is_none() {
                // It was never touched, or never answered: settled by the watch when it does.
                return Ok(m.progress.into());
            }
            lift(bench, m.item.active().clone(), m, Start::AsBefore, Some(&nobody)).await
        })
        .await
}

/// Fences the machine that was recovered last, and notes what is being taken back.
pub(super) async fn fence_recovered(bench: &Bench) -> Result<Effects> {
    bench
        .each(async |mut m| {
            let Some(promotion) = &m.item.promotion else {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("{} has no failover to take back", m.item.id()),
                ));
            };
            let (armed, shared) = (promotion.armed.clone(), &bench.shared);
            m.progress.armed = Some(armed);
            m.progress.recovery.clone_from(&promotion.recovery);
            let spared =
                (bench.run.operation == crate::Operation::UndoFailover).then(|| promotion.previous.clone());
            let known = &m.item.unproven;
            let silent: Vec<Instance> =
                known.iter().filter(|i| spared.as_ref().is_none_or(|s| !s.is(i))).cloned().collect();
            let inherited = Force::by("engine", "answered for at the failover");
            let force = bench.force().or((!silent.is_empty()).then_some(&inherited));
            let leave = shared.leave(&m.op, &m.item, spared.as_ref(), &silent, force, GRACE).await?;
            m.progress.unproven = leave.unproven;
            Ok(m.progress.into())
        })
        .await
}

/// Starts the recovered machine again, where it ran: the undo of [`fence_recovered`].
pub(super) async fn unfence_recovered(bench: &Bench) -> Result<Effects> {
    let set_aside = bench.run.tasks.iter().any(|t| t.step == Step::SetAside);
    bench
        .each(async |m| match (&m.item.promotion, m.progress.ran) {
            (Some(promotion), Some(true)) if !set_aside => {
                let instance = promotion.armed.instance.clone();
                let force = bench.force().cloned();
                lift(bench, instance, m, Start::AsBefore, force.as_ref()).await
            }
            _ => Ok(m.progress.into()),
        })
        .await
}

async fn lift(
    bench: &Bench,
    instance: Instance,
    m: crate::engine::bench::Member,
    start: Start,
    force: Option<&Force>,
) -> Result<Effect> {
    let shared = &bench.shared;
    let op = m.op.part("lift");
    let source = shared.sources.get(&instance.site).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("no source named {} is known here", instance.site))
    })?;
    let leave = shared.leave(&op, &m.item, Some(&instance), &[], force, Duration::ZERO).await?;
    shared
        .within(shared.deadlines.source, "unfence", source.unfence(&op, &instance, leave.permit, start))
        .await?;
    Ok(m.progress.into())
}

/// Whether a drill of this item is becoming a failover.
pub(super) fn promotes_drill(item: &crate::Item) -> bool {
    item.state.drill == DrillState::Promoting
}
