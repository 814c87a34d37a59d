//! A machine's life on a store that may fail, what its caller was told, and what must be true after that.

use super::*;
use object_store::memory::InMemory;
use object_store::path::Path;
use site_recovery_points::Points;

/// Until when the newest point is locked.
pub(crate) const UNLOCKED: Timestamp = Timestamp(1000);

/// What the caller was told is true.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) sealed: BTreeMap<String, (Point, Image)>,
    pub(crate) sent: BTreeMap<String, Image>,
    pub(crate) landed: Option<(String, Landed)>,
    pub(crate) dropped: Vec<PointId>,
    /// Drops that were asked for: they may have happened.
    pub(crate) asked: Vec<PointId>,
    pub(crate) locked: Option<PointId>,
    /// The timeline was to be deleted: it may be gone.
    pub(crate) ending: bool,
    pub(crate) ended: bool,
}

pub(crate) fn points(store: Arc<dyn object_store::ObjectStore>) -> Points {
    points_at(store, &Arc::default())
}

pub(crate) fn points_at(store: Arc<dyn object_store::ObjectStore>, clock: &Arc<HandClock>) -> Points {
    Points::new("store".into(), store, Path::default(), Arc::clone(clock) as _)
}

/// Three points, a broken ingest between, a prune: until something fails. What was told before is not done again.
pub(crate) async fn life(points: &Points, told: &mut Told) -> Result<()> {
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

/// The rest of it: the newest point is locked until [`UNLOCKED`], and after that the timeline goes.
pub(crate) async fn death(points: &Points, clock: &HandClock, told: &mut Told) -> Result<()> {
    let newest = told.sealed["three"].0.id;
    if !told.ending {
        points.lock(&op("lock", 1), &id(), newest, UNLOCKED).await?;
        told.locked = Some(newest);
        let early = points.delete(&op("early", 1), &id()).await.expect_err("a locked point");
        if early.kind() != ErrorKind::Refused {
            return Err(early);
        }
    }
    clock.0.store(UNLOCKED.0, Ordering::SeqCst);
    told.ending = true;
    points.delete(&op("delete", 1), &id()).await?;
    told.ended = true;
    Ok(())
}

/// An ingest that lands a part and is left open.
pub(crate) async fn broken(points: &Points, told: &mut Told, image: &Image, plan: &ChangeSet) -> Result<()> {
    let ingest = points.begin(&op("two", 1), &machine(), &"two".into(), plan).await?;
    for (batch, records) in all_records(image, plan, 4 * BLOCK).chunks(5).take(2).enumerate() {
        let landed = points.write(&ingest, batch as u64, records.to_vec()).await?;
        told.landed = Some(("two".into(), landed));
    }
    Ok(())
}

pub(crate) async fn verify(store: Arc<InMemory>, told: &Told, place: &str) {
    let points = points(store);
    let listed = points.points(&id()).await.expect(place);
    assert!(listed.is_empty() || !told.ended, "{place}: a timeline came back");
    if told.ending && listed.is_empty() {
        return goes_on(&points, place).await;
    }
    let locked = told.locked.and_then(|id| listed.iter().find(|point| point.id == id));
    assert!(told.locked.is_none() || locked.is_some_and(|p| p.locked_until == Some(UNLOCKED)), "{place}");
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
pub(crate) async fn goes_on(points: &Points, place: &str) {
    if points.machines().await.expect(place).is_empty() {
        let again = op("prepare again", 1);
        points.prepare(&again, &machine(), &Seed::Fresh, &Settings::default()).await.expect(place);
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
