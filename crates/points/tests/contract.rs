//! The rules of `Replica`, one by one.

mod support;

use bytes::Bytes;
use site_recovery::*;
use site_recovery_record::{Codec, hash};
use std::sync::Arc;
use support::*;

#[tokio::test]
async fn rep_1_fresh_opens_a_timeline_once() {
    let (dir, points, clock, _) = two_points().await;
    let other = MachineId::from("other");
    assert_eq!(points.head(&other).await.expect("no timeline"), Head::Empty);
    assert_eq!(points.points(&other).await.expect("no timeline"), vec![]);
    assert_eq!(points.machines().await.expect("listed"), [id()]);
    let again = points.prepare(&op("again", 1), &machine(), &Seed::Fresh, &Settings::default()).await;
    assert_eq!(kind(again), ErrorKind::Conflict);
    prepared(&*points).await.expect("a repeat of the first call changes nothing");
    assert_eq!(reopened(&dir, &clock).points(&id()).await.expect("listed").len(), 2);
    let begin = points
        .begin(
            &op("x", 1),
            &Machine { instance: Instance { machine: other, ..machine().instance }, ..machine() },
            &"x".into(),
            &whole(),
        )
        .await;
    assert_eq!(kind(begin), ErrorKind::NotFound);
}

#[tokio::test]
async fn rep_2_a_known_seed_is_as_far_as_it_says_and_as_the_working_copy_went() {
    let (dir, points, clock, _) = two_points().await;
    let seed = Seed::Known {
        at: Some(PointId(1)),
        landing: None,
        cursor: cursor(9),
        differs: set(&[("boot", 8192, 4096)]),
    };
    points.prepare(&op("back", 2), &machine(), &seed, &Settings::default()).await.expect("prepared");
    for (round, points) in [points, reopened(&dir, &clock)].into_iter().enumerate() {
        let Head::Unsettled { point, cursor: at, touched } = points.head(&id()).await.expect("head") else {
            panic!("a seed leaves the head unsettled")
        };
        assert_eq!((point, at), (Some(PointId(2)), Some(cursor(9))));
        assert!(touched.contains(&"boot".into(), Run::new(8192, 4096)));
        assert!(touched.contains(&"data".into(), Run::new(4096, 4096)), "the way from point 1 to point 2");
        let unknown = Seed::Unknown { landing: None };
        points
            .prepare(&op(&format!("lost {round}"), 2), &machine(), &unknown, &Settings::default())
            .await
            .expect("prepared");
        assert!(matches!(points.head(&id()).await.expect("head"), Head::Unsettled { cursor: None, .. }));
        points
            .prepare(&op(&format!("back {round}"), 2), &machine(), &seed, &Settings::default())
            .await
            .expect("prepared");
    }
}

#[tokio::test]
async fn rep_3_4_the_same_op_resumes_another_takes_over_and_the_old_session_lands_nothing() {
    let (dir, points, clock, [_, image]) = two_points().await;
    let mut wild = image.clone();
    wild.get_mut(&DiskId::from("boot")).expect("a disk").fill(3);
    let plan = set(&[("boot", 0, 64 * BLOCK), ("data", 0, BLOCK)]);
    let all = all_records(&wild, &plan, BLOCK);
    let first = points.begin(&op("three", 1), &machine(), &"three".into(), &plan).await.expect("begun");
    assert!(first.resume.is_empty());
    points.write(&first, 1, all[20..30].to_vec()).await.expect("out of order");
    let landed = points.write(&first, 0, all[..10].to_vec()).await.expect("landed");
    assert_eq!(landed[&DiskId::from("boot")], 10 * BLOCK);

    let points = reopened(&dir, &clock);
    let Head::Unsettled { touched, cursor: at, .. } = points.head(&id()).await.expect("head") else {
        panic!("what landed is told")
    };
    assert_eq!(touched, set(&[("boot", 0, 10 * BLOCK), ("boot", 20 * BLOCK, 10 * BLOCK)]));
    assert_eq!(at, Some(cursor(3)), "the cursor of the newest point");
    let second = points.begin(&op("three", 1), &machine(), &"three".into(), &plan).await.expect("resumed");
    assert_eq!(second.resume[&DiskId::from("boot")], 10 * BLOCK);
    assert_eq!(kind(points.write(&first, 2, all[10..12].to_vec()).await), ErrorKind::Refused);
    let landed = points.write(&second, 0, all[10..20].to_vec()).await.expect("landed");
    assert_eq!(landed[&DiskId::from("boot")], 30 * BLOCK, "joins what the first session landed");

    let third = points.begin(&op("four", 1), &machine(), &"four".into(), &plan).await.expect("taken over");
    assert!(third.resume.is_empty(), "another op does not resume");
    assert_eq!(kind(points.write(&second, 1, all[30..31].to_vec()).await), ErrorKind::Refused);
    let Head::Unsettled { touched, .. } = reopened(&dir, &clock).head(&id()).await.expect("head") else {
        panic!("what landed is told")
    };
    assert!(touched.contains(&"boot".into(), Run::new(0, 30 * BLOCK)));
    assert_eq!(image_at(&*points, PointId(2)).await.expect("opens"), image, "sealed points stay");
}

#[tokio::test]
async fn rep_5_a_disk_grows_and_never_shrinks() {
    let (_dir, points, _, _) = two_points().await;
    let mut smaller = machine();
    smaller.disks[1].size -= 512;
    let begin = points.begin(&op("x", 1), &smaller, &"x".into(), &ChangeSet::new()).await;
    assert_eq!(kind(begin), ErrorKind::Invalid);
    let mut larger = machine();
    larger.disks[1].size = 50 * BLOCK;
    let ingest = points.begin(&op("y", 1), &larger, &"y".into(), &ChangeSet::new()).await.expect("begun");
    let manifest = Manifest { machine: larger, ..manifest("y") };
    let complete = Tally::new(&ChangeSet::new()).finish().expect("nothing to land");
    let point = points.seal(&ingest, &manifest, complete).await.expect("sealed").id;
    let disks = points.open(&id(), point).await.expect("opens");
    let data = &disks[&DiskId::from("data")];
    assert_eq!(data.size(), 50 * BLOCK);
    let tail = data.read(Run::new(40 * BLOCK, 10 * BLOCK), &Pool::new(1 << 20)).await.expect("read");
    assert!(tail.iter().all(|b| *b == 0));
}

#[tokio::test]
async fn rep_6_damaged_records_are_refused_and_a_batch_counts_once() {
    let (_dir, points, _, [_, image]) = two_points().await;
    let plan = set(&[("boot", 0, 8 * BLOCK)]);
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    let all = all_records(&image, &plan, BLOCK);
    let mut bad = all.clone();
    bad[1].checksum ^= 1;
    assert_eq!(kind(points.write(&ingest, 0, bad).await), ErrorKind::Corrupt);
    assert_eq!(
        points.head(&id()).await.expect("head"),
        Head::Sealed { point: PointId(2), cursor: Some(cursor(3)) }
    );
    let outside = all_records(&image, &set(&[("data", 0, BLOCK)]), BLOCK);
    assert_eq!(kind(points.write(&ingest, 0, outside).await), ErrorKind::Invalid);
    let unaligned = pack(&"boot".into(), Run::new(100, 50), Bytes::from(vec![1; 50]), Codec::Raw);
    assert_eq!(kind(points.write(&ingest, 0, vec![unaligned]).await), ErrorKind::Invalid);
    let mut tally = Tally::new(&plan);
    let once = points.write(&ingest, 0, all.clone()).await.expect("landed");
    assert_eq!(points.write(&ingest, 0, all.clone()).await.expect("again"), once);
    all.iter().for_each(|r| tally.landed(r));
    points.seal(&ingest, &manifest("x"), tally.finish().expect("all")).await.expect("counted once");
}

#[tokio::test]
async fn rep_7_8_a_point_is_what_was_counted_and_is_made_once() {
    let (dir, points, clock, [_, image]) = two_points().await;
    let plan = set(&[("boot", 0, 2 * BLOCK)]);
    let all = all_records(&image, &plan, BLOCK);
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    points.write(&ingest, 0, all[..1].to_vec()).await.expect("landed");
    let mut tally = Tally::new(&plan);
    all.iter().for_each(|r| tally.landed(r));
    assert_eq!(
        kind(points.seal(&ingest, &manifest("x"), tally.finish().expect("all")).await),
        ErrorKind::Corrupt
    );
    assert_eq!(points.points(&id()).await.expect("listed").len(), 2);
    assert_eq!(kind(points.seal(&ingest, &manifest("y"), Complete::admit(1, 0)).await), ErrorKind::Invalid);
    points.write(&ingest, 1, all[1..].to_vec()).await.expect("landed");
    let digest = all.iter().fold(0, fold);
    let point = points.seal(&ingest, &manifest("x"), Complete::admit(2, digest)).await.expect("sealed");
    let again = reopened(&dir, &clock);
    assert_eq!(again.seal(&ingest, &manifest("x"), Complete::admit(2, digest)).await.expect("again"), point);
    assert_eq!(again.points(&id()).await.expect("listed").len(), 3);
    assert_eq!(again.manifest(&id(), point.id).await.expect("kept"), manifest("x"));
    ship(&*again, &op("y", 1), "y", &image, &plan).await.expect("sealed");
    again.prune(&op("p", 1), &id(), &[point.id]).await.expect("pruned");
    let late = again.seal(&ingest, &manifest("x"), Complete::admit(2, digest)).await;
    assert_eq!(kind(late), ErrorKind::Refused, "a dropped point does not come back");
}

#[tokio::test]
async fn rep_10_13_an_open_point_stays_and_reads_the_same_while_the_head_moves_on() {
    let (_dir, points, _, [first, mut image]) = two_points().await;
    let disks = points.open(&id(), PointId(1)).await.expect("opens");
    image.get_mut(&DiskId::from("boot")).expect("a disk").fill(5);
    ship(&*points, &op("three", 1), "three", &image, &whole()).await.expect("sealed");
    points.pin(&op("pin", 1), &id(), PointId(2), "base").await.expect("pinned");
    points.pin(&op("pin", 1), &id(), PointId(2), "drill").await.expect("pinned");
    let all = [PointId(1), PointId(2), PointId(3)];
    assert_eq!(points.prune(&op("p1", 1), &id(), &all).await.expect("pruned"), vec![]);
    assert_eq!(kind(points.delete(&op("d", 1), &id()).await), ErrorKind::Busy);
    assert_eq!(read(&disks).await.expect("read"), first);
    points.unpin(&op("unpin", 1), &id(), PointId(2), "base").await.expect("unpinned");
    assert_eq!(points.points(&id()).await.expect("listed")[1].pins, ["drill"]);
    assert_eq!(points.prune(&op("p2", 1), &id(), &all).await.expect("pruned"), vec![]);
    points.unpin(&op("unpin 2", 1), &id(), PointId(2), "drill").await.expect("unpinned");
    points.pin(&op("pin", 1), &id(), PointId(2), "drill").await.expect("a late repeat pins nothing");
    assert_eq!(points.prune(&op("p3", 1), &id(), &all).await.expect("pruned"), [PointId(2)]);
    assert_eq!(read(&disks).await.expect("read"), first, "pruning a neighbour leaves it whole");
    drop(disks);
    assert_eq!(points.prune(&op("p4", 1), &id(), &all).await.expect("pruned"), [PointId(1)]);
    assert_eq!(points.prune(&op("p4", 1), &id(), &all).await.expect("a repeat"), [PointId(1)]);
    assert_eq!(kind(points.open(&id(), PointId(1)).await), ErrorKind::NotFound);
    assert_eq!(image_at(&*points, PointId(3)).await.expect("opens"), image, "the others keep their bytes");
}

#[tokio::test]
async fn prune_gives_back_the_space_that_no_point_needs() {
    let (dir, points, _) = fresh().await;
    let (mut image, mut dice) = (blank(), Dice(3));
    let noise = |image: &mut Image, dice: &mut Dice| {
        image.values_mut().flatten().for_each(|b| *b = dice.below(256) as u8);
    };
    for cut in ["a", "b", "c", "d"] {
        noise(&mut image, &mut dice);
        ship(&*points, &op(cut, 1), cut, &image, &whole()).await.expect("sealed");
    }
    let size =
        || walk(&dir.path().join("web/data")).map(|p| p.metadata().expect("a file").len()).sum::<u64>();
    let before = size();
    let drop = [PointId(1), PointId(2), PointId(3)];
    assert_eq!(points.prune(&op("p", 1), &id(), &drop).await.expect("pruned"), drop);
    assert!(size() * 3 < before, "{} of {before} are left", size());
    assert_eq!(image_at(&*points, PointId(4)).await.expect("opens"), image);
    points.delete(&op("delete", 1), &id()).await.expect("deleted");
    assert_eq!(size(), 0);
}

#[tokio::test]
async fn rep_11_hashes_are_of_what_stands_there_now() {
    let (dir, points, clock, [_, mut image]) = two_points().await;
    let boot = DiskId::from("boot");
    let expected = |image: &Image, disk: &DiskId| -> Vec<Hash> {
        image[disk].chunks(HASH_BLOCK as usize).map(hash).collect()
    };
    image.get_mut(&boot).expect("a disk")[3 * 65536..3 * 65536 + 4096].fill(77);
    let plan = set(&[("boot", 3 * 65536, 4096)]);
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    points.write(&ingest, 0, all_records(&image, &plan, BLOCK)).await.expect("landed");
    for points in [points, reopened(&dir, &clock)] {
        for (name, size) in SIZES {
            let hashes = points.hashes(&id(), &name.into(), Run::new(0, size)).await.expect("hashed");
            assert_eq!(hashes, expected(&image, &name.into()), "{name}, unsealed bytes included");
        }
        let part = points.hashes(&id(), &boot, Run::new(65536, 70_000)).await.expect("hashed");
        assert_eq!(part[0], hash(&image[&boot][65536..131_072]));
        assert_eq!(part[1], hash(&image[&boot][131_072..65536 + 70_000]));
        assert_eq!(kind(points.hashes(&id(), &boot, Run::new(4096, 4096)).await), ErrorKind::Invalid);
        assert_eq!(kind(points.hashes(&id(), &boot, Run::new(0, u64::MAX)).await), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn rep_12_changed_is_never_too_small_also_after_prune() {
    let (_dir, points, _, [_, image]) = two_points().await;
    let mut third = image.clone();
    third.get_mut(&DiskId::from("boot")).expect("a disk")[40_960..45_056].fill(8);
    ship(&*points, &op("3", 1), "3", &third, &set(&[("boot", 40_960, 4096)])).await.expect("sealed");
    let changed = async |from: Option<u64>, to| points.changed(&id(), from.map(PointId), PointId(to)).await;
    assert_eq!(changed(Some(1), 2).await.expect("told"), Some(set(&[("data", 4096, 4096)])));
    assert_eq!(changed(Some(2), 2).await.expect("told"), Some(ChangeSet::new()));
    let both = set(&[("data", 4096, 4096), ("boot", 40_960, 4096)]);
    assert_eq!(changed(Some(1), 3).await.expect("told"), Some(both.clone()));
    assert_eq!(changed(Some(3), 1).await.expect("told"), Some(both.clone()), "either way round");
    points.prune(&op("p", 1), &id(), &[PointId(2)]).await.expect("pruned");
    assert_eq!(changed(Some(1), 3).await.expect("told"), Some(both.clone()));
    assert!(
        changed(Some(2), 3)
            .await
            .expect("told")
            .expect("known")
            .contains(&"boot".into(), Run::new(40_960, 4096))
    );
    assert_eq!(changed(None, 3).await.expect("told").expect("known"), whole());
    assert_eq!(kind(changed(None, 4).await), ErrorKind::NotFound);
    points.delete(&op("d", 1), &id()).await.expect("deleted");
    points.prepare(&op("anew", 1), &machine(), &Seed::Fresh, &Settings::default()).await.expect("prepared");
    let next = ship(&*points, &op("4", 1), "4", &third, &whole()).await.expect("sealed");
    assert_eq!(next.id, PointId(4), "numbers are never used again");
    assert_eq!(changed(Some(3), 4).await.expect("told"), None, "of another timeline nothing is known");
}

#[tokio::test]
async fn rep_14_15_rps_1_locks_hold_and_register_and_phase_outlive_the_timeline() {
    let (dir, points, clock, _) = two_points().await;
    let lock = async |key: &str, until| points.lock(&op(key, 1), &id(), PointId(1), Timestamp(until)).await;
    lock("l1", 1000).await.expect("locked");
    assert_eq!(kind(lock("l2", 999).await), ErrorKind::Refused);
    lock("l3", 2000).await.expect("longer");
    clock.0.store(1999, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(points.prune(&op("p", 1), &id(), &[PointId(1)]).await.expect("pruned"), vec![]);
    assert_eq!(kind(points.delete(&op("d", 1), &id()).await), ErrorKind::Refused);
    assert_eq!(points.points(&id()).await.expect("listed")[0].locked_until, Some(Timestamp(2000)));
    points.remember(&op("r", 3), &id(), &phase(3, 4)).await.expect("remembered");
    assert_eq!(kind(points.remember(&op("r2", 3), &id(), &phase(3, 3)).await), ErrorKind::Refused);
    assert_eq!(kind(points.remember(&op("r3", 3), &id(), &phase(2, 9)).await), ErrorKind::Refused);
    clock.0.store(2000, std::sync::atomic::Ordering::SeqCst);
    points.delete(&op("d", 3), &id()).await.expect("deleted");
    let again = reopened(&dir, &clock);
    assert_eq!(again.machines().await.expect("listed"), vec![]);
    assert_eq!(again.head(&id()).await.expect("head"), Head::Empty);
    assert_eq!(again.recall(&id()).await.expect("read"), Some(phase(3, 4)));
    assert_eq!(kind(again.claim(&op("old", 2), &id()).await), ErrorKind::StaleEpoch);
    let other = MachineId::from("no timeline/ever");
    again.remember(&op("r", 1), &other, &phase(1, 1)).await.expect("remembered");
    assert_eq!(again.recall(&other).await.expect("read"), Some(phase(1, 1)));
}

#[tokio::test]
async fn rol_2_8_o3_an_older_authority_changes_nothing_anywhere() {
    let (dir, points, clock, [_, image]) = two_points().await;
    let other = reopened(&dir, &clock);
    let plan = set(&[("boot", 0, BLOCK)]);
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    other.claim(&op("claim", 2), &id()).await.expect("claimed");
    let before = files(&dir);
    let records = all_records(&image, &plan, BLOCK);
    let (old, rival) =
        (op("old", 1), Op { key: "r".into(), epoch: Epoch { number: 2, owner: "rival".into() } });
    assert_eq!(kind(points.write(&ingest, 0, records).await), ErrorKind::StaleEpoch);
    assert_eq!(
        kind(points.seal(&ingest, &manifest("x"), Complete::admit(0, 0)).await),
        ErrorKind::StaleEpoch
    );
    for op in [old, rival] {
        assert_eq!(kind(points.claim(&op, &id()).await), ErrorKind::StaleEpoch);
        let seed = Seed::Unknown { landing: None };
        assert_eq!(
            kind(points.prepare(&op, &machine(), &seed, &Settings::default()).await),
            ErrorKind::StaleEpoch
        );
        assert_eq!(kind(points.begin(&op, &machine(), &"y".into(), &plan).await), ErrorKind::StaleEpoch);
        assert_eq!(kind(points.pin(&op, &id(), PointId(1), "w").await), ErrorKind::StaleEpoch);
        assert_eq!(kind(points.unpin(&op, &id(), PointId(1), "w").await), ErrorKind::StaleEpoch);
        assert_eq!(kind(points.lock(&op, &id(), PointId(1), Timestamp(9)).await), ErrorKind::StaleEpoch);
        assert_eq!(kind(points.prune(&op, &id(), &[PointId(1)]).await), ErrorKind::StaleEpoch);
        assert_eq!(kind(points.remember(&op, &id(), &phase(9, 9)).await), ErrorKind::StaleEpoch);
        assert_eq!(kind(points.delete(&op, &id()).await), ErrorKind::StaleEpoch);
    }
    assert_eq!(files(&dir), before, "nothing was changed");
    let resumed = other.begin(&op("x", 2), &machine(), &"x".into(), &plan).await;
    assert!(resumed.is_ok(), "the new authority goes on");
}

fn files(dir: &tempfile::TempDir) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> =
        walk(dir.path()).map(|p| (p.clone(), std::fs::read(p).expect("a file"))).collect();
    files.sort();
    files
}

#[tokio::test]
async fn rol_3_bad_input_is_refused_before_anything_changes() {
    let (dir, points, _, _) = two_points().await;
    let before = files(&dir);
    let begin = points.begin(&op("x", 9), &machine(), &"x".into(), &set(&[("other", 0, BLOCK)])).await;
    assert_eq!(kind(begin), ErrorKind::Invalid);
    let none = Machine { disks: vec![], ..machine() };
    assert_eq!(
        kind(points.prepare(&op("x", 9), &none, &Seed::Fresh, &Settings::default()).await),
        ErrorKind::Invalid
    );
    assert_eq!(kind(points.claim(&op("x", 9), &MachineId::from("")).await), ErrorKind::Invalid);
    assert_eq!(kind(points.pin(&op("x", 9), &id(), PointId(8), "w").await), ErrorKind::NotFound);
    assert_eq!(files(&dir), before, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_4_a_dropped_future_is_settled_by_the_same_call() {
    let (_dir, points, _, [_, image]) = two_points().await;
    let plan = whole();
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    let mut tally = Tally::new(&plan);
    for (batch, records) in all_records(&image, &plan, 4 * BLOCK).chunks(2).enumerate() {
        for polls in 0..6 {
            let mut write = points.write(&ingest, batch as u64, records.to_vec());
            for _ in 0..polls {
                if futures_util::poll!(&mut write).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        points.write(&ingest, batch as u64, records.to_vec()).await.expect("landed");
        records.iter().for_each(|r| tally.landed(r));
    }
    let point = points.seal(&ingest, &manifest("x"), tally.finish().expect("all")).await.expect("sealed");
    assert_eq!(image_at(&*points, point.id).await.expect("opens"), image);
}

#[tokio::test]
async fn dsk_extents_cover_and_reads_stay_inside() {
    let (_dir, points, _, [_, image]) = two_points().await;
    let disks = points.open(&id(), PointId(2)).await.expect("opens");
    let pool = Pool::new(64 * 1024);
    for (id, disk) in &disks {
        assert_eq!(disk.size(), image[id].len() as u64);
        for range in [
            Run::new(0, disk.size()),
            Run::new(5000, 9000),
            Run::new(disk.size() - 10, 100),
            Run::new(0, u64::MAX),
        ] {
            let end = range.start.saturating_add(range.len).min(disk.size());
            let mut at = range.start;
            for extent in disk.extents(range).await.expect("told") {
                assert!(extent.run.start == at && extent.run.len > 0, "{extent:?}");
                at = extent.run.end();
                let bytes = &image[id][extent.run.start as usize..at as usize];
                assert!(extent.fill == Fill::Data || bytes.iter().all(|b| *b == 0), "{extent:?}");
            }
            assert_eq!(at, end);
        }
        assert_eq!(disk.extents(Run::new(disk.size(), 10)).await.expect("told"), vec![]);
        let odd = disk.read(Run::new(4000, 5001), &pool).await.expect("read");
        assert_eq!(odd, image[id][4000..9001]);
        for past in [Run::new(disk.size() - 1, 2), Run::new(u64::MAX, 2)] {
            assert_eq!(kind(disk.read(past, &pool).await), ErrorKind::Invalid);
        }
    }
    let data = disks[&DiskId::from("data")].extents(Run::new(0, 3 * BLOCK)).await.expect("told");
    let fills: Vec<Fill> = data.iter().map(|e| e.fill).collect();
    assert_eq!(fills, [Fill::Zero, Fill::Data, Fill::Zero], "zeros are told");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_6_batches_land_side_by_side() {
    let (_dir, points, _, [_, image]) = two_points().await;
    let (plan, mut tally) = (whole(), Tally::new(&whole()));
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    let all = all_records(&image, &plan, 2 * BLOCK);
    let writes = all.chunks(4).enumerate().map(|(batch, r)| points.write(&ingest, batch as u64, r.to_vec()));
    let landed: Vec<Landed> =
        futures_util::future::join_all(writes).await.into_iter().map(|l| l.expect("landed")).collect();
    for (name, size) in SIZES {
        assert_eq!(landed.iter().filter_map(|l| l.get(&DiskId::from(name))).max(), Some(&size));
    }
    all.iter().for_each(|r| tally.landed(r));
    let point = points.seal(&ingest, &manifest("x"), tally.finish().expect("all")).await.expect("sealed");
    assert_eq!(image_at(&*points, point.id).await.expect("opens"), image);
}

#[tokio::test]
async fn many_points_share_layers_and_stay_right() {
    let (dir, points, clock) = fresh().await;
    let (mut image, mut images) = (blank(), vec![]);
    ship(&*points, &op("first", 1), "first", &image, &whole()).await.expect("sealed");
    for number in 0..140_u64 {
        let start = number % 60 * BLOCK;
        image.get_mut(&DiskId::from("boot")).expect("a disk")[start as usize] = number as u8 + 1;
        let (cut, plan) = (format!("cut-{number}"), set(&[("boot", start, BLOCK)]));
        let point = ship(&*points, &op(&cut, 1), &cut, &image, &plan).await.expect("sealed");
        images.push((point.id, image.clone()));
    }
    let files =
        |kind: &str| walk(&dir.path().join("web")).filter(|p| p.to_string_lossy().contains(kind)).count();
    assert!((5..30).contains(&files("-map-")), "{} merged layers", files("-map-"));
    assert_eq!((files("-leaf-"), files("-node-")), (1, 1), "the oldest 64 of 141");
    let points = reopened(&dir, &clock);
    for (point, image) in images[100..].iter().step_by(7) {
        assert_eq!(&image_at(&*points, *point).await.expect("opens"), image, "point {point}");
    }
    let drop: Vec<PointId> = (100..135).map(PointId).collect();
    points.prune(&op("p", 1), &id(), &drop).await.expect("pruned");
    let listed = points.points(&id()).await.expect("listed");
    assert_eq!(listed.len(), 141 - drop.len());
    assert!(listed.is_sorted_by_key(|point| point.id));
    for (point, image) in images[95..].iter().filter(|(point, _)| !drop.contains(point)) {
        assert_eq!(&image_at(&*points, *point).await.expect("opens"), image, "point {point}");
    }
}

#[tokio::test]
async fn rep_4_a_write_under_way_when_another_session_begins_is_not_acknowledged() {
    let store = Arc::new(support::faulty::Faulty::sound(Arc::new(object_store::memory::InMemory::new())));
    let instance = || {
        let clock = Arc::new(HandClock::default());
        let prefix = object_store::path::Path::from("below/here");
        site_recovery_points::Points::new("store".into(), Arc::clone(&store) as _, prefix, clock)
    };
    let (points, other) = (instance(), instance());
    prepared(&points).await.expect("prepared");
    let mut image = blank();
    image.get_mut(&DiskId::from("boot")).expect("a disk").fill(1);
    let old = points.begin(&op("old", 1), &machine(), &"old".into(), &whole()).await.expect("begun");
    let mut write = points.write(&old, 0, all_records(&image, &whole(), 4 * BLOCK));
    assert!(futures_util::poll!(&mut write).is_pending(), "it verifies beside the worker");
    let new = other.begin(&op("new", 2), &machine(), &"new".into(), &whole()).await.expect("begun");
    assert_eq!(kind(write.await), ErrorKind::StaleEpoch);
    assert_eq!(other.head(&id()).await.expect("head"), Head::Empty, "it came too late to count");
    let (complete, plan) =
        (Tally::new(&ChangeSet::new()).finish().expect("nothing"), Run::new(0, 64 * BLOCK));
    let point = other.seal(&new, &manifest("new"), complete).await.expect("sealed").id;
    assert_eq!(image_at(&other, point).await.expect("opens"), blank());
    let boot = other.hashes(&id(), &"boot".into(), plan).await.expect("hashed");
    assert!(boot.iter().all(|h| *h == hash(&[0; HASH_BLOCK as usize])));
}

#[tokio::test]
async fn a_plan_may_be_too_big() {
    let (_dir, points, _, [_, image]) = two_points().await;
    let plan = set(&[("data", 39 * BLOCK, 99 * BLOCK), ("boot", 64 * BLOCK, 1)]);
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &plan).await.expect("begun");
    let inside = set(&[("data", 39 * BLOCK, BLOCK + 512)]);
    let landed = points.write(&ingest, 0, all_records(&image, &inside, BLOCK)).await.expect("landed");
    assert_eq!(landed, Landed::from([("data".into(), 40 * BLOCK + 512)]));
}

#[tokio::test]
async fn c4_a_locked_point_is_neither_dropped_nor_is_its_time_shortened_by_any_role() {
    let (dir, points, clock, [first, image]) = two_points().await;
    points.lock(&op("lock", 1), &id(), PointId(1), Timestamp(5000)).await.expect("locked");
    for number in 3..20_u8 {
        let cut = format!("cut-{number}");
        ship(&*points, &op(&cut, 1), &cut, &image, &set(&[("boot", 0, 9 * BLOCK)])).await.expect("sealed");
    }
    // Another process, with another engine's higher authority.
    let other = reopened(&dir, &clock);
    let all: Vec<PointId> = (1..19).map(PointId).collect();
    let dropped = other.prune(&op("all", 9), &id(), &all).await.expect("pruned");
    assert_eq!(dropped, all[1..], "all but the locked one and the newest");
    for until in [0, 4999] {
        let shorter =
            other.lock(&op(&format!("until {until}"), 9), &id(), PointId(1), Timestamp(until)).await;
        assert_eq!(kind(shorter), ErrorKind::Refused);
    }
    assert_eq!(kind(other.delete(&op("delete", 9), &id()).await), ErrorKind::Refused);
    assert_eq!(image_at(&*other, PointId(1)).await.expect("opens"), first);
    clock.0.store(5000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(other.prune(&op("late", 9), &id(), &all).await.expect("pruned"), [PointId(1)]);
}
