//! What stories begin with.

use crate::world::World;
use site_recovery::*;
use site_recovery_record::hash;
use site_recovery_testkit::suite;
use std::sync::Arc;

pub(crate) const BLOCK: u64 = HASH_BLOCK;

pub(crate) fn op(name: &str) -> Op {
    Op { key: OpKey(name.into()), epoch: Epoch { number: 1, owner: "first".into() } }
}

/// `web` of two disks, running and enrolled.
pub(crate) async fn enrolled(world: &World) -> Machine {
    world.make("web", &[2 << 20, 1 << 20]).await;
    let machine = world.site.discover().await.expect("discovered").remove(0);
    world.site.enrol(&op("enrol"), &machine).await.expect("enrolled");
    machine
}

/// A point of `web`, whose first block is ones and the rest zeros, and how to recover it.
pub(crate) async fn recovery(world: &World, purpose: Purpose, settings: Settings) -> Recovery {
    let machine = suite::machine("web");
    if world.points.points(machine.id()).await.expect("points").is_empty() {
        seal(world, &machine).await;
    }
    let manifest = world.points.manifest(machine.id(), PointId(1)).await.expect("sealed");
    Recovery::of(manifest, PointId(1), Generation(1), purpose, settings)
}

async fn seal(world: &World, machine: &Machine) {
    let (points, cut, disk) = (&world.points, "one".into(), DiskId::from("system"));
    points.prepare(&op("prepare"), machine, &Seed::Fresh, &Settings::default()).await.expect("a timeline");
    let (run, bytes) = (Run::new(0, BLOCK), vec![1; BLOCK as usize]);
    let plan: ChangeSet = [(disk.clone(), run)].into_iter().collect();
    let ingest = points.begin(&op("one"), machine, &cut, &plan).await.expect("an ingest");
    let record = Record { disk, run, checksum: hash(&bytes), payload: Payload::Plain(bytes.into()) };
    let mut tally = Tally::new(&plan);
    tally.landed(&record);
    points.write(&ingest, 0, vec![record]).await.expect("landed");
    let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
    let members = vec![machine.id().clone()];
    let manifest = Manifest {
        machine: machine.clone(),
        members: members.clone(),
        cut,
        taken: Timestamp(1_000),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control: Control { unit: machine.id().as_str().into(), members, item },
    };
    points.seal(&ingest, &manifest, tally.finish().expect("all of it")).await.expect("a point");
}

pub(crate) fn replica(world: &World) -> Arc<dyn Replica> {
    Arc::new(world.points.clone())
}

pub(crate) async fn materialise(world: &World, key: &str, what: &Recovery) -> Result<Armed> {
    world.site.materialise(&op(key), what, &replica(world)).await
}

/// Starts what was materialised.
pub(crate) async fn boot(world: &World, what: &Recovery, armed: &Armed) {
    let boot = op("boot");
    let permit = suite::permit(&boot, &what.machine.standing_as(armed.instance.clone())).await;
    world.site.boot(&boot, what, armed, permit).await.expect("booted");
}
