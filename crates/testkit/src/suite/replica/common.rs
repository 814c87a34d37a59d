use super::super::case::{dropped, must, must_be, must_fail, op, op_at, op_of_another};
use super::super::content::records;
use super::super::timeline::{Timeline, cut_of, manifest, op_of, set_of};
use super::{ReplicaFixture, with_points};
use site_recovery::{ErrorKind, Head, Op, PhaseRecord, Replica, Run, Seed, Settings, Tally, Timestamp};
use std::sync::Arc;

/// A phase record of this order.
fn phase(line: &Timeline, epoch: u64, revision: u64) -> PhaseRecord {
    let mut control = manifest(&line.machine, &cut_of(1), 1).control;
    control.item.epoch = op_at("phase", epoch).epoch;
    control.item.revision = revision;
    let step = format!("step {epoch}/{revision}");
    PhaseRecord { written: Timestamp(revision), run: Some(("job".into(), step)), prepared: None, control }
}

/// REP-14: a timeline that is deleted is as if it had never been; the epoch register and the phase record stay.
pub async fn rep_14_delete_forgets_all_but_the_register<F: ReplicaFixture>() {
    let rule = "REP-14";
    let (mut world, line) = with_points::<F>(rule, 2).await;
    let (id, record) = (line.machine.id(), phase(&line, 3, 1));
    must(rule, "remember", world.replica().remember(&op_at("remember", 3), id, &record).await);
    must(rule, "delete", world.replica().delete(&op_at("delete", 4), id).await);
    world.reopen().await;
    let replica = world.replica();
    assert_eq!(must(rule, "head", replica.head(id).await), Head::Empty, "{rule}: head after delete");
    assert!(line.listed(rule, &replica).await.is_empty(), "{rule}: points after delete");
    assert!(must(rule, "machines", replica.machines().await).is_empty(), "{rule}: machines after delete");
    must_fail(rule, "open of a deleted point", replica.open(id, line.id(0)).await.map(|d| d.len()));
    let kept = must(rule, "recall", replica.recall(id).await);
    assert_eq!(kept, Some(record), "{rule}: the phase record survives");
    let stale = replica.prepare(&op_at("stale", 3), &line.machine, &Seed::Fresh, &world.settings()).await;
    must_be(rule, "prepare behind the epoch of delete", ErrorKind::StaleEpoch, stale);
    must(rule, "delete of what is gone", replica.delete(&op_at("delete", 4), id).await);
}

/// REP-15: a phase record is durable on return, also for a machine without a timeline.
pub async fn rep_15_a_phase_record_is_durable<F: ReplicaFixture>() {
    let rule = "REP-15";
    let (mut world, line) = with_points::<F>(rule, 1).await;
    let record = phase(&line, 1, 4);
    let nobody = "without-a-timeline".into();
    for id in [line.machine.id(), &nobody] {
        assert_eq!(must(rule, "recall", world.replica().recall(id).await), None, "{rule}: nothing yet");
        must(rule, "remember", world.replica().remember(&op("remember"), id, &record).await);
    }
    world.reopen().await;
    for id in [line.machine.id(), &nobody] {
        let found = must(rule, "recall", world.replica().recall(id).await);
        assert_eq!(found.as_ref(), Some(&record), "{rule}: of {id}, after a crash");
    }
    let head = must(rule, "head", world.replica().head(&nobody).await);
    assert_eq!(head, Head::Empty, "{rule}: a phase record opens no timeline");
}

/// REP-15: a record of lower (epoch, revision) is refused and never replaces a higher one.
pub async fn rep_15_a_lower_record_never_replaces_a_higher<F: ReplicaFixture>() {
    let rule = "REP-15";
    let (mut world, line) = with_points::<F>(rule, 0).await;
    let id = line.machine.id();
    for (epoch, revision) in [(1, 5), (2, 4), (2, 7)] {
        let remembered = world.replica().remember(&op_at("up", 2), id, &phase(&line, epoch, revision)).await;
        must(rule, "remember of a higher record", remembered);
    }
    world.reopen().await;
    for (epoch, revision) in [(2, 6), (1, 9)] {
        let remembered =
            world.replica().remember(&op_at("down", 2), id, &phase(&line, epoch, revision)).await;
        must_fail(rule, "remember of a lower record", remembered);
        let found = must(rule, "recall", world.replica().recall(id).await).map(|r| r.order());
        assert_eq!(found, Some((2, 7)), "{rule}: replaced by ({epoch}, {revision})");
    }
}

/// ROL-1: a repeat gives the same answer and has no second effect, also after a crash.
pub async fn rol_1_a_repeat_gives_the_same_answer<F: ReplicaFixture>() {
    let rule = "ROL-1";
    let (mut world, line) = with_points::<F>(rule, 3).await;
    let id = line.machine.id();
    for time in ["first", "again", "after a crash"] {
        if time == "after a crash" {
            world.reopen().await;
        }
        let replica = world.replica();
        must(rule, "pin", replica.pin(&op("pin"), id, line.id(0), "base").await);
        let pins = must(rule, "points", replica.points(id).await)[0].pins.clone();
        assert_eq!(pins, ["base"], "{rule}: reasons, {time}");
    }
    let replica = world.replica();
    must(rule, "unpin", replica.unpin(&op("unpin"), id, line.id(0), "base").await);
    must(rule, "unpin again", replica.unpin(&op("unpin"), id, line.id(0), "base").await);
    let other = world.machine("other");
    for _ in 0..2 {
        let prepared = replica.prepare(&op("prepare-other"), &other, &Seed::Fresh, &world.settings()).await;
        must(rule, "prepare, twice", prepared);
    }
    assert_eq!(
        must(rule, "head", replica.head(other.id()).await),
        Head::Empty,
        "{rule}: after prepare, twice"
    );
}

/// ROL-2: a lower epoch, or the same number of another owner, is `StaleEpoch` and changes nothing, also after a restart.
pub async fn rol_2_a_stale_epoch_changes_nothing<F: ReplicaFixture>() {
    let rule = "ROL-2";
    let (mut world, mut line) = with_points::<F>(rule, 2).await;
    let set = line.change(3);
    let begun = world.replica().begin(&op_of(3), &line.machine, &cut_of(3), &set).await;
    let ingest = must(rule, "begin", begun);
    must(rule, "claim", world.replica().claim(&op_at("claim", 5), line.machine.id()).await);
    world.reopen().await;
    let replica = world.replica();
    let written = replica.write(&ingest, 0, line.records(&set)).await;
    must_be(rule, "write of an ingest that was begun before", ErrorKind::StaleEpoch, written);
    let before = must(rule, "points", replica.points(line.machine.id()).await);
    for (whose, op) in [("a lower epoch", op_at("stale", 4)), ("another owner", op_of_another("stale", 5))] {
        for (call, kind) in stale_calls(&replica, &line, &op, &world.settings()).await {
            assert_eq!(kind, Some(ErrorKind::StaleEpoch), "{rule}: {call} under {whose}");
        }
        let after = must(rule, "points", replica.points(line.machine.id()).await);
        assert_eq!(after, before, "{rule}: {whose} changed the points");
        let recalled = must(rule, "recall", replica.recall(line.machine.id()).await);
        assert_eq!(recalled, None, "{rule}: {whose} wrote a phase record");
    }
}

async fn stale_calls(
    replica: &Arc<dyn Replica>,
    line: &Timeline,
    op: &Op,
    settings: &Settings,
) -> Vec<(&'static str, Option<ErrorKind>)> {
    let (machine, id, point) = (&line.machine, line.machine.id(), line.id(0));
    let set = set_of(&machine.disks[0].id, Run::new(0, 4096));
    let unknown = Seed::Unknown { landing: None };
    let calls = [
        ("claim", replica.claim(op, id).await.err()),
        ("prepare", replica.prepare(op, machine, &unknown, settings).await.err()),
        ("begin", replica.begin(op, machine, &cut_of(9), &set).await.err()),
        ("pin", replica.pin(op, id, point, "stale").await.err()),
        ("unpin", replica.unpin(op, id, point, "stale").await.err()),
        ("prune", replica.prune(op, id, &[point]).await.err()),
        ("delete", replica.delete(op, id).await.err()),
        ("remember", replica.remember(op, id, &phase(line, op.epoch.number, 9)).await.err()),
    ];
    calls.into_iter().map(|(call, error)| (call, error.map(|e| e.kind()))).collect()
}

/// ROL-2: every changing method raises the register, not `claim` alone.
pub async fn rol_2_every_call_raises_the_register<F: ReplicaFixture>() {
    let rule = "ROL-2";
    let (world, line) = with_points::<F>(rule, 2).await;
    let (replica, id) = (world.replica(), line.machine.id());
    must(rule, "pin", replica.pin(&op_at("pin", 3), id, line.id(0), "base").await);
    let stale = replica.prune(&op_at("stale", 2), id, &[line.id(0)]).await;
    must_be(rule, "prune behind a pin's epoch", ErrorKind::StaleEpoch, stale);
    must(rule, "prune", replica.prune(&op_at("prune", 4), id, &[]).await);
    let set = set_of(&line.machine.disks[0].id, Run::new(0, 4096));
    let stale = replica.begin(&op_at("stale", 3), &line.machine, &cut_of(9), &set).await;
    must_be(rule, "begin behind a prune's epoch", ErrorKind::StaleEpoch, stale);
    must(rule, "begin", replica.begin(&op_at("begin", 5), &line.machine, &cut_of(9), &set).await);
    let stale = replica.unpin(&op_at("stale", 4), id, line.id(0), "base").await;
    must_be(rule, "unpin behind a begin's epoch", ErrorKind::StaleEpoch, stale);
}

/// ROL-3: bad input is refused, naming the field, before anything changes.
pub async fn rol_3_bad_input_is_refused_before_anything_changes<F: ReplicaFixture>() {
    let rule = "ROL-3";
    let world = F::new().await;
    let mut wrong = world.machine("web");
    wrong.disks.clear();
    let prepared = world.replica().prepare(&op("prepare"), &wrong, &Seed::Fresh, &world.settings()).await;
    let error = must_be(rule, "prepare of a machine without disks", ErrorKind::Invalid, prepared);
    assert!(error.fact("field").is_some(), "{rule}: the error names no field: {error}");
    let known = must(rule, "machines", world.replica().machines().await);
    assert!(known.is_empty(), "{rule}: refused, and {known:?} have timelines");
}

/// ROL-4: a write that nobody waited for is settled by the same batch, and counts once.
pub async fn rol_4_a_dropped_call_is_settled_by_the_same_key<F: ReplicaFixture>() {
    let rule = "ROL-4";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let replica = world.replica();
    let set = line.change(2);
    let (op, cut) = (op_of(2), cut_of(2));
    dropped(replica.begin(&op, &line.machine, &cut, &set)).await;
    let ingest =
        must(rule, "begin after a dropped begin", replica.begin(&op, &line.machine, &cut, &set).await);
    let mut tally = Tally::new(&set);
    let plain = records(&line.machine, &line.image, &set);
    for (batch, records) in plain.chunks(3).enumerate() {
        let records: Vec<_> = records.iter().cloned().map(F::dress).collect();
        dropped(replica.write(&ingest, batch as u64, records.clone())).await;
        must(
            rule,
            "write after a dropped write",
            replica.write(&ingest, batch as u64, records.clone()).await,
        );
        records.iter().for_each(|r| tally.landed(r));
    }
    let (manifest, complete) = (manifest(&line.machine, &cut, 2), tally.finish().expect("all has landed"));
    dropped(replica.seal(&ingest, &manifest, complete)).await;
    let point = must(rule, "seal after a dropped seal", replica.seal(&ingest, &manifest, complete).await);
    line.sealed.push((point, line.image.clone()));
    assert_eq!(line.listed(rule, &replica).await, [line.id(0), line.id(1)], "{rule}: points");
    line.opens(rule, &replica, 1).await;
}

/// ROL-7: deleting one timeline leaves every other machine's.
pub async fn rol_7_delete_leaves_other_machines<F: ReplicaFixture>() {
    let rule = "ROL-7";
    let (mut world, line) = with_points::<F>(rule, 2).await;
    let (other, settings) = (world.machine("other"), world.settings());
    let other = Timeline::with_points(rule, &world.replica(), other, &settings, F::dress, 2).await;
    must(rule, "delete", world.replica().delete(&op("delete"), line.machine.id()).await);
    world.reopen().await;
    assert_eq!(other.listed(rule, &world.replica()).await.len(), 2, "{rule}: points of the other machine");
    for point in 0..2 {
        other.opens(rule, &world.replica(), point).await;
    }
}

/// ROL-8: when `claim` has returned, no call of an older epoch begins an effect, and each one begun is over.
pub async fn rol_8_after_claim_nothing_older_begins<F: ReplicaFixture>() {
    let rule = "ROL-8";
    let (world, line) = with_points::<F>(rule, 3).await;
    let (replica, id) = (world.replica(), line.machine.id());
    let (older, newer) = (op("prune"), op_at("claim", 2));
    let claimed = async {
        must(rule, "claim", replica.claim(&newer, id).await);
        line.listed(rule, &replica).await
    };
    let drop_first = [line.id(0)];
    let (pruned, at_claim) = futures_util::join!(replica.prune(&older, id, &drop_first), claimed);
    let after = line.listed(rule, &replica).await;
    assert_eq!(after, at_claim, "{rule}: an older prune ({pruned:?}) took effect after claim had returned");
}
