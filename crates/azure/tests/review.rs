//! What a hostile reading found, each as the smallest run that shows it. Red until it is mended.

#![allow(clippy::pedantic, reason = "each test tells one story, in its order")]

#[path = "site/world.rs"]
#[allow(dead_code, reason = "the other suites use the rest")]
mod world;

use fake_arm::{Fault as ArmFault, What};
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;
use site_recovery_record::hash;
use site_recovery_testkit::suite;
use std::sync::Arc;
use std::time::Duration;
use world::{ACCOUNT, GROUP, World};

const VAULT: &str = "vault";
const BLOCK: u64 = HASH_BLOCK;

fn op(name: &str) -> Op {
    Op { key: OpKey(name.into()), epoch: Epoch { number: 1, owner: "review".into() } }
}

fn record(disk: &str, start: u64, bytes: &[u8]) -> Record {
    let run = Run::new(start, bytes.len() as u64);
    Record { disk: disk.into(), run, checksum: hash(bytes), payload: Payload::Plain(bytes.to_vec().into()) }
}

fn zeros(disk: &str, start: u64, len: u64) -> Record {
    Record { disk: disk.into(), run: Run::new(start, len), checksum: 0, payload: Payload::Zero }
}

fn set(runs: &[(&str, u64, u64)]) -> ChangeSet {
    runs.iter().map(|(disk, start, len)| (DiskId::from(*disk), Run::new(*start, *len))).collect()
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

async fn read(world: &World, machine: &Machine, point: PointId, disk: &str, run: Run) -> Vec<u8> {
    let disks = world.points.open(machine.id(), point).await.expect("it opens");
    let pool = Pool::new(8 << 20);
    disks[&DiskId::from(disk)].read(run, &pool).await.expect("read").to_vec()
}

/// A batch whose pages landed and whose note did not; then the same ingest goes on, finds the pages equal, and sends nothing.
async fn landed_without_a_note(world: &World) -> (Machine, Point, Vec<u8>) {
    let machine = opened(world).await;
    sealed(world, &machine, "one", vec![record("system", 0, &vec![1; BLOCK as usize])]).await;
    let plan = ChangeSet::whole(machine.included());
    let bytes = vec![2; BLOCK as usize];
    let ingest = world.points.begin(&op("two"), &machine, &"two".into(), &plan).await.expect("an ingest");
    let lost = Match::any().method("PUT").path_contains("/note/");
    world.blobs.faults().next(lost, Fault::DropBeforeEffect);
    let written = world.points.write(&ingest, 0, vec![record("system", 0, &bytes)]).await;
    assert!(written.is_err(), "its note did not come");
    let ingest = world.points.begin(&op("two"), &machine, &"two".into(), &plan).await.expect("it goes on");
    let hashes = world.points.hashes(machine.id(), &"system".into(), Run::new(0, BLOCK)).await;
    assert_eq!(hashes.expect("hashes"), [hash(&bytes)], "it is equal: a process server sends nothing");
    let complete = counted(&plan, &[]);
    let point = world.points.seal(&ingest, &manifest(&machine, "two"), complete).await.expect("a point");
    assert_eq!(read(world, &machine, point.id, "system", Run::new(0, BLOCK)).await, bytes);
    (machine, point, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_12_what_landed_without_a_note_is_among_the_changes() {
    let world = World::new().await;
    let (machine, point, _) = landed_without_a_note(&world).await;
    let changed = world.points.changed(machine.id(), Some(PointId(1)), point.id).await.expect("asked");
    let changed = changed.expect("listed");
    assert!(changed.contains(&"system".into(), Run::new(0, BLOCK)), "less than what differs: {changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rps_2_a_whole_point_whose_pages_landed_without_a_note_gives_no_finding() {
    let world = World::new().await;
    let (machine, point, _) = landed_without_a_note(&world).await;
    let found = world.points.scrub(machine.id(), point.id).await.expect("scrubbed");
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_10_a_late_clear_of_the_old_footer_takes_no_bytes_of_a_grown_disk() {
    let world = World::new().await;
    let mut machine = opened(&world).await;
    sealed(&world, &machine, "one", vec![record("system", 0, &[1; 4096])]).await;
    machine.disks[0].size = 2 << 20;
    let old_end = 1 << 20;
    let plan = set(&[("system", old_end, BLOCK)]);
    let gate = Gate::new();
    let clear = Match::any().method("PUT").comp("page").path_contains("/disk/").after(1);
    let held = world.blobs.faults().next(clear, Fault::Late(gate.clone()));
    let (cut, key) = ("two".into(), op("two"));
    {
        // Nobody waits for it any more; its last request is still on the way.
        let begun = world.points.begin(&key, &machine, &cut, &plan);
        tokio::select! {
            begun = begun => panic!("{begun:?}"),
            () = held.reach(1) => {}
        }
    }
    let ingest = world.points.begin(&key, &machine, &cut, &plan).await.expect("an ingest");
    let records = vec![record("system", old_end, &vec![7; BLOCK as usize])];
    world.points.write(&ingest, 0, records.clone()).await.expect("acknowledged");
    gate.open();
    gate.through().reach(1).await;
    let complete = counted(&plan, &records);
    let point = world.points.seal(&ingest, &manifest(&machine, "two"), complete).await.expect("a point");
    let found = read(&world, &machine, point.id, "system", Run::new(old_end, BLOCK)).await;
    let lost = found.iter().filter(|byte| **byte != 7).count();
    assert_eq!(lost, 0, "{lost} acknowledged bytes are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_10_a_point_holds_what_was_written_after_a_seal_that_failed() {
    let world = World::new().await;
    let machine = opened(&world).await;
    let plan = set(&[("system", 0, 2 * BLOCK)]);
    let ingest = world.points.begin(&op("one"), &machine, &"one".into(), &plan).await.expect("an ingest");
    let first = record("system", 0, &vec![1; BLOCK as usize]);
    world.points.write(&ingest, 0, vec![first.clone()]).await.expect("landed");
    let lost = Match::any().method("PUT").path_contains("/point/");
    world.blobs.faults().next(lost, Fault::DropBeforeEffect);
    let half = counted(&plan, std::slice::from_ref(&first));
    assert!(world.points.seal(&ingest, &manifest(&machine, "one"), half).await.is_err());
    let second = record("system", BLOCK, &vec![2; BLOCK as usize]);
    world.points.write(&ingest, 1, vec![second.clone()]).await.expect("acknowledged");
    let complete = counted(&plan, &[first, second]);
    let point = world.points.seal(&ingest, &manifest(&machine, "one"), complete).await.expect("a point");
    let found = read(&world, &machine, point.id, "system", Run::new(BLOCK, BLOCK)).await;
    assert!(found.iter().all(|byte| *byte == 2), "the point is without what was acknowledged before it");
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_a_seal_that_was_broken_off_leaves_no_snapshot() {
    let world = World::new().await;
    let machine = opened(&world).await;
    let plan = set(&[("system", 0, BLOCK)]);
    let records = vec![record("system", 0, &vec![1; BLOCK as usize])];
    for broken in [true, false] {
        let ingest = world.points.begin(&op("one"), &machine, &"one".into(), &plan).await.expect("an ingest");
        world.points.write(&ingest, 0, records.clone()).await.expect("landed");
        if broken {
            let lost = Match::any().method("PUT").path_contains("/point/");
            world.blobs.faults().next(lost, Fault::DropBeforeEffect);
        }
        let complete = counted(&plan, &records);
        let point = world.points.seal(&ingest, &manifest(&machine, "one"), complete).await;
        assert_eq!(point.is_err(), broken);
    }
    for blob in world.blobs.blobs(ACCOUNT, VAULT).iter().filter(|blob| blob.contains("/disk/")) {
        let snapshots = world.blobs.snapshots(ACCOUNT, VAULT, blob).len();
        assert_eq!(snapshots, 1, "one point, and {snapshots} snapshots of {blob}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_4_a_scrub_that_nobody_polls_does_not_keep_a_failover_from_the_points() {
    let world = World::new().await;
    let machine = opened(&world).await;
    let point = sealed(&world, &machine, "one", vec![record("system", 0, &vec![1; BLOCK as usize])]).await;
    let slow = Match::any().method("GET").path_contains("/disk/").comp("");
    let held = world.blobs.faults().next(slow, Fault::Hang(Duration::from_secs(20)));
    let (points, id) = (world.points.clone(), machine.id().clone());
    let scrub = tokio::spawn(async move { points.scrub(&id, point.id).await });
    held.reach(1).await;
    let opened =
        tokio::time::timeout(Duration::from_secs(5), world.points.open(machine.id(), point.id)).await;
    scrub.abort();
    assert!(opened.is_ok(), "the point cannot be opened while it is scrubbed");
}

#[tokio::test(flavor = "multi_thread")]
async fn rep_4_zeros_of_a_session_that_another_process_closed_are_refused() {
    let world = World::new().await;
    let machine = opened(&world).await;
    let clock = Arc::new(world.clock.clone());
    let other = site_recovery_azure::PageBlobs::open("page-blobs".into(), world.container.clone(), clock);
    let other = other.await.expect("it opens");
    let plan = set(&[("system", 0, BLOCK)]);
    let ingest = world.points.begin(&op("one"), &machine, &"one".into(), &plan).await.expect("an ingest");
    other.begin(&op("two"), &machine, &"two".into(), &plan).await.expect("another one");
    let written = world.points.write(&ingest, 0, vec![zeros("system", 0, BLOCK)]).await;
    assert!(written.is_err(), "a closed session took a batch: {written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rps_2_a_disk_that_grew_from_an_odd_end_gives_no_finding() {
    let world = World::new().await;
    let mut machine = opened(&world).await;
    let size = machine.disks[1].size;
    let start = size / BLOCK * BLOCK;
    let last = vec![3; (size - start) as usize];
    sealed(&world, &machine, "one", vec![record("data", start, &last)]).await;
    machine.disks[1].size = 4 * BLOCK;
    let point = sealed(&world, &machine, "two", vec![]).await;
    let found = world.points.scrub(machine.id(), point.id).await.expect("scrubbed");
    assert!(found.is_empty(), "{found:?}");
}

/// `web` of two disks, running and enrolled.
async fn enrolled(world: &World) -> Machine {
    world.make("web", &[2 << 20, 1 << 20]).await;
    let machine = world.site.discover().await.expect("discovered").remove(0);
    world.site.enrol(&op("enrol"), &machine).await.expect("enrolled");
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn src_10_a_machine_that_runs_is_not_gone_because_its_mark_is() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    world.container.document("s/azure/mark/web").delete().await.expect("deleted");
    assert!(world.runs("web"));
    let power = world.site.power(&machine.instance).await;
    let gone = power.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    assert!(!gone && !matches!(power, Ok(Power::Off { .. })), "web runs, and its power reads {power:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_10_disks_that_another_machine_writes_are_not_off() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let disks = world.disks_of("web");
    let is_machine =
        |thing: &fake_arm::Resource| thing.kind == "Microsoft.Compute/virtualMachines" && thing.name == "web";
    let there = world.manager.world().into_iter().find(is_machine).expect("web");
    world.manager.delete_from_outside(there.body["id"].as_str().expect("an id")).expect("it goes");
    let all = world.arm.disks(GROUP);
    let mut ids = vec![];
    for disk in &disks {
        ids.push(all.get(disk).await.expect("asked").expect("there").id);
    }
    let nic = world.arm.nics(GROUP).get("web-nic").await.expect("asked").expect("there").id;
    let new = site_recovery_azure_arm::NewMachine {
        location: world::REGION.into(),
        size: "Standard_B2s".into(),
        os_disk: ids.remove(0),
        os_type: site_recovery_azure_arm::OsType::Linux,
        data_disks: (0..).zip(ids).collect(),
        nics: vec![nic],
        availability_set: None,
        zone: None,
        licence: None,
        tags: Default::default(),
        boot_diagnostics: false,
    };
    let put = world.arm.machines(GROUP).put("rescue", &new).await.expect("asked for");
    put.done().await.expect("it runs");
    let power = world.site.power(&machine.instance).await;
    assert!(
        !matches!(power, Ok(Power::Off { .. })),
        "rescue writes its disks, and its power reads {power:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn src_11_a_guest_that_cannot_be_shut_down_is_cut_off() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let what = What::FailAtEnd { code: "VMAgentStatusCommunicationError".into(), message: "no agent".into() };
    world.manager.fault(ArmFault::next("POST", "/powerOff", what));
    let fenced = world.site.fence(&op("fence"), &machine.instance, Duration::from_secs(60)).await;
    assert!(fenced.is_ok() && !world.runs("web"), "{fenced:?}");
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

async fn machine_id(world: &World, name: &str) -> Option<String> {
    world.arm.machines(GROUP).get(name).await.expect("asked").and_then(|machine| machine.vm_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_7_a_repeat_of_boot_keeps_a_machine_that_runs_and_whose_last_change_failed() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = world.site.materialise(&op("make"), &what, &replica(&world)).await.expect("made");
    let boot = op("boot");
    let standing = what.machine.standing_as(armed.instance.clone());
    let permit = suite::permit(&boot, &standing).await;
    world.site.boot(&boot, &what, &armed, permit).await.expect("booted");
    let name = armed.instance.name.clone();
    let before = machine_id(&world, &name).await;
    let failed = What::FailAtEnd { code: "VMExtensionProvisioningError".into(), message: "no".into() };
    world.manager.fault(ArmFault::next("POST", "/powerOff", failed));
    let asked = world.arm.machines(GROUP).power_off(&name, false).await.expect("asked for");
    assert!(asked.done().await.is_err() && world.runs(&name), "it runs on");
    let permit = suite::permit(&boot, &standing).await;
    world.site.boot(&boot, &what, &armed, permit).await.expect("reported");
    assert_eq!(machine_id(&world, &name).await, before, "the machine that ran was deleted and made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_6_a_drill_is_in_the_network_of_its_permit_after_another_was_tried() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Drill, Settings::default()).await;
    let armed = world.site.materialise(&op("drill"), &what, &replica(&world)).await.expect("a drill");
    world.manager.fault(ArmFault::status("PUT", "/virtualMachines/", 409, "OperationNotAllowed"));
    let wrong = BootPermit::Isolated { network: "vnet".into() };
    assert!(world.site.boot(&op("boot"), &what, &armed, wrong).await.is_err());
    let right = BootPermit::Isolated { network: "isolated".into() };
    world.site.boot(&op("boot-again"), &what, &armed, right).await.expect("booted");
    let nics = world.arm.nics(GROUP).list().await.expect("listed");
    let in_use = nics.iter().filter(|nic| nic.machine.is_some());
    for nic in in_use {
        let subnet = nic.subnet_id.clone().unwrap_or_default();
        assert!(subnet.contains("/isolated/"), "the drill is in {subnet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_8_after_claim_by_another_process_nothing_older_begins() {
    let mut world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = world.site.materialise(&op("make"), &what, &replica(&world)).await.expect("made");
    // The older process has passed the register and is about to ask for the machine.
    let older = world.site.clone();
    let gate = Gate::new();
    let mark = Match::any().method("GET").path_contains("/mark/");
    let held = world.blobs.faults().next(mark, Fault::Late(gate.clone()));
    let boot = op("boot");
    let permit = suite::permit(&boot, &what.machine.standing_as(armed.instance.clone())).await;
    let (told, made) = (what.clone(), armed.clone());
    let booting = tokio::spawn(async move { older.boot(&boot, &told, &made, permit).await });
    held.reach(1).await;
    world.reopen().await;
    let claim = Op { key: OpKey("claim".into()), epoch: Epoch { number: 2, owner: "newer".into() } };
    world.site.claim(&claim, what.machine.id()).await.expect("claimed");
    gate.open();
    let booted = booting.await.expect("no panic");
    assert!(
        !world.runs(&armed.instance.name),
        "an older boot ({booted:?}) started it after claim had returned"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_a_drill_is_not_let_into_the_network_that_is_production_by_default() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Drill, Settings::default()).await;
    let armed = world.site.materialise(&op("drill"), &what, &replica(&world)).await.expect("a drill");
    // Production is `vnet`: the site was opened with it, and the settings say nothing else.
    let permit = BootPermit::Isolated { network: "vnet".into() };
    let booted = world.site.boot(&op("boot"), &what, &armed, permit).await;
    assert!(booted.is_err() && !world.runs(&armed.instance.name), "the drill runs in production: {booted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_disk_that_no_page_blob_holds_is_found_before() {
    let world = World::new().await;
    let mut machine = suite::machine("web");
    machine.disks[1].size = 9 << 40;
    let found = world.site.check(&machine, &Settings::default()).await.expect("checked");
    let prepared = world.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await;
    assert!(prepared.is_ok() || found.iter().any(|f| f.blocks()), "nothing found, and then {prepared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_12_a_shutdown_that_was_asked_for_is_over_when_claim_returns() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let asked = world.manager.fault(ArmFault::next("POST", "/powerOff", What::HangAfterAccept));
    {
        let (key, instance) = (op("fence"), machine.instance.clone());
        let fence = world.site.fence(&key, &instance, Duration::from_secs(600));
        let mut fence = std::pin::pin!(fence);
        // Until Azure has taken the shutdown in; then nobody waits for it any more.
        while world.manager.under_way() == 0 {
            let turn = tokio::time::timeout(Duration::from_millis(5), fence.as_mut()).await;
            assert!(turn.is_err(), "{turn:?}");
        }
    }
    assert_eq!(asked.count(), 1);
    let claim = Op { key: OpKey("claim".into()), epoch: Epoch { number: 2, owner: "newer".into() } };
    world.site.claim(&claim, machine.id()).await.expect("claimed");
    assert_eq!(world.manager.under_way(), 0, "a shutdown is outstanding, and claim has returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_were_dropped_long_ago_do_not_fill_the_state() {
    let world = World::new().await;
    let machine = opened(&world).await;
    for number in 1..=100u64 {
        let cut = format!("cut-{number}");
        sealed(&world, &machine, &cut, vec![record("system", 0, &[number as u8; 4096])]).await;
        let drop = [PointId(number - 1)];
        let key = op(&format!("prune-{number}"));
        world.points.prune(&key, machine.id(), &drop).await.expect("pruned");
    }
    let state = world.blobs.blob(ACCOUNT, VAULT, "m/web/state").and_then(|held| held.bytes).expect("a state");
    let text = String::from_utf8(state.to_vec()).expect("text");
    let state: serde_json::Value =
        serde_json::from_str(text.split_once('\n').expect("a sum").1).expect("JSON");
    let points = state["timeline"]["points"].as_array().expect("points");
    let inherited: usize = points.iter().map(|p| p["inherits"].as_array().expect("a list").len()).sum();
    assert!(inherited < 50, "{} points, and the names of {inherited} that are gone", points.len());
}
