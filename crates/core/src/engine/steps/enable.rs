use crate::engine::context::{Context, Effect, Effects};
use crate::engine::replicate::{Effort, all_sealed, replicate, unit_op};
use crate::engine::shared::Slot;
use crate::state::Trigger;
use crate::{Consistency, Event, LOSING_SIDE, Result, Seed};

/// Marks the machine at its source.
pub(super) async fn enrol(context: &Context) -> Result<Effects> {
    context
        .each(async |m| {
            context.leg.source.enrol(&m.op, &m.item.machine).await?;
            Ok(m.progress.into())
        })
        .await
}

/// Opens the timeline.
pub(super) async fn open(context: &Context) -> Result<Effects> {
    context
        .each(async |m| {
            let settings = context.leg.settings_of(&m.item);
            context.leg.replica.prepare(&m.op, &m.item.machine, &Seed::Fresh, &settings).await?;
            Ok(Effect::and(m.progress, vec![Event::Moved(Trigger::Enabled)]))
        })
        .await
}

/// Seals the first point.
pub(super) async fn first_copy(context: &Context, slot: &Slot) -> Result<Effects> {
    ship(context, slot, Effort::DeltaOrCompare).await
}

pub(crate) const BEFORE_RESYNC: &str = "before resync";

/// Pins the newest point, so that what the comparison overwrites stays openable: where somebody wrote to the disks that
/// are landed on, as the losing side, until an operator lets go of it; else until the next resync.
pub(super) async fn keep_newest(context: &Context) -> Result<Effects> {
    let replica = &context.leg.replica;
    context
        .each(async |m| {
            let points = replica.points(m.item.id()).await?;
            let Some(newest) = points.last() else { return Ok(m.progress.into()) };
            if context.leg.store.is_none() && m.item.written_outside {
                replica.pin(&m.op, m.item.id(), newest.id, LOSING_SIDE).await?;
            }
            replica.pin(&m.op, m.item.id(), newest.id, BEFORE_RESYNC).await?;
            for old in
                points.iter().filter(|p| p.id != newest.id && p.pins.iter().any(|pin| pin == BEFORE_RESYNC))
            {
                replica.unpin(&m.op.part(&old.id.to_string()), m.item.id(), old.id, BEFORE_RESYNC).await?;
            }
            Ok(m.progress.into())
        })
        .await
}

/// Compares both sides whole and ships what differs.
pub(super) async fn resync(context: &Context, slot: &Slot) -> Result<Effects> {
    ship(context, slot, Effort::Compare).await
}

async fn ship(context: &Context, slot: &Slot, effort: Effort) -> Result<Effects> {
    let mut members = context.members();
    let op = unit_op(&members, "copy")?;
    let results =
        replicate(&context.shared, slot, &context.unit, &context.leg, &op, Consistency::Crash, effort)
            .await?;
    let sealed = all_sealed(results)?;
    for m in &mut members {
        if let Some(s) = sealed.get(m.item.id()) {
            m.progress.point = s.point.as_ref().map(|p| p.id);
            (m.progress.shipped, m.progress.changed) = (s.shipped, s.changed);
        }
    }
    Ok(members.into_iter().map(|m| (m.item.id().clone(), m.progress.into())).collect())
}
