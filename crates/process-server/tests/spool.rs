//! The replica is away: captures wait on disk, outlive the process, and become points in their order.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use site_recovery::*;
use site_recovery_process_server::ProcessServer;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use world::*;

/// A machine with one sealed point and a spool.
async fn protected(folder: &Path) -> World {
    let world = World::with_spool(&[("a", 6 * MIB), ("b", 2 * MIB)], folder).await;
    world.site.write("a", 0, &Dice(1).bytes(MIB));
    world.cycle("base").await;
    world.replica.crossed();
    world
}

async fn spool(world: &World, cut: &str) -> u64 {
    let capture = world.site.take(cut);
    match world.ship(cut, &capture, Basis::Delta).await.unwrap() {
        Shipped::Spooled { bytes } => bytes,
        other => panic!("not spooled: {other:?}"),
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry, ending));
        } else if entry.extension().is_some_and(|e| e == ending) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn cuts(points: &[Point]) -> Vec<&str> {
    points.iter().map(|p| p.cut.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prs6_spooled_captures_outlive_the_process_and_are_sealed_in_order() {
    for form in [Form::Plain, Form::Sealed] {
        let dir = TempDir::new().unwrap();
        let mut world = protected(dir.path()).await;
        world.replica.takes(form);
        world.replica.fault(Fault::Away);
        world.site.write("a", 3000, b"first");
        world.site.write("b", 0, &Dice(2).bytes(MIB));
        assert!(spool(&world, "one").await > 0);
        // Back to what it was: a delta from the sealed point need not contain it, the one before has touched it.
        world.site.write("b", 0, &vec![0; MIB as usize]);
        world.site.write("a", 5 * MIB, b"second");
        spool(&world, "two").await;
        assert_eq!(world.lag().await.spooled, ["one".into(), "two".into()]);

        drop(world.server);
        world.server = spooling(dir.path()).await;
        assert_eq!(world.lag().await.spooled, ["one".into(), "two".into()]);
        assert_eq!(world.drain("d").await.unwrap_err().kind(), ErrorKind::Unavailable);
        world.replica.fault(Fault::None);
        assert_eq!(cuts(&world.drain("d").await.unwrap()), ["one", "two"]);
        assert_eq!(world.drain("d").await.unwrap(), []);
        assert_eq!(world.lag().await.spooled, []);
        assert_eq!(files(dir.path(), "capture"), Vec::<PathBuf>::new());

        world.site.write("b", MIB, b"third");
        world.cycle("three").await;
        assert_eq!(world.replica.sealed().len(), 4);
        world.assert_points_are_captures();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prs6_the_next_shipment_drains_first() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 3000, b"first");
    let one = world.site.take("one");
    let spooled = world.ship("one", &one, Basis::Delta).await.unwrap();
    assert_eq!(world.ship("one", &one, Basis::Delta).await.unwrap(), spooled, "rol1: a repeat");
    assert_eq!(files(dir.path(), "capture").len(), 1);
    world.replica.fault(Fault::None);
    world.site.write("a", 9000, b"second");
    world.cycle("two").await;
    let (again, ..) = sealed(world.ship("two", &world.site.take("two"), Basis::Delta).await.unwrap());
    assert_eq!(again.id, PointId(3));
    let points = world.replica.points(&machine_id()).await.unwrap();
    assert_eq!(cuts(&points), ["base", "one", "two"]);
    assert_eq!(world.lag().await.spooled, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn prs4_a_capture_that_broke_half_way_is_spooled_whole_and_lands_once() {
    let dir = TempDir::new().unwrap();
    let mut world = protected(dir.path()).await;
    world.site.write("a", 0, &Dice(3).bytes(6 * MIB));
    world.replica.fault(Fault::AwayAfter(1));
    let capture = world.site.take("one");
    let shipped = world.ship("one", &capture, Basis::Delta).await.unwrap();
    assert!(matches!(shipped, Shipped::Spooled { .. }), "{shipped:?}");
    let landed: u64 = world.replica.crossed().iter().map(|c| c.1.len).sum();
    assert!(landed > 0 && landed < 6 * MIB);
    drop(world.server);
    world.server = spooling(dir.path()).await;
    world.replica.fault(Fault::None);
    // The source is gone by now: all of it is in the spool.
    assert_eq!(cuts(&world.drain("d").await.unwrap()), ["one"]);
    let all = landed + world.replica.crossed().iter().map(|c| c.1.len).sum::<u64>();
    assert!((6 * MIB..=6 * MIB + POOL).contains(&all), "{all}: only what was in flight comes again");
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn prs6_a_drain_that_breaks_goes_on_and_a_seal_whose_reply_was_lost_is_found() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 0, &Dice(4).bytes(6 * MIB));
    spool(&world, "one").await;
    world.site.write("a", 2 * MIB, &Dice(5).bytes(3 * MIB));
    spool(&world, "two").await;
    world.replica.fault(Fault::AwayAfter(1));
    world.drain("d").await.unwrap_err();
    let landed: u64 = world.replica.crossed().iter().map(|c| c.1.len).sum();
    assert!(landed > 0);
    world.replica.fault(Fault::AwayAtSeal { done: true });
    world.drain("d").await.unwrap_err();
    let all = landed + world.replica.crossed().iter().map(|c| c.1.len).sum::<u64>();
    assert!((6 * MIB..=6 * MIB + POOL).contains(&all), "{all}: only what was in flight comes again");
    world.replica.fault(Fault::None);
    assert_eq!(cuts(&world.drain("d").await.unwrap()), ["one", "two"]);
    assert_eq!(world.replica.sealed().len(), 3);
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn prs6_captures_spooled_after_a_seal_whose_reply_was_lost_still_fit() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.site.write("a", 0, &Dice(6).bytes(MIB));
    world.replica.fault(Fault::AwayAtSeal { done: true });
    spool(&world, "one").await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 4 * MIB, b"more");
    spool(&world, "two").await;
    world.replica.fault(Fault::None);
    assert_eq!(cuts(&world.drain("d").await.unwrap()), ["one", "two"]);
    assert_eq!(world.replica.sealed().len(), 3);
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn prs6_a_cut_that_was_sealed_unseen_and_never_spooled_is_followed() {
    let dir = TempDir::new().unwrap();
    let mut world = protected(dir.path()).await;
    drop(world.server);
    let small = ProcessServer::builder("ps").spool(dir.path()).spool_limit(MIB).build().await.unwrap();
    world.server = small;
    world.site.write("a", 2 * MIB, &Dice(6).bytes(2 * MIB));
    world.replica.fault(Fault::AwayAtSeal { done: true });
    let one = world.site.take("one");
    let no_room = world.ship("one", &one, Basis::Delta).await.unwrap_err();
    assert!(no_room.fact("not_spooled").is_some(), "{no_room}");
    // Small enough again, and equal to the point that was seen last: only what was touched tells what to send.
    world.replica.fault(Fault::Away);
    world.site.write("a", 2 * MIB, &vec![0; 2 * MIB as usize]);
    spool(&world, "two").await;
    world.replica.fault(Fault::None);
    assert_eq!(cuts(&world.drain("d").await.unwrap()), ["two"]);
    assert_eq!(world.replica.sealed().len(), 3);
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_every_damage_of_a_spooled_capture_is_named_and_nothing_of_it_is_sealed() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 3000, &Dice(7).bytes(20_000));
    spool(&world, "one").await;
    world.site.write("b", 0, b"later");
    spool(&world, "two").await;
    drop(world.server);
    let original = files(dir.path(), "capture")[0].clone();
    let (whole, mut dice) = (std::fs::read(&original).unwrap(), Dice(8));
    let places =
        (0..24).map(|_| dice.below(whole.len() as u64) as usize).chain([0, 8, 12, 20, whole.len() - 1]);
    let damages = places.map(|at| {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1 << (at % 8);
        spoilt
    });
    let torn = [0, 7, 100, whole.len() / 2, whole.len() - 1].map(|len| whole[..len].to_vec());
    for spoilt in damages.chain(torn) {
        let dir = TempDir::new().unwrap();
        copy(original.ancestors().nth(3).unwrap(), dir.path());
        let file = files(dir.path(), "capture")[0].clone();
        std::fs::write(&file, spoilt).unwrap();
        let replica = MemoryReplica::default();
        let mut world =
            World { server: spooling(dir.path()).await, replica: replica.into(), site: world.site.clone() };
        world.replica = base_only(&world).await;
        let named = world.drain("d").await.unwrap_err();
        assert_eq!(named.kind(), ErrorKind::Corrupt, "{named}");
        assert_eq!(named.fact("file"), Some(file.display().to_string().as_str()), "{named}");
        let aside = files(dir.path(), "damaged");
        assert_eq!(named.fact("set_aside_as"), Some(aside[0].display().to_string().as_str()));
        assert_eq!(world.replica.sealed().len(), 1, "nothing was sealed");
        // The capture after it contains what it needs, and is not held up.
        assert_eq!(cuts(&world.drain("d").await.unwrap()), ["two"]);
        world.assert_points_are_captures();
    }
}

/// A replica as it was when the spool filled.
async fn base_only(world: &World) -> std::sync::Arc<MemoryReplica> {
    let replica = std::sync::Arc::<MemoryReplica>::default();
    let fresh = World {
        site: world.site.clone(),
        replica,
        server: ProcessServer::builder("x").build().await.unwrap(),
    };
    let capture = fresh.site.retake("base");
    sealed(fresh.ship("base", &capture, Basis::Delta).await.unwrap());
    fresh.replica
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let to = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &to) } else { std::fs::copy(&entry, &to).map(|_| ()).unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_what_landed_late_while_a_drain_began_is_no_part_of_its_point() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 3000, b"first");
    spool(&world, "one").await;
    world.replica.fault(Fault::None);
    world.replica.lands_late("b", Run::new(MIB, 4096));
    let told = world.drain("d").await.expect_err("the capture does not settle it");
    assert_eq!(told.kind(), ErrorKind::Busy, "{told}");
    assert_eq!(world.drain("d").await.unwrap_err().kind(), ErrorKind::Conflict, "it never will");
    assert_eq!(files(dir.path(), "superseded").len(), 1);
    let (_, changed, _) = world.cycle("two").await;
    assert_eq!(changed, 2 * 4096, "what changed, and what landed late");
    assert_eq!(world.replica.sealed().len(), 2);
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_capture_is_not_sealed_over_a_newer_point_that_came_while_its_drain_began() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 3000, b"first");
    spool(&world, "one").await;
    world.replica.fault(Fault::SealsLate);
    let elsewhere = ProcessServer::builder("other").build().await.unwrap();
    world.site.write("a", 3000, b"newer");
    let two = world.site.take("two");
    let silent = world.ship_on(&elsewhere, &op("two"), &two, Basis::Delta).await.unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::Unavailable);
    world.replica.fault(Fault::None);
    assert_eq!(world.drain("d").await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(world.drain("d").await.unwrap_err().kind(), ErrorKind::Conflict);
    let sealed: Vec<CutId> = world.replica.sealed().into_iter().map(|(cut, _)| cut).collect();
    assert_eq!(sealed, ["base".into(), "two".into()]);
    world.cycle("three").await;
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_capture_whose_timeline_moved_on_is_set_aside_not_sealed() {
    let dir = TempDir::new().unwrap();
    let world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 3000, b"first");
    spool(&world, "one").await;
    world.replica.fault(Fault::None);
    let elsewhere = ProcessServer::builder("other").build().await.unwrap();
    world.site.write("a", 3000, b"newer");
    let two = world.site.take("two");
    sealed(world.ship_on(&elsewhere, &op("two"), &two, Basis::Delta).await.unwrap());
    let told = world.drain("d").await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Conflict);
    let aside = files(dir.path(), "superseded");
    assert_eq!(told.fact("set_aside_as"), Some(aside[0].display().to_string().as_str()));
    assert_eq!(world.drain("d").await.unwrap(), []);
    world.cycle("three").await;
    assert_eq!(world.replica.sealed().len(), 3);
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_spooled_stays_unavailable_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    // A whole copy: not bounded by what changes, and it goes on where it broke.
    let mut world = World::with_spool(&[("a", 12 * MIB)], dir.path()).await;
    world.site.write("a", 0, &Dice(9).bytes(12 * MIB));
    let capture = world.site.take("base");
    for fault in [Fault::Away, Fault::AwayAfter(1), Fault::Away] {
        world.replica.fault(fault);
        let away = world.ship("base", &capture, Basis::Delta).await.unwrap_err();
        assert_eq!(away.kind(), ErrorKind::Unavailable, "{away}");
        assert!(away.fact("not_spooled").is_some());
    }
    world.replica.fault(Fault::None);
    sealed(world.ship("base", &capture, Basis::Delta).await.unwrap());
    // No room.
    drop(world.server);
    let small = ProcessServer::builder("ps").spool(dir.path()).spool_limit(MIB).build().await.unwrap();
    world.server = small;
    world.replica.fault(Fault::Away);
    world.site.write("a", 0, &Dice(10).bytes(8 * MIB));
    let capture = world.site.take("one");
    let away = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
    assert_eq!(away.kind(), ErrorKind::Unavailable);
    assert!(away.fact("not_spooled").unwrap().contains("at most"), "{away}");
    // Changes that are lost cannot be told by a spool either.
    world.site.forget_changes(true);
    let lost = world.ship("one", &capture, Basis::Delta).await.unwrap();
    assert!(matches!(lost, Shipped::NeedsCompare { .. }));
    for ending in ["capture", "tmp"] {
        assert_eq!(files(dir.path(), ending), Vec::<PathBuf>::new());
    }
    world.replica.fault(Fault::None);
    sealed(world.ship("one", &capture, Basis::Compare).await.unwrap());
    world.assert_points_are_captures();
}

#[tokio::test(flavor = "multi_thread")]
async fn rol2_the_epoch_register_outlives_the_process() {
    let dir = TempDir::new().unwrap();
    let mut world = protected(dir.path()).await;
    Role::claim(&world.server, &op_at("claim", 7), &machine_id()).await.unwrap();
    let second = ProcessServer::builder("ps").spool(dir.path()).build().await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Conflict, "one process at a time");
    drop(world.server);
    world.server = spooling(dir.path()).await;
    let capture = world.site.take("one");
    let stale = world.ship("one", &capture, Basis::Delta).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleEpoch);
    assert_eq!(world.drain("d").await.unwrap_err().kind(), ErrorKind::StaleEpoch);
    sealed(world.ship_as(&op_at("one", 7), &capture, Basis::Delta).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_what_was_never_finished_is_gone_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut world = protected(dir.path()).await;
    world.replica.fault(Fault::Away);
    world.site.write("a", 0, b"x");
    spool(&world, "one").await;
    let half = files(dir.path(), "capture")[0].with_file_name("0000000000000002.tmp");
    std::fs::write(&half, b"SRSPOOL1 and then the power went").unwrap();
    drop(world.server);
    world.server = spooling(dir.path()).await;
    assert!(!half.exists());
    world.replica.fault(Fault::None);
    assert_eq!(cuts(&world.drain("d").await.unwrap()), ["one"]);
}

/// A spool that is nearly full is told, and keeps its room for the last changes before a failover.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_nearly_full_takes_last_changes_alone() {
    use site_recovery::state::{Kind, Phase};
    let dir = TempDir::new().unwrap();
    let mut world = protected(dir.path()).await;
    drop(world.server);
    let limited = ProcessServer::builder("ps").spool(dir.path()).spool_limit(4 * MIB + 600 * KIB);
    world.server = limited.build().await.unwrap();
    assert_eq!(world.server.health().await.unwrap(), []);
    world.replica.fault(Fault::Away);
    world.site.write("a", 0, &Dice(2).bytes(4 * MIB + 200 * KIB));
    spool(&world, "one").await;
    let told = world.server.health().await.unwrap();
    assert_eq!((told.len(), told[0].code.as_str()), (1, "process_server.spool"));
    assert_eq!(told[0].severity, Severity::Critical);
    // What waits before it is part of it, and is zero now: it would fit.
    world.site.write("a", 0, &vec![0; (4 * MIB + 200 * KIB) as usize]);
    let two = world.site.take("two");
    let away = world.ship("two", &two, Basis::Delta).await.unwrap_err();
    assert!(away.fact("not_spooled").unwrap().contains("are free"), "{away}");
    let mut last = world.shipment(&two, Basis::Delta);
    last.control.item.state.phase = Phase::FailoverInitiated(Kind::Unplanned);
    let source: std::sync::Arc<dyn Source> = world.site.clone();
    let replica: std::sync::Arc<dyn Replica> = world.replica.clone();
    let op = op("two");
    let ships = site_recovery::ProcessServer::ship(&world.server, &op, &last, &source, &replica);
    assert!(matches!(ships.await.unwrap(), Shipped::Spooled { .. }));
    world.replica.fault(Fault::None);
    assert_eq!(cuts(&world.drain("d").await.unwrap()), ["one", "two"]);
    world.assert_points_are_captures();
    assert_eq!(world.server.health().await.unwrap(), []);
}
