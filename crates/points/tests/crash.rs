//! Killed at every operation of the store, before and after its effect, and opened again.

mod support;

use object_store::memory::InMemory;
use object_store::path::Path;
use site_recovery::*;
use site_recovery_points::Points;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::faulty::{Death, Faulty};
use support::*;

/// What the caller was told is true.
#[derive(Debug, Default)]
struct Told {
    sealed: BTreeMap<String, (Point, Image)>,
    sent: BTreeMap<String, Image>,
    landed: Option<(String, Landed)>,
    dropped: Vec<PointId>,
    /// Drops that were asked for: they may have happened.
    asked: Vec<PointId>,
}

fn points(store: Arc<dyn object_store::ObjectStore>) -> Points {
    Points::new("store".into(), store, Path::default(), Arc::new(HandClock::default()))
}

/// Three points, a broken ingest between, a prune: until something fails. What was told before is not done again.
async fn life(points: &Points, told: &mut Told) -> Result<()> {
    let (mut image, mut dice) = (blank(), Dice(42));
    prepared(points).await?;
    for (number, cut) in ["one", "two", "three"].into_iter().enumerate() {
        churn(&mut image, &mut dice);
        let plan = if number == 0 { whole() } else { churn(&mut image, &mut dice) };
        let plan = if number == 0 { plan } else { plan.union(&whole()) };
        if told.sealed.contains_key(cut) {
            continue;
        }
        told.sent.insert(cut.into(), image.clone());
        if cut == "two" {
            broken(points, told, &image, &plan).await?;
        }
        let point = ship(points, &op(cut, 1), cut, &image, &plan).await?;
        told.landed = None;
        told.sealed.insert(cut.into(), (point, image.clone()));
    }
    let first = told.sealed["one"].0.id;
    told.asked.push(first);
    told.dropped = points.prune(&op("prune", 1), &id(), &[first]).await?;
    Ok(())
}

/// An ingest that lands a part and is left open.
async fn broken(points: &Points, told: &mut Told, image: &Image, plan: &ChangeSet) -> Result<()> {
    let ingest = points.begin(&op("two", 1), &machine(), &"two".into(), plan).await?;
    for (batch, records) in all_records(image, plan, 4 * BLOCK).chunks(5).take(2).enumerate() {
        let landed = points.write(&ingest, batch as u64, records.to_vec()).await?;
        told.landed = Some(("two".into(), landed));
    }
    Ok(())
}

async fn verify(store: Arc<InMemory>, told: &Told, place: &str) {
    let points = points(store);
    let listed = points.points(&id()).await.expect(place);
    for (point, image) in told.sealed.values() {
        let there = listed.iter().any(|p| p.id == point.id);
        assert!(there || told.asked.contains(&point.id), "{place}: point {} is lost", point.id);
        assert!(!there || image_at(&points, point.id).await.expect(place) == *image, "{place}");
    }
    for point in &listed {
        assert!(!told.dropped.contains(&point.id), "{place}: point {} came back", point.id);
        let sent = &told.sent[point.cut.as_str()];
        assert_eq!(&image_at(&points, point.id).await.expect(place), sent, "{place}: point {}", point.id);
        assert_eq!(points.manifest(&id(), point.id).await.expect(place), manifest(point.cut.as_str()));
        assert_eq!(points.scrub(&id(), point.id).await.expect(place), vec![], "{place}");
    }
    let ids: Vec<PointId> = listed.iter().map(|p| p.id).collect();
    assert!(ids.is_sorted(), "{place}");
    if let (Some((cut, landed)), true) = (&told.landed, listed.len() == 1) {
        let ingest =
            points.begin(&op(cut, 1), &machine(), &cut.as_str().into(), &whole()).await.expect(place);
        for (disk, below) in landed {
            let resume = ingest.resume.get(disk).copied().unwrap_or(0);
            assert!(resume >= *below, "{place}: {disk} goes on at {resume}, {below} was acknowledged");
        }
        let Head::Unsettled { touched, .. } = points.head(&id()).await.expect(place) else {
            panic!("{place}: what landed is not told")
        };
        for (disk, below) in landed {
            assert!(touched.contains(disk, Run::new(0, *below)), "{place}: {disk}");
        }
    }
    goes_on(&points, place).await;
}

/// The timeline takes another point, and the store holds nothing that no point needs.
async fn goes_on(points: &Points, place: &str) {
    if points.machines().await.expect(place).is_empty() {
        prepared(points).await.expect(place);
    }
    let mut image = blank();
    churn(&mut image, &mut Dice(4711));
    let point = ship(points, &op("after", 2), "after", &image, &whole()).await.expect(place);
    assert_eq!(image_at(points, point.id).await.expect(place), image, "{place}");
    assert_eq!(
        points.head(&id()).await.expect(place),
        Head::Sealed { point: point.id, cursor: Some(cursor(5)) }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d2_killed_at_every_operation_nothing_acknowledged_is_lost_and_nothing_partial_is_listed() {
    let mut swept = 0;
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let store = Arc::new(InMemory::new());
            let faulty = Arc::new(Faulty::new(Arc::clone(&store), at, death));
            let mut told = Told::default();
            let result = life(&points(Arc::clone(&faulty) as _), &mut told).await;
            verify(store, &told, &format!("{death:?} operation {at}")).await;
            if !faulty.died() {
                result.expect("nothing was in the way");
                break;
            }
            swept += 1;
        }
    }
    assert!(swept > 60, "only {swept} places were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_call_whose_answer_was_lost_is_repeated_and_has_happened_once() {
    for at in 0.. {
        let store = Arc::new(InMemory::new());
        let faulty = Arc::new(Faulty::new(Arc::clone(&store), at, Death::After));
        let mut told = Told::default();
        let _ = life(&points(Arc::clone(&faulty) as _), &mut told).await;
        let again = points(Arc::clone(&store) as _);
        life(&again, &mut told).await.expect("the call that failed, again, and what comes after it");
        assert_eq!(told.dropped, [told.sealed["one"].0.id], "after operation {at}");
        let cuts: Vec<String> =
            again.points(&id()).await.expect("listed").into_iter().map(|p| p.cut.0).collect();
        assert_eq!(cuts, ["two", "three"], "after operation {at}");
        for (cut, (point, image)) in told.sealed.iter().filter(|(cut, _)| *cut != "one") {
            assert_eq!(&image_at(&again, point.id).await.expect("opens"), image, "{cut}, operation {at}");
        }
        if !faulty.died() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_store_that_stumbles_once_costs_a_repeat_and_nothing_else() {
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let store = Arc::new(InMemory::new());
            let faulty = Arc::new(Faulty::stumbling(Arc::clone(&store), at, death));
            let (points, mut told) = (points(Arc::clone(&faulty) as _), Told::default());
            let place = format!("{death:?} operation {at}");
            if life(&points, &mut told).await.is_err() {
                life(&points, &mut told).await.expect(&place);
            }
            assert_eq!(told.dropped, [told.sealed["one"].0.id], "{place}");
            verify(store, &told, &place).await;
            if !faulty.died() {
                break;
            }
        }
    }
}
