//! Addresses of snapshots: those that have ended, and those that are left behind.

use crate::given::{enrolled, op, op_at};
use crate::world::{GROUP, REGION, World};
use fake_arm::Fault;
use fake_blob::{Gate, Match};
use site_recovery::*;
use site_recovery_azure_arm::{Access, NewSnapshot};
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// `web`, a cursor, and a capture after it.
async fn captured(world: &World) -> (Machine, Cursor, Capture) {
    let machine = enrolled(world).await;
    let (instance, site) = ([machine.instance.clone()], &world.site);
    let first = site.capture(&op("one"), &instance, Consistency::Crash).await.expect("captured");
    site.release(&op("release"), &first, machine.id(), Fate::Sealed).await.expect("released");
    world.write("web", 0, 0, &[9; 4096]);
    let second = site.capture(&op("two"), &instance, Consistency::Crash).await.expect("captured");
    let since = first.member(machine.id()).expect("a member").cursor.clone().expect("a cursor");
    (machine, since, second)
}

/// Snapshots that somebody has an address of.
fn open(world: &World) -> Vec<String> {
    let all = world.manager.world().into_iter().filter(|thing| thing.kind == "Microsoft.Compute/snapshots");
    all.filter(|t| t.body["properties"]["diskState"] == "ActiveSAS").map(|t| t.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_fail_leave_no_address_of_the_older_snapshot() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    world.manager.fault(Fault { nth: 2, ..Fault::status("POST", "/beginGetAccess", 409, "Conflict") });
    world.site.changes(&capture, machine.id(), &since).await.expect_err("refused");
    assert_eq!(open(&world), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_makes_addresses_void_that_a_process_which_is_gone_has_had() {
    let world = World::new().await;
    let (machine, ..) = captured(&world).await;
    for name in world.names("Microsoft.Compute/snapshots") {
        let granted = world.arm.snapshots(GROUP).grant(&name, Access::Read, 3600).await.expect("asked for");
        granted.done().await.expect("granted");
    }
    assert_eq!(open(&world).len(), 4);
    world.site.sweep(&op("sweep"), &machine.instance, &[]).await.expect("swept");
    assert_eq!(open(&world), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn src_8_a_cursor_whose_snapshots_have_gone_is_lost_although_others_have_their_names() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let (instance, site) = ([machine.instance.clone()], &world.site);
    let capture =
        async |key: &str| site.capture(&op(key), &instance, Consistency::Crash).await.expect("captured");
    let spooled = async |key: &str| {
        let taken = capture(key).await;
        site.release(&op("release"), &taken, machine.id(), Fate::Spooled).await.expect("released");
        taken
    };
    let first = spooled("one").await;
    // Of two that were spooled the newer one is a cursor.
    spooled("two").await;
    world.write("web", 0, 0, &[9; 4096]);
    // The first call comes again, and late.
    let again = spooled("one").await;
    let last = capture("last").await;
    let since = |of: &Capture| of.member(machine.id()).expect("a member").cursor.clone().expect("a cursor");
    let told = site.changes(&last, machine.id(), &since(&first)).await.expect("told");
    assert!(
        matches!(told, Changes::Lost { .. }),
        "what was written after the first capture is not in {told:?}"
    );
    let told = site.changes(&last, machine.id(), &since(&again)).await.expect("told");
    assert_eq!(told, Changes::Known(ChangeSet::new()), "nothing was written since");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_8_a_cursor_whose_snapshots_somebody_has_taken_anew_is_lost() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    let mark = world.mark("web").expect("marked");
    let name = mark["cuts"][0]["snapshots"].as_object().expect("snapshots").values().next().expect("one");
    let name = name.as_str().expect("a name");
    let snapshots = world.arm.snapshots(GROUP);
    let old = snapshots.get(name).await.expect("asked").expect("there");
    snapshots.delete(name).await.expect("asked for").done().await.expect("deleted");
    let new = NewSnapshot {
        location: REGION.into(),
        tags: old.tags,
        source_id: old.source_resource_id.expect("of a disk"),
        incremental: true,
    };
    snapshots.put(name, &new).await.expect("asked for").done().await.expect("taken");
    let told = world.site.changes(&capture, machine.id(), &since).await.expect("told");
    assert!(
        matches!(told, Changes::Lost { .. }),
        "what was written before it was taken anew is not in {told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn src_4_changes_of_a_capture_that_was_let_go_are_not_found() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    world.site.release(&op("let-go"), &capture, machine.id(), Fate::Sealed).await.expect("released");
    let told = world.site.changes(&capture, machine.id(), &since).await;
    assert_eq!(told.expect_err("nobody holds it").kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_makes_an_address_void_that_is_being_asked_for() {
    let world = World::new().await;
    let (machine, _, capture) = captured(&world).await;
    let disks = world.site.disks(&op("disks"), &capture, machine.id()).await.expect("opened");
    world.manager.advance(Duration::from_secs(7 * 3600));
    world.blobs.pass(Duration::from_secs(7 * 3600));
    // Who reads on asks for another address, and looks at the register first.
    let gate = Gate::new();
    let register = Match::any().method("GET").path_contains("/register/");
    let held = world.blobs.faults().next(register, fake_blob::Fault::Late(gate.clone()));
    let (disk, pool) = (disks.values().next().expect("a disk"), Pool::new(1 << 20));
    let releasing = async {
        held.reach(1).await;
        let key = op("let-go");
        let mut release = pin!(world.site.release(&key, &capture, machine.id(), Fate::Sealed));
        let early = timeout(Duration::from_millis(500), release.as_mut()).await;
        gate.open();
        match early {
            Ok(released) => released,
            Err(_) => release.await,
        }
    };
    // Its reading may be over before the address is void.
    let (_, released) = tokio::join!(disk.read(Run::new(0, 4096), &pool), releasing);
    released.expect("released");
    assert_eq!(open(&world), [""; 0]);
}

/// How often addresses were asked for, and made void.
fn signed(world: &World) -> usize {
    let of = |line: &serde_json::Value| {
        let url = line["request"]["url"].as_str().expect("text");
        url.contains("/beginGetAccess") || url.contains("/endGetAccess")
    };
    world.manager.recording().iter().filter(|line| of(line)).count()
}

/// Lets a call go on to its look at the mark; then another process, of a newer epoch, claims the machine, and the call goes on.
async fn overtaken<T: std::fmt::Debug>(
    world: &World,
    machine: &Machine,
    call: impl Future<Output = Result<T>>,
) {
    let gate = Gate::new();
    let mark = Match::any().method("GET").path_contains("/mark/");
    let held = world.blobs.faults().next(mark, fake_blob::Fault::Late(gate.clone()));
    let (other, ..) = world.again().await;
    let before = signed(world);
    let claims = async {
        held.reach(1).await;
        other.claim(&op_at("claim", 2), machine.id()).await.expect("claimed");
        gate.open();
    };
    let (done, ()) = tokio::join!(call, claims);
    assert_eq!(done.expect_err("somebody newer has come").kind(), ErrorKind::StaleEpoch);
    assert_eq!(signed(world), before, "addresses were asked for or made void under a stale epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_2_a_stale_epoch_asks_for_no_address_of_what_changed() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    let site = world.site.clone();
    overtaken(&world, &machine, site.changes(&capture, machine.id(), &since)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_2_a_stale_epoch_asks_for_no_address_of_disks() {
    let world = World::new().await;
    let (machine, _, capture) = captured(&world).await;
    let (site, disks) = (world.site.clone(), op("disks"));
    overtaken(&world, &machine, site.disks(&disks, &capture, machine.id())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_2_a_stale_epoch_makes_no_address_void() {
    let world = World::new().await;
    let (machine, _, capture) = captured(&world).await;
    world.site.disks(&op("disks"), &capture, machine.id()).await.expect("opened");
    let (site, release) = (world.site.clone(), op("let-go"));
    overtaken(&world, &machine, site.release(&release, &capture, machine.id(), Fate::Sealed)).await;
    assert_eq!(open(&world).len(), 2, "who is newer reads on");
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_2_a_disk_that_is_read_on_after_its_address_has_ended_asks_for_none_under_a_stale_epoch() {
    let world = World::new().await;
    let (machine, _, capture) = captured(&world).await;
    let disks = world.site.disks(&op("disks"), &capture, machine.id()).await.expect("opened");
    let (disk, pool, run) = (disks.values().next().expect("a disk"), Pool::new(1 << 20), Run::new(0, 4096));
    disk.read(run, &pool).await.expect("read");
    let (other, ..) = world.again().await;
    other.claim(&op_at("claim", 2), machine.id()).await.expect("claimed");
    world.manager.advance(Duration::from_secs(7 * 3600));
    world.blobs.pass(Duration::from_secs(7 * 3600));
    let before = signed(&world);
    let read = disk.read(run, &pool).await.map(|bytes| bytes.len());
    assert_eq!(read.expect_err("somebody newer has come").kind(), ErrorKind::StaleEpoch);
    assert_eq!(signed(&world), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_capture_over_under_a_newer_epoch_is_told_what_changed() {
    let world = World::new().await;
    let (machine, since, capture) = captured(&world).await;
    let (other, ..) = world.again().await;
    other.claim(&op_at("claim", 2), machine.id()).await.expect("claimed");
    let instance = [machine.instance.clone()];
    assert_eq!(world.time.skipped(), 1, "a claim waits where somebody older was there");
    let newer = Op { epoch: op_at("", 2).epoch, ..op("two") };
    let again = other.capture(&newer, &instance, Consistency::Crash).await.expect("the same");
    assert_eq!(again, capture);
    let told = other.changes(&again, machine.id(), &since).await.expect("told");
    let Changes::Known(told) = told else { panic!("{told:?}") };
    assert!(told.contains(&machine.disks[0].id, Run::new(0, 4096)), "{told:?}");
}
