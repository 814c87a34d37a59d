use super::super::case::{dropped, must, must_be, must_fail, op};
use super::super::content::{checksum, pattern};
use super::super::timeline::{below, cut_of, manifest, op_of, set_of};
use super::points::pruned;
use super::{ReplicaFixture, hashed, with_points};
use bytes::Bytes;
use site_recovery::{ChangeSet, Complete, DiskId, ErrorKind, Head, Payload, Record, Run, Tally};

/// REP-3: the same op resumes, also after a crash: what is below `resume` is durable, and what was acknowledged is below
/// it.
pub async fn rep_3_the_same_op_resumes<F: ReplicaFixture>() {
    let rule = "REP-3";
    let (mut world, mut line) = with_points::<F>(rule, 0).await;
    let set = line.change(1);
    let (op, cut) = (op_of(1), cut_of(1));
    let ingest = must(rule, "begin", world.replica().begin(&op, &line.machine, &cut, &set).await);
    let first = line.records(&set)[..3].to_vec();
    let disk = first[0].disk.clone();
    let landed = must(rule, "write", world.replica().write(&ingest, 0, first.clone()).await);
    assert!(below(&landed, &disk) >= first[2].run.end(), "{rule}: {landed:?} after three records");
    world.reopen().await;
    let again = must(rule, "begin again", world.replica().begin(&op, &line.machine, &cut, &set).await);
    assert!(below(&again.resume, &disk) >= first[2].run.end(), "{rule}: {:?} after a crash", again.resume);
    let tally = must(rule, "the rest", line.write(&world.replica(), &again, &set).await);
    let complete = tally.finish().expect("everything has landed");
    let sealed = world.replica().seal(&again, &manifest(&line.machine, &cut, 1), complete).await;
    line.sealed.push((must(rule, "seal", sealed), line.image.clone()));
    line.opens(rule, &world.replica(), 0).await;
}

/// REP-3: a batch that lands before an earlier one does not move the mark over what is missing.
pub async fn rep_3_what_landed_out_of_turn_is_above_the_mark<F: ReplicaFixture>() {
    let rule = "REP-3";
    let (mut world, mut line) = with_points::<F>(rule, 1).await;
    let set = line.change(2);
    let (op, cut) = (op_of(2), cut_of(2));
    let ingest = must(rule, "begin", world.replica().begin(&op, &line.machine, &cut, &set).await);
    let disk = line.machine.disks[0].id.clone();
    let mut later: Vec<_> = line.records(&set).into_iter().filter(|r| r.disk == disk).collect();
    let gap = later.remove(0).run.start;
    assert!(!later.is_empty(), "{rule}: the change has several records of one disk");
    let landed = must(rule, "write of batch 1", world.replica().write(&ingest, 1, later).await);
    assert!(below(&landed, &disk) <= gap, "{rule}: {landed:?}, and nothing stands at {gap} of {disk}");
    world.reopen().await;
    let again = must(rule, "begin again", world.replica().begin(&op, &line.machine, &cut, &set).await);
    assert!(below(&again.resume, &disk) <= gap, "{rule}: {:?} after a crash", again.resume);
    let tally = must(rule, "the rest", line.write(&world.replica(), &again, &set).await);
    let complete = tally.finish().expect("everything has landed");
    let sealed = world.replica().seal(&again, &manifest(&line.machine, &cut, 2), complete).await;
    line.sealed.push((must(rule, "seal", sealed), line.image.clone()));
    line.opens(rule, &world.replica(), 1).await;
}

/// REP-3: another op closes the open ingest and takes over what it landed, durable before its own first byte.
pub async fn rep_3_another_op_takes_over_what_landed<F: ReplicaFixture>() {
    let rule = "REP-3";
    let (mut world, mut line) = with_points::<F>(rule, 1).await;
    let broken = line.change(2);
    let begun = world.replica().begin(&op_of(2), &line.machine, &cut_of(2), &broken).await;
    must(rule, "write", line.write(&world.replica(), &must(rule, "begin", begun), &broken).await);
    let disk = line.machine.disks[0].id.clone();
    let next = set_of(&disk, Run::new(0, 4096));
    must(rule, "begin", world.replica().begin(&op_of(3), &line.machine, &cut_of(3), &next).await);
    world.reopen().await;
    let cursor = line.unsettled(rule, &world.replica(), &broken).await;
    assert!(cursor.is_some(), "{rule}: the cursor of the sealed point is lost with a broken ingest");
    line.opens(rule, &world.replica(), 0).await;
    let all = line.change(4).union(&broken);
    line.ship(rule, &world.replica(), 4, &all).await;
    line.opens(rule, &world.replica(), 1).await;
}

/// REP-4: when `begin` returns, no write and no seal of an earlier session lands.
pub async fn rep_4_an_earlier_session_writes_nothing<F: ReplicaFixture>() {
    let rule = "REP-4";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let replica = world.replica();
    let standing = line.image.clone();
    let set = line.change(2);
    let records = line.records(&set);
    for (what, next) in [("the same op", op_of(2)), ("another op", op_of(3))] {
        let earlier = replica.begin(&op_of(2), &line.machine, &cut_of(2), &set).await;
        let earlier = must(rule, "begin", earlier);
        must(rule, "begin", replica.begin(&next, &line.machine, &cut_of(2), &set).await);
        let written = replica.write(&earlier, 0, records.clone()).await;
        must_fail(rule, &format!("write of a session before a begin of {what}"), written);
        for (disk, bytes) in standing.iter().enumerate() {
            hashed(rule, &replica, &line, disk, bytes).await;
        }
    }
}

/// REP-5: a disk that the timeline has with another size is `Invalid`, unless it grew.
pub async fn rep_5_a_disk_may_grow_and_never_shrink<F: ReplicaFixture>() {
    let rule = "REP-5";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let replica = world.replica();
    let (mut smaller, mut larger) = (line.machine.clone(), line.machine.clone());
    smaller.disks[1].size -= 8192;
    larger.disks[1].size += 64 * 1024;
    let set = set_of(&line.machine.disks[0].id, Run::new(0, 4096));
    let begun = replica.begin(&op_of(2), &smaller, &cut_of(2), &set).await;
    must_be(rule, "begin with a disk that shrank", ErrorKind::Invalid, begun);
    let head = must(rule, "head", replica.head(line.machine.id()).await);
    let stands = matches!(head, Head::Sealed { point, .. } if point == line.id(0));
    assert!(stands, "{rule}: refused, and the head is {head:?}");

    let (old, new) = (line.machine.disks[1].size as usize, larger.disks[1].size as usize);
    line.machine = larger;
    line.image[1].resize(new, 0);
    line.image[1][old..].copy_from_slice(&pattern(5, new - old));
    let set = set_of(&line.machine.disks[1].id, Run::new(old as u64 / 4096 * 4096, 68 * 1024));
    line.ship(rule, &replica, 3, &set).await;
    line.opens(rule, &replica, 1).await;
    line.opens(rule, &replica, 0).await;
}

/// REP-6: what is acknowledged is there after a crash.
pub async fn rep_6_what_is_acknowledged_is_durable<F: ReplicaFixture>() {
    let rule = "REP-6";
    let (mut world, mut line) = with_points::<F>(rule, 0).await;
    let set = line.change(1);
    let begun = world.replica().begin(&op_of(1), &line.machine, &cut_of(1), &set).await;
    must(rule, "write", line.write(&world.replica(), &must(rule, "begin", begun), &set).await);
    world.reopen().await;
    for (disk, bytes) in line.image.iter().enumerate() {
        hashed(rule, &world.replica(), &line, disk, bytes).await;
    }
}

/// REP-6: a record whose bytes do not match its checksum is `Corrupt`, and none of its batch is acknowledged.
pub async fn rep_6_a_record_that_does_not_match_is_corrupt<F: ReplicaFixture>() {
    let rule = "REP-6";
    let (world, mut line) = with_points::<F>(rule, 0).await;
    let replica = world.replica();
    let set = line.change(1);
    let (op, cut) = (op_of(1), cut_of(1));
    let ingest = must(rule, "begin", replica.begin(&op, &line.machine, &cut, &set).await);
    let good = line.records(&set);
    for wrong_at in [0, 2] {
        let mut batch = good[..3].to_vec();
        flip_a_byte(&mut batch[wrong_at]);
        let written = replica.write(&ingest, 0, batch).await;
        must_be(rule, "write of a record that does not match", ErrorKind::Corrupt, written);
    }
    let again = must(rule, "begin again", replica.begin(&op, &line.machine, &cut, &set).await);
    let resume = below(&again.resume, &good[0].disk);
    assert!(resume <= good[0].run.start, "{rule}: {resume} bytes of a refused batch are acknowledged");
}

fn flip_a_byte(record: &mut Record) {
    let (Payload::Plain(bytes) | Payload::Sealed(bytes)) = &mut record.payload else {
        panic!("the suite's first records are not zero");
    };
    let mut spoilt = bytes.to_vec();
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    *bytes = Bytes::from(spoilt);
}

/// REP-6: a record outside plan or disk is `Invalid`, none of its batch lands, and the session goes on.
pub async fn rep_6_a_record_outside_plan_or_disk_is_invalid<F: ReplicaFixture>() {
    let rule = "REP-6";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let (replica, disks) = (world.replica(), line.machine.disks.clone());
    let (size, tail) = (disks[1].size, (disks[1].size - 1) / 4096 * 4096);
    let plan = set_of(&disks[0].id, Run::new(0, 8192)).union(&set_of(&disks[1].id, Run::new(tail, 1 << 20)));
    let (op, cut) = (op_of(2), cut_of(2));
    let ingest = must(rule, "begin", replica.begin(&op, &line.machine, &cut, &plan).await);
    let outside = [
        ("beside the plan", &disks[0].id, Run::new(8192, 4096)),
        ("half in the plan", &disks[0].id, Run::new(4096, 8192)),
        ("before the plan", &disks[1].id, Run::new(0, 4096)),
        ("of a disk that there is not", &"nowhere".into(), Run::new(0, 4096)),
        ("past the end of a disk, where the plan reached", &disks[1].id, Run::new(tail, 8192)),
    ];
    for (what, disk, run) in outside {
        let batch = [(&disks[0].id, Run::new(0, 4096)), (disk, run)].map(|(disk, run)| noise::<F>(disk, run));
        let written = replica.write(&ingest, 0, batch.to_vec()).await;
        must_be(rule, &format!("write of a record {what}"), ErrorKind::Invalid, written);
        for (disk, bytes) in line.image.iter().enumerate() {
            hashed(rule, &replica, &line, disk, bytes).await;
        }
    }
    line.image[0][..8192].copy_from_slice(&pattern(7, 8192));
    line.image[1][tail as usize..].copy_from_slice(&pattern(8, (size - tail) as usize));
    let set = plan.aligned(4096, &disks);
    let tally = must(rule, "write of what is in the plan", line.write(&replica, &ingest, &set).await);
    let complete = tally.finish().expect("everything has landed");
    let sealed = replica.seal(&ingest, &manifest(&line.machine, &cut, 2), complete).await;
    line.sealed.push((must(rule, "seal", sealed), line.image.clone()));
    line.opens(rule, &replica, 1).await;
}

/// A record that is whole.
fn noise<F: ReplicaFixture>(disk: &DiskId, run: Run) -> Record {
    let bytes = pattern(6, run.len as usize);
    F::dress(Record {
        disk: disk.clone(),
        run,
        checksum: checksum(&bytes),
        payload: Payload::Plain(bytes.into()),
    })
}

/// REP-6: batches of one session are under way side by side, one of them given up and sent again: each counts once.
pub async fn rep_6_batches_land_side_by_side<F: ReplicaFixture>() {
    let rule = "REP-6";
    let (world, mut line) = with_points::<F>(rule, 1).await;
    let (replica, set) = (world.replica(), line.change(2));
    let (op, cut) = (op_of(2), cut_of(2));
    let ingest = must(rule, "begin", replica.begin(&op, &line.machine, &cut, &set).await);
    let records = line.records(&set);
    let thirds: Vec<Vec<Record>> = records.chunks(records.len().div_ceil(3)).map(<[_]>::to_vec).collect();
    dropped(replica.write(&ingest, 0, thirds[0].clone())).await;
    let numbered = (0..).zip(&thirds).collect::<Vec<_>>().into_iter().rev();
    let writes = numbered.map(|(batch, some)| replica.write(&ingest, batch, some.clone()));
    for written in futures_util::future::join_all(writes).await {
        must(rule, "write beside others", written);
    }
    let mut tally = Tally::new(&set);
    records.iter().for_each(|record| tally.landed(record));
    let complete = tally.finish().expect("everything has landed");
    let sealed = replica.seal(&ingest, &manifest(&line.machine, &cut, 2), complete).await;
    line.sealed.push((must(rule, "seal", sealed), line.image.clone()));
    assert_eq!(line.listed(rule, &replica).await, [line.id(0), line.id(1)], "{rule}: points");
    line.opens(rule, &replica, 1).await;
}

/// REP-6: a batch that comes again, because its reply was lost, counts once.
pub async fn rep_6_a_batch_that_comes_again_counts_once<F: ReplicaFixture>() {
    let rule = "REP-6";
    let (world, mut line) = with_points::<F>(rule, 0).await;
    let replica = world.replica();
    let set = line.change(1);
    let ingest = must(rule, "begin", replica.begin(&op_of(1), &line.machine, &cut_of(1), &set).await);
    let mut tally = Tally::new(&set);
    for (batch, records) in line.records(&set).chunks(3).enumerate() {
        for _ in 0..2 {
            must(rule, "write", replica.write(&ingest, batch as u64, records.to_vec()).await);
        }
        records.iter().for_each(|r| tally.landed(r));
    }
    let complete = tally.finish().expect("everything has landed");
    let sealed = replica.seal(&ingest, &manifest(&line.machine, &cut_of(1), 1), complete).await;
    line.sealed.push((must(rule, "seal after batches that came twice", sealed), line.image.clone()));
    line.opens(rule, &replica, 0).await;
}

/// REP-7: a point is listed when it is sealed, not before, also through a crash.
pub async fn rep_7_a_point_is_listed_when_sealed_not_before<F: ReplicaFixture>() {
    let rule = "REP-7";
    let (mut world, mut line) = with_points::<F>(rule, 1).await;
    let set = line.change(2);
    let (op, cut) = (op_of(2), cut_of(2));
    let ingest = must(rule, "begin", world.replica().begin(&op, &line.machine, &cut, &set).await);
    let tally = must(rule, "write", line.write(&world.replica(), &ingest, &set).await);
    assert_eq!(line.listed(rule, &world.replica()).await, [line.id(0)], "{rule}: listed before the seal");
    let complete = tally.finish().expect("everything has landed");
    let sealed = world.replica().seal(&ingest, &manifest(&line.machine, &cut, 2), complete).await;
    let point = must(rule, "seal", sealed);
    world.reopen().await;
    let replica = world.replica();
    assert_eq!(line.listed(rule, &replica).await, [line.id(0), point.id], "{rule}: listed after the seal");
    let found = must(rule, "manifest", replica.manifest(line.machine.id(), point.id).await);
    assert_eq!(found, manifest(&line.machine, &cut, 2), "{rule}: the manifest as it was sealed");
    let head = must(rule, "head", replica.head(line.machine.id()).await);
    let expected = Head::Sealed { point: point.id, cursor: found.cursor };
    assert_eq!(head, expected, "{rule}: the head is the point");
    line.sealed.push((point, line.image.clone()));
    line.opens(rule, &replica, 1).await;
}

/// REP-7: a repeat for the same cut returns the same point, also after a crash, and makes no other.
pub async fn rep_7_a_repeat_returns_the_same_point<F: ReplicaFixture>() {
    let rule = "REP-7";
    let (mut world, mut line) = with_points::<F>(rule, 1).await;
    let set = line.change(2);
    let (op, cut, replica) = (op_of(2), cut_of(2), world.replica());
    let ingest = must(rule, "begin", replica.begin(&op, &line.machine, &cut, &set).await);
    let tally = must(rule, "write", line.write(&replica, &ingest, &set).await);
    let (manifest, complete) = (manifest(&line.machine, &cut, 2), tally.finish().expect("all has landed"));
    let first = must(rule, "seal", replica.seal(&ingest, &manifest, complete).await);
    drop(replica);
    for time in ["at once", "after a crash"] {
        let again = must(rule, time, world.replica().seal(&ingest, &manifest, complete).await);
        assert_eq!(again, first, "{rule}: the repeat {time} is another point");
        let listed = line.listed(rule, &world.replica()).await;
        assert_eq!(listed, [line.id(0), first.id], "{rule}: points after the repeat {time}");
        world.reopen().await;
    }
}

/// REP-7: each point has the number after the last one sealed, also where that or one before it was dropped, and after a
/// crash in the middle of an ingest.
pub async fn rep_7_numbers_follow_one_another<F: ReplicaFixture>() {
    let rule = "REP-7";
    let (mut world, mut line) = with_points::<F>(rule, 3).await;
    let first = line.id(0).0;
    let older = [line.id(0), line.id(1)];
    let dropped = pruned(rule, &world.replica(), line.machine.id(), &older).await;
    assert_eq!(dropped, older, "{rule}: older points are dropped");
    line.cut(rule, &world.replica(), 4).await;
    let broken = line.change(5);
    let begun = world.replica().begin(&op_of(5), &line.machine, &cut_of(5), &broken).await;
    must(rule, "write", line.write(&world.replica(), &must(rule, "begin", begun), &broken).await);
    world.reopen().await;
    let rest = line.change(6).union(&broken);
    line.ship(rule, &world.replica(), 6, &rest).await;
    let pruned = world.replica().prune(&op("prune-again"), line.machine.id(), &[line.id(3)]).await;
    assert_eq!(must(rule, "prune", pruned), [line.id(3)], "{rule}: the point before the newest is dropped");
    line.cut(rule, &world.replica(), 7).await;
    let numbers: Vec<_> = line.sealed.iter().map(|(point, _)| point.id.0).collect();
    assert_eq!(numbers, Vec::from_iter(first..first + 6), "{rule}: the numbers of the points as sealed");
}

/// REP-8: what was written has to match `complete` in count and digest; otherwise `Corrupt`, and no point.
pub async fn rep_8_what_does_not_match_complete_is_corrupt<F: ReplicaFixture>() {
    let rule = "REP-8";
    for (what, records, digest) in [("count", 1, 0), ("digest", 0, 1)] {
        let (world, mut line) = with_points::<F>(rule, 0).await;
        let replica = world.replica();
        let set: ChangeSet = line.change(1);
        let ingest = replica.begin(&op_of(1), &line.machine, &cut_of(1), &set).await;
        let ingest = must(rule, "begin", ingest);
        let tally = must(rule, "write", line.write(&replica, &ingest, &set).await);
        let complete = tally.finish().expect("all has landed");
        let complete = Complete::admit(complete.records() + records, complete.digest() ^ digest);
        let sealed = replica.seal(&ingest, &manifest(&line.machine, &cut_of(1), 1), complete).await;
        must_be(rule, &format!("seal with another {what}"), ErrorKind::Corrupt, sealed);
        assert!(
            line.listed(rule, &replica).await.is_empty(),
            "{rule}: a point with another {what} is listed"
        );
    }
}
