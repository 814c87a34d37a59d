use crate::engine::bench::{Bench, Effect, Effects};
use crate::engine::replicate::{Effort, all_sealed, replicate, unit_op};
use crate::engine::shared::Slot;
use crate::state::Trigger;
use crate::{Consistency, Event, Result, Seed};

/// Marks the machine at its source.
pub(super) async fn enrol(bench: &Bench) -> Result<Effects> {
    bench
        .each(async |m| {
            bench.leg.source.enrol(&m.op, &m.item.machine).await?;
            Ok(m.progress.into())
        })
        .await
}

/// Opens the timeline.
pub(super) async fn open(bench: &Bench) -> Result<Effects> {
    bench
        .each(async |m| {
            let settings = m.item.settings.get(&bench.leg.recovery_site.name()).cloned().unwrap_or_default();
            bench.leg.replica.prepare(&m.op, &m.item.machine, &Seed::Fresh, &settings).await?;
            Ok(Effect::and(m.progress, vec![Event::Moved(Trigger::Enabled)]))
        })
        .await
}

/// Seals the first point.
pub(super) async fn first_copy(bench: &Bench, slot: &Slot) -> Result<Effects> {
    ship(bench, slot, Effort::DeltaOrCompare).await
}

/// Compares both sides whole and ships what differs.
pub(super) async fn resync(bench: &Bench, slot: &Slot) -> Result<Effects> {
    for item in &bench.unit.members {
        // What the comparison overwrites stays openable.
        if let Some(newest) = bench.leg.replica.points(item.id()).await?.last() {
            let op = item.op(bench.key_of(item, bench.step)).part("pin");
            bench.leg.replica.pin(&op, item.id(), newest.id, "before resync").await?;
        }
    }
    ship(bench, slot, Effort::Compare).await
}

async fn ship(bench: &Bench, slot: &Slot, effort: Effort) -> Result<Effects> {
    let mut members = bench.members();
    let op = unit_op(&members, "copy")?;
    let results =
        replicate(&bench.shared, slot, &bench.unit, &bench.leg, &op, Consistency::Crash, effort).await?;
    let sealed = all_sealed(results)?;
    for m in &mut members {
        if let Some(s) = sealed.get(m.item.id()) {
            m.progress.point = s.point.as_ref().map(|p| p.id);
            (m.progress.shipped, m.progress.changed) = (s.shipped, s.changed);
        }
    }
    Ok(members.into_iter().map(|m| (m.item.id().clone(), m.progress.into())).collect())
}
