//! The steps themselves. Each takes a [`Context`], does its work at the roles, and returns what it found out and what
//! happened; it writes no journal. Each can be taken again with the same keys.

mod boot;
pub(crate) mod commit;
mod dismiss;
mod drill;
mod enable;
mod fence;
mod prepare;
mod prerequisites;
mod probe;
mod reprotect;
mod undo;

pub(crate) use drill::DRILL_PIN;
pub(crate) use enable::BEFORE_RESYNC;
pub(crate) use prepare::PIN;

use super::context::{Context, Effects};
use super::shared::Slot;
use crate::{Result, Step};

/// Takes a step.
pub(crate) async fn take(context: &Context, slot: &Slot) -> Result<Effects> {
    match context.step {
        Step::Claim => prepare::claim(context).await,
        Step::Enrol => enable::enrol(context).await,
        Step::Open => enable::open(context).await,
        Step::FirstCopy => enable::first_copy(context, slot).await,
        Step::Fence => fence::fence(context).await,
        Step::Lift => fence::unfence(context).await,
        Step::ShipLast => prepare::ship_last(context, slot).await,
        Step::Choose => prepare::choose_point(context).await,
        Step::Pin => prepare::pin_point(context).await,
        Step::Materialise => prepare::materialise(context).await,
        // Who drives the run has waited.
        Step::HoldBoot => context.each(async |m| Ok(m.progress.into())).await,
        Step::Intend => boot::intend(context).await,
        Step::Boot => boot::boot(context).await,
        Step::Validate => boot::validate(context).await,
        Step::FenceRecovered => fence::fence_recovered(context).await,
        Step::SetAside => undo::set_aside(context).await,
        Step::IntendSource => undo::intend_source(context).await,
        Step::StartSource => undo::start_source(context).await,
        Step::Settle => commit::settle(context).await,
        Step::RemoveKept => commit::remove_kept(context).await,
        Step::PrunePoints => commit::prune_points(context).await,
        Step::RemoveOther => commit::remove_other(context).await,
        Step::AwaitPrerequisites => prerequisites::wait(context).await,
        Step::FenceOther => reprotect::fence_other(context).await,
        Step::Seed => reprotect::seed(context).await,
        Step::FirstReverse => reprotect::first_reverse(context, slot).await,
        Step::PayOwed => reprotect::pay_owed(context).await,
        Step::KeepNewest => enable::keep_newest(context).await,
        Step::Resync => enable::resync(context, slot).await,
        Step::DrillChoose => drill::choose_point(context).await,
        Step::DrillPrepare => drill::prepare(context).await,
        Step::DrillBoot => drill::boot(context).await,
        Step::Probe => probe::probe(context).await,
        Step::DrillRemove => drill::remove(context).await,
        Step::FindSurvivor => boot::find_survivor(context).await,
        Step::RestoreLanding => reprotect::restore_landing(context).await,
        Step::Dismiss => dismiss::dismiss(context).await,
    }
}

/// Undoes a step that began. What cannot be undone here needs no undoing.
pub(crate) async fn undo(context: &Context) -> Result<Effects> {
    match context.step {
        Step::Fence => fence::unfence(context).await,
        Step::Pin => prepare::unpin_point(context).await,
        Step::Materialise => prepare::withdraw(context).await,
        Step::FenceRecovered => fence::unfence_recovered(context).await,
        Step::DrillChoose => drill::remove(context).await,
        Step::FindSurvivor => boot::forget_survivor(context).await,
        _ => context.each(async |m| Ok(m.progress.into())).await,
    }
}
