//! SRC-10 to SRC-13: whether a machine can write, taking its power, and giving it back.

use crate::given::{booted, enrolled, op};
use crate::world::{GROUP, REGION, World};
use fake_arm::{Fault, What};
use site_recovery::*;
use site_recovery_testkit::suite;
use std::time::Duration;

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
        location: REGION.into(),
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
    let fenced = world.site.fence(&op("fence"), &machine.instance, Duration::ZERO).await;
    assert!(fenced.is_err_and(|e| e.kind() == ErrorKind::Refused && e.to_string().contains("rescue")));
    world.stop_outside("rescue").await;
    let power = world.site.power(&machine.instance).await;
    assert!(matches!(power, Ok(Power::Off { .. })), "nobody writes them now: {power:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_11_a_guest_that_cannot_be_shut_down_is_cut_off() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    let what = What::FailAtEnd { code: "VMAgentStatusCommunicationError".into(), message: "no agent".into() };
    world.manager.fault(Fault::next("POST", "/powerOff", what));
    let fenced = world.site.fence(&op("fence"), &machine.instance, Duration::from_secs(60)).await;
    assert!(fenced.is_ok() && !world.runs("web"), "{fenced:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_10_disks_are_there_although_their_mark_is_gone() {
    let world = World::new().await;
    let (_, armed) = booted(&world, "boot").await;
    let name = &armed.instance.name;
    world.stop_outside(name).await;
    world.arm.machines(GROUP).delete(name).await.expect("asked for").done().await.expect("deleted");
    world.container.document(&format!("s/azure/mark/{name}")).delete().await.expect("deleted");
    let power = world.site.power(&armed.instance).await;
    assert!(matches!(power, Ok(Power::Off { .. })), "its disks are there: {power:?}");
    for disk in world.arm.disks(GROUP).list().await.expect("listed") {
        world.arm.disks(GROUP).delete(&disk.name).await.expect("asked for").done().await.expect("deleted");
    }
    let power = world.site.power(&armed.instance).await;
    assert!(power.is_err_and(|e| e.kind() == ErrorKind::NotFound), "nothing is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_11_a_guest_that_does_not_answer_is_cut_off() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    world.manager.machine("web").deafen().expect("web");
    let fenced = world.site.fence(&op("fence"), &machine.instance, Duration::from_millis(20)).await;
    assert!(world.manager.machine("web").was_asked(), "its guest was not asked");
    assert!(fenced.is_ok() && !world.runs("web"), "{fenced:?}");
    assert!(matches!(world.site.power(&machine.instance).await, Ok(Power::Off { .. })));
}

/// A fence that nobody waits for any more, with the shutdown of the guest under way.
async fn dropped_fence(world: &World, machine: &Machine) {
    world.manager.fault(Fault::next("POST", "/powerOff", What::HangAfterAccept));
    let (key, instance) = (op("fence"), machine.instance.clone());
    let mut fence = std::pin::pin!(world.site.fence(&key, &instance, Duration::from_secs(600)));
    while world.manager.under_way() == 0 {
        let turn = tokio::time::timeout(Duration::from_millis(5), fence.as_mut()).await;
        assert!(turn.is_err(), "{turn:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn src_12_no_shutdown_is_under_way_when_unfence_says_that_it_runs() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    dropped_fence(&world, &machine).await;
    let lift = op("lift");
    let permit = suite::permit(&lift, &machine).await;
    let lifted = world.site.unfence(&lift, &machine.instance, permit, Start::Run).await.expect("lifted");
    world.manager.settle();
    assert!(lifted.running && world.runs("web"), "{lifted:?}, and the guest went off after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn src_13_a_start_that_nobody_noted_is_not_repeated() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    world.site.fence(&op("fence"), &machine.instance, Duration::ZERO).await.expect("fenced");
    let lift = op("lift");
    // The machine starts, and then the note of it does not come.
    let lost = fake_blob::Match::any().method("PUT").path_contains("/mark/web").after(1);
    world.blobs.faults().next(lost, fake_blob::Fault::DropBeforeEffect);
    let permit = suite::permit(&lift, &machine).await;
    let lifted = world.site.unfence(&lift, &machine.instance, permit, Start::Run).await;
    assert!(lifted.is_err() && world.runs("web"), "{lifted:?}");
    // Somebody stops it on purpose, and then the call comes again.
    world.stop_outside("web").await;
    let permit = suite::permit(&lift, &machine).await;
    let lifted = world.site.unfence(&lift, &machine.instance, permit, Start::Run).await.expect("reported");
    assert!(!lifted.running && !world.runs("web"), "the repeat started what somebody had stopped");
}
