//! A long history: dropped here and there, every point that is kept reads right, space comes back, and no crash in
//! between costs anything.

mod support;

use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use site_recovery::*;
use site_recovery_points::Points;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::faulty::{Death, Faulty};
use support::*;

type History = BTreeMap<PointId, Image>;

fn points(store: Arc<dyn ObjectStore>) -> Points {
    Points::new("store".into(), store, Path::default(), Arc::new(HandClock::default()))
}

/// So many points of noise, each of some blocks.
async fn history(points: &Points, count: u64, seed: u64) -> History {
    let (mut image, mut dice, mut history) = (blank(), Dice(seed), History::new());
    prepared(points).await.expect("prepared");
    for number in 0..count {
        let mut plan = churn(&mut image, &mut dice);
        for (disk, runs) in plan.clone().disks() {
            for run in runs.iter().filter(|_| dice.below(3) > 0).collect::<Vec<_>>() {
                let bytes = image.get_mut(disk).expect("a disk");
                bytes[run.start as usize..run.end() as usize].fill_with(|| dice.below(256) as u8);
            }
        }
        if number == 0 {
            image.values_mut().flatten().for_each(|byte| *byte = dice.below(256) as u8);
            plan = whole();
        }
        let cut = format!("cut-{number}");
        let point = ship(points, &op(&cut, 1), &cut, &image, &plan).await.expect("sealed");
        history.insert(point.id, image.clone());
    }
    history
}

async fn all_read_right(points: &Points, history: &History, place: &str) {
    let listed = points.points(&id()).await.expect(place);
    let ids: Vec<PointId> = listed.iter().map(|p| p.id).collect();
    assert_eq!(ids, history.keys().copied().collect::<Vec<_>>(), "{place}");
    for (point, image) in history {
        assert_eq!(&image_at(points, *point).await.expect(place), image, "{place}: point {point}");
    }
}

async fn bytes(store: &InMemory, part: &str) -> u64 {
    let all: Vec<_> = store.list(None).try_collect().await.expect("listed");
    all.iter().filter(|meta| meta.location.as_ref().contains(part)).map(|meta| meta.size).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_points_that_are_dropped_anywhere_leave_the_others_whole_and_give_their_space_back() {
    for seed in [11, 4711] {
        let store = Arc::new(InMemory::new());
        let points = points(Arc::clone(&store) as _);
        let (mut kept, mut dice) = (history(&points, 220, seed).await, Dice(seed + 1));
        let newest = *kept.keys().next_back().expect("points");
        for round in 0..40 {
            let all: Vec<PointId> = kept.keys().copied().filter(|id| *id != newest).collect();
            let many = 1 + dice.below(9) as usize;
            let from = dice.below(all.len() as u64) as usize;
            let drop: Vec<PointId> = match round % 3 {
                0 => all.iter().copied().take(many).collect(),
                1 => all[from..].iter().copied().take(many).collect(),
                _ => all[from..].iter().copied().step_by(2).take(many).collect(),
            };
            let dropped = points.prune(&op(&format!("p{round}"), 1), &id(), &drop).await.expect("pruned");
            assert_eq!(dropped, drop, "seed {seed}, round {round}");
            drop.iter().for_each(|id| {
                kept.remove(id);
            });
            if round % 8 == 7 {
                all_read_right(&points, &kept, &format!("seed {seed}, round {round}")).await;
            }
        }
        let rest: Vec<PointId> = kept.keys().copied().filter(|id| *id != newest).collect();
        points.prune(&op("rest", 1), &id(), &rest).await.expect("pruned");
        kept.retain(|id, _| *id == newest);
        all_read_right(&points, &kept, "the newest alone").await;
        let (live, stored) = (104 * BLOCK + 512, bytes(&store, "-s-").await + bytes(&store, "-pack.").await);
        assert!(stored < 3 * live, "seed {seed}: {stored} bytes for {live} that are needed");
        assert!(bytes(&store, "-map-").await + bytes(&store, "-point-").await < 200_000, "seed {seed}");
        let scrubbed = points.scrub(&id(), newest).await.expect("scrubbed");
        assert_eq!(scrubbed, vec![], "seed {seed}");
        points.delete(&op("delete", 1), &id()).await.expect("deleted");
        assert_eq!(bytes(&store, "data/").await + bytes(&store, "pages/").await, 0, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d8_killed_anywhere_in_a_prune_that_packs_no_kept_point_is_lost() {
    let before = Arc::new(InMemory::new());
    let all = history(&points(Arc::clone(&before) as _), 150, 99).await;
    let drop: Vec<PointId> = all.keys().copied().filter(|id| id.0 < 149 && id.0 % 20 != 0).collect();
    let mut kept = all.clone();
    kept.retain(|id, _| !drop.contains(id));
    let frames = async |store: &InMemory| bytes(store, "-s-").await + bytes(store, "-pack.").await;
    let sound = Arc::new(before.fork());
    points(Arc::clone(&sound) as _).prune(&op("p", 1), &id(), &drop).await.expect("pruned");
    let (whole, left) = (frames(&before).await, frames(&sound).await);
    assert!(left < whole * 9 / 10, "{left} of {whole} bytes are left");
    let (mut swept, mut partly) = (0, 0);
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let store = Arc::new(before.fork());
            let faulty = Arc::new(Faulty::new(Arc::clone(&store), at, death));
            let place = format!("{death:?} operation {at}");
            let told = points(Arc::clone(&faulty) as _).prune(&op("p", 1), &id(), &drop).await;
            let again = points(Arc::clone(&store) as _);
            let listed = again.points(&id()).await.expect(&place).len();
            partly += usize::from(listed > kept.len() && listed < all.len());
            if told.is_ok() {
                assert_eq!(again.points(&id()).await.expect(&place).len(), kept.len(), "{place}");
            }
            let dropped = again.prune(&op("p", 1), &id(), &drop).await.expect(&place);
            assert_eq!(dropped, drop, "{place}");
            if at % 7 == 0 || !faulty.died() {
                all_read_right(&again, &kept, &place).await;
            }
            let stored = frames(&store).await;
            assert!(stored <= left * 21 / 20, "{place}: {stored} bytes are left, {left} without a crash");
            if !faulty.died() {
                break;
            }
            swept += 1;
        }
    }
    assert!(swept > 400, "only {swept} places were tried");
    assert!(partly > 10, "a long prune does some of it at once: {partly} of {swept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_10_an_open_point_reads_on_while_what_it_needs_moves_into_packs() {
    let store = Arc::new(InMemory::new());
    let points = points(Arc::clone(&store) as _);
    let all = history(&points, 60, 5).await;
    let (middle, newest) = (PointId(30), PointId(60));
    let disks = points.open(&id(), middle).await.expect("opens");
    let drop: Vec<PointId> = all.keys().copied().filter(|id| *id != middle && *id != newest).collect();
    assert_eq!(points.prune(&op("p", 1), &id(), &drop).await.expect("pruned"), drop);
    assert!(bytes(&store, "-pack.").await > 0, "something moved");
    assert_eq!(read(&disks).await.expect("reads on"), all[&middle]);
}
