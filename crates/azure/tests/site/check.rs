//! SIT-1: what boot would refuse is found before.

use crate::given::{made, op, recovery, replica};
use crate::world::World;
use site_recovery::*;
use site_recovery_testkit::suite;

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_disk_that_no_page_blob_holds_is_found_before() {
    let world = World::new().await;
    let mut machine = suite::machine("web");
    machine.disks[1].size = 9 << 40;
    let found = world.site.check(&machine, &Settings::default()).await.expect("checked");
    let prepared = world.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await;
    assert!(prepared.is_ok() || found.iter().any(|f| f.blocks()), "nothing found, and then {prepared:?}");
}

/// `web` with one network card.
fn machine() -> Machine {
    let mut machine = suite::machine("web");
    machine.nics = vec![Nic { id: "nic".into(), mac: None, network: None, addresses: vec![] }];
    machine
}

fn card(nic: NicSettings) -> Settings {
    Settings { nics: [("nic".into(), nic)].into(), ..Settings::default() }
}

fn disk(disk: DiskSettings) -> Settings {
    Settings { disks: [("data".into(), disk)].into(), ..Settings::default() }
}

fn tag(name: &str, value: &str) -> Settings {
    Settings { tags: [(name.to_owned(), value.to_owned())].into(), ..Settings::default() }
}

async fn blocking(world: &World, settings: &Settings) -> Vec<String> {
    let found = world.site.check(&machine(), settings).await.expect("checked");
    found.into_iter().filter(Finding::blocks).map(|finding| finding.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_each_setting_that_azure_would_refuse_is_named() {
    let world = World::new().await;
    world.make("other", &[1 << 20]).await;
    let address = |text: &str| text.parse().ok();
    let nic = NicSettings::default();
    let named = |name: &str| disk(DiskSettings { name: Some(name.into()), kind: None });
    let tags = (0..46).map(|n| (format!("t{n}"), String::new())).collect();
    let tags = Settings { tags, ..Settings::default() };
    let production = world.network("VNET");
    for (settings, code) in [
        (card(NicSettings { excluded: true, ..nic.clone() }), "nics"),
        (card(NicSettings { subnet: Some("none".into()), ..nic.clone() }), "nics.subnet"),
        (card(NicSettings { address: address("10.9.1.9"), ..nic.clone() }), "nics.address"),
        (card(NicSettings { address: address("10.0.1.4"), ..nic.clone() }), "nics.address"),
        (card(NicSettings { test_subnet: Some("none".into()), ..nic.clone() }), "nics.test_subnet"),
        (card(NicSettings { test_address: address("10.0.1.9"), ..nic.clone() }), "nics.test_address"),
        (Settings { test_network: Some(production), ..Settings::default() }, "test_network"),
        (Settings { test_network: Some("none".into()), ..Settings::default() }, "test_network"),
        (named("-os"), "disks.name"),
        (named("other-0"), "disks.name"),
        (disk(DiskSettings { name: None, kind: Some("PremiumV2_LRS".into()) }), "disks.kind"),
        (Settings { placement: Placement::Zone("4".into()), ..Settings::default() }, "placement"),
        (tags, "tags"),
        (tag("a/b", ""), "tags"),
        (tag("sr-site", "mine"), "tags"),
        (tag("note", &"x".repeat(257)), "tags"),
    ] {
        assert_eq!(blocking(&world, &settings).await, [format!("setting.{code}")], "{settings:?}");
    }
    let fine = NicSettings {
        subnet: Some("servers".into()),
        address: address("10.0.1.9"),
        test_subnet: Some("servers".into()),
        test_address: address("10.9.1.9"),
        ..nic
    };
    let mut fine = Settings { placement: Placement::Zone("2".into()), ..card(fine) };
    fine.disks = named("web-data_1").disks;
    fine.tags = tag("note", "of the owner").tags;
    assert_eq!(blocking(&world, &fine).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_quota_counts_although_no_size_is_named() {
    let world = World::with(|config| config.machines = 1).await;
    assert_eq!(blocking(&world, &Settings::default()).await, [""; 0]);
    world.make("other", &[1 << 20]).await;
    assert_eq!(blocking(&world, &Settings::default()).await, ["azure.quota"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_name_is_taken_in_any_case_of_its_letters() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = made(&world, &what).await;
    // Nothing but disks is there, and their mark.
    let named = Settings { name: Some(armed.instance.name.to_uppercase()), ..Settings::default() };
    let mut other = machine();
    other.instance.machine = "other".into();
    let found = world.site.check(&other, &named).await.expect("checked");
    assert!(found.iter().any(|found| found.code == "setting.name"), "{found:?}");
    let what = Recovery { settings: named, ..what };
    let made = world.site.materialise(&op("another"), &what, &replica(&world)).await;
    assert!(made.is_err_and(|e| e.kind() == ErrorKind::Conflict));
    let marks = world.container.list("s/azure/mark/").await.expect("listed");
    assert_eq!(marks.len(), 1, "{marks:?}");
}
