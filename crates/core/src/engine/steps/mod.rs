//! The steps themselves. Each takes a [`Bench`], does its work at the roles, and returns what it found out and what
//! happened; it writes no journal. Each can be taken again with the same keys.

mod boot;
pub(crate) mod commit;
mod drill;
mod enable;
mod fence;
mod leave;
mod prepare;
mod reprotect;
mod undo;

pub(crate) use prepare::PIN;

use super::bench::{Bench, Effects};
use super::shared::Slot;
use crate::{Result, Step};

/// Takes a step.
pub(crate) async fn take(bench: &Bench, slot: &Slot) -> Result<Effects> {
    match bench.step {
        Step::Claim => prepare::claim(bench).await,
        Step::Enrol => enable::enrol(bench).await,
        Step::Open => enable::open(bench).await,
        Step::FirstCopy => enable::first_copy(bench, slot).await,
        Step::Fence => fence::fence(bench).await,
        Step::ShipLast => prepare::ship_last(bench, slot).await,
        Step::Choose => prepare::choose_point(bench).await,
        Step::Materialise => prepare::materialise(bench).await,
        Step::Intend => boot::intend(bench).await,
        Step::Boot => boot::boot(bench).await,
        Step::Validate => boot::validate(bench).await,
        Step::FenceRecovered => fence::fence_recovered(bench).await,
        Step::SetAside => undo::set_aside(bench).await,
        Step::IntendSource => undo::intend_source(bench).await,
        Step::StartSource => undo::start_source(bench).await,
        Step::Settle => commit::settle(bench).await,
        Step::RemoveKept => commit::remove_kept(bench).await,
        Step::PrunePoints => commit::prune_points(bench).await,
        Step::RemoveOther => commit::remove_other(bench).await,
        Step::FenceOther => reprotect::fence_other(bench).await,
        Step::Seed => reprotect::seed(bench).await,
        Step::FirstReverse => reprotect::first_reverse(bench, slot).await,
        Step::PayOwed => reprotect::pay_owed(bench).await,
        Step::Resync => enable::resync(bench, slot).await,
        Step::DrillChoose => drill::choose_point(bench).await,
        Step::DrillPrepare => drill::prepare(bench).await,
        Step::DrillBoot => drill::boot(bench).await,
        Step::DrillRemove => drill::remove(bench).await,
        Step::FindSurvivor => boot::find_survivor(bench).await,
        Step::RestoreLanding => reprotect::restore_landing(bench).await,
        Step::Dismiss => leave::dismiss(bench).await,
    }
}

/// Undoes a step that began. What cannot be undone here needs no undoing.
pub(crate) async fn undo(bench: &Bench) -> Result<Effects> {
    match bench.step {
        Step::Fence => fence::unfence(bench).await,
        Step::Choose => prepare::unpin_point(bench).await,
        Step::Materialise => prepare::withdraw(bench).await,
        Step::FenceRecovered => fence::unfence_recovered(bench).await,
        Step::DrillChoose => drill::remove(bench).await,
        _ => bench.each(async |m| Ok(m.progress.into())).await,
    }
}
