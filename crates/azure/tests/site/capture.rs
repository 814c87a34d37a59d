//! Captures that fail half-way, and disks that are not what they were.

use crate::given::{booted, enrolled, op};
use crate::world::{GROUP, REGION, SPAN, World};
use fake_arm::Fault;
use fake_blob::Match;
use site_recovery::*;
use site_recovery_azure_arm::{NewMachine, NewSnapshot, OsType};
use std::time::Duration;

/// The second snapshot that is asked for is refused.
fn refuse_the_second(world: &World) {
    world.manager.fault(Fault { nth: 2, ..Fault::status("PUT", "/snapshots/", 409, "Conflict") });
}

async fn capture(world: &World, key: &str, machine: &Machine) -> Result<Capture> {
    world.site.capture(&op(key), std::slice::from_ref(&machine.instance), Consistency::Crash).await
}

fn snapshots(world: &World) -> usize {
    world.names("Microsoft.Compute/snapshots").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn src_9_a_capture_that_failed_leaves_nothing_after_a_sweep() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    refuse_the_second(&world);
    capture(&world, "capture", &machine).await.expect_err("refused");
    assert_eq!(snapshots(&world), 1);
    let swept = world.site.sweep(&op("sweep"), &machine.instance, &[]).await.expect("swept");
    assert_eq!((snapshots(&world), swept), (0, vec![op("capture").key]));
}

#[tokio::test(flavor = "multi_thread")]
async fn src_9_a_capture_removes_what_one_that_failed_has_left() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    refuse_the_second(&world);
    capture(&world, "one", &machine).await.expect_err("refused");
    capture(&world, "two", &machine).await.expect("captured");
    assert_eq!(snapshots(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn src_5_snapshots_of_before_and_after_a_stop_are_no_one_instant() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    refuse_the_second(&world);
    capture(&world, "capture", &machine).await.expect_err("refused");
    // The guest goes on writing to both disks; then it stops.
    world.write("web", 0, 0, &[9; 4096]);
    world.write("web", 1, 0, &[9; 4096]);
    world.stop_outside("web").await;
    let torn = capture(&world, "capture", &machine).await.expect("captured");
    assert_eq!(torn.consistency, Consistency::PerDisk);
    assert_eq!(capture(&world, "off", &machine).await.expect("captured").consistency, Consistency::Crash);
}

#[tokio::test(flavor = "multi_thread")]
async fn src_5_what_was_begun_while_it_was_off_is_one_instant_when_it_goes_on() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    world.stop_outside("web").await;
    refuse_the_second(&world);
    capture(&world, "capture", &machine).await.expect_err("refused");
    let captured = capture(&world, "capture", &machine).await.expect("captured");
    assert_eq!(captured.consistency, Consistency::Crash);
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_for_a_replica_that_stays_away_do_not_pile_up() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let sealed = capture(&world, "sealed", &machine).await.expect("captured");
    world.site.release(&op("release"), &sealed, machine.id(), Fate::Sealed).await.expect("released");
    let mut newest = sealed.clone();
    for number in 0..4 {
        world.write("web", 0, number * 65_536, &[7; 4096]);
        newest = capture(&world, &format!("spooled-{number}"), &machine).await.expect("captured");
        let key = op(&format!("release-{number}"));
        world.site.release(&key, &newest, machine.id(), Fate::Spooled).await.expect("released");
    }
    assert_eq!(snapshots(&world), 4, "of the last sealed one and the newest");
    let last = capture(&world, "last", &machine).await.expect("captured");
    for since in [sealed, newest] {
        let since = since.member(machine.id()).expect("a member").cursor.clone().expect("a cursor");
        let told = world.site.changes(&last, machine.id(), &since).await.expect("told");
        assert!(matches!(told, Changes::Known(_)), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_on_another_disk_is_not_captured_from_the_old_one() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    world.make("spare", &[2 << 20]).await;
    let (held, spare) = (world.disks_of("web"), world.disks_of("spare"));
    for name in ["web", "spare"] {
        let deleted = world.arm.machines(GROUP).delete(name).await.expect("asked for");
        deleted.done().await.expect("deleted");
    }
    let id = async |name: &str| world.arm.disks(GROUP).get(name).await.expect("asked").expect("there").id;
    let new = NewMachine {
        location: REGION.into(),
        size: "Standard_B2s".into(),
        os_disk: id(&spare[0]).await,
        os_type: OsType::Linux,
        data_disks: [(0, id(&held[1]).await)].into(),
        nics: vec![world.arm.nics(GROUP).get("web-nic").await.expect("asked").expect("there").id],
        availability_set: None,
        zone: None,
        licence: None,
        tags: Default::default(),
        boot_diagnostics: false,
    };
    let put = world.arm.machines(GROUP).put("web", &new).await.expect("asked for");
    put.done().await.expect("it runs");
    let error = capture(&world, "capture", &machine).await.expect_err("of a disk that it does not have");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains(&held[0]), "{error}");
}

/// How often a snapshot was asked for.
fn asked(world: &World) -> usize {
    let is_put = |line: &serde_json::Value| {
        let text = |name: &str| line["request"][name].as_str().expect("text");
        text("method") == "PUT" && text("url").contains("/snapshots/")
    };
    world.manager.recording().iter().filter(|line| is_put(line)).count()
}

async fn warnings(world: &World, machine: &Machine) -> Vec<String> {
    let found = world.site.check(machine, &Settings::default()).await.expect("checked");
    let told = found.into_iter().filter(|finding| finding.code.starts_with("azure.snapshot"));
    told.map(|finding| finding.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_snapshots_than_azure_takes_are_not_asked_for_and_who_asks_is_told_when() {
    let mut world = World::new().await;
    let machine = enrolled(&world).await;
    for number in 0..7 {
        assert_eq!(warnings(&world, &machine).await, [""; 0]);
        let captured = capture(&world, &format!("{number}"), &machine).await.expect("one of seven");
        let key = op(&format!("release-{number}"));
        world.site.release(&key, &captured, machine.id(), Fate::Abandoned).await.expect("released");
        world.passes(Duration::from_secs(10));
    }
    // By another process of ours as well: what was asked for is written down.
    world.reopen().await;
    let before = (asked(&world), world.mark("web"));
    let error = capture(&world, "eighth", &machine).await.expect_err("Azure takes seven");
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error}");
    let seconds: u64 = error.fact("again_after_s").expect("when").parse().expect("a number");
    assert!((230..=261).contains(&seconds), "seven at ten seconds each: {error}");
    assert_eq!((asked(&world), world.mark("web")), before, "nothing was asked for, and nothing changed");
    assert_eq!(warnings(&world, &machine).await, ["azure.snapshot_pace"]);
    world.passes(Duration::from_secs(seconds));
    assert_eq!(warnings(&world, &machine).await, [""; 0]);
    capture(&world, "eighth", &machine).await.expect("when it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_of_the_way_back_counts_among_the_snapshots_that_azure_takes() {
    let world = World::new().await;
    let (what, armed) = booted(&world, "boot").await;
    let machine = what.machine.standing_as(armed.instance);
    for number in 0..6 {
        capture(&world, &format!("{number}"), &machine).await.expect("one of seven, with the base");
    }
    let error = capture(&world, "seventh", &machine).await.expect_err("Azure takes seven");
    assert!(error.kind() == ErrorKind::Unavailable && error.fact("again_after_s").is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_finds_its_snapshots_asks_for_none_and_is_never_too_early() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    for number in 0..6 {
        capture(&world, &format!("{number}"), &machine).await.expect("one of seven");
    }
    // Both snapshots of the seventh are taken, and nobody writes that down.
    let write = Match::any().method("PUT").path_contains("/mark/").after(1);
    world.blobs.faults().next(
        write,
        fake_blob::Fault::Status { code: 403, azure_code: "AuthorizationFailure", retry_after: None },
    );
    capture(&world, "seventh", &machine).await.expect_err("the mark cannot be written");
    capture(&world, "seventh", &machine).await.expect("they are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_disk_with_nearly_as_many_snapshots_as_azure_takes_is_found_before() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let disk = world.arm.disks(GROUP).get("web-0").await.expect("asked").expect("there");
    let mut taken = 0;
    for (until, expected) in [(449, None), (450, Some(Severity::Warning)), (500, Some(Severity::Critical))] {
        while taken < until {
            // Seven in five minutes.
            let some = taken..until.min(taken + 7);
            let others = some.clone().map(async |number| {
                let (location, source_id) = (REGION.into(), disk.id.clone());
                let new = NewSnapshot { location, tags: Default::default(), source_id, incremental: true };
                let put = world.arm.snapshots(GROUP).put(&format!("backup-{number}"), &new).await;
                put.expect("asked for").done().await.expect("taken");
            });
            futures_util::future::join_all(others).await;
            world.manager.advance(SPAN);
            taken = some.end;
        }
        let found = world.site.check(&machine, &Settings::default()).await.expect("checked");
        let told = found.iter().find(|finding| finding.code == "azure.snapshots");
        assert_eq!(told.map(|finding| finding.severity), expected, "{taken}: {found:?}");
        assert!(told.is_none_or(|finding| finding.cause.contains(&format!("{taken} "))), "{told:?}");
    }
    capture(&world, "one-more", &machine).await.expect_err("Azure takes no more");
}
