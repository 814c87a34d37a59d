//! What a shipment makes of a capture, and what it does not send.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use site_recovery::*;
use site_recovery_process_server::{Codec, ProcessServer};
use std::sync::Arc;
use world::*;

fn crossed_bytes(world: &World) -> u64 {
    world.replica.crossed().iter().filter(|c| c.2).map(|c| c.1.len).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn prs1_a_first_copy_holds_the_captured_bytes_and_sends_no_zeros() {
    for form in [Form::Plain, Form::Sealed] {
        let world = World::new(&[("a", 5 * MIB + 1000), ("b", 300 * KIB), ("c", MIB)]).await;
        world.replica.takes(form);
        world.site.include("c", false);
        world.site.write("a", 700, &Dice(1).bytes(150 * KIB));
        world.site.write("a", 5 * MIB + 990, &[9; 10]);
        world.site.write("c", 0, b"left out");
        let capture = world.site.take("one");
        world.site.write("a", 0, b"written after the capture");
        let (point, changed, shipped) = sealed(world.ship("one", &capture, Basis::Delta).await.unwrap());
        world.assert_points_are_captures();
        let crossed = world.replica.crossed();
        assert!(crossed.iter().all(|(disk, _, data)| disk.0 == "a" && *data), "{crossed:?}");
        let bytes: u64 = crossed.iter().map(|c| c.1.len).sum();
        // Sealed ones are whole blocks, whose checksums are their hashes; plain ones leave out holes of 4 KiB.
        let expected = if form == Form::Sealed { 192 * KIB + 1000 } else { 156 * KIB + 1000 };
        assert!((150 * KIB..=expected).contains(&bytes), "{bytes} crossed");
        assert_eq!(changed, bytes);
        assert!(shipped > 0 && (form == Form::Sealed || shipped == bytes));
        assert_eq!((point.cut.as_str(), point.taken), ("one", capture.taken));
        let manifest = world.replica.manifest(&machine_id(), point.id).await.unwrap();
        assert_eq!(manifest.machine, capture.members[0].machine);
        assert_eq!(
            (manifest.cursor, manifest.sidecars),
            (capture.members[0].cursor.clone(), capture.members[0].sidecars.clone())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prs2_a_delta_ships_what_changed_and_zeros_as_zeros() {
    let world = World::new(&[("a", 4 * MIB)]).await;
    world.site.write("a", 0, &Dice(2).bytes(2 * MIB));
    world.cycle("one").await;
    world.replica.crossed();
    world.site.write("a", MIB, &vec![0; 256 * KIB as usize]);
    world.site.write("a", 3 * MIB + 5, b"new");
    let (_, changed, _) = world.cycle("two").await;
    world.assert_points_are_captures();
    let crossed = world.replica.crossed();
    let zeros: u64 = crossed.iter().filter(|c| !c.2).map(|c| c.1.len).sum();
    let data: u64 = crossed.iter().filter(|c| c.2).map(|c| c.1.len).sum();
    assert_eq!((zeros, data), (256 * KIB, 4 * KIB));
    assert_eq!(changed, 260 * KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn prs2_a_compare_ships_only_what_differs() {
    for by_cursor in [true, false] {
        let world = World::new(&[("a", 3 * MIB + 70_000), ("b", 128 * KIB)]).await;
        world.site.track(by_cursor);
        world.site.write("a", 0, &Dice(3).bytes(2 * MIB));
        world.site.write("a", 3 * MIB + 69_999, &[1]);
        world.cycle("one").await;
        world.replica.crossed();
        world.replica.rot("a", 100);
        world.replica.rot("a", 2 * MIB + 7);
        world.replica.rot("a", 3 * MIB + 69_999);
        world.replica.rot("b", 64 * KIB);
        let capture = world.site.take("two");
        let basis = if by_cursor { Basis::Compare } else { Basis::Delta };
        sealed(world.ship("two", &capture, basis).await.unwrap());
        world.assert_points_are_captures();
        let crossed = world.replica.crossed();
        let mut runs: Vec<_> =
            crossed.iter().map(|(d, r, data)| (d.as_str(), r.start, r.len, *data)).collect();
        runs.sort_unstable();
        let tail = 3 * MIB + 64 * KIB;
        let expected = [
            ("a", 0, 64 * KIB, true),
            ("a", 2 * MIB, 64 * KIB, false),
            ("a", tail, 3 * MIB + 70_000 - tail, true),
            ("b", 64 * KIB, 64 * KIB, false),
        ];
        assert_eq!(runs, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_lost_changes_ship_nothing_until_they_are_compared() {
    let world = World::new(&[("a", MIB)]).await;
    world.cycle("one").await;
    world.site.write("a", 5000, b"unseen");
    world.site.forget_changes(true);
    let capture = world.site.take("two");
    let told = world.ship("two", &capture, Basis::Delta).await.unwrap();
    assert_eq!(told, Shipped::NeedsCompare { reason: "the tracking was reset".into() });
    assert_eq!(world.replica.crossed(), []);
    assert!(matches!(world.replica.head(&machine_id()).await.unwrap(), Head::Sealed { .. }));
    sealed(world.ship("two", &capture, Basis::Compare).await.unwrap());
    world.assert_points_are_captures();
    assert_eq!(crossed_bytes(&world), 64 * KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_disks_that_the_point_does_not_have_are_shipped_whatever_the_source_says() {
    let world = World::new(&[("a", MIB), ("b", MIB)]).await;
    world.site.include("b", false);
    world.site.write("b", 9000, b"from before");
    world.cycle("one").await;
    world.site.include("b", true);
    world.site.resize("c", Dice(4).bytes(100_000));
    world.site.resize("a", Dice(5).bytes(0).into_iter().chain(vec![7; MIB as usize + 5000]).collect());
    world.site.write("a", 0, &vec![0; MIB as usize]);
    world.cycle("two").await;
    assert_eq!(world.replica.sealed().len(), 2);
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_what_landed_late_while_an_ingest_began_is_no_part_of_its_point() {
    let world = World::new(&[("data", 1 << 20)]).await;
    world.site.write("data", 0, &[1; 4096]);
    // All zeros at the source, and the head said that nothing is there.
    world.replica.lands_late("data", Run::new(256 << 10, 64 << 10));
    world.cycle("first").await;
    world.assert_points_are_captures();

    world.site.write("data", 0, &[2; 4096]);
    world.replica.lands_late("data", Run::new(512 << 10, 4096));
    let capture = world.site.take("second");
    let error = world.ship("second", &capture, Basis::Delta).await.expect_err("the delta does not settle it");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let (_, changed, _) = sealed(world.ship("again", &capture, Basis::Delta).await.expect("planned anew"));
    assert_eq!(changed, 2 * 4096, "what changed, and what landed late");
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn prs4_the_same_op_sends_nothing_twice() {
    for (fault, whole) in [(Fault::AwayAfter(1), true), (Fault::ReplyLostAfter(1), false)] {
        let world = World::new(&[("a", 12 * MIB), ("b", 5 * MIB)]).await;
        if !whole {
            world.cycle("zero").await;
        }
        world.site.write("a", 0, &Dice(6).bytes(12 * MIB));
        world.site.write("b", 0, &Dice(7).bytes(5 * MIB));
        let capture = world.site.take("one");
        world.replica.fault(fault);
        let broke = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
        assert_eq!(broke.kind(), ErrorKind::Unavailable);
        let first = crossed_bytes(&world);
        assert!(first > 0 && first < 17 * MIB, "{first} landed before it broke");
        assert_eq!(world.replica.sealed().len(), usize::from(!whole), "prs3: nothing is sealed");
        world.replica.fault(Fault::None);
        sealed(world.ship("one", &capture, Basis::Delta).await.unwrap());
        let all = first + crossed_bytes(&world);
        assert!((17 * MIB..=17 * MIB + POOL).contains(&all), "{all}: only what was in flight comes again");
        world.assert_points_are_captures();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prs2_another_op_widens_by_what_was_touched() {
    let world = World::new(&[("a", 12 * MIB)]).await;
    world.cycle("one").await;
    world.site.write("a", 0, &Dice(8).bytes(12 * MIB));
    let two = world.site.take("two");
    world.replica.fault(Fault::AwayAfter(1));
    world.ship("two", &two, Basis::Delta).await.unwrap_err();
    world.replica.fault(Fault::None);
    // Written back: by bytes nothing differs from the first point, and the log of a better tracker would be empty.
    world.site.write("a", 0, &vec![0; 12 * MIB as usize]);
    let three = world.site.take("three");
    sealed(world.ship("three", &three, Basis::Delta).await.unwrap());
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn prs3_a_seal_whose_reply_was_lost_is_found() {
    for done in [false, true] {
        let world = World::new(&[("a", MIB)]).await;
        world.site.write("a", 0, b"boot");
        let capture = world.site.take("one");
        world.replica.fault(Fault::AwayAtSeal { done });
        let lost = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Unavailable);
        world.replica.fault(Fault::None);
        let (point, ..) = sealed(world.ship("one", &capture, Basis::Delta).await.unwrap());
        let (again, ..) = sealed(world.ship("one", &capture, Basis::Delta).await.unwrap());
        assert_eq!((point.id, again), (PointId(1), point.clone()));
        assert_eq!(world.replica.sealed().len(), 1);
        world.assert_points_are_captures();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_record_that_broke_on_the_way_is_refused() {
    for form in [Form::Plain, Form::Sealed] {
        let world = World::new(&[("a", MIB)]).await;
        world.replica.takes(form);
        world.site.write("a", 0, &Dice(9).bytes(MIB));
        let capture = world.site.take("one");
        world.replica.fault(Fault::BitFlip);
        let refused = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert_eq!(world.replica.sealed(), []);
        world.replica.fault(Fault::None);
        sealed(world.ship("one", &capture, Basis::Delta).await.unwrap());
        world.assert_points_are_captures();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rol4_a_dropped_call_goes_on_by_the_same_op() {
    let world = World::new(&[("a", 12 * MIB), ("b", 6 * MIB)]).await;
    world.site.write("a", 0, &Dice(10).bytes(12 * MIB));
    world.site.write("b", 0, &Dice(11).bytes(6 * MIB));
    let capture = world.site.take("one");
    world.replica.fault(Fault::HangAfter(2));
    tokio::select! {
        _ = world.ship("one", &capture, Basis::Delta) => panic!("it hangs"),
        () = world.replica.hangs.notified() => {}
    }
    let lag = world.lag().await;
    assert_eq!((lag.backlog, lag.transfer), (0, 0), "no transfer is under way");
    assert!(lag.shipped > 0);
    let first = crossed_bytes(&world);
    world.replica.fault(Fault::None);
    sealed(world.ship("one", &capture, Basis::Delta).await.unwrap());
    let all = first + crossed_bytes(&world);
    assert!((18 * MIB..=18 * MIB + POOL).contains(&all), "{all}: only what was in flight comes again");
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn rol8_a_claim_ends_what_an_older_epoch_began() {
    let world = World::new(&[("a", 12 * MIB)]).await;
    world.site.write("a", 0, &Dice(12).bytes(12 * MIB));
    let capture = world.site.take("one");
    world.replica.fault(Fault::HangAfter(1));
    let claim = async {
        world.replica.hangs.notified().await;
        let lag = world.lag().await;
        assert!(lag.backlog > 0 && lag.backlog < lag.transfer, "{lag:?}");
        Role::claim(&world.server, &op_at("claim", 2), &machine_id()).await
    };
    let (shipped, claimed) = tokio::join!(world.ship("one", &capture, Basis::Delta), claim);
    claimed.unwrap();
    assert_eq!(shipped.unwrap_err().kind(), ErrorKind::StaleEpoch);
    world.replica.fault(Fault::None);
    let late = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::StaleEpoch);
    let other = Op { epoch: Epoch { number: 2, owner: "another".into() }, ..op("one") };
    assert_eq!(
        world.ship_as(&other, &capture, Basis::Delta).await.unwrap_err().kind(),
        ErrorKind::StaleEpoch
    );
    sealed(world.ship_as(&op_at("one", 2), &capture, Basis::Delta).await.unwrap());
    world.assert_points_are_captures();
}

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    let world = World::new(&[("a", MIB)]).await;
    let mut capture = world.site.take("one");
    capture.members[0].machine.instance.machine = "stranger".into();
    let refused = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
    assert_eq!((refused.kind(), refused.fact("field")), (ErrorKind::Invalid, Some("machine")));
    for (builder, field) in [
        (ProcessServer::builder("ps").pool(1000), "pool"),
        (ProcessServer::builder("ps").threads(0), "threads"),
        (ProcessServer::builder("ps").threads(usize::MAX), "threads"),
        (ProcessServer::builder("ps").disks_at_once(usize::MAX), "disks_at_once"),
        (ProcessServer::builder("ps").writes_at_once(4097), "writes_at_once"),
        (ProcessServer::builder("ps").disks_at_once(0), "disks_at_once"),
        (ProcessServer::builder("ps").writes_at_once(0), "writes_at_once"),
        (ProcessServer::builder(""), "name"),
    ] {
        let refused = builder.build().await.unwrap_err();
        assert_eq!((refused.kind(), refused.fact("field")), (ErrorKind::Invalid, Some(field)), "{refused}");
    }
    let most = ProcessServer::builder("ps").pool(usize::MAX).threads(4096).disks_at_once(4096);
    most.writes_at_once(4096).build().await.expect("as many as are accepted");
}

#[tokio::test]
async fn it_knows_the_roles_of_its_table() {
    let roles = ["store".into(), "site".into()];
    let any = ProcessServer::builder("ps").build().await.unwrap();
    assert_eq!(site_recovery::ProcessServer::knows(&any, &roles).await.unwrap(), []);
    let some = ProcessServer::builder("ps").codec(Codec::Raw).knows(["site".into()]).build().await.unwrap();
    let findings = site_recovery::ProcessServer::knows(&some, &roles).await.unwrap();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].blocks() && findings[0].cause.contains("store"));
}

/// What locks up fails, rather than hangs.
async fn within_a_minute<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), work).await.expect("it locked up")
}

/// The replica does one call at a time: a call for hashes that is not driven on would keep all writes waiting.
#[tokio::test(flavor = "multi_thread")]
async fn prs2_disks_that_are_compared_at_once_do_not_lock_up() {
    let disks = ["a", "b", "c"];
    let world = World::new(&disks.map(|disk| (disk, 4 * MIB))).await;
    world.cycle("one").await;
    for disk in disks {
        world.site.write(disk, 0, &Dice(5).bytes(4 * MIB));
    }
    world.replica.read_slowly(std::time::Duration::from_secs(1));
    let capture = world.site.take("two");
    sealed(within_a_minute(world.ship("two", &capture, Basis::Compare)).await.unwrap());
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn prs5_memory_is_bounded_by_the_pool() {
    for pool in [256 * KIB, MIB] {
        let mut world = World::new(&[("a", 24 * MIB), ("b", 24 * MIB), ("c", 8 * MIB), ("d", 8 * MIB)]).await;
        for (disk, len) in [("a", 24), ("b", 24), ("c", 8), ("d", 8)] {
            world.site.write(disk, 0, &vec![3; (len * MIB) as usize]);
        }
        world.server = ProcessServer::builder("ps").pool(pool as usize).build().await.unwrap();
        within_a_minute(world.cycle("one")).await;
        world.assert_points_are_captures();
        let most = world.site.read.most.load(std::sync::atomic::Ordering::SeqCst);
        assert!(most > 0 && most <= pool, "{most} bytes were outstanding of a pool of {pool}");
        let total = world.site.read.total.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(total, 64 * MIB, "each block is read once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prs5_machines_share_a_small_pool_without_locking_up() {
    let server = Arc::new(ProcessServer::builder("ps").pool(256 << 10).build().await.unwrap());
    let mut worlds = vec![];
    for n in 0..6 {
        let world = World::new(&[("a", 4 * MIB), ("b", 4 * MIB), ("c", 4 * MIB)]).await;
        world.replica.takes(if n % 2 == 0 { Form::Plain } else { Form::Sealed });
        for disk in ["a", "b", "c"] {
            world.site.write(disk, 0, &vec![n + 1; 4 * MIB as usize]);
        }
        worlds.push(world);
    }
    let ships = worlds.iter().enumerate().map(|(n, world)| {
        let (server, mut capture) = (server.clone(), world.site.take("one"));
        capture.members[0].machine.instance.machine = format!("vm-{n}").into();
        async move { world.ship_on(&server, &op("one"), &capture, Basis::Delta).await }
    });
    for shipped in within_a_minute(futures_util::future::join_all(ships)).await {
        sealed(shipped.unwrap());
    }
    worlds.iter().for_each(World::assert_points_are_captures);
}

/// The same op, cut off after every number of batches: by delta and by whole copy, it goes on where it broke.
#[tokio::test(flavor = "multi_thread")]
async fn o2_a_transfer_that_is_cut_anywhere_goes_on() {
    let need = 10 * MIB;
    for whole in [true, false] {
        let mut cuts = 0;
        for after in 0.. {
            assert!(after < 200, "it ends after some batches");
            let world = World::new(&[("a", 7 * MIB), ("b", 3 * MIB)]).await;
            if !whole {
                world.cycle("zero").await;
                world.replica.crossed();
            }
            world.site.write("a", 0, &Dice(after).bytes(7 * MIB));
            world.site.write("b", 0, &Dice(after + 1).bytes(3 * MIB));
            let capture = world.site.take("one");
            world.replica.fault(Fault::AwayAfter(after));
            let broke = within_a_minute(world.ship("one", &capture, Basis::Delta)).await;
            let first = crossed_bytes(&world);
            if after > 0 {
                assert!(first > 0);
            }
            let sealed_at_once = broke.is_ok();
            if let Err(broke) = broke {
                assert_eq!(broke.kind(), ErrorKind::Unavailable);
                cuts += 1;
                world.replica.fault(Fault::None);
                sealed(within_a_minute(world.ship("one", &capture, Basis::Delta)).await.unwrap());
            }
            let all = first + crossed_bytes(&world);
            assert!((need..=need + POOL).contains(&all), "{all} bytes crossed, cut after {after} batches");
            world.assert_points_are_captures();
            if sealed_at_once || first == need {
                break;
            }
        }
        assert!(cuts > 2, "{cuts} cuts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prs5_a_replica_that_hangs_leaves_room_for_another_machine() {
    let server = ProcessServer::builder("ps").pool(MIB as usize).build().await.unwrap();
    let (stuck, other) = (World::new(&[("a", 8 * MIB)]).await, World::new(&[("a", 8 * MIB)]).await);
    for world in [&stuck, &other] {
        world.site.write("a", 0, &Dice(3).bytes(8 * MIB));
    }
    stuck.replica.fault(Fault::HangAfter(0));
    let first = stuck.site.take("one");
    let mut second = other.site.take("one");
    second.members[0].machine.instance.machine = "another".into();
    let op = op("one");
    let hangs = stuck.ship_on(&server, &op, &first, Basis::Delta);
    let ships = async {
        stuck.replica.hangs.notified().await;
        other.ship_on(&server, &op, &second, Basis::Delta).await
    };
    tokio::select! {
        shipped = hangs => panic!("it hangs: {shipped:?}"),
        shipped = within_a_minute(ships) => drop(sealed(shipped.unwrap())),
    }
    other.assert_points_are_captures();
    assert_eq!(stuck.replica.sealed(), []);
}

/// A machine's lag says where each byte of the transfer is.
#[tokio::test(flavor = "multi_thread")]
async fn lag_tells_disk_by_disk_where_the_bytes_are() {
    let world = World::new(&[("a", 12 * MIB), ("b", MIB)]).await;
    world.site.write("a", 0, &Dice(3).bytes(12 * MIB));
    world.replica.fault(Fault::HangAfter(1));
    let capture = world.site.take("one");
    let looks = async {
        world.replica.hangs.notified().await;
        world.lag().await
    };
    let lag = tokio::select! {
        _ = world.ship("one", &capture, Basis::Delta) => panic!("it hangs"),
        lag = looks => lag,
    };
    let places = |d: &DiskLag| d.to_read + d.in_flight + d.landed;
    let sizes: Vec<_> = lag.disks.iter().map(|(id, d)| (id.as_str(), places(d))).collect();
    assert_eq!(sizes, [("a", 12 * MIB), ("b", MIB)]);
    assert!(lag.disks[&"a".into()].in_flight > 0 && lag.disks[&"a".into()].in_flight <= POOL, "{lag:?}");
    let landed: u64 = lag.disks.values().map(|d| d.landed).sum();
    assert_eq!((lag.transfer, lag.backlog), (13 * MIB, 13 * MIB - landed));
    let lag = world.lag().await;
    assert_eq!((lag.transfer, lag.drain_time), (0, Some(std::time::Duration::ZERO)));
}
