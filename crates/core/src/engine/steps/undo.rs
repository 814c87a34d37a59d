use crate::engine::context::{Context, Effect, Effects};
use crate::{Error, ErrorKind, Event, Force, Instance, Operation, Owed, Result, Start};
use std::time::Duration;

use super::boot::tend;
use super::prepare::PIN;

/// Takes the machine that was recovered out of the way; its disks stay openable.
pub(super) async fn set_aside(context: &Context) -> Result<Effects> {
    let (shared, leg) = (&context.shared, &context.leg);
    context
        .each(async |mut m| {
            let Some(armed) =
                m.progress.armed.clone().filter(|_| !changed_already(context)).or_else(|| earlier(&m.item))
            else {
                return Ok(m.progress.into());
            };
            let silent = m.progress.unproven.iter().any(|u| u.is(&armed.instance));
            let aside = async {
                tend(context, leg, &m.op, &armed).await?;
                let aside = leg.recovery_site.set_aside(&m.op, &armed.instance);
                shared.within(shared.deadlines.recovery_site, "set aside", aside).await
            };
            match aside.await {
                Ok(kept) => {
                    if context.run.operation == Operation::UndoFailover {
                        match leg.replica.unpin(&m.op, m.item.id(), armed.point, PIN).await {
                            Err(e) if e.kind() == ErrorKind::NotFound => {}
                            other => other?,
                        }
                        m.progress.notes.push(format!("{} is kept as before undo", kept.name));
                    }
                    m.progress.armed = None;
                    Ok(Effect::and(
                        m.progress,
                        vec![Event::SetAside { was: armed.instance, kept, stands: leg.store.is_none() }],
                    ))
                }
                Err(e) if silent && e.kind() == ErrorKind::Unavailable => {
                    m.progress
                        .notes
                        .push(format!("owed: {} does not answer and is to be fenced", armed.instance.name));
                    Ok(Effect::and(m.progress, vec![Event::Owes(Owed::Fence(armed.instance))]))
                }
                Err(e) => Err(e),
            }
        })
        .await
}

fn changed_already(context: &Context) -> bool {
    context.run.operation == Operation::ChangePit && context.run.done(crate::Step::Materialise)
}

fn earlier(item: &crate::Item) -> Option<crate::Armed> {
    item.promotion.as_ref().map(|p| p.armed.clone())
}

/// The pivot of an undo: proves everything off but the source, and records the intent to start it.
pub(super) async fn intend_source(context: &Context) -> Result<Effects> {
    context
        .each(async |mut m| {
            let promotion = m.item.promotion.as_ref();
            let previous = promotion.map(|p| p.previous.clone());
            let previous =
                previous.ok_or_else(|| Error::new(ErrorKind::Refused, "nothing is left to take back"))?;
            let silent: Vec<Instance> = m.progress.unproven.clone();
            let force = context.force().cloned();
            let clearance = context
                .shared
                .clear(&m.op, &m.item, Some(&previous), &silent, force.as_ref(), Duration::ZERO)
                .await?;
            m.progress.unproven.clone_from(&clearance.unproven);
            Ok(Effect::and(m.progress, vec![Event::SourceIntended { unproven: clearance.unproven }]))
        })
        .await
}

/// Starts the source, if it does not run.
pub(super) async fn start_source(context: &Context) -> Result<Effects> {
    let shared = &context.shared;
    context
        .each(async |m| {
            let instance = m.item.active();
            let source = &context.leg.source;
            let answered = Force::by("engine", "answered for at the undo");
            let force = context.force().or((!m.item.unproven.is_empty()).then_some(&answered));
            let op = m.op.part("permit");
            let clearance =
                shared.clear(&op, &m.item, Some(instance), &m.item.unproven, force, Duration::ZERO).await?;
            let start = source.unfence(&m.op, instance, clearance.permit, Start::Run);
            let lifted = shared.within(shared.deadlines.source, "unfence", start).await?;
            if !lifted.running {
                return Err(Error::new(ErrorKind::Refused, format!("{} does not start", instance.name)));
            }
            Ok(m.progress.into())
        })
        .await
}
