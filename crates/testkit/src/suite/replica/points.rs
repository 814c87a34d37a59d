use super::super::case::{must, op};
use super::super::content::{blank, covers, differing, image, read, same, whole};
use super::super::disk::disk_cases;
use super::super::timeline::{cut_of, op_of};
use super::{ReplicaFixture, hashed, same_bytes, skip, with_points};
use site_recovery::{Disk, HASH_BLOCK, MachineId, Point, PointId, Replica, Run};
use std::sync::Arc;

/// REP-9: every point that is listed opens, oldest first, also after a crash in the middle of an ingest.
pub async fn rep_9_every_listed_point_opens<F: ReplicaFixture>() {
    let rule = "REP-9";
    let (mut world, mut line) = with_points::<F>(rule, 3).await;
    let broken = line.change(4);
    let begun = world.replica().begin(&op_of(4), &line.machine, &cut_of(4), &broken).await;
    must(rule, "write", line.write(&world.replica(), &must(rule, "begin", begun), &broken).await);
    world.reopen().await;
    let replica = world.replica();
    let sealed: Vec<_> = line.sealed.iter().map(|(p, _)| p.clone()).collect();
    let listed = must(rule, "points", replica.points(line.machine.id()).await);
    assert_eq!(listed, sealed, "{rule}: points, oldest first");
    for point in 0..3 {
        line.opens(rule, &replica, point).await;
    }
    let unknown = must(rule, "points", replica.points(&"nobody".into()).await);
    assert!(unknown.is_empty(), "{rule}: points of an unknown machine");
}

/// REP-9: a damaged point is named by an error, never silently skipped, and never read as other bytes.
pub async fn rep_9_a_damaged_point_is_not_skipped<F: ReplicaFixture>() {
    let rule = "REP-9";
    let (mut world, line) = with_points::<F>(rule, 2).await;
    if !world.damage(&line.machine, line.id(0)).await {
        return skip(rule, &world.replica().name(), "the fixture cannot damage a point");
    }
    world.reopen().await;
    let replica = world.replica();
    let listed = match replica.points(line.machine.id()).await {
        Ok(points) => points,
        Err(error) => {
            let named = error.to_string().contains(&line.id(0).to_string());
            return assert!(named, "{rule}: the error does not name point {}: {error}", line.id(0));
        }
    };
    let named = listed.iter().any(|p| p.id == line.id(0));
    assert!(named, "{rule}: the damaged point is left out in silence");
    if let Ok(disks) = replica.open(line.machine.id(), line.id(0)).await
        && let Ok(found) = image(rule, &line.machine, &disks).await
    {
        same(rule, "a damaged point that opens and reads", &line.machine, &found, &line.sealed[0].1);
    }
}

/// REP-16: the newest of each is the last that is listed, with its pins; none before the first is sealed, and none of an unknown
/// machine.
pub async fn rep_16_the_newest_is_the_last_that_is_listed<F: ReplicaFixture>() {
    let rule = "REP-16";
    let (mut world, mut line) = with_points::<F>(rule, 0).await;
    let id = line.machine.id().clone();
    assert_eq!(newest(rule, &world, &[&id]).await, [None], "{rule}: before the first");
    for number in 1..=3 {
        let sealed = line.cut(rule, &world.replica(), number).await;
        assert_eq!(newest(rule, &world, &[&id]).await, [Some(sealed)], "{rule}: after point {number}");
    }
    must(rule, "pin", world.replica().pin(&op("pin"), &id, line.id(2), "base").await);
    let broken = line.change(4);
    let begun = world.replica().begin(&op_of(4), &line.machine, &cut_of(4), &broken).await;
    must(rule, "write", line.write(&world.replica(), &must(rule, "begin", begun), &broken).await);
    world.reopen().await;
    let mut listed = must(rule, "points", world.replica().points(&id).await);
    let nobody = "nobody".into();
    let told = newest(rule, &world, &[&nobody, &id, &nobody, &id]).await;
    assert_eq!(told[1].as_ref().map(|p| p.id), Some(line.id(2)), "{rule}: while an ingest is open");
    let last = listed.pop();
    assert_eq!(told, [None, last.clone(), None, last], "{rule}: in their order, as they are listed");
    assert_eq!(newest(rule, &world, &[]).await, [], "{rule}: of no machine");
}

async fn newest<F: ReplicaFixture>(rule: &str, world: &F, machines: &[&MachineId]) -> Vec<Option<Point>> {
    let machines: Vec<MachineId> = machines.iter().copied().cloned().collect();
    let told = world.replica().newest(&machines).await;
    told.into_iter().map(|newest| must(rule, "newest", newest)).collect()
}

/// REP-10: a point holds exactly what was captured, while the head moves on, sealed or not.
pub async fn rep_10_a_point_stays_while_the_head_moves<F: ReplicaFixture>() {
    let rule = "REP-10";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let replica = world.replica();
    let disks = must(rule, "open", replica.open(line.machine.id(), line.id(0)).await);
    let then = line.sealed[0].1.clone();
    line.cut(rule, &replica, 2).await;
    line.cut(rule, &replica, 3).await;
    let unsealed = line.change(4);
    let begun = replica.begin(&op_of(4), &line.machine, &cut_of(4), &unsealed).await;
    must(rule, "write", line.write(&replica, &must(rule, "begin", begun), &unsealed).await);
    let found = whole(rule, "read of a point that is open", &line.machine, &disks).await;
    same(rule, "a point that was open all the time", &line.machine, &found, &then);
    for point in 0..3 {
        line.opens(rule, &replica, point).await;
    }
}

/// REP-10: an open point is not dropped, until its handles are.
pub async fn rep_10_an_open_point_stays_until_dropped<F: ReplicaFixture>() {
    let rule = "REP-10";
    let (world, line) = with_points::<F>(rule, 3).await;
    let replica = world.replica();
    let (id, then) = (line.machine.id(), &line.sealed[0].1);
    let disks = must(rule, "open", replica.open(id, line.id(0)).await);
    let dropped = must(rule, "prune", replica.prune(&op("prune"), id, &[line.id(0)]).await);
    assert!(dropped.is_empty(), "{rule}: {dropped:?} was dropped while it was open");
    let found = whole(rule, "read of a point that is open", &line.machine, &disks).await;
    same(rule, "a point that was to be dropped while open", &line.machine, &found, then);
    drop(disks);
    let dropped = must(rule, "prune", replica.prune(&op("prune-later"), id, &[line.id(0)]).await);
    assert_eq!(dropped, [line.id(0)], "{rule}: not dropped though nobody has it open");
}

/// REP-11: equal hashes mean equal bytes, of what stands there now, unsealed bytes included.
pub async fn rep_11_hashes_are_of_what_stands_there<F: ReplicaFixture>() {
    let rule = "REP-11";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let replica = world.replica();
    let set = line.change(2);
    let begun = replica.begin(&op_of(2), &line.machine, &cut_of(2), &set).await;
    must(rule, "write", line.write(&replica, &must(rule, "begin", begun), &set).await);
    for (disk, bytes) in line.image.iter().enumerate() {
        hashed(rule, &replica, &line, disk, bytes).await;
    }
    let (disk, bytes) = (&line.machine.disks[0].id, &line.image[0]);
    let part = Run::new(HASH_BLOCK, HASH_BLOCK);
    let found = must(rule, "hashes", replica.hashes(line.machine.id(), disk, part).await);
    let end = bytes.len().min(2 * HASH_BLOCK as usize);
    let expected = bytes.get(HASH_BLOCK as usize..end).map(super::hash);
    assert_eq!(found, Vec::from_iter(expected), "{rule}: hashes of the second block alone");
}

/// REP-12: never less than what differs between two points, or from before the first.
pub async fn rep_12_changed_is_never_less<F: ReplicaFixture>() {
    let rule = "REP-12";
    let (mut world, line) = with_points::<F>(rule, 3).await;
    world.reopen().await;
    let (replica, id, images) = (world.replica(), line.machine.id(), &line.sealed);
    let first = blank(&line.machine);
    for (from, to) in [(None, 0), (None, 2), (Some(0), 1), (Some(0), 2), (Some(1), 2)] {
        let before = from.map_or(&first, |at: usize| &images[at].1);
        let told = replica.changed(id, from.map(|at| line.id(at)), line.id(to)).await;
        if let Some(told) = must(rule, "changed", told) {
            let needed = differing(&line.machine, before, &images[to].1);
            covers(rule, &format!("changed from {from:?} to {to}"), &told, &needed);
        }
    }
}

/// REP-12: also after points between were dropped.
pub async fn rep_12_changed_outlives_points_between<F: ReplicaFixture>() {
    let rule = "REP-12";
    let (mut world, line) = with_points::<F>(rule, 4).await;
    let id = line.machine.id();
    let dropped = pruned(rule, &world.replica(), id, &[line.id(1), line.id(2)]).await;
    assert_eq!(dropped, [line.id(1), line.id(2)], "{rule}: points between are dropped");
    world.reopen().await;
    let told = world.replica().changed(id, Some(line.id(0)), line.id(3)).await;
    if let Some(told) = must(rule, "changed", told) {
        let needed = differing(&line.machine, &line.sealed[0].1, &line.sealed[3].1);
        covers(rule, "changed over dropped points", &told, &needed);
    }
}

/// REP-13: pinned points and the newest stay, only what was named goes, and the others keep their bytes.
pub async fn rep_13_pinned_and_newest_stay<F: ReplicaFixture>() {
    let rule = "REP-13";
    let (mut world, line) = with_points::<F>(rule, 5).await;
    let id = line.machine.id();
    must(rule, "pin", world.replica().pin(&op("pin"), id, line.id(1), "base").await);
    world.reopen().await;
    let named = [line.id(0), line.id(1), line.id(3), line.id(4)];
    let dropped = pruned(rule, &world.replica(), id, &named).await;
    assert_eq!(dropped, [line.id(0), line.id(3)], "{rule}: what was dropped");
    world.reopen().await;
    let listed = line.listed(rule, &world.replica()).await;
    assert_eq!(listed, [line.id(1), line.id(2), line.id(4)], "{rule}: what is left");
    for point in [1, 2, 4] {
        line.opens(rule, &world.replica(), point).await;
    }
}

/// What a replica drops of a list: it may take several calls, each of which drops one point at least.
pub(super) async fn pruned(
    rule: &str,
    replica: &Arc<dyn Replica>,
    machine: &MachineId,
    named: &[PointId],
) -> Vec<PointId> {
    let (mut left, mut gone) = (named.to_vec(), vec![]);
    for call in 0..=named.len() {
        let dropped = replica.prune(&op(&format!("prune-{call}")), machine, &left).await;
        let dropped = must(rule, "prune", dropped);
        if dropped.is_empty() {
            break;
        }
        let asked = dropped.iter().all(|point| left.contains(point));
        assert!(asked, "{rule}: of {left:?} it says that it dropped {dropped:?}");
        left.retain(|point| !dropped.contains(point));
        gone.extend(dropped);
    }
    gone
}

/// REP-13: several reasons may hold one point; it goes when none is left.
pub async fn rep_13_several_reasons_hold_one_point<F: ReplicaFixture>() {
    let rule = "REP-13";
    let (world, line) = with_points::<F>(rule, 2).await;
    let (replica, id, point) = (world.replica(), line.machine.id(), line.id(0));
    for why in ["base", "losing side"] {
        must(rule, "pin", replica.pin(&op(&format!("pin-{why}")), id, point, why).await);
    }
    let mut pins = must(rule, "points", replica.points(id).await)[0].pins.clone();
    pins.sort();
    assert_eq!(pins, ["base", "losing side"], "{rule}: the reasons that are told");
    for (why, left) in [("base", 0), ("losing side", 1)] {
        must(rule, "unpin", replica.unpin(&op(&format!("unpin-{why}")), id, point, why).await);
        let dropped = replica.prune(&op(&format!("prune-{why}")), id, &[point]).await;
        let dropped = must(rule, "prune", dropped);
        assert_eq!(dropped.len(), left, "{rule}: dropped after {why:?} was taken away");
    }
}

async fn an_opened_disk<F: ReplicaFixture>(rule: &'static str) -> (F, Arc<dyn Disk>, Vec<u8>) {
    let (world, line) = with_points::<F>(rule, 2).await;
    let disks = must(rule, "open", world.replica().open(line.machine.id(), line.id(0)).await);
    let disk = disks.get(&line.machine.disks[1].id).map(Arc::clone);
    let disk = disk.unwrap_or_else(|| panic!("{rule}: the second disk is missing"));
    (world, disk, line.sealed[0].1[1].clone())
}

disk_cases!(ReplicaFixture, an_opened_disk);

/// DSK-5: one handle reads the same bytes however often.
pub async fn dsk_5_reads_are_the_same_however_often<F: ReplicaFixture>() {
    let (_world, disk, truth) = an_opened_disk::<F>("DSK-5").await;
    for time in 1..=8 {
        let bytes = must("DSK-5", "read", read(&disk).await);
        same_bytes("DSK-5", &format!("read {time}"), &bytes, &truth);
    }
}
