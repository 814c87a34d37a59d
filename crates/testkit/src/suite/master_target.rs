//! `MasterTarget`: MTG-1, MTG-2.

use super::case::{must, op, skip};
use super::content::{same, whole};
use super::timeline::{self, Timeline};
use async_trait::async_trait;
use site_recovery::{Head, Instance, Machine, MasterTarget, POINT_ZERO, Record, Replica, Seed, Settings};
use std::sync::Arc;

/// A master target over a landing site.
#[async_trait]
pub trait MasterTargetFixture: Sized + Send + Sync {
    /// A new one, on which nothing has landed.
    async fn new() -> Self;

    /// The master target.
    fn master_target(&self) -> Arc<dyn MasterTarget>;

    /// A crash of its process.
    async fn reopen(&mut self);

    /// A machine that can land here, under this id.
    fn machine(&self, id: &str) -> Machine {
        timeline::machine(id)
    }

    /// Settings that `prepare` accepts, without datastore and retention volume where it can choose them.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// Turns a plain record into the form that it takes.
    fn dress(record: Record) -> Record {
        record
    }

    /// A machine that stands here, off, as [`machine`](Self::machine) of `web`: the disks to land on. Its disks hold
    /// something. None where there is none.
    async fn existing(&self) -> Option<Instance> {
        None
    }

    /// What a disk of it holds, by its place among the included ones.
    async fn content(&self, name: &str, disk: usize) -> Vec<u8>;
}

/// Makes one test per rule of a `MasterTarget` that `Replica` and `RecoverySite` have not; use it besides
/// `replica_suite!` and `recovery_site_suite!`.
#[macro_export]
macro_rules! master_target_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, master_target,
            mtg_1_what_is_offered_is_accepted,
            mtg_2_what_stood_there_is_point_zero,
            rep_14_delete_without_points_rolls_back,
        }
    };
    ($fixture:ty) => {
        $crate::master_target_suite!([$crate::each_case] $fixture);
    };
}

/// MTG-1: what is offered without a reason is accepted by `prepare`.
pub async fn mtg_1_what_is_offered_is_accepted<F: MasterTargetFixture>() {
    let rule = "MTG-1";
    let world = F::new().await;
    let master_target = world.master_target();
    let offers = must(rule, "offers", master_target.offers().await);
    let eligible = |o: &&site_recovery::Offer| o.ineligible.is_none();
    let mut tried = 0;
    for datastore in offers.datastores.iter().filter(eligible) {
        for volume in offers.retention_volumes.iter().filter(eligible) {
            tried += 1;
            let machine = world.machine(&format!("web-{tried}"));
            let settings = Settings {
                datastore: Some(datastore.name.clone()),
                retention_volume: Some(volume.name.clone()),
                ..world.settings()
            };
            let op = op(&format!("prepare-{tried}"));
            let prepared = master_target.prepare(&op, &machine, &Seed::Fresh, &settings).await;
            must(rule, &format!("prepare on {} and {}", datastore.name, volume.name), prepared);
        }
    }
    assert!(tried > 0, "{rule}: nothing is offered without a reason: {offers:?}");
}

/// Lands on the machine that stands here; returns what its disks hold.
async fn landing<F: MasterTargetFixture>(
    rule: &str,
    world: &F,
) -> Option<(Instance, Timeline, super::content::Image)> {
    let Some(existing) = world.existing().await else {
        skip(rule, &world.master_target().name(), "the fixture has no disks to land on");
        return None;
    };
    let machine = world.machine("web");
    let stood = content(world, &machine, &existing).await;
    let replica: Arc<dyn Replica> = world.master_target();
    let line = Timeline::land_on(rule, &replica, machine, &existing, &world.settings(), F::dress).await;
    Some((existing, line, stood))
}

async fn content<F: MasterTargetFixture>(
    world: &F,
    machine: &Machine,
    at: &Instance,
) -> super::content::Image {
    let mut image = vec![];
    for disk in 0..machine.included().count() {
        image.push(world.content(&at.name, disk).await);
    }
    image
}

/// MTG-2: what stood on the landing disks before the first byte is point 0, pinned, and opens as it stood.
pub async fn mtg_2_what_stood_there_is_point_zero<F: MasterTargetFixture>() {
    let rule = "MTG-2";
    let mut world = F::new().await;
    let Some((_, mut line, stood)) = landing(rule, &world).await else { return };
    for number in 1..=2 {
        line.cut(rule, &(world.master_target() as Arc<dyn Replica>), number).await;
    }
    world.reopen().await;
    let replica: Arc<dyn Replica> = world.master_target();
    let id = line.machine.id();
    let points = must(rule, "points", replica.points(id).await);
    let zero = points.iter().find(|p| p.pins.iter().any(|pin| pin == POINT_ZERO));
    let zero = zero.unwrap_or_else(|| panic!("{rule}: no point is pinned as {POINT_ZERO}: {points:?}"));
    assert_eq!((zero.id.0, &points[0].id), (0, &zero.id), "{rule}: its number, and it is the oldest");
    let dropped = must(rule, "prune", replica.prune(&op("prune"), id, &[zero.id]).await);
    assert!(dropped.is_empty(), "{rule}: point zero was dropped");
    let disks = must(rule, "open", replica.open(id, zero.id).await);
    let found = whole(rule, "read of point zero", &line.machine, &disks).await;
    same(rule, "point zero", &line.machine, &found, &stood);
}

/// REP-14 in place: where no point was sealed yet, the disks are rolled back to what stood there.
pub async fn rep_14_delete_without_points_rolls_back<F: MasterTargetFixture>() {
    let rule = "REP-14";
    let mut world = F::new().await;
    let Some((existing, mut line, stood)) = landing(rule, &world).await else { return };
    let set = line.change(1);
    let replica: Arc<dyn Replica> = world.master_target();
    let begun = replica.begin(&timeline::op_of(1), &line.machine, &timeline::cut_of(1), &set).await;
    must(rule, "write", line.write(&replica, &must(rule, "begin", begun), &set).await);
    drop(replica);
    world.reopen().await;
    let id = line.machine.id();
    must(rule, "delete", world.master_target().delete(&op("delete"), id).await);
    let head = must(rule, "head", world.master_target().head(id).await);
    assert_eq!(head, Head::Empty, "{rule}: head after delete");
    let found = content(&world, &line.machine, &existing).await;
    same(rule, "the landing disks", &line.machine, &found, &stood);
}
