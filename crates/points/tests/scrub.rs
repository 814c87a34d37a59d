//! Damage: it is named wherever it is, and is shipped again.

mod support;

use site_recovery::*;
use site_recovery_points::Share;
use support::*;

#[tokio::test]
async fn rep_9_rps_2_damage_is_named_wherever_it_is() {
    let (dir, points, clock, [_, image]) = two_points().await;
    assert_eq!(points.scrub(&id(), PointId(2)).await.expect("read"), vec![]);
    let files = |part: &str| -> Vec<std::path::PathBuf> {
        let mut found: Vec<_> = walk(&dir.path().join("web").join(part)).collect();
        found.sort();
        found
    };
    for path in files("data") {
        let whole = std::fs::read(&path).expect("a file");
        let mut bad = whole.clone();
        *bad.last_mut().expect("not empty") ^= 0x40;
        for damaged in [Some(bad), Some(whole[..whole.len() / 2].to_vec()), None] {
            match &damaged {
                Some(bytes) => std::fs::write(&path, bytes).expect("written"),
                None => std::fs::remove_file(&path).expect("removed"),
            }
            let points = reopened(&dir, &clock);
            let listed = points.points(&id()).await.expect("listed");
            assert_eq!(listed.len(), 2, "a damaged point is not skipped");
            for point in listed {
                let findings = points.scrub(&id(), point.id).await.expect("scrubbed");
                let names =
                    |f: &Finding| f.blocks() && (f.cause.contains("of disk") || f.cause.contains("data/"));
                assert!(findings.iter().all(names), "{findings:?}");
                match image_at(&*points, point.id).await {
                    Ok(there) if findings.is_empty() => assert!(point.id == PointId(1) || there == image),
                    Ok(_) => panic!("point {} opens, and yet: {findings:?}", point.id),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                        assert!(!findings.is_empty(), "scrub misses {path:?} of point {}", point.id);
                    }
                }
            }
            std::fs::write(&path, &whole).expect("mended");
        }
    }
    let ledger = files("ledger").pop().expect("a ledger");
    std::fs::write(&ledger, b"nonsense").expect("written");
    assert_eq!(kind(reopened(&dir, &clock).points(&id()).await), ErrorKind::Corrupt);
}

#[tokio::test]
async fn damaged_unsealed_bytes_do_not_stand_in_the_way_of_a_comparison() {
    let (dir, points, clock, [_, image]) = two_points().await;
    let ingest = points.begin(&op("x", 1), &machine(), &"x".into(), &whole()).await.expect("begun");
    points.write(&ingest, 0, all_records(&image, &whole(), 4 * BLOCK)).await.expect("landed");
    let segments = walk(&dir.path().join("web/data")).filter(|p| p.to_string_lossy().contains("-s-"));
    let newest = segments.max().expect("a segment");
    std::fs::write(&newest, b"nonsense").expect("written");
    let points = reopened(&dir, &clock);
    assert_eq!(kind(points.head(&id()).await), ErrorKind::Corrupt, "it is named");
    let unknown = Seed::Unknown { landing: None };
    points.prepare(&op("resync", 1), &machine(), &unknown, &Settings::default()).await.expect("prepared");
    let Head::Unsettled { cursor: None, .. } = points.head(&id()).await.expect("head") else {
        panic!("after a loss there is no cursor")
    };
    let point = ship(&*points, &op("y", 1), "y", &image, &whole()).await.expect("sealed");
    assert_eq!(image_at(&*points, point.id).await.expect("opens"), image);
}

#[tokio::test]
async fn rps_2_a_scrub_tells_how_far_it_is_reads_a_sample_and_names_the_points_that_need_what_is_damaged() {
    let (dir, points, clock) = fresh().await;
    let mut image = blank();
    image.values_mut().flatten().for_each(|byte| *byte = 7);
    ship(&*points, &op("first", 1), "first", &image, &whole()).await.expect("sealed");
    for number in 2..12_u8 {
        // The fifth writes what the eighth writes over.
        let start = if [5, 8].contains(&number) { 3 } else { 20 + u64::from(number) } * BLOCK;
        image.get_mut(&DiskId::from("boot")).expect("a disk")[start as usize] = number;
        let (cut, plan) = (format!("cut-{number}"), set(&[("boot", start, BLOCK)]));
        ship(&*points, &op(&cut, 1), &cut, &image, &plan).await.expect("sealed");
    }
    let mut far = vec![];
    let whole = points.scrub_share(&id(), PointId(6), Share::Whole, |now| far.push(now)).await.expect("read");
    assert_eq!(whole, vec![]);
    let last = *far.last().expect("it told");
    assert!(
        far.is_sorted_by_key(|now| now.passed) && last.passed == last.of && last.records > 10,
        "{last:?}"
    );
    let some = Share::OneIn { records: 4.try_into().expect("not zero"), seed: 1 };
    let mut sample = last;
    points.scrub_share(&id(), PointId(6), some, |now| sample = now).await.expect("read");
    assert!((1..last.records).contains(&sample.records), "{sample:?} of {last:?}");

    // Sessions are counted as points are here.
    let segment =
        walk(&dir.path().join("web/data")).find(|p| p.to_string_lossy().contains("/00000000000000000005-s-"));
    let segment = segment.expect("the segment of point 5");
    let mut bytes = std::fs::read(&segment).expect("read");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let points = reopened(&dir, &clock);
    for (point, findings) in [(4, 0), (5, 1), (6, 1), (7, 1), (8, 0)] {
        let found = points.scrub(&id(), PointId(point)).await.expect("read");
        assert_eq!(found.len(), findings, "point {point}: {found:?}");
        assert!(found.iter().all(|f| f.cause.ends_with("the points 5 to 7 need it")), "{found:?}");
    }
}

#[tokio::test]
async fn what_a_scrub_finds_damaged_is_shipped_again_by_a_comparison() {
    let (dir, points, clock) = fresh().await;
    let mut image = blank();
    image.values_mut().flatten().for_each(|byte| *byte = 7);
    // Records of whole blocks, of which a store need not read anything to compare them.
    let ingest = points.begin(&op("one", 1), &machine(), &"one".into(), &whole()).await.expect("begun");
    let (mut tally, records) = (Tally::new(&whole()), all_records(&image, &whole(), HASH_BLOCK));
    points.write(&ingest, 0, records.clone()).await.expect("landed");
    records.iter().for_each(|record| tally.landed(record));
    points.seal(&ingest, &manifest("one"), tally.finish().expect("all")).await.expect("sealed");
    let data = Run::new(0, 40 * BLOCK + 512);
    let before = points.hashes(&id(), &"data".into(), data).await.expect("hashed");
    for segment in walk(&dir.path().join("web/data")).filter(|p| p.to_string_lossy().contains("-s-")) {
        let mut bytes = std::fs::read(&segment).expect("read");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&segment, bytes).expect("written");
    }
    let points = reopened(&dir, &clock);
    assert_eq!(points.hashes(&id(), &"data".into(), data).await.expect("hashed"), before, "nothing was read");
    let found = points.scrub(&id(), PointId(1)).await.expect("read");
    assert!(!found.is_empty());
    let after = points.hashes(&id(), &"data".into(), data).await.expect("damage is no error here");
    assert!(before != after, "what is damaged matches nothing");
    let point = ship(&*points, &op("again", 1), "again", &image, &whole()).await.expect("sealed");
    assert_eq!(points.hashes(&id(), &"data".into(), data).await.expect("hashed"), before);
    assert!(newest_ledger(dir.path()).contains("damaged"), "it is noted still");
    assert_eq!(points.scrub(&id(), point.id).await.expect("read"), vec![]);
    assert!(!newest_ledger(dir.path()).contains("damaged"), "nobody needs it any more");
}

fn newest_ledger(dir: &std::path::Path) -> String {
    let newest = walk(&dir.join("web/ledger")).max().expect("a ledger");
    std::fs::read_to_string(newest).expect("text")
}
