//! SIT-1: the codes of `docs/azure.md` that begin with `azure.`: those of the source, and each comes where it is true, as severe as
//! the page says.

use crate::given::{enrolled, op};
use crate::recovered::Recovered;
use crate::world::World;
use site_recovery::*;
use site_recovery_azure::{Azure, Profile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Codes of the page, with what it says of their severity.
fn of_the_page() -> BTreeMap<String, String> {
    let page = include_str!("../../../../docs/azure.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut all = BTreeMap::new();
    for row in rows {
        let mut cells = row.split('|');
        let (codes, severity) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        for code in codes.split('`').filter(|code| code.starts_with("azure.")) {
            all.insert(code.to_owned(), severity.trim().to_owned());
        }
    }
    all
}

/// Those that stand in the source, as text.
fn of_the_source() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/site");
    let mut all = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the source") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        let quoted = product.split('"').filter(|text| text.starts_with("azure."));
        all.extend(quoted.map(str::to_owned));
    }
    all
}

#[test]
fn the_page_tells_the_codes_of_the_source() {
    let page: BTreeSet<String> = of_the_page().into_keys().collect();
    assert!(page.len() > 5, "{page:?}");
    assert_eq!(page, of_the_source(), "left docs/azure.md, right src/site");
}

const GIB: u64 = 1 << 30;

/// What is wrong with a machine, and the code that tells it.
type Case = (&'static str, Profile, fn(&mut Machine));

fn disk(machine: &mut Machine, size: u64) {
    let id = format!("more-{}", machine.disks.len()).into();
    machine.disks.push(DiskSpec { id, size, role: DiskRole::Data, included: true });
}

fn uefi(secure_boot: bool) -> Firmware {
    Firmware::Uefi { secure_boot }
}

const OF_A_MACHINE: [Case; 11] = [
    ("azure.system_disk", Profile::Current, |m| m.disks[0].role = DiskRole::Data),
    ("azure.disks", Profile::Current, |m| (0..65).for_each(|_| disk(m, GIB))),
    ("azure.disk_size", Profile::Current, |m| m.disks[0].size = 2049 * GIB),
    ("azure.disk_size", Profile::Current, |m| disk(m, 32_768 * GIB)),
    ("azure.disk_size", Profile::Of2019, |m| disk(m, 8193 * GIB)),
    ("azure.disk_size", Profile::Of2018, |m| disk(m, 4096 * GIB)),
    ("azure.firmware", Profile::Of2018, |m| m.firmware = uefi(false)),
    ("azure.secure_boot", Profile::Current, |m| m.firmware = uefi(true)),
    ("azure.small_disk", Profile::Current, |m| disk(m, GIB)),
    ("azure.upload", Profile::Current, |m| disk(m, 9000 * GIB)),
    ("azure.preparation", Profile::Current, |m| m.guest.boot_drivers = Some(vec![])),
];

#[track_caller]
fn told(found: &[Finding], code: &str) {
    let told = found.iter().find(|finding| finding.code == code);
    let told = told.unwrap_or_else(|| panic!("no {code} in {found:?}"));
    let severity = format!("{:?}", told.severity).to_lowercase();
    assert!(of_the_page()[code].contains(&severity), "{code} is {severity}, the page says otherwise");
    assert!(!told.cause.is_empty() && !told.remedy.is_empty(), "{told:?}");
}

/// A machine of which nothing is told that begins with `azure.`.
fn right() -> Machine {
    let mut machine = site_recovery_testkit::suite::machine("right");
    machine.disks.iter_mut().for_each(|disk| disk.size = 2 * GIB);
    machine.guest.boot_drivers = Some(vec!["hv_storvsc".into(), "hv_vmbus".into()]);
    machine
}

/// The site under this profile.
async fn site(world: &World, profile: Profile) -> Azure {
    let place = world.place(world.container.clone());
    let site = Azure::builder("azure".into()).profile(profile).network("vnet").test_network("isolated");
    site.open(place).await.expect("it opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_each_code_of_a_machine_comes_where_it_is_true() {
    let world = World::new().await;
    for (code, profile, wrong) in OF_A_MACHINE {
        let (site, mut machine) = (site(&world, profile).await, right());
        let found = site.check(&machine, &Settings::default()).await.expect("checked");
        assert!(!found.iter().any(|finding| finding.code.starts_with("azure.")), "{profile:?}: {found:?}");
        wrong(&mut machine);
        told(&site.check(&machine, &Settings::default()).await.expect("checked"), code);
    }
    // Beside these: what a world is full of.
    let others = ["azure.quota", "azure.snapshot_pace", "azure.snapshots"];
    let all = OF_A_MACHINE.iter().map(|(code, ..)| *code).chain(others).map(str::to_owned);
    assert_eq!(all.collect::<BTreeSet<_>>(), of_the_source(), "a code comes in no test");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_the_code_of_captures_that_are_too_many_is_as_severe_as_the_page_says() {
    let world = World::new().await;
    let machine = enrolled(&world).await;
    for number in 0..7 {
        let (key, of) = (op(&format!("{number}")), [machine.instance.clone()]);
        world.site.capture(&key, &of, Consistency::Crash).await.expect("captured");
    }
    told(&world.site.check(&machine, &Settings::default()).await.expect("checked"), "azure.snapshot_pace");
}

/// A quota that is too small by one, what in the finding names it, and whether disks can be made all the same.
const QUOTAS: [(&str, u64, &str, bool); 4] = [
    ("standardDSv5Family", 1, "0 of 1 processors of standardDSv5Family", true),
    ("StandardSSDDiskCount", 1, "0 of 1 StandardSSD_LRS disks", false),
    ("PremiumDiskCount", 0, "0 of 0 Premium_LRS disks", false),
    ("StandardSnapshotCount", 1, "0 of 1 snapshots", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn sit_1_each_quota_that_is_used_up_is_critical_and_making_the_machine_does_fail() {
    for (quota, limit, named, disks_are_made) in QUOTAS {
        let kind = (quota == "PremiumDiskCount").then(|| "Premium_LRS".to_owned());
        let mut settings = Settings { size: Some("Standard_D2s_v5".into()), ..Settings::default() };
        settings.disks = [("data".into(), DiskSettings { name: None, kind })].into();
        let here = Recovered::under(settings, |config| {
            config.quotas.insert(quota.into(), limit);
        })
        .await;
        let found = here.world.site.check(&here.what.machine, &here.what.settings).await.expect("checked");
        told(&found, "azure.quota");
        let blocking: Vec<_> = found.iter().filter(|f| f.blocks()).map(|f| f.cause.as_str()).collect();
        assert!(blocking.len() == 1 && blocking[0].contains(named), "{quota}: {blocking:?}");
        let made = here.materialise("make").await;
        assert_eq!(made.is_ok(), disks_are_made, "{quota}: {made:?}");
        let failed = match made {
            Ok(armed) => here.boot("boot", &armed).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(failed.expect_err(quota).kind(), ErrorKind::OutOfSpace, "{quota}");
    }
}
