//! Networks and addresses at the other side.

use super::world::*;
use site_recovery::{CommitRequest, FailoverRequest, NicSettings, ReprotectRequest, Result, Settings};
use site_recovery_plans::{AddressMap, NetworkMap, Plan};
use site_recovery_testkit::engine::DISK;
use site_recovery_testkit::world::World;
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn mapped(plan: &mut Plan, machine: Option<&str>, from: &str, to: &str) {
    let machine = machine.map(str::to_owned);
    plan.addresses.push(AddressMap { machine, from: from.parse().expect(from), to: to.parse().expect(to) });
}

async fn site() -> Result<Site> {
    let site = Site::with(&[]).await?;
    for (name, address) in [("db", "10.0.1.7"), ("web", "10.0.1.17"), ("own", "10.0.1.27")] {
        site.engine.pair.here.add_machine(name, &[("boot", DISK)]);
        site.engine.pair.here.address(name, ip(address));
        site.engine.protect(name).await?;
    }
    Ok(site)
}

fn address(settings: &Settings) -> Option<IpAddr> {
    settings.nics.get(&"nic0".into()).and_then(|nic| nic.address)
}

#[tokio::test]
async fn machines_get_networks_and_addresses_of_the_other_side_where_the_user_set_none() -> Result<()> {
    let site = site().await?;
    let mut shop = plan(&[&["db", "web", "own"]]);
    shop.networks.push(NetworkMap { from: "production".into(), to: "recovered".into() });
    mapped(&mut shop, None, "10.0.1.0/24", "10.9.1.0/24");
    mapped(&mut shop, Some("db"), "10.0.1.7", "10.9.1.70");
    let nics = [("nic0".into(), NicSettings { address: Some(ip("10.7.7.7")), ..NicSettings::default() })];
    let chosen = Settings { network: Some("chosen".into()), nics: nics.into(), ..Settings::default() };
    site.engine.vault.find("own")?.set_settings(chosen.clone()).await?;
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert!(over(&run), "{run:?}");
    for (name, network, at) in [("db", "recovered", "10.9.1.70"), ("web", "recovered", "10.9.1.17")] {
        let settings = site.engine.vault.find(name)?.settings()?;
        assert_eq!(
            (settings.network.as_deref(), address(&settings)),
            (Some(network), Some(ip(at))),
            "{name}"
        );
    }
    assert_eq!(site.engine.vault.find("own")?.settings()?, chosen);

    site.plans.commit("shop", &shop, CommitRequest::default()).await?;
    assert!(over(&site.wait("shop").await));
    site.plans.reprotect("shop", &shop, ReprotectRequest::default()).await?;
    assert!(over(&site.wait("shop").await));
    for (name, now) in [("db", "10.9.1.70"), ("web", "10.9.1.17")] {
        let instance = site.engine.vault.find(name)?.item()?.active().name.clone();
        site.engine.pair.cloud.address(&instance, ip(now));
    }
    site.plans.failover("shop", &shop, FailoverRequest::planned(BACK)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(site_recovery_plans::Outcome::Done), "{run:?}");
    for (name, at) in [("db", "10.0.1.7"), ("web", "10.0.1.17")] {
        let settings = site.engine.vault.find(name)?.settings()?;
        assert_eq!(
            (settings.network.as_deref(), address(&settings)),
            (Some("production"), Some(ip(at))),
            "{name}"
        );
    }
    Ok(())
}

/// What holds for all machines of a way gives way to what a plan says, and is not written down as a machine's own.
#[tokio::test]
async fn a_map_comes_before_what_a_leg_says_and_takes_nothing_of_it_along() -> Result<()> {
    let mut pair = World::new(7).pair();
    let said = |network: &str| Settings {
        network: Some(network.into()),
        group: Some("dr".into()),
        ..Settings::default()
    };
    pair.forward = pair.forward.settings(said("of all"));
    let site = Site::of(pair, &["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.networks.push(NetworkMap { from: "production".into(), to: "recovered".into() });
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert!(over(&run), "{run:?}");
    let db = site.engine.vault.find("db")?;
    assert_eq!(db.asked()?, Settings { group: None, ..said("recovered") });
    assert_eq!(db.settings()?, said("recovered"));
    Ok(())
}

#[tokio::test]
async fn a_map_that_changes_replaces_what_the_plan_set_before_and_a_drill_sets_nothing() -> Result<()> {
    let site = site().await?;
    let mut shop = plan(&[&["web"]]);
    mapped(&mut shop, None, "10.0.1.0/24", "10.9.1.0/24");
    site.plans.drill("shop", &shop, site_recovery::DrillRequest::default()).await?;
    assert!(over(&site.wait("shop").await));
    assert_eq!(site.engine.vault.find("web")?.settings()?, Settings::default());
    site.plans.clean_up("shop", &shop).await?;
    assert!(over(&site.wait("shop").await));
    let mut held = shop.clone();
    held.failover.after.push(by_hand("look"));
    for to in ["10.9.1.0/24", "10.8.1.0/24"] {
        held.addresses.clear();
        mapped(&mut held, None, "10.0.1.0/24", to);
        site.plans.failover("shop", &held, FailoverRequest::planned(OUT)).await?;
        site.wait("shop").await;
        let expected = to.replace(".0/24", ".17");
        assert_eq!(address(&site.engine.vault.find("web")?.settings()?), Some(ip(&expected)));
        site.plans.cancel("shop").await?;
        assert!(over(&site.wait("shop").await));
        site.engine.vault.replicate_now(site.engine.vault.find("web")?.id()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_subnets_that_stand_for_each_other_are_told_apart() -> Result<()> {
    let site = site().await?;
    let mut shop = plan(&[&["db", "web"]]);
    site.engine.pair.here.address("web", ip("10.0.2.17"));
    site.engine.vault.find("web")?.check_readiness().await?;
    mapped(&mut shop, None, "10.0.1.0/24", "10.0.2.0/24");
    mapped(&mut shop, None, "10.0.2.0/24", "10.0.1.0/24");
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert!(over(&site.wait("shop").await));
    for (name, at) in [("db", "10.0.2.7"), ("web", "10.0.1.17")] {
        assert_eq!(address(&site.engine.vault.find(name)?.settings()?), Some(ip(at)), "{name}");
    }
    Ok(())
}
