//! SIT-1: what boot would refuse is found before. And the other way round, each finding in a world where it is true: where it is
//! critical, making the machine does fail; where it is not, the machine starts.

use crate::given::{made, recovery, replica};
use crate::recovered::Recovered;
use crate::world::{GROUP, REGION, World};
use site_recovery::*;
use site_recovery_azure_arm::{NewDisk, Origin};
use site_recovery_testkit::suite::{self, op};

/// What is wrong, the code that tells it, and what in the finding names it.
type Case = (&'static str, fn(&mut Recovery), &'static str, &'static str);

fn card(what: &mut Recovery, settings: NicSettings) {
    what.machine.nics.push(Nic { id: "card".into(), mac: None, network: None, addresses: vec![] });
    what.settings.nics.insert("card".into(), settings);
}

/// What a machine cannot be made with.
const CRITICAL: [Case; 12] = [
    ("a name that is none", |w| w.settings.name = Some("-no-name-".into()), "setting.name", "-no-name-"),
    ("a name that is taken", |w| w.settings.name = Some("theirs".into()), "setting.name", "theirs"),
    ("no such size", |w| w.settings.size = Some("Standard_Z9".into()), "setting.size", "Standard_Z9"),
    (
        "a size that is withheld",
        |w| w.settings.size = Some("Standard_M64s".into()),
        "setting.size",
        "Standard_M64s",
    ),
    (
        "a size of another generation",
        |w| w.settings.size = Some("Standard_D2s_v6".into()),
        "setting.size",
        "generation",
    ),
    (
        "too many cards",
        |w| {
            (0..9).for_each(|n| {
                w.machine.nics.push(Nic {
                    id: format!("n{n}").into(),
                    mac: None,
                    network: None,
                    addresses: vec![],
                });
            })
        },
        "setting.size",
        "9 cards",
    ),
    (
        "no such set",
        |w| w.settings.placement = Placement::AvailabilitySet("none".into()),
        "setting.placement",
        "none",
    ),
    ("no such network", |w| w.settings.network = Some("nowhere".into()), "setting.network", "nowhere"),
    (
        "no such subnet",
        |w| {
            card(w, NicSettings { subnet: Some("none".into()), ..NicSettings::default() });
        },
        "setting.nics.subnet",
        "none",
    ),
    (
        "an address that is taken",
        |w| {
            card(w, NicSettings { address: "10.0.1.4".parse().ok(), ..NicSettings::default() });
        },
        "setting.nics.address",
        "10.0.1.4",
    ),
    (
        "an address of another network",
        |w| {
            card(w, NicSettings { address: "192.168.7.7".parse().ok(), ..NicSettings::default() });
        },
        "setting.nics.address",
        "192.168.7.7",
    ),
    ("nothing to start from", |w| w.machine.disks[0].role = DiskRole::Data, "azure.system_disk", "0 disks"),
];

/// What may be lived with.
const OTHERS: [Case; 3] = [
    ("small disks", |_| {}, "azure.small_disk", "disk system"),
    ("no drivers", |w| w.machine.guest.boot_drivers = Some(vec![]), "azure.preparation", "hv_storvsc"),
    (
        "no DHCP",
        |w| {
            w.machine.guest.boot_drivers = Some(vec!["hv_storvsc".into(), "hv_vmbus".into()]);
            w.machine.guest.dhcp = Some(false);
        },
        "azure.preparation",
        "DHCP",
    ),
];

#[tokio::test]
async fn sit_1_what_is_critical_does_fail_and_leaves_nothing() {
    let mut here = Recovered::new().await;
    // With the first address of the network.
    here.world.make("theirs", &[1 << 20]).await;
    let (right, before) = (here.what.clone(), here.all());
    for (name, wrong, code, named) in CRITICAL {
        here.what = right.clone();
        wrong(&mut here.what);
        let found = here.world.site.check(&here.what.machine, &here.what.settings).await.expect("checked");
        let told = found.iter().find(|finding| finding.code == code && finding.blocks());
        let told = told.unwrap_or_else(|| panic!("{name}: {found:?}"));
        assert!(told.cause.contains(named) && !told.remedy.is_empty(), "{name}: {told:?}");
        let made = match here.materialise(name).await {
            Ok(armed) => here.boot(&format!("{name}, boot"), &armed).await.map(drop),
            Err(error) => Err(error),
        };
        let error = made.expect_err(name);
        assert!(!error.is_temporary(), "{name}: {error}");
        let withdrawn =
            here.world.site.withdraw(&op(&format!("{name}, back")), &op(name).key, &here.what).await;
        withdrawn.unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut after = here.all();
        after.retain(|line| !line.starts_with("s/azure/register"));
        assert_eq!(after, before, "{name}: what is left");
    }
}

#[tokio::test]
async fn sit_1_what_is_not_critical_does_not_fail() {
    for (name, odd, code, named) in OTHERS {
        let mut here = Recovered::new().await;
        odd(&mut here.what);
        let found = here.world.site.check(&here.what.machine, &here.what.settings).await.expect("checked");
        let told = found.iter().find(|finding| finding.code == code);
        let told = told.unwrap_or_else(|| panic!("{name}: {found:?}"));
        assert!(told.cause.contains(named) && !told.remedy.is_empty(), "{name}: {told:?}");
        assert!(!found.iter().any(Finding::blocks), "{name}: {found:?}");
        here.booted("x").await;
    }
}

#[tokio::test]
async fn sit_1_a_quota_that_is_used_up_is_critical() {
    let mut here =
        Recovered::with(Settings { size: Some("Standard_D8s_v5".into()), ..Settings::default() }).await;
    // Eight machines of eight processors are all that there may be.
    for number in 0..8 {
        let (key, machine) = (format!("m{number}"), here.what.clone());
        here.what.settings.name = Some(key.clone());
        here.booted(&key).await;
        here.what = machine;
    }
    let found = here.world.site.check(&here.what.machine, &here.what.settings).await.expect("checked");
    let told: Vec<_> =
        found.iter().filter(|f| f.blocks()).map(|f| (f.code.as_str(), f.cause.as_str())).collect();
    let of_all = "64 of 64 processors of westeurope are used, and Standard_D8s_v5 has 8";
    let of_its_family =
        "64 of 64 processors of standardDSv5Family of westeurope are used, and Standard_D8s_v5 has 8";
    assert_eq!(told, [("azure.quota", of_all), ("azure.quota", of_its_family)]);
    let armed = here.materialise("m").await.expect("materialised");
    let error = here.boot("b", &armed).await.expect_err("no processors are left");
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
}

#[tokio::test]
async fn sit_1_what_this_site_cannot_follow_is_critical() {
    let here = Recovered::new().await;
    type Wrong = fn(&mut Settings);
    let cases: [(&str, Wrong); 5] = [
        ("setting.group", |s| s.group = Some("another".into())),
        ("setting.placement", |s| s.placement = Placement::Host("host".into())),
        ("setting.test_network", |s| s.test_network = Some("nowhere".into())),
        ("setting.nics", |s| drop(s.nics.insert("none".into(), NicSettings::default()))),
        ("setting.site", |s| drop(s.site.insert("azure.colour".into(), "blue".into()))),
    ];
    for (code, wrong) in cases {
        let mut settings = Settings::default();
        wrong(&mut settings);
        let found = here.world.site.check(&here.what.machine, &settings).await.expect("checked");
        let told: Vec<_> = found.iter().filter(|f| f.blocks()).map(|f| f.code.as_str()).collect();
        assert_eq!(told, [code], "{found:?}");
    }
    let all = here.all();
    assert!(!all.iter().any(|line| line.contains("web")), "nothing was made: {all:?}");
}

#[tokio::test]
async fn tgt_1_what_is_proposed_is_free_and_starts() {
    let mut here = Recovered::new().await;
    here.world.make("web", &[1 << 20]).await;
    let mut machine = suite::machine("web");
    machine.title = Some("web".into());
    let settings = here.world.site.propose(&machine).await.expect("proposed");
    assert_eq!(settings.name.as_deref(), Some("web-2"), "web is taken");
    assert_eq!(settings.group.as_deref(), Some(GROUP));
    assert_eq!(settings.size.as_deref(), Some("Standard_B1s"), "the smallest that fits");
    let found = here.world.site.check(&machine, &settings).await.expect("checked");
    assert!(!found.iter().any(Finding::blocks), "{found:?}");
    here.what.settings = settings;
    let armed = here.booted("x").await;
    assert!(armed.instance.name == "web-2" && World::runs(&here.world, "web-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_a_disk_that_no_page_blob_holds_is_found_before() {
    let world = World::new().await;
    let mut machine = suite::machine("web");
    machine.disks[1].size = 9 << 40;
    let found = world.site.check(&machine, &Settings::default()).await.expect("checked");
    assert!(found.iter().any(|found| found.blocks() && found.code == "azure.disk_size"), "{found:?}");
    let prepared = world.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await;
    prepared.expect_err("it has no place");
}

/// `web` with one network card.
fn machine() -> Machine {
    let mut machine = suite::machine("web");
    machine.nics = vec![Nic { id: "nic".into(), mac: None, network: None, addresses: vec![] }];
    machine
}

fn of_card(nic: NicSettings) -> Settings {
    Settings { nics: [("nic".into(), nic)].into(), ..Settings::default() }
}

fn disk(disk: DiskSettings) -> Settings {
    Settings { disks: [("data".into(), disk)].into(), ..Settings::default() }
}

fn tag(name: &str, value: &str) -> Settings {
    Settings { tags: [(name.to_owned(), value.to_owned())].into(), ..Settings::default() }
}

/// A disk of somebody else.
async fn stray(world: &World, name: &str) {
    let new = NewDisk {
        location: REGION.into(),
        zone: None,
        sku: "StandardSSD_LRS".into(),
        tags: Default::default(),
        os_type: None,
        generation: None,
        from: Origin::Upload { bytes: (20 << 20) + 512 },
    };
    let put = world.arm.disks(GROUP).put(name, &new).await.expect("asked for");
    put.done().await.expect("a disk");
}

async fn blocking(world: &World, settings: &Settings) -> Vec<String> {
    let found = world.site.check(&machine(), settings).await.expect("checked");
    found.into_iter().filter(Finding::blocks).map(|finding| finding.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_each_setting_that_azure_would_refuse_is_named() {
    let world = World::new().await;
    world.make("other", &[1 << 20]).await;
    stray(&world, "stray-test").await;
    let address = |text: &str| text.parse().ok();
    let nic = NicSettings::default();
    let named = |name: &str| disk(DiskSettings { name: Some(name.into()), kind: None });
    let tags = (0..46).map(|n| (format!("t{n}"), String::new())).collect();
    let tags = Settings { tags, ..Settings::default() };
    let production = world.network("VNET");
    for (settings, code) in [
        (of_card(NicSettings { excluded: true, ..nic.clone() }), "nics"),
        (of_card(NicSettings { subnet: Some("none".into()), ..nic.clone() }), "nics.subnet"),
        (of_card(NicSettings { address: address("10.9.1.9"), ..nic.clone() }), "nics.address"),
        (of_card(NicSettings { address: address("10.0.1.4"), ..nic.clone() }), "nics.address"),
        (of_card(NicSettings { test_subnet: Some("none".into()), ..nic.clone() }), "nics.test_subnet"),
        (of_card(NicSettings { test_address: address("10.0.1.9"), ..nic.clone() }), "nics.test_address"),
        (Settings { test_network: Some(production), ..Settings::default() }, "test_network"),
        (Settings { test_network: Some("none".into()), ..Settings::default() }, "test_network"),
        (named("-os"), "disks.name"),
        (named("other-0"), "disks.name"),
        // A drill's disk is called so with `-test` behind.
        (named(&"x".repeat(76)), "disks.name"),
        (named("stray"), "disks.name"),
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
    let mut fine = Settings { placement: Placement::Zone("2".into()), ..of_card(fine) };
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
