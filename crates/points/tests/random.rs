//! A hundred points against images in memory.

mod support;

use site_recovery::*;
use std::collections::BTreeMap;
use support::*;

/// `SEED=…` replays a run.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemRandom.bits() | 1);
    eprintln!("SEED={seed}");
    seed
}

fn differs(one: &Image, other: &Image) -> Vec<(DiskId, Run)> {
    let mut runs = vec![];
    for (disk, bytes) in one {
        for part in Run::new(0, bytes.len() as u64).pieces(512) {
            let range = part.start as usize..part.end() as usize;
            if bytes[range.clone()] != other[disk][range] {
                runs.push((disk.clone(), part));
            }
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d4_d8_a_hundred_points_with_prune_restart_and_broken_ingests() {
    let mut dice = Dice(seed());
    let (dir, mut points, clock) = fresh().await;
    let (mut image, mut sealed) = (blank(), BTreeMap::<PointId, Image>::new());
    let (mut all, mut pinned) = (vec![blank()], vec![]);
    for number in 0..100 {
        let changed = churn(&mut image, &mut dice);
        let (cut, plan) = (format!("cut-{number}"), if number == 0 { whole() } else { changed });
        if dice.below(5) == 0 {
            let landing = op(&format!("broken-{number}"), 1);
            let ingest = points.begin(&landing, &machine(), &"x".into(), &whole()).await.expect("begun");
            let mut wild = image.clone();
            churn(&mut wild, &mut dice);
            let some: Vec<Record> =
                all_records(&wild, &whole(), 8 * BLOCK).into_iter().filter(|_| dice.below(3) == 0).collect();
            points.write(&ingest, 0, some).await.expect("landed");
        }
        if dice.below(6) == 0 {
            points = reopened(&dir, &clock);
        }
        let point = ship(&*points, &op(&cut, 1), &cut, &image, &plan).await.expect("sealed");
        sealed.insert(point.id, image.clone());
        all.push(image.clone());
        assert_eq!(point.id.0 as usize, all.len() - 1);
        if dice.below(8) == 0 {
            points.pin(&op(&format!("pin-{number}"), 1), &id(), point.id, "kept").await.expect("pinned");
            pinned.push(point.id);
        }
        if dice.below(4) == 0 {
            let drop: Vec<PointId> = sealed.keys().copied().filter(|_| dice.below(2) == 0).collect();
            let dropped =
                points.prune(&op(&format!("prune-{number}"), 1), &id(), &drop).await.expect("pruned");
            let expected: Vec<PointId> =
                drop.into_iter().filter(|p| !pinned.contains(p) && *p != point.id).collect();
            assert_eq!(dropped, expected);
            dropped.iter().for_each(|p| drop_from(&mut sealed, *p));
        }
    }
    for points in [&points, &reopened(&dir, &clock)] {
        let listed: Vec<PointId> =
            points.points(&id()).await.expect("listed").into_iter().map(|p| p.id).collect();
        assert_eq!(listed, sealed.keys().copied().collect::<Vec<_>>());
        for (point, image) in &sealed {
            assert_eq!(&image_at(&**points, *point).await.expect("opens"), image, "point {point}");
        }
    }
    for _ in 0..50 {
        let (from, to) = (dice.below(all.len() as u64), 1 + dice.below(all.len() as u64 - 1));
        let first = (from > 0).then_some(PointId(from));
        let told = points.changed(&id(), first, PointId(to)).await.expect("told").expect("known");
        for (disk, run) in differs(&all[from as usize], &all[to as usize]) {
            assert!(told.contains(&disk, run), "{from} to {to}: {disk} {run:?} is missing");
        }
    }
}

fn drop_from(sealed: &mut BTreeMap<PointId, Image>, point: PointId) {
    sealed.remove(&point).expect("it was there");
}
