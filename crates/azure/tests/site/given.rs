//! What the stories of this site begin with.

use crate::world::World;
use site_recovery::*;
use site_recovery_record::hash;
use site_recovery_testkit::suite;
use std::sync::Arc;

pub(crate) use suite::op;

pub(crate) const BLOCK: u64 = HASH_BLOCK;

/// Of another engine.
pub(crate) fn op_at(name: &str, number: u64) -> Op {
    Op { key: OpKey(name.into()), epoch: Epoch { number, owner: format!("engine-{number}").into() } }
}

/// `web` of two disks, running and enrolled.
pub(crate) async fn enrolled(world: &World) -> Machine {
    world.make("web", &[2 << 20, 1 << 20]).await;
    let machine = world.site.discover().await.expect("discovered").remove(0);
    world.site.enrol(&op("enrol"), &machine).await.expect("enrolled");
    machine
}

pub(crate) fn replica(world: &World) -> Arc<dyn Replica> {
    Arc::new(world.points.clone())
}

/// The one point of `web`, and how to recover it.
pub(crate) async fn recovery(world: &World, purpose: Purpose, settings: Settings) -> Recovery {
    let machine = suite::machine("web");
    if world.points.points(machine.id()).await.expect("points").is_empty() {
        point(world, &machine).await;
    }
    let manifest = world.points.manifest(machine.id(), PointId(1)).await.expect("sealed");
    Recovery::of(manifest, PointId(1), Generation(1), purpose, settings)
}

async fn point(world: &World, machine: &Machine) {
    let points = &world.points;
    points.prepare(&op("prepare"), machine, &Seed::Fresh, &Settings::default()).await.expect("a timeline");
    let bytes = vec![1; BLOCK as usize];
    let (disk, run) = (DiskId::from("system"), Run::new(0, BLOCK));
    let plan: ChangeSet = [(disk.clone(), run)].into_iter().collect();
    let ingest = points.begin(&op("one"), machine, &"one".into(), &plan).await.expect("an ingest");
    let record = Record { disk, run, checksum: hash(&bytes), payload: Payload::Plain(bytes.into()) };
    let mut tally = Tally::new(&plan);
    tally.landed(&record);
    points.write(&ingest, 0, vec![record]).await.expect("landed");
    let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
    let members = vec![machine.id().clone()];
    let manifest = Manifest {
        machine: machine.clone(),
        members: members.clone(),
        cut: "one".into(),
        taken: Timestamp(1_000),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control: Control { unit: machine.id().as_str().into(), members, item },
    };
    points.seal(&ingest, &manifest, tally.finish().expect("all of it")).await.expect("a point");
}

pub(crate) async fn materialise(world: &World, key: &str, what: &Recovery) -> Result<Armed> {
    world.site.materialise(&op(key), what, &replica(world)).await
}

/// Disks of the point.
pub(crate) async fn made(world: &World, what: &Recovery) -> Armed {
    materialise(world, "make", what).await.expect("made")
}

/// Starts what was materialised.
pub(crate) async fn boot(world: &World, what: &Recovery, armed: &Armed) {
    let boot = op("boot");
    let permit = permit(&boot, what, armed).await;
    world.site.boot(&boot, what, armed, permit).await.expect("booted");
}

/// Leave to boot in production.
pub(crate) async fn permit(op: &Op, what: &Recovery, armed: &Armed) -> BootPermit {
    suite::permit(op, &what.machine.standing_as(armed.instance.clone())).await
}

/// A failover that runs.
pub(crate) async fn booted(world: &World, key: &str) -> (Recovery, Armed) {
    let what = recovery(world, Purpose::Failover, Settings::default()).await;
    let (armed, boot) = (made(world, &what).await, op(key));
    let permit = permit(&boot, &what, &armed).await;
    assert!(world.site.boot(&boot, &what, &armed, permit).await.expect("booted").running);
    (what, armed)
}
