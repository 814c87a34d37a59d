//! SRC-10 to SRC-13: whether a machine can write, taking its power, and giving it back.

use crate::given::{enrolled, op};
use crate::world::{GROUP, REGION, World};
use fake_arm::{Fault, What};
use site_recovery::*;
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
