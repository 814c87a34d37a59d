//! `RecoveryPointStore`: RPS-1, RPS-2, and what locks do to the rules of a replica.

use super::case::{must, must_be, must_fail, op, skip};
use super::replica::ReplicaFixture;
use super::timeline::Timeline;
use async_trait::async_trait;
use site_recovery::{ErrorKind, RecoveryPointStore, Timestamp};
use std::sync::Arc;

const FAR: Timestamp = Timestamp(32_503_680_000_000);
const FARTHER: Timestamp = Timestamp(32_503_680_001_000);

/// A [`ReplicaFixture`] whose replica is a store; [`ReplicaFixture::damage`] serves RPS-2.
#[async_trait]
pub trait StoreFixture: ReplicaFixture {
    /// The store.
    fn store(&self) -> Arc<dyn RecoveryPointStore>;
}

/// Makes one test per rule of a `RecoveryPointStore` that a `Replica` has not; use it besides `replica_suite!`.
#[macro_export]
macro_rules! store_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, store,
            rps_1_a_lock_is_never_shortened,
            rps_1_a_locked_point_stays,
            rps_1_without_locks_it_is_unsupported,
            rps_2_a_whole_point_gives_no_finding,
            rps_2_a_damaged_run_is_named,
        }
    };
    ($fixture:ty) => {
        $crate::store_suite!([$crate::each_case] $fixture);
    };
}

async fn with_points<F: StoreFixture>(rule: &str, points: u64) -> (F, Timeline) {
    let world = F::new().await;
    let (machine, settings) = (world.machine("web"), world.settings());
    let line = Timeline::with_points(rule, &world.replica(), machine, &settings, F::dress, points).await;
    (world, line)
}

/// RPS-1: the time of a lock is never shortened, also after a restart; a shorter one is `Refused`.
pub async fn rps_1_a_lock_is_never_shortened<F: StoreFixture>() {
    let rule = "RPS-1";
    let (mut world, line) = with_points::<F>(rule, 2).await;
    if !world.store().capability().locks {
        return skip(rule, &world.store().name(), "capability locks is false");
    }
    let (id, point) = (line.machine.id(), line.id(0));
    must(rule, "lock", world.store().lock(&op("lock"), id, point, FAR).await);
    world.reopen().await;
    let shorter = world.store().lock(&op("shorter"), id, point, Timestamp(FAR.0 - 1)).await;
    must_be(rule, "a shorter lock", ErrorKind::Refused, shorter);
    let told = must(rule, "points", world.store().points(id).await)[0].locked_until;
    assert_eq!(told, Some(FAR), "{rule}: until when it is locked, after a shorter one");
    must(rule, "a longer lock", world.store().lock(&op("longer"), id, point, FARTHER).await);
    let told = must(rule, "points", world.store().points(id).await)[0].locked_until;
    assert_eq!(told, Some(FARTHER), "{rule}: until when it is locked, after a longer one");
}

/// RPS-1 with REP-13 and REP-14: a locked point is dropped neither by `prune` nor with its timeline.
pub async fn rps_1_a_locked_point_stays<F: StoreFixture>() {
    let rule = "RPS-1";
    let (world, line) = with_points::<F>(rule, 3).await;
    if !world.store().capability().locks {
        return skip(rule, &world.store().name(), "capability locks is false");
    }
    let (store, id) = (world.store(), line.machine.id());
    must(rule, "lock", store.lock(&op("lock"), id, line.id(0), FAR).await);
    let dropped = must(rule, "prune", store.prune(&op("prune"), id, &[line.id(0), line.id(1)]).await);
    assert_eq!(dropped, [line.id(1)], "{rule} and REP-13: a locked point was dropped");
    let deleted = store.delete(&op("delete"), id).await;
    must_be("REP-14", "delete of a timeline with a locked point", ErrorKind::Refused, deleted);
    line.opens(rule, &world.replica(), 0).await;
}

/// RPS-1: where the capability is missing it is `Unsupported`, never a lock that holds nobody.
pub async fn rps_1_without_locks_it_is_unsupported<F: StoreFixture>() {
    let rule = "RPS-1";
    let (world, line) = with_points::<F>(rule, 1).await;
    if world.store().capability().locks {
        return skip(rule, &world.store().name(), "of stores without locks: capability locks is true");
    }
    let locked = world.store().lock(&op("lock"), line.machine.id(), line.id(0), FAR).await;
    must_be(rule, "lock", ErrorKind::Unsupported, locked);
}

/// RPS-2: a whole point gives no finding.
pub async fn rps_2_a_whole_point_gives_no_finding<F: StoreFixture>() {
    let rule = "RPS-2";
    let (world, line) = with_points::<F>(rule, 3).await;
    for point in 0..3 {
        let found = must(rule, "scrub", world.store().scrub(line.machine.id(), line.id(point)).await);
        assert!(found.is_empty(), "{rule}: findings of a whole point: {found:?}");
    }
    let nothing = world.store().scrub(&"nobody".into(), line.id(0)).await;
    must_fail(rule, "scrub of a point that is not there", nothing);
}

/// RPS-2: a damaged run is a critical finding that names disk and run.
pub async fn rps_2_a_damaged_run_is_named<F: StoreFixture>() {
    let rule = "RPS-2";
    let (mut world, line) = with_points::<F>(rule, 2).await;
    if !world.damage(&line.machine, line.id(0)).await {
        return skip(rule, &world.store().name(), "the fixture cannot damage a point");
    }
    world.reopen().await;
    let found = must(rule, "scrub", world.store().scrub(line.machine.id(), line.id(0)).await);
    let names = |cause: &str| {
        line.machine.disks.iter().any(|d| cause.contains(d.id.as_str())) && cause.contains(char::is_numeric)
    };
    let told = found.iter().any(|f| f.blocks() && names(&f.cause));
    assert!(told, "{rule}: no critical finding names disk and run of the damage: {found:?}");
}
