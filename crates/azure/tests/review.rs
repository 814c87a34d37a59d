//! What a hostile reading found, each as the smallest run that shows it. Red until it is mended.

#![allow(clippy::pedantic, reason = "each test tells one story, in its order")]

#[path = "site/world.rs"]
#[allow(dead_code, reason = "the other suites use the rest")]
mod world;

use fake_arm::Fault as ArmFault;
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;
use site_recovery_record::hash;
use site_recovery_testkit::suite;
use std::sync::Arc;
use std::time::Duration;
use world::{GROUP, World};

const BLOCK: u64 = HASH_BLOCK;

fn op(name: &str) -> Op {
    Op { key: OpKey(name.into()), epoch: Epoch { number: 1, owner: "review".into() } }
}

fn record(disk: &str, start: u64, bytes: &[u8]) -> Record {
    let run = Run::new(start, bytes.len() as u64);
    Record { disk: disk.into(), run, checksum: hash(bytes), payload: Payload::Plain(bytes.to_vec().into()) }
}

fn manifest(machine: &Machine, cut: &str) -> Manifest {
    let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
    let members = vec![machine.id().clone()];
    Manifest {
        machine: machine.clone(),
        members: members.clone(),
        cut: cut.into(),
        taken: Timestamp(1_000),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control: Control { unit: machine.id().as_str().into(), members, item },
    }
}

/// A count of a plan of which these were sent, and the rest found equal.
fn counted(plan: &ChangeSet, sent: &[Record]) -> Complete {
    let mut tally = Tally::new(plan);
    for (disk, runs) in plan.disks() {
        runs.iter().for_each(|run| tally.equal(disk, *run));
    }
    sent.iter().for_each(|record| tally.landed(record));
    tally.finish().expect("all of it")
}

async fn opened(world: &World) -> Machine {
    let machine = suite::machine("web");
    let prepared = world.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await;
    prepared.expect("a timeline");
    machine
}

/// Seals what these records say, as a point of its own.
async fn sealed(world: &World, machine: &Machine, cut: &str, records: Vec<Record>) -> Point {
    let plan: ChangeSet = records.iter().map(|r| (r.disk.clone(), r.run)).collect();
    let ingest = world.points.begin(&op(cut), machine, &cut.into(), &plan).await.expect("an ingest");
    if !records.is_empty() {
        world.points.write(&ingest, 0, records.clone()).await.expect("landed");
    }
    let complete = counted(&plan, &records);
    world.points.seal(&ingest, &manifest(machine, cut), complete).await.expect("a point")
}

/// `web` of two disks, running and enrolled.
async fn enrolled(world: &World) -> Machine {
    world.make("web", &[2 << 20, 1 << 20]).await;
    let machine = world.site.discover().await.expect("discovered").remove(0);
    world.site.enrol(&op("enrol"), &machine).await.expect("enrolled");
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn src_9_a_capture_that_failed_leaves_nothing_after_a_sweep() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let mut second = ArmFault::status("PUT", "/snapshots/", 409, "Conflict");
    second.nth = 2;
    world.manager.fault(second);
    let instance = machine.instance.clone();
    let captured =
        world.site.capture(&op("capture"), std::slice::from_ref(&instance), Consistency::Crash).await;
    assert!(captured.is_err());
    world.site.sweep(&op("sweep"), &instance, &[]).await.expect("swept");
    world.site.dismiss(&op("dismiss"), &instance).await.expect("dismissed");
    assert_eq!(world.names("Microsoft.Compute/snapshots"), [""; 0], "left at the platform");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_5_snapshots_of_before_and_after_a_stop_are_no_one_instant() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let mut second = ArmFault::status("PUT", "/snapshots/", 409, "Conflict");
    second.nth = 2;
    world.manager.fault(second);
    let instance = [machine.instance.clone()];
    assert!(world.site.capture(&op("capture"), &instance, Consistency::Crash).await.is_err());
    // The guest goes on writing to both disks; then it stops.
    world.write("web", 0, 0, &[9; 4096]);
    world.write("web", 1, 0, &[9; 4096]);
    world.stop_outside("web").await;
    let capture = world.site.capture(&op("capture"), &instance, Consistency::Crash).await.expect("captured");
    let disks = world.site.disks(&op("read"), &capture, machine.id()).await.expect("disks");
    let (mut first, pool) = (vec![], Pool::new(8 << 20));
    for disk in disks.values() {
        first.push(disk.read(Run::new(0, 4096), &pool).await.expect("read")[0]);
    }
    let is_one = first.iter().all(|byte| *byte == first[0]);
    assert!(is_one || capture.consistency == Consistency::PerDisk, "{first:?} as {:?}", capture.consistency);
}

/// A point of a machine, and how to recover it.
async fn recovery(world: &World, purpose: Purpose, settings: Settings) -> Recovery {
    let machine = suite::machine("web");
    if world.points.points(machine.id()).await.expect("points").is_empty() {
        opened(world).await;
        sealed(world, &machine, "one", vec![record("system", 0, &vec![1; BLOCK as usize])]).await;
    }
    let manifest = world.points.manifest(machine.id(), PointId(1)).await.expect("sealed");
    Recovery::of(manifest, PointId(1), Generation(1), purpose, settings)
}

fn replica(world: &World) -> Arc<dyn Replica> {
    Arc::new(world.points.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn v19_a_drill_does_not_take_the_failovers_disk_names() {
    let world = World::new().await;
    let mut settings = Settings::default();
    let disk = DiskSettings { name: Some("web-os".into()), kind: None };
    settings.disks.insert("system".into(), disk);
    let what = recovery(&world, Purpose::Drill, settings.clone()).await;
    world.site.materialise(&op("drill"), &what, &replica(&world)).await.expect("a drill");
    let what = recovery(&world, Purpose::Failover, settings).await;
    let made = world.site.materialise(&op("failover"), &what, &replica(&world)).await;
    assert!(made.is_ok(), "the drill keeps the failover from its disks: {made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_10_destroy_of_an_older_generation_leaves_the_machine_that_has_its_name_now() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let first = world.site.materialise(&op("first"), &what, &replica(&world)).await.expect("made");
    world.site.destroy(&op("destroy"), &first.instance).await.expect("destroyed");
    let newer = Recovery { generation: Generation(3), ..what };
    let second = world.site.materialise(&op("second"), &newer, &replica(&world)).await.expect("made");
    let boot = op("boot");
    let permit = suite::permit(&boot, &newer.machine.standing_as(second.instance.clone())).await;
    world.site.boot(&boot, &newer, &second, permit).await.expect("booted");
    // The answer to the first call was lost; whoever asked repeats it.
    let _ = world.site.destroy(&op("destroy"), &first.instance).await;
    assert!(
        world.runs(&second.instance.name),
        "the repeat of an older destroy took the machine of a newer generation"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_4_a_drill_in_the_making_does_not_keep_the_failover_waiting() {
    let world = World::new().await;
    let drill = recovery(&world, Purpose::Drill, Settings::default()).await;
    let failover = recovery(&world, Purpose::Failover, Settings::default()).await;
    let copy = Match::any().method("PUT").path_contains("/work/");
    let held = world.blobs.faults().next(copy, Fault::Hang(Duration::from_secs(30)));
    let (site, from) = (world.site.clone(), replica(&world));
    let making = tokio::spawn(async move { site.materialise(&op("drill"), &drill, &from).await });
    held.reach(1).await;
    let (key, from) = (op("failover"), replica(&world));
    let made = world.site.materialise(&key, &failover, &from);
    let made = tokio::time::timeout(Duration::from_secs(10), made).await;
    making.abort();
    assert!(made.is_ok(), "the failover waits until the drill's disks are copied");
}

/// A failover that ran, was fenced and set aside.
async fn aside(world: &World) -> (Recovery, Armed, Instance) {
    let what = recovery(world, Purpose::Failover, Settings::default()).await;
    let armed = world.site.materialise(&op("first"), &what, &replica(world)).await.expect("made");
    let boot = op("boot");
    let permit = suite::permit(&boot, &what.machine.standing_as(armed.instance.clone())).await;
    world.site.boot(&boot, &what, &armed, permit).await.expect("booted");
    world.site.fence(&op("fence"), &armed.instance, Duration::ZERO).await.expect("fenced");
    let kept = world.site.set_aside(&op("aside"), &armed.instance).await.expect("set aside");
    (what, armed, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_1_a_repeat_of_set_aside_leaves_the_machine_that_has_the_name_now() {
    let world = World::new().await;
    let (what, armed, kept) = aside(&world).await;
    let newer = Recovery { generation: Generation(3), ..what };
    let second = world.site.materialise(&op("second"), &newer, &replica(&world)).await.expect("made");
    let again = world.site.set_aside(&op("aside"), &armed.instance).await;
    assert_eq!(again.expect("the same answer"), kept);
    assert!(world.site.power(&second.instance).await.is_ok(), "the newer machine was set aside instead");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_9_a_late_withdraw_keeps_what_was_set_aside() {
    let world = World::new().await;
    let (what, _, kept) = aside(&world).await;
    let withdrawn = world.site.withdraw(&op("withdraw"), &op("first").key, &what).await;
    let power = world.site.power(&kept).await;
    assert!(power.is_ok(), "withdraw ({withdrawn:?}) deleted what the machine had written");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_7_changes_are_told_after_the_address_of_a_long_capture_has_ended() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let instance = [machine.instance.clone()];
    let site = &world.site;
    let first = site.capture(&op("one"), &instance, Consistency::Crash).await.expect("captured");
    site.release(&op("release"), &first, machine.id(), Fate::Sealed).await.expect("released");
    let second = site.capture(&op("two"), &instance, Consistency::Crash).await.expect("captured");
    let since = first.member(machine.id()).expect("a member").cursor.clone().expect("a cursor");
    site.changes(&second, machine.id(), &since).await.expect("told");
    world.manager.advance(Duration::from_secs(7 * 3600));
    world.blobs.pass(Duration::from_secs(7 * 3600));
    let mut told = vec![];
    for _ in 0..3 {
        told.push(site.changes(&second, machine.id(), &since).await.map_err(|e| e.to_string()));
    }
    assert!(told.iter().any(|told| told.is_ok()), "never again: {told:?}");
}

/// Writes once, as a preparation that looks first whether it is done already; and may be broken off the first time.
#[derive(Debug, Default)]
struct Once {
    breaks: bool,
    wrote: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl site_recovery_azure::Preparation for Once {
    async fn prepare(&self, _: &Machine, disks: &site_recovery_azure::Images) -> Result<()> {
        if self.wrote.load(std::sync::atomic::Ordering::SeqCst) {
            return Ok(());
        }
        disks[&DiskId::from("system")].write(128 * 1024, vec![5; 4096].into()).await?;
        self.wrote.store(true, std::sync::atomic::Ordering::SeqCst);
        if self.breaks { Err(Error::new(ErrorKind::Unavailable, "broken off")) } else { Ok(()) }
    }
}

/// The site of the world, with a preparation; `natively`: it makes machines by copies at the service.
async fn preparing(world: &World, breaks: bool, natively: bool) -> site_recovery_azure::Azure {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = dir.keep().join("blobs.pem");
    std::fs::write(&authority, world.blobs.ca_pem()).expect("written");
    let subscription = world.network("x").split('/').nth(2).expect("an id").to_owned();
    let limits = site_recovery_azure_blob::Limits { pause_ms: 1, ..Default::default() };
    let place = site_recovery_azure::Place {
        arm: world.arm.clone(),
        account: world::account_id(&subscription),
        subscription,
        group: GROUP.into(),
        region: world::REGION.into(),
        container: world.container.clone(),
        images: (site_recovery_azure_blob::Trust::Ca(authority), limits),
    };
    let preparation = Arc::new(Once { breaks, ..Once::default() });
    let mut site = site_recovery_azure::Azure::builder("azure".into())
        .look_every(Duration::from_millis(1))
        .network("vnet")
        .preparation(preparation);
    if natively {
        site = site.points(world.points.clone());
    }
    site.open(place).await.expect("it opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_prepared_on_copies_that_the_service_made() {
    let world = World::new().await;
    let site = preparing(&world, false, true).await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let made = site.materialise(&op("make"), &what, &replica(&world)).await;
    let armed = made.expect("prepared");
    assert_eq!(world.content(&armed.instance.name, 0)[128 * 1024], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_3_what_a_preparation_wrote_before_it_was_broken_off_is_in_the_changes() {
    let world = World::new().await;
    let site = preparing(&world, true, false).await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let broken = site.materialise(&op("make"), &what, &replica(&world)).await.expect_err("broken off");
    assert_eq!(broken.kind(), ErrorKind::Unavailable, "{broken}");
    let armed = site.materialise(&op("make"), &what, &replica(&world)).await.expect("made");
    assert_eq!(world.content(&armed.instance.name, 0)[128 * 1024], 5, "it was prepared");
    let boot = op("boot");
    let permit = suite::permit(&boot, &what.machine.standing_as(armed.instance.clone())).await;
    site.boot(&boot, &what, &armed, permit).await.expect("booted");
    let instance = [armed.instance.clone()];
    let capture = site.capture(&op("capture"), &instance, Consistency::Crash).await.expect("captured");
    let since = armed.cursor.expect("armed");
    let told = site.changes(&capture, what.machine.id(), &since).await.expect("told");
    let Changes::Known(set) = told else { panic!("{told:?}") };
    let told = set.contains(&"system".into(), Run::new(128 * 1024, 4096));
    assert!(told, "the disk differs from the point there, and it is in no change: {set:?}");
}
