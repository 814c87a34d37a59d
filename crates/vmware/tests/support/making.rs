//! New machines for the way back: what they are, what their server may do while they are made, and that one alone is left.

use super::world::World;
use crate::{MODE, open};
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite::op;
use site_recovery_vim::{ControllerKind, Details, Machine as Made, NicKind};
use std::collections::BTreeMap;

const DATASTORE: &str = "LocalDS_1";
const NETWORK: &str = "VM Network";

/// A server with the appliance alone, and a machine that is to be made there.
async fn ground(os: OsFamily) -> Option<(World, Machine)> {
    let world = World::start(MODE, open).await?;
    Some((world, described("web", os, &[256 << 10, 128 << 10])))
}

/// As it stands in the cloud.
fn described(title: &str, os: OsFamily, disks: &[u64]) -> Machine {
    let disk = |(at, size): (usize, &u64)| DiskSpec {
        id: DiskId(format!("disk-{at}")),
        size: *size,
        role: if at == 0 { DiskRole::System } else { DiskRole::Data },
        included: true,
    };
    let nic = |id: &str, network: &str| Nic {
        id: id.into(),
        mac: Some("52:54:00:00:00:01".into()),
        network: Some(network.into()),
        addresses: vec![],
    };
    Machine {
        instance: Instance {
            machine: "m-web".into(),
            site: "cloud".into(),
            name: "web-in-the-cloud".into(),
            generation: Generation(1),
        },
        title: Some(title.into()),
        disks: disks.iter().enumerate().map(disk).collect(),
        nics: vec![nic("n0", NETWORK)],
        cpus: 3,
        memory: (1 << 30) + 1,
        firmware: Firmware::Bios,
        os,
        platform: Platform::Physical,
        guest: GuestFacts::default(),
    }
}

fn settings() -> Settings {
    Settings { location: Location::Alternate, datastore: Some(DATASTORE.into()), ..Settings::default() }
}

impl World {
    async fn makes(&self, key: &str, machine: &Machine, settings: &Settings) -> Result<Instance> {
        self.site.attach(&op(key), machine, None, settings).await
    }

    /// Machines beside the appliance.
    async fn made(&self) -> Vec<Made> {
        let all = self.eyes.machines_whole(&self.eyes.content().root_folder).await.unwrap();
        all.into_iter().filter(|m| m.instance_uuid.as_deref() != Some(self.appliance.as_str())).collect()
    }

    /// The only one, which the instance names.
    async fn is_alone(&self, instance: &Instance) -> (String, Details) {
        let mut made = self.made().await;
        assert_eq!(made.len(), 1, "{:?}", made.iter().map(|m| &m.name).collect::<Vec<_>>());
        let made = made.remove(0);
        assert_eq!(made.instance_uuid.as_deref(), Some(instance.name.as_str()));
        (made.name, *made.details.unwrap())
    }

    async fn nothing_was_made(&self, before: &[String]) {
        assert_eq!(self.everything().await, before);
        let appliance = self.moref(&self.appliance).await;
        let disks = self.eyes.machine(&appliance).await.unwrap().details.unwrap().devices.disks;
        assert_eq!(disks.len(), 1, "the appliance has its own disk alone");
    }

    async fn fails(&self, task: &str, fault: &str, after: bool) {
        let body = json!({ "task": task, "fault": fault, "count": 1, "after": after });
        self.sim.tell("task-fault", body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linux_machine_is_made_with_paravirtual_devices_and_one_of_windows_with_those_it_has_drivers_for() {
    for (os, controller, adapter) in [
        (OsFamily::Linux, ControllerKind::ParaVirtual, NicKind::Vmxnet3),
        (OsFamily::Windows, ControllerKind::LsiLogicSas, NicKind::E1000e),
    ] {
        let Some((world, mut web)) = ground(os).await else { return };
        web.firmware = Firmware::Uefi { secure_boot: os == OsFamily::Windows };
        let instance = world.makes("make", &web, &settings()).await.unwrap();
        let (name, details) = world.is_alone(&instance).await;
        assert_eq!((name.as_str(), details.cpus, details.memory_mib), ("web", 3, 1028));
        let devices = &details.devices;
        let kinds: Vec<_> = devices.disks.iter().map(|disk| devices.controller_of(disk).unwrap()).collect();
        assert!(kinds.iter().all(|c| c.kind == controller) && kinds.len() == 2, "{kinds:?}");
        let nics: Vec<_> = details.devices.nics.iter().map(|nic| nic.kind.clone()).collect();
        assert_eq!(nics, [adapter]);
        let secure_boot = os == OsFamily::Windows;
        assert_eq!(details.firmware, Some(site_recovery_vim::Firmware::Efi { secure_boot }));
        let there = world.discovered(&instance.name).await;
        assert_eq!(there.firmware, web.firmware);
        assert_eq!((&there.disks, &there.nics[0].id), (&web.disks, &web.nics[0].id));
        assert_ne!(there.nics[0].mac, web.nics[0].mac, "the old machine may be there still");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_machine_whose_answer_is_lost_is_made_once() {
    let Some((world, web)) = ground(OsFamily::Linux).await else { return };
    // And it takes its time.
    world.sim.tell("delay", json!({ "task": "CreateVM", "ms": 500 })).await;
    let lost = json!({ "path": "/sdk", "holds": "CreateVM_Task", "kind": "short", "bytes": 0, "count": 1 });
    world.sim.tell("http-fault", lost).await;
    let instance = world.makes("make", &web, &settings()).await.unwrap();
    world.met("the answer").await;
    world.is_alone(&instance).await;
    assert_eq!(world.makes("make", &web, &settings()).await.unwrap(), instance);
    world.is_alone(&instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_task_that_fails_after_its_work_has_made_the_machine() {
    let Some((world, web)) = ground(OsFamily::Linux).await else { return };
    world.fails("Folder.createVm", "HostCommunication", true).await;
    let instance = world.makes("make", &web, &settings()).await.unwrap();
    world.met("the task").await;
    world.is_alone(&instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_or_too_long_are_not_the_machines() {
    let title = format!("웹/서버 100% {}", "x".repeat(90));
    let Some((world, mut web)) = ground(OsFamily::Linux).await else { return };
    web.title = Some(title.clone());
    let instance = world.makes("first", &web, &settings()).await.unwrap();
    let (name, _) = world.is_alone(&instance).await;
    assert_eq!(name, title.chars().take(80).collect::<String>());
    // Taken in sight, and taken by somebody in between.
    web.instance.machine = "m-second".into();
    world.fails("Folder.createVm", "DuplicateName", false).await;
    let second = world.makes("second", &web, &settings()).await.unwrap();
    world.met("the task").await;
    let found = world.made().await;
    let found = found.iter().find(|m| m.instance_uuid.as_deref() == Some(second.name.as_str())).unwrap();
    assert_eq!(found.name, format!("{}-3", title.chars().take(76).collect::<String>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_datastore_without_room_is_named_and_nothing_is_left_there() {
    let Some((world, web)) = ground(OsFamily::Linux).await else { return };
    let before = world.everything().await;
    world.fails("Folder.createVm", "NoDiskSpace", false).await;
    let error = world.makes("make", &web, &settings()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    assert!(error.message().contains(DATASTORE) && error.message().contains("settings.datastore"), "{error}");
    world.nothing_was_made(&before).await;
    // The operator names another, and begins anew.
    let other = Settings { datastore: Some("LocalDS_0".into()), ..settings() };
    let instance = world.makes("again", &web, &other).await.unwrap();
    let (_, details) = world.is_alone(&instance).await;
    for disk in &details.devices.disks {
        assert_eq!(disk.backing.file.as_ref().unwrap().datastore(), "LocalDS_0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datastore_that_is_not_named_or_not_there_is_refused_with_those_that_are() {
    let Some((world, web)) = ground(OsFamily::Linux).await else { return };
    let before = world.everything().await;
    for datastore in [None, Some("LocalDS_9".to_owned())] {
        let error = world.makes("make", &web, &Settings { datastore, ..settings() }).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("setting.datastore")));
        assert!(error.message().contains("LocalDS_0, LocalDS_1"), "{error}");
    }
    world.nothing_was_made(&before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_whose_network_the_host_lacks_is_left_out_and_the_others_keep_their_names() {
    let Some((world, mut web)) = ground(OsFamily::Linux).await else { return };
    web.nics.insert(0, Nic { id: "lost".into(), network: Some("berlin-lan".into()), ..web.nics[0].clone() });
    let survey = world.site.survey(&web, &settings()).await.unwrap();
    let told: Vec<_> = survey.findings.iter().filter(|f| f.code == "landing.network").collect();
    let [told] = told[..] else { panic!("{:?}", survey.findings) };
    assert!(told.severity == Severity::Warning && told.cause.contains("lost"), "{told:?}");
    assert!(told.cause.contains("berlin-lan") && told.remedy.contains("settings.network"), "{told:?}");
    let instance = world.makes("make", &web, &settings()).await.unwrap();
    let there = world.discovered(&instance.name).await;
    let nics: Vec<_> = there.nics.iter().map(|nic| (nic.id.as_str(), nic.network.as_deref())).collect();
    assert_eq!(nics, [("n0", Some(NETWORK))]);
    // One that is named for all is for all, and one that is left out is not made.
    web.instance.machine = "m-second".into();
    let left_out = NicSettings { excluded: true, ..NicSettings::default() };
    let nics = BTreeMap::from([("n0".into(), left_out)]);
    let all = Settings { network: Some(NETWORK.into()), nics, ..settings() };
    let second = world.makes("second", &web, &all).await.unwrap();
    let there = world.discovered(&second.name).await;
    let nics: Vec<_> = there.nics.iter().map(|nic| (nic.id.as_str(), nic.network.as_deref())).collect();
    assert_eq!(nics, [("lost", Some(NETWORK))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_more_disks_than_a_machine_or_the_appliance_has_places_for_make_nothing() {
    let Some((world, _)) = ground(OsFamily::Linux).await else { return };
    let before = world.everything().await;
    // The appliance has one of its own.
    for disks in [60, 61] {
        let many = described("web", OsFamily::Linux, &vec![4096; disks]);
        let error = world.makes("make", &many, &settings()).await.unwrap_err();
        let field = Some("appliance.disks");
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Refused, field), "{error}");
        world.nothing_was_made(&before).await;
    }
    let most = described("web", OsFamily::Linux, &[4096; 59]);
    let instance = world.makes("make", &most, &settings()).await.unwrap();
    let (_, details) = world.is_alone(&instance).await;
    assert_eq!(details.devices.disks.len(), 59);
    assert_eq!(world.discovered(&instance.name).await.disks, most.disks, "in their order");
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_a_machine_that_cannot_be_finished_goes_and_one_that_can_is_finished() {
    let Some((world, web)) = ground(OsFamily::Linux).await else { return };
    let before = world.everything().await;
    // Its mark is refused: for good, and for now.
    world.fails("VirtualMachine.reconfigVm", "NotSupported", false).await;
    let error = world.makes("refused", &web, &settings()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    world.nothing_was_made(&before).await;
    world.fails("VirtualMachine.reconfigVm", "HostCommunication", false).await;
    let error = world.makes("later", &web, &settings()).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(world.made().await.len(), 1);
    let instance = world.makes("later", &web, &settings()).await.unwrap();
    world.is_alone(&instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_an_attach_that_nobody_heard_of_is_not_there_beside_the_next_one() {
    let Some((mut world, web)) = ground(OsFamily::Linux).await else { return };
    let first = world.makes("first", &web, &settings()).await.unwrap();
    // Whoever asked died before it was written down; the next run has another key.
    world.reopen().await;
    let second = world.makes("second", &web, &settings()).await.unwrap();
    assert_ne!(first, second);
    world.is_alone(&second).await;
    // From the first handle on there may be bytes, and it is never removed.
    world.site.disk(&second, &web.disks[0].id).await.unwrap();
    let third = world.makes("third", &web, &settings()).await.unwrap();
    let mut there: Vec<_> = world.made().await.into_iter().map(|m| m.instance_uuid.unwrap()).collect();
    there.sort();
    let mut expected = [second.name, third.name];
    expected.sort();
    assert_eq!(there, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_claim_gets_to_the_old_machine_and_to_the_new_one_and_each_is_known_for_itself() {
    let Some(world) = World::start(MODE, open).await else { return };
    let name = world.machine("web", &[256]).await;
    let web = world.enrol(&name, "m-web").await;
    world.site.fence(&op("fence"), &web.instance, std::time::Duration::ZERO).await.unwrap();
    let files = world.disk_files(&name).await;
    let made = world.makes("make", &web, &settings()).await.unwrap();
    assert_ne!(made.name, name);
    assert_eq!(world.disk_files(&name).await, files, "the old one is as it was");
    let new = Op { key: "claim".into(), epoch: Epoch { number: 9, owner: "other".into() } };
    world.site.claim(&new, web.id()).await.unwrap();
    for instance in [&name, &made.name] {
        let details = world.eyes.machine(&world.moref(instance).await).await.unwrap().details.unwrap();
        assert!(details.extra["site-recovery.epoch"].contains("other"), "{:?}", details.extra);
    }
    // What is gone with its files is gone, whatever stands beside it.
    world.told("machine-destroy", &name, json!({})).await;
    assert_eq!(world.site.power(&web.instance).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(matches!(
        world.site.power(&made).await.unwrap(),
        Power::Off { start: StartGuard::Blocked { .. } }
    ));
}
