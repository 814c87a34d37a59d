//! What a failover asks for at once: it takes the longest of all, not all one after the other.

use crate::given::{made, materialise, op, permit, recovery};
use crate::world::World;
use fake_arm::{Fault, What};
use futures_util::future::{Either, select};
use site_recovery::*;
use std::pin::pin;

const DISKS: &str = "Microsoft.Compute/disks";
const NICS: &str = "Microsoft.Network/networkInterfaces";

/// Lets `act` go on until so much is there; then nobody polls it any more.
async fn until<T: std::fmt::Debug>(act: impl Future<Output = T>, is_there: impl Fn() -> bool) {
    let there = async {
        while !is_there() {
            tokio::task::yield_now().await;
        }
    };
    match select(pin!(act), pin!(there)).await {
        Either::Left((ended, _)) => panic!("it has ended before: {ended:?}"),
        Either::Right(_) => {}
    }
}

fn with_cards(what: &mut Recovery, cards: &[(&str, NicSettings)]) {
    for (id, settings) in cards {
        let id = NicId::from(*id);
        what.machine.nics.push(Nic { id: id.clone(), mac: None, network: None, addresses: vec![] });
        what.settings.nics.insert(id, settings.clone());
    }
}

/// The addresses of the machine's cards, in its order.
fn addresses(world: &World, name: &str) -> Vec<String> {
    let all = world.manager.world();
    let by_id =
        |id: &str| all.iter().find(|t| t.body["id"].as_str().is_some_and(|i| i.eq_ignore_ascii_case(id)));
    let machine = all.iter().find(|t| t.kind == "Microsoft.Compute/virtualMachines" && t.name == name);
    let machine = machine.expect("the machine is there");
    let cards = machine.body["properties"]["networkProfile"]["networkInterfaces"].as_array().expect("cards");
    let address = |card: &serde_json::Value| {
        let nic = by_id(card["id"].as_str().expect("an id")).expect("the card is there");
        let settings = &nic.body["properties"]["ipConfigurations"][0]["properties"];
        settings["privateIPAddress"].as_str().expect("an address").to_owned()
    };
    cards.iter().map(address).collect()
}

fn fixed(address: &str) -> NicSettings {
    NicSettings { address: address.parse().ok(), ..NicSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_disk_waits_until_another_one_was_accepted() {
    for world in [World::new().await, World::far().await] {
        let what = recovery(&world, Purpose::Failover, Settings::default()).await;
        let count = what.machine.included().count();
        assert_eq!(count, 2);
        let made = || world.names(DISKS).len();
        let hits = world.manager.fault(Fault::next("PUT", "/disks/", What::Hang));
        until(materialise(&world, "make", &what), || made() == count - 1).await;
        assert_eq!(hits.count(), 1);
        world.manager.mend();
        materialise(&world, "make", &what).await.expect("the same call goes on");
        assert_eq!(made(), count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upload_waits_until_another_one_has_its_address() {
    let world = World::far().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let whole = || {
        let all = world.manager.world().into_iter().filter(|thing| thing.kind == DISKS);
        all.filter(|disk| disk.body["properties"]["diskState"] == "Unattached").count()
    };
    let hits = world.manager.fault(Fault::next("POST", "/beginGetAccess", What::Hang));
    until(materialise(&world, "make", &what), || whole() == 1).await;
    assert_eq!(hits.count(), 1);
    world.manager.mend();
    materialise(&world, "make", &what).await.expect("the same call goes on");
    assert_eq!(whole(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_card_waits_for_another_one_and_the_primary_one_comes_first() {
    let world = World::new().await;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let primary = NicSettings { primary: true, ..fixed("10.0.1.13") };
    with_cards(&mut what, &[("a", fixed("10.0.1.11")), ("b", fixed("10.0.1.12")), ("c", primary)]);
    let (armed, key) = (made(&world, &what).await, op("boot"));
    let hits = world.manager.fault(Fault::next("PUT", "/networkInterfaces/", What::Hang));
    let leave = permit(&key, &what, &armed).await;
    until(world.site.boot(&key, &what, &armed, leave), || world.names(NICS).len() == 2).await;
    assert_eq!(hits.count(), 1);
    world.manager.mend();
    let leave = permit(&key, &what, &armed).await;
    let booted = world.site.boot(&key, &what, &armed, leave).await.expect("the same call goes on");
    assert!(booted.running);
    let mut reach = booted.reach;
    reach.sort();
    assert_eq!(reach, ["10.0.1.11", "10.0.1.12", "10.0.1.13"]);
    let found = addresses(&world, &armed.instance.name);
    assert_eq!(found, ["10.0.1.13", "10.0.1.11", "10.0.1.12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_one_card_fails_ends_when_all_have_ended() {
    let world = World::with(|config| config.looks = 5).await;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    with_cards(&mut what, &[("a", fixed("10.0.1.11")), ("b", fixed("10.0.1.12")), ("c", fixed("10.0.1.13"))]);
    let (armed, key) = (made(&world, &what).await, op("boot"));
    world.manager.fault(Fault::status("PUT", "/networkInterfaces/", 409, "AnotherOperationInProgress"));
    let leave = permit(&key, &what, &armed).await;
    let error = world.site.boot(&key, &what, &armed, leave).await.expect_err("a card was refused");
    assert_eq!(error.fact("code"), Some("AnotherOperationInProgress"), "{error}");
    assert_eq!((world.names(NICS).len(), world.manager.under_way()), (2, 0), "something is left under way");
    assert!(!world.names("Microsoft.Compute/virtualMachines").contains(&armed.instance.name));
    let leave = permit(&key, &what, &armed).await;
    assert!(world.site.boot(&key, &what, &armed, leave).await.expect("the same call goes on").running);
    assert_eq!(world.names(NICS).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_one_card_is_to_have_is_not_given_to_another() {
    let world = World::new().await;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    // The first address that Azure would give, and the card that may have any comes first.
    let any = NicSettings { primary: true, ..NicSettings::default() };
    with_cards(&mut what, &[("a", any), ("b", fixed("10.0.1.4"))]);
    let (armed, key) = (made(&world, &what).await, op("boot"));
    let leave = permit(&key, &what, &armed).await;
    world.site.boot(&key, &what, &armed, leave).await.expect("booted");
    assert_eq!(addresses(&world, &armed.instance.name), ["10.0.1.5", "10.0.1.4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_of_a_broken_off_try_may_change_addresses_with_each_other() {
    let world = World::new().await;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    with_cards(&mut what, &[("a", fixed("10.0.1.11")), ("b", fixed("10.0.1.12"))]);
    let (armed, key) = (made(&world, &what).await, op("boot"));
    world.manager.fault(Fault::status("PUT", "/virtualMachines/", 409, "OperationNotAllowed"));
    let leave = permit(&key, &what, &armed).await;
    assert!(world.site.boot(&key, &what, &armed, leave).await.is_err());
    what.settings.nics.insert("a".into(), fixed("10.0.1.12"));
    what.settings.nics.insert("b".into(), fixed("10.0.1.11"));
    let key = op("boot-again");
    let leave = permit(&key, &what, &armed).await;
    assert!(world.site.boot(&key, &what, &armed, leave).await.expect("booted").running);
    assert_eq!(addresses(&world, &armed.instance.name), ["10.0.1.12", "10.0.1.11"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_takes_the_addresses_that_are_free_there() {
    let world = World::new().await;
    let mut what = recovery(&world, Purpose::Drill, Settings::default()).await;
    // Of the network of drills, where the first one is another card's.
    let taken = fixed("10.9.1.4");
    with_cards(&mut what, &[("a", taken.clone())]);
    let armed = made(&world, &what).await;
    let isolated = || BootPermit::Isolated { network: "isolated".into() };
    world.site.boot(&op("boot"), &what, &armed, isolated()).await.expect("booted");
    assert_eq!(addresses(&world, &armed.instance.name), ["10.9.1.4"]);
    let mut second = what.clone();
    second.settings.name = Some("second".into());
    with_cards(&mut second, &[("b", fixed("10.9.1.5")), ("c", NicSettings::default())]);
    let armed = materialise(&world, "second", &second).await.expect("made");
    world.site.boot(&op("second"), &second, &armed, isolated()).await.expect("booted");
    let found = addresses(&world, &armed.instance.name);
    assert_eq!((found.len(), &*found[1]), (3, "10.9.1.5"), "{found:?}");
    assert!(!found.contains(&"10.9.1.4".to_owned()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_not_there_is_refused_before_anything_is_made() {
    let world = World::new().await;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    what.settings.placement = Placement::AvailabilitySet("none".into());
    let (armed, key) = (made(&world, &what).await, op("boot"));
    let leave = permit(&key, &what, &armed).await;
    let error = world.site.boot(&key, &what, &armed, leave).await.expect_err("there is none");
    assert_eq!(
        (error.kind(), error.fact("field")),
        (ErrorKind::Invalid, Some("settings.placement")),
        "{error}"
    );
    assert_eq!(world.names(NICS), [""; 0]);
    what.settings.placement = Placement::default();
    booted_again(&world, &what, &armed).await;
}

async fn booted_again(world: &World, what: &Recovery, armed: &Armed) {
    let key = op("boot");
    let leave = permit(&key, what, armed).await;
    assert!(world.site.boot(&key, what, armed, leave).await.expect("booted").running);
}
