//! Points on Azure Blob Storage, as far as its emulator goes.

mod support;

/// What is not run where there is no Azurite.
mod on_azurite {
    use crate::support::azurite::{Container, is_here};
    use crate::support::*;
    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::TryStreamExt;
    use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
    use site_recovery::*;
    use site_recovery_points::Points;
    use site_recovery_record::Codec;
    use site_recovery_testkit::suite::{self, replica::ReplicaFixture, store::StoreFixture};
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;
    /// Kinds that tell a writer that it was not alone.
    const NOT_ALONE: [ErrorKind; 4] =
        [ErrorKind::Busy, ErrorKind::Conflict, ErrorKind::Refused, ErrorKind::StaleEpoch];

    struct Blob {
        container: Container,
        points: Arc<Points>,
    }

    fn opened(container: &Container) -> Arc<Points> {
        let store = Arc::new(container.store());
        Arc::new(Points::new("blob".into(), store, "some/prefix", Arc::new(SystemClock)))
    }

    #[async_trait]
    impl ReplicaFixture for Blob {
        async fn new() -> Self {
            let container = Container::new().await;
            let points = opened(&container);
            Self { container, points }
        }

        fn replica(&self) -> Arc<dyn Replica> {
            Arc::clone(&self.points) as _
        }

        async fn reopen(&mut self) {
            self.points = opened(&self.container);
        }

        /// The last byte of the oldest batch: the first point needs it, and no other is ever asked for.
        async fn damage(&self, machine: &Machine, point: PointId) -> bool {
            let points = self.points.points(machine.id()).await.expect("listed");
            if points.first().is_none_or(|first| first.id != point) {
                return false;
            }
            let store = self.container.store();
            let oldest = segments(&store).await.into_iter().next().expect("a segment").location;
            let got = store.get(&oldest).await.expect("a segment");
            let mut bytes = got.bytes().await.expect("its bytes").to_vec();
            *bytes.last_mut().expect("not empty") ^= 1;
            store.put(&oldest, bytes.into()).await.expect("overwritten");
            true
        }
    }

    #[async_trait]
    impl StoreFixture for Blob {
        fn store(&self) -> Arc<dyn RecoveryPointStore> {
            Arc::clone(&self.points) as _
        }
    }

    macro_rules! each_where_it_is {
        ($fixture:ty, $suite:ident, $($case:ident,)+) => {
            $(
                #[test]
                fn $case() {
                    if is_here() {
                        suite::run(suite::$suite::$case::<$fixture>());
                    }
                }
            )+
        };
    }

    site_recovery_testkit::replica_suite!([each_where_it_is] Blob);
    site_recovery_testkit::store_suite!([each_where_it_is] Blob);

    async fn segments(store: &dyn ObjectStore) -> Vec<ObjectMeta> {
        let mut all: Vec<ObjectMeta> = store.list(None).try_collect().await.expect("listed");
        all.retain(|meta| meta.location.as_ref().contains("-s-"));
        all.sort_by(|a, b| a.location.cmp(&b.location));
        all
    }

    /// Ships all of a machine with one disk, 1 MiB a record.
    async fn ship_whole(points: &Points, machine: &Machine, cut: &str, bytes: &[u8]) -> Result<Point> {
        let (disk, plan) = (&machine.disks[0].id, ChangeSet::whole(&machine.disks));
        let ingest = points.begin(&op(cut, 1), machine, &cut.into(), &plan).await?;
        let mut tally = Tally::new(&plan);
        for (batch, run) in Run::new(0, bytes.len() as u64).pieces(MIB).enumerate() {
            let plain = Bytes::copy_from_slice(&bytes[run.start as usize..run.end() as usize]);
            let record = pack(disk, run, plain, Codec::Zstd);
            points.write(&ingest, batch as u64, vec![record.clone()]).await?;
            tally.landed(&record);
        }
        let manifest = Manifest { machine: machine.clone(), ..manifest(cut) };
        points.seal(&ingest, &manifest, tally.finish()?).await
    }

    async fn read_whole(points: &Points, point: &Point) -> Vec<u8> {
        let disks = points.open(&id(), point.id).await.expect("opens");
        let (disk, pool) = (disks.values().next().expect("a disk"), Pool::new(4 * MIB as usize));
        let mut bytes = vec![];
        for run in Run::new(0, disk.size()).pieces(3 * MIB) {
            bytes.extend_from_slice(&disk.read(run, &pool).await.expect("reads"));
        }
        bytes
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn d1_d8_points_of_some_mebibytes_open_again_and_a_dropped_one_gives_its_space_back() {
        if !is_here() {
            return;
        }
        let size = 6 * MIB + 512;
        let disk = DiskSpec { size, ..machine().disks[0].clone() };
        let machine = Machine { disks: vec![disk], ..machine() };
        let mut dice = Dice(2711);
        let first: Vec<u8> = (0..size).map(|_| dice.below(256) as u8).collect();
        let mut second = first.clone();
        second.fill_with(|| dice.below(256) as u8);

        let container = Container::new().await;
        let (points, store) = (opened(&container), container.store());
        points.prepare(&op("p", 1), &machine, &Seed::Fresh, &Settings::default()).await.expect("prepared");
        let one = ship_whole(&points, &machine, "one", &first).await.expect("sealed");
        let stored = segments(&store).await.iter().map(|meta| meta.size).sum::<u64>();
        assert!(stored >= size, "noise cannot be compressed: {stored} bytes");
        let two = ship_whole(&points, &machine, "two", &second).await.expect("sealed");

        let other = opened(&container);
        assert!(read_whole(&other, &one).await == first, "point one");
        assert!(read_whole(&other, &two).await == second, "point two");
        assert_eq!(other.scrub(&id(), one.id).await.expect("scrubbed"), vec![]);
        assert_eq!(other.prune(&op("drop", 1), &id(), &[one.id]).await.expect("pruned"), [one.id]);
        assert!(read_whole(&opened(&container), &two).await == second, "point two, after one was dropped");
        let left = segments(&store).await.iter().map(|meta| meta.size).sum::<u64>();
        assert!(left < stored * 11 / 10, "{left} bytes are left of two points, {stored} were one's");
        other.delete(&op("delete", 1), &id()).await.expect("deleted");
        assert_eq!(segments(&store).await, vec![]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn d2_of_two_writers_of_one_machine_one_is_fenced_and_no_point_is_partial() {
        if !is_here() {
            return;
        }
        let container = Container::new().await;
        let (old, new) = (opened(&container), opened(&container));
        let (mut image, mut dice) = (blank(), Dice(11));
        churn(&mut image, &mut dice);
        prepared(&*old).await.expect("prepared");
        let plan = whole();
        let all = all_records(&image, &plan, 4 * BLOCK);
        let late = old.begin(&op("late", 1), &machine(), &"late".into(), &plan).await.expect("begun");
        old.write(&late, 0, all[..5].to_vec()).await.expect("landed");

        let wins = new.begin(&op("wins", 2), &machine(), &"wins".into(), &plan).await.expect("begun");
        let fenced = old.write(&late, 1, all[5..8].to_vec()).await.expect_err("fenced");
        assert_eq!(fenced.kind(), ErrorKind::StaleEpoch, "{fenced}");
        let mut tally = Tally::new(&plan);
        all.iter().for_each(|record| tally.landed(record));
        let fenced = old.seal(&late, &manifest("late"), tally.finish().expect("whole")).await;
        assert_eq!(fenced.expect_err("fenced").kind(), ErrorKind::StaleEpoch);
        let fenced = old.begin(&op("late", 1), &machine(), &"late".into(), &plan).await;
        assert_eq!(fenced.expect_err("fenced").kind(), ErrorKind::StaleEpoch);
        for points in [&old, &new, &opened(&container)] {
            assert_eq!(points.points(&id()).await.expect("listed"), vec![], "nothing was sealed");
        }

        let mut tally = Tally::new(&plan);
        for (batch, records) in all.chunks(4).enumerate() {
            new.write(&wins, batch as u64, records.to_vec()).await.expect("landed");
            records.iter().for_each(|record| tally.landed(record));
        }
        let complete = tally.finish().expect("whole");
        let point = new.seal(&wins, &manifest("wins"), complete).await.expect("sealed");
        for points in [&old, &opened(&container)] {
            assert_eq!(points.points(&id()).await.expect("listed"), std::slice::from_ref(&point));
            assert_eq!(image_at(&**points, point.id).await.expect("opens"), image);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn d2_two_writers_at_once_seal_whole_points_or_nothing() {
        if !is_here() {
            return;
        }
        let container = Container::new().await;
        prepared(&*opened(&container)).await.expect("prepared");
        let writer = async |name: &str, seed: u64| {
            let (points, mut dice) = (opened(&container), Dice(seed));
            let (mut sealed, mut image) = (vec![], blank());
            for number in 0..6 {
                let cut = format!("{name}-{number}");
                churn(&mut image, &mut dice);
                match ship(&*points, &op(&cut, 1), &cut, &image, &whole()).await {
                    Ok(point) => sealed.push((point, image.clone())),
                    Err(error) => assert!(NOT_ALONE.contains(&error.kind()), "{cut}: {error}"),
                }
            }
            sealed
        };
        let (a, b) = tokio::join!(writer("a", 5), writer("b", 6));
        let last = opened(&container);
        let cut = "after".to_owned();
        let image = blank();
        let after = ship(&*last, &op(&cut, 1), &cut, &image, &whole()).await.expect("alone again");
        let mut told: Vec<(Point, Image)> = a.into_iter().chain(b).chain([(after, image)]).collect();
        told.sort_by_key(|(point, _)| point.id);
        let listed = last.points(&id()).await.expect("listed");
        assert_eq!(listed, told.iter().map(|(point, _)| point.clone()).collect::<Vec<_>>());
        for (point, image) in &told {
            assert_eq!(&image_at(&*last, point.id).await.expect("opens"), image, "cut {}", point.cut);
        }
    }

    #[tokio::test]
    async fn d1_a_segment_that_was_cut_is_named_wherever_it_ends() {
        if !is_here() {
            return;
        }
        let container = Container::new().await;
        let (mut image, mut dice) = (blank(), Dice(3));
        image.values_mut().flatten().for_each(|byte| *byte = dice.below(256) as u8);
        let points = opened(&container);
        prepared(&*points).await.expect("prepared");
        let point = ship(&*points, &op("one", 1), "one", &image, &whole()).await.expect("sealed");
        let store = container.store();
        let segment = segments(&store).await.into_iter().next().expect("a segment").location;
        let whole = store.get(&segment).await.expect("there").bytes().await.expect("read");
        for part in 0..8 {
            let len = whole.len() * part / 8;
            store.put(&segment, whole.slice(..len).into()).await.expect("cut");
            let error = image_at(&*opened(&container), point.id).await.expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut to {len}: {error}");
            assert!(error.to_string().contains(segment.as_ref()), "cut to {len}: {error}");
        }
    }

    #[tokio::test]
    async fn a_container_that_is_not_there_is_an_error_and_no_empty_store() {
        if !is_here() {
            return;
        }
        let points = opened(&Container::missing());
        let listed = points.points(&id()).await.expect_err("there is none");
        assert!(listed.to_string().contains("ContainerNotFound"), "{listed}");
        let prepared = prepared(&*points).await.expect_err("there is none");
        assert!(prepared.to_string().contains("ContainerNotFound"), "{prepared}");
    }
}
