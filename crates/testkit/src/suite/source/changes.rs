use super::super::case::{must, op};
use super::{Enrolled, SourceFixture, enrol};
use site_recovery::{Changes, Consistency, Cursor, Fate, Generation};

/// SRC-7: never less than what differs.
pub async fn src_07_changes_are_never_less<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("SRC-7").await;
    if !here.tracks() {
        return;
    }
    let before = here.write(1).await;
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first, Fate::Sealed).await;
    here.write(2).await;
    let after = here.write(3).await;
    let second = here.capture("second").await;
    here.delta(&second, &since, &before, &after).await;
    here.world.reopen().await;
    if let Changes::Known(told) = here.changes(&second, &since).await {
        let differs = super::differing(&here.machine, &before, &after);
        super::super::content::covers("SRC-7", "changes after a restart", &told, &differs);
    }
}

/// SRC-7: a cursor of another generation is `Lost`.
pub async fn src_07_another_generations_cursor_is_lost<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-7").await;
    if !here.tracks() {
        return;
    }
    let capture = here.capture("capture").await;
    let since = Cursor { generation: Generation(9), ..here.cursor(&capture) };
    lost(&here.changes(&capture, &since).await, "a cursor of another generation");
}

/// SRC-7: a cursor of another machine is `Lost`.
pub async fn src_07_another_machines_cursor_is_lost<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-7").await;
    if !here.tracks() {
        return;
    }
    let other = enrol("SRC-7", &here.world, 1).await;
    let of = [other.instance.clone()];
    let theirs = here.source().capture(&op("theirs"), &of, Consistency::Crash).await;
    let theirs = must("SRC-7", "capture", theirs);
    let since = theirs.member(other.id()).ok().and_then(|m| m.cursor.clone()).expect("a source that tracks");
    let ours = here.capture("ours").await;
    lost(&here.changes(&ours, &since).await, "a cursor of another machine");
}

/// SRC-7: a cursor from before a resize is `Lost`.
pub async fn src_07_a_cursor_from_before_a_resize_is_lost<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-7").await;
    if !here.tracks() {
        return;
    }
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first, Fate::Sealed).await;
    let size = here.machine.disks[0].size + 64 * 1024;
    if !here.world.grow(here.name(), 0, size).await {
        return here.skip("the fixture cannot make a disk larger");
    }
    let second = here.capture("second").await;
    let told = second.member(here.machine.id()).ok().map(|m| m.machine.disks[0].size);
    assert_eq!(told, Some(size), "SRC-7: the capture tells the size as of its instant");
    lost(&here.changes(&second, &since).await, "a cursor from before a resize");
}

/// SRC-7: a cursor from before a gap in tracking is `Lost`.
pub async fn src_07_a_cursor_from_before_a_gap_is_lost<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-7").await;
    if !here.tracks() {
        return;
    }
    let first = here.capture("first").await;
    let since = here.cursor(&first);
    here.release(&first, Fate::Sealed).await;
    here.write(1).await;
    if !here.world.lose_tracking(here.name()).await {
        return here.skip("the fixture cannot lose tracking");
    }
    let second = here.capture("second").await;
    lost(&here.changes(&second, &since).await, "a cursor from before a gap in tracking");
}

#[track_caller]
fn lost(changes: &Changes, what: &str) {
    assert!(matches!(changes, Changes::Lost { .. }), "SRC-7: {what} gives {changes:?}, not Lost");
}

/// SRC-8: after `Sealed` a delta from this capture's cursor is possible, and letting go twice is no error.
pub async fn src_08_after_sealed_a_delta_is_possible<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("SRC-8").await;
    if !here.tracks() {
        return;
    }
    for round in 0..3 {
        let before = here.truth().await;
        let sealed = here.capture(&format!("sealed-{round}")).await;
        here.release(&sealed, Fate::Sealed).await;
        here.release(&sealed, Fate::Sealed).await;
        here.world.reopen().await;
        let after = here.write(round + 1).await;
        let next = here.capture(&format!("next-{round}")).await;
        here.delta(&next, &here.cursor(&sealed), &before, &after).await;
        here.release(&next, Fate::Abandoned).await;
    }
}

/// SRC-8: after `Spooled` a delta from the last sealed one is possible, and so is one from the spooled one.
pub async fn src_08_after_spooled_older_tracking_stays<F: SourceFixture>() {
    older_tracking_stays::<F>(Fate::Spooled).await;
}

/// SRC-8: after `Abandoned` a delta from the last sealed one is possible, with all that was written since.
pub async fn src_08_after_abandoned_older_tracking_stays<F: SourceFixture>() {
    older_tracking_stays::<F>(Fate::Abandoned).await;
}

async fn older_tracking_stays<F: SourceFixture>(fate: Fate) {
    let here = Enrolled::<F>::new("SRC-8").await;
    if !here.tracks() {
        return;
    }
    let before = here.write(1).await;
    let sealed = here.capture("sealed").await;
    here.release(&sealed, Fate::Sealed).await;
    let between = here.write(2).await;
    let let_go = here.capture("let-go").await;
    here.release(&let_go, fate).await;
    let after = here.write(3).await;
    let last = here.capture("last").await;
    here.delta(&last, &here.cursor(&sealed), &before, &after).await;
    if fate == Fate::Spooled {
        here.delta(&last, &here.cursor(&let_go), &between, &after).await;
    }
}

/// SRC-9: a sweep never touches tracking: a delta from a cursor that was sealed before is still possible.
pub async fn src_09_a_sweep_leaves_tracking<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-9").await;
    if !here.tracks() {
        return;
    }
    let before = here.write(1).await;
    let sealed = here.capture("sealed").await;
    here.release(&sealed, Fate::Sealed).await;
    here.write(2).await;
    here.capture("swept").await;
    must("SRC-9", "sweep", here.source().sweep(&op("sweep"), here.instance(), &[]).await);
    let after = here.write(3).await;
    let last = here.capture("last").await;
    here.delta(&last, &here.cursor(&sealed), &before, &after).await;
}
