use super::prepare::PIN;
use crate::engine::context::{Context, Effect, Effects};
use crate::engine::shared::Shared;
use crate::state::{Direction, Divergence, Trigger};
use crate::{CommitRequest, Error, ErrorKind, Event, Item, Operation, Owed, Request, Result, Verdict};

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
            let drop: Vec<_> =
                points.iter().map(|p| p.id).filter(|p| Some(*p) != base && Some(*p) != newest).collect();
            let dropped = replica.prune(&m.op, m.item.id(), &drop).await?;
            let kept = points.iter().filter(|p| !dropped.contains(&p.id));
            for point in kept {
                let why =
                    match (Some(point.id) == base, point.pins.iter().find(|p| *p != PIN), point.locked_until)
                    {
                        (true, ..) => "the way back starts from it".to_owned(),
                        (_, Some(pin), _) => format!("pinned: {pin}"),
                        (.., Some(until)) => format!("locked until {until}"),
                        _ => "it is the newest".to_owned(),
                    };
                m.progress.notes.push(format!("point {} is kept: {why}", point.id));
            }
            if context.run.operation == Operation::CompleteMigration {
                m.progress.notes.push("the old side stays fenced".into());
            }
            Ok(m.progress.into())
        })
        .await
}
