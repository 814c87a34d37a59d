//! What a machine's settings choose is what stands in the group.

use crate::ground::{ACCOUNT, CONTAINER, Ground};
use crate::{drill, opened};
use serde_json::Value;
use site_recovery::{
    BootPermit, DiskSettings, Fenced, Item, Nic, NicSettings, Placement, Policy, Purpose, Recovery,
    RecoverySite, Replica, Settings, Sources,
};
use std::sync::Arc;
use std::time::Duration;

fn body(ground: &Ground, kind: &str, name: &str) -> Value {
    let found = ground.manager.world().into_iter().find(|thing| thing.kind == kind && thing.name == name);
    found.unwrap_or_else(|| panic!("there is no {name} of {kind}")).body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_makes_what_the_machines_settings_choose() {
    let ground = Ground::new(|_| {}).await;
    let drill = drill(&opened(&ground), "a").await;
    let point = drill.sealed().await.expect("a point");
    let disk = DiskSettings { name: Some("web-os".into()), kind: Some("Premium_LRS".into()) };
    let card = NicSettings {
        subnet: Some("servers".into()),
        address: "10.0.1.77".parse().ok(),
        ..NicSettings::default()
    };
    let settings = Settings {
        name: Some("web".into()),
        size: Some("Standard_D4s_v5".into()),
        disks: [("system".into(), disk)].into(),
        nics: [("nic-0".into(), card)].into(),
        placement: Placement::Zone("2".into()),
        tags: [("owner".into(), "shop".into())].into(),
        ..Settings::default()
    };
    let mut machine = drill.machine.clone();
    machine.nics = vec![Nic { id: "nic-0".into(), mac: None, network: None, addresses: vec![] }];
    let found = drill.site.check(&machine, &settings).await.expect("checked");
    assert!(!found.iter().any(site_recovery::Finding::blocks), "{found:?}");
    let made = drill.recovery(&point).await.expect("a manifest");
    let what = Recovery { machine, purpose: Purpose::Failover, settings, ..made };
    let replica: Arc<dyn Replica> = drill.points.clone();
    let op = drill.op("failover");
    let armed = drill.site.materialise(&op, &what, &replica).await.expect("disks");
    let standing = what.machine.standing_as(armed.instance.clone());
    let item = Item::new(standing, op.epoch.clone(), Policy::default(), "out", "back");
    let proof = Fenced::prove(&op, &item, Some(&armed.instance), &Sources::new(), Duration::ZERO).await;
    let permit = BootPermit::Fenced(proof.expect("nothing else is there"));
    let booted = drill.site.boot(&op, &what, &armed, permit).await.expect("it runs");
    assert_eq!(booted.reach, ["10.0.1.77"]);

    let disk = body(&ground, "Microsoft.Compute/disks", "web-os");
    assert_eq!((&disk["sku"]["name"], &disk["zones"][0]), (&"Premium_LRS".into(), &"2".into()));
    assert_eq!(disk["properties"]["creationData"]["createOption"], "Import");
    let web = body(&ground, "Microsoft.Compute/virtualMachines", "web");
    assert_eq!(web["properties"]["hardwareProfile"]["vmSize"], "Standard_D4s_v5");
    assert_eq!((&web["zones"][0], &web["tags"]["owner"]), (&"2".into(), &"shop".into()));
    let cards = ground.names("Microsoft.Network/networkInterfaces");
    assert_eq!(cards.len(), 1, "{cards:?}");
    let card = body(&ground, "Microsoft.Network/networkInterfaces", &cards[0]);
    let subnet =
        card["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"].as_str().expect("an id");
    assert!(subnet.ends_with("/virtualNetworks/vnet/subnets/servers"), "{subnet}");

    // The disk's name and the address are taken now, by another machine.
    let mut other = what.machine.clone();
    other.instance.machine = "other".into();
    other.instance.name = "other".into();
    let named = Settings { name: Some("other".into()), ..what.settings.clone() };
    let found = drill.site.check(&other, &named).await.expect("checked");
    let codes: Vec<_> = found.iter().filter(|f| f.blocks()).map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["setting.disks.name", "setting.nics.address"], "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_operation_made_is_neither_taken_nor_removed() {
    let ground = Ground::new(|_| {}).await;
    let azure = opened(&ground);
    let named = |what: Recovery| {
        let disk = DiskSettings { name: Some("shared".into()), ..DiskSettings::default() };
        let settings = Settings { disks: [("system".into(), disk)].into(), ..what.settings.clone() };
        Recovery { settings, ..what }
    };
    let materialised = async |tag: &str| {
        let drill = drill(&azure, tag).await;
        let point = drill.sealed().await.expect("a point");
        let what = named(drill.recovery(&point).await.expect("a manifest"));
        let replica: Arc<dyn Replica> = drill.points.clone();
        let op = drill.op("materialise");
        let made = drill.site.materialise(&op, &what, &replica).await;
        (drill, what, made)
    };
    let (_, _, first) = materialised("a").await;
    first.expect("disks");
    // A drill's copy is called so.
    let before = body(&ground, "Microsoft.Compute/disks", "shared-test");
    let (second, what, refused) = materialised("b").await;
    assert_eq!(refused.expect_err("it is another's").kind(), site_recovery::ErrorKind::Conflict);
    // Taking it back has an end.
    let made_by = second.op("materialise").key;
    second.site.withdraw(&second.op("withdraw"), &made_by, &what).await.expect("nothing of it is left");
    let marks = ground.blobs.blobs(ACCOUNT, CONTAINER);
    assert!(!marks.iter().any(|name| name.starts_with("s/azure/mark/sr-test-b")), "{marks:?}");
    assert_eq!(body(&ground, "Microsoft.Compute/disks", "shared-test"), before);
}
