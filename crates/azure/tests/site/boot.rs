//! SIT-6 and SIT-7: what boot makes, in which network, and what it leaves as it is.

use crate::given::{booted, made, op, permit, recovery};
use crate::world::{GROUP, World};
use fake_arm::{Fault, What};
use site_recovery::*;

async fn machine_id(world: &World, name: &str) -> Option<String> {
    world.arm.machines(GROUP).get(name).await.expect("asked").and_then(|machine| machine.vm_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_7_a_repeat_of_boot_keeps_a_machine_that_runs_and_whose_last_change_failed() {
    let world = World::new().await;
    let (what, armed) = booted(&world, "boot").await;
    let name = armed.instance.name.clone();
    let before = machine_id(&world, &name).await;
    let failed = What::FailAtEnd { code: "VMExtensionProvisioningError".into(), message: "no".into() };
    world.manager.fault(Fault::next("POST", "/powerOff", failed));
    let asked = world.arm.machines(GROUP).power_off(&name, false).await.expect("asked for");
    assert!(asked.done().await.is_err() && world.runs(&name), "it runs on");
    let boot = op("boot");
    let permit = permit(&boot, &what, &armed).await;
    world.site.boot(&boot, &what, &armed, permit).await.expect("reported");
    assert_eq!(machine_id(&world, &name).await, before, "the machine that ran was deleted and made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_6_a_drill_is_in_the_network_of_its_permit_after_another_was_tried() {
    let world = World::with(|config| {
        let mut lab = config.networks[0].clone();
        lab.name = "lab".into();
        config.networks.push(lab);
    })
    .await;
    let what = recovery(&world, Purpose::Drill, Settings::default()).await;
    let armed = made(&world, &what).await;
    world.manager.fault(Fault::status("PUT", "/virtualMachines/", 409, "OperationNotAllowed"));
    let wrong = BootPermit::Isolated { network: "lab".into() };
    assert!(world.site.boot(&op("boot"), &what, &armed, wrong).await.is_err());
    let right = BootPermit::Isolated { network: "isolated".into() };
    world.site.boot(&op("boot-again"), &what, &armed, right).await.expect("booted");
    let nics = world.arm.nics(GROUP).list().await.expect("listed");
    assert_eq!(nics.iter().filter(|nic| nic.machine.is_some()).count(), nics.len());
    for nic in nics {
        let subnet = nic.subnet_id.clone().unwrap_or_default();
        assert!(subnet.contains("/isolated/"), "the drill is in {subnet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_a_drill_is_not_let_into_the_network_that_is_production_by_default() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Drill, Settings::default()).await;
    let armed = made(&world, &what).await;
    // Production is `vnet`: the site was opened with it, and the settings say nothing else.
    for name in ["vnet", &world.network("VNet")] {
        let permit = BootPermit::Isolated { network: name.into() };
        let booted = world.site.boot(&op("boot"), &what, &armed, permit).await;
        let refused = booted.as_ref().is_err_and(|e| e.kind() == ErrorKind::Refused);
        assert!(
            refused && !world.runs(&armed.instance.name),
            "the drill runs in production, {name}: {booted:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_7_a_boot_that_nobody_noted_is_not_repeated() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let (armed, boot) = (made(&world, &what).await, op("boot"));
    let name = &armed.instance.name;
    // The third of it: after the cards, and what is off.
    let lost = fake_blob::Match::any().method("PUT").path_contains("/mark/").after(2);
    world.blobs.faults().next(lost, fake_blob::Fault::DropBeforeEffect);
    let leave = permit(&boot, &what, &armed).await;
    let booted = world.site.boot(&boot, &what, &armed, leave).await;
    assert!(booted.is_err() && world.runs(name), "{booted:?}");
    world.stop_outside(name).await;
    let leave = permit(&boot, &what, &armed).await;
    let booted = world.site.boot(&boot, &what, &armed, leave).await.expect("reported");
    assert!(!booted.running && !world.runs(name), "the repeat started what somebody had stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_7_a_boot_that_azure_refused_starts_when_it_is_repeated() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let (armed, boot) = (made(&world, &what).await, op("boot"));
    let failed = What::FailAtEnd { code: "AllocationFailed".into(), message: "no host is free".into() };
    for what_happens in [failed, What::DropBeforeEffect, What::DropAfterAccept] {
        world.manager.fault(Fault::next("PUT", "/virtualMachines/", what_happens));
        let leave = permit(&boot, &what, &armed).await;
        assert!(world.site.boot(&boot, &what, &armed, leave).await.is_err());
    }
    let leave = permit(&boot, &what, &armed).await;
    let booted = world.site.boot(&boot, &what, &armed, leave).await.expect("booted");
    assert!(booted.running && world.runs(&armed.instance.name), "{booted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_7_an_address_that_was_corrected_is_that_of_the_machine() {
    let world = World::new().await;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = made(&world, &what).await;
    let nic: NicId = "nic".into();
    what.machine.nics = vec![Nic { id: nic.clone(), mac: None, network: None, addresses: vec![] }];
    world.manager.fault(Fault::status("PUT", "/virtualMachines/", 409, "OperationNotAllowed"));
    for (key, address) in [("wrong", "10.0.1.20"), ("right", "10.0.1.21")] {
        let settings = NicSettings { address: address.parse().ok(), ..NicSettings::default() };
        what.settings.nics.insert(nic.clone(), settings);
        let boot = op(key);
        let leave = permit(&boot, &what, &armed).await;
        let booted = world.site.boot(&boot, &what, &armed, leave).await;
        assert_eq!(booted.is_ok(), key == "right", "{booted:?}");
        assert!(booted.is_err() || booted.is_ok_and(|booted| booted.reach == [address]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_6_disks_of_a_drill_are_not_booted_as_a_failover() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Drill, Settings::default()).await;
    let (armed, boot) = (made(&world, &what).await, op("boot"));
    let what = Recovery { purpose: Purpose::Failover, ..what };
    let leave = permit(&boot, &what, &armed).await;
    let booted = world.site.boot(&boot, &what, &armed, leave).await;
    assert!(booted.is_err_and(|e| e.kind() == ErrorKind::Refused) && !world.runs(&armed.instance.name));
}
