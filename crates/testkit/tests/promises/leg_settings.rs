//! What a machine shall be at a site: what was asked for it, otherwise what its leg says.

use super::*;
use site_recovery::{
    CommitRequest, ErrorKind, Leg, Location, MasterTarget, ProtectRequest, ReprotectRequest, Settings, Vault,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::{Pair, World};
use std::sync::Arc;
use std::time::Duration;

async fn vault(pair: &Pair, back: Settings) -> Result<(Vault, MemoryJournal)> {
    let (journal, back) = (MemoryJournal::new(), pair.reverse.clone().settings(back));
    Ok((MemoryEngine::builder(pair, Arc::new(journal.clone())).back(back).build().await?, journal))
}

/// A snapshot stands in the way of a landing on the machine that stands there, and of no other: whether it does shows what was said of
/// the location.
#[tokio::test]
async fn a_leg_says_what_a_machine_shall_be_where_nobody_asked_anything() -> Result<()> {
    let elsewhere = Settings { location: Location::Alternate, ..Settings::default() };
    for said in [Settings::default(), elsewhere] {
        let pair = World::new(7).pair();
        let (vault, journal) = vault(&pair, said.clone()).await?;
        pair.here.add_machine("web", &[("boot", 256 << 10), ("data", 256 << 10)]);
        let engine = MemoryEngine { pair, journal, vault };
        let web = engine.protect("web").await?;
        assert_eq!(web.settings()?, Settings::default(), "the way out has said nothing");
        failed_over(&engine, &web).await?;
        web.commit(CommitRequest::default()).await?.done().await?;
        engine.pair.here.snapshot_outside("web");

        let asked = Settings { group: Some("dr".into()), ..Settings::default() };
        let request = ReprotectRequest { settings: Some(asked.clone()), ..ReprotectRequest::default() };
        let done = web.reprotect(request).await?.done().await;
        if said == Settings::default() {
            let error = done.expect_err("it has a snapshot");
            assert!(error.to_string().contains("ask to consolidate"), "{error}");
            continue;
        }
        done?;
        assert_eq!(web.asked()?, asked);
        assert_eq!(web.settings()?, Settings { location: Location::Alternate, ..asked });
    }
    Ok(())
}

/// Each field by itself, and what is told by keys key by key.
#[test]
fn what_was_asked_comes_over_what_the_leg_says() {
    let keys = |told: &[(&str, &str)]| told.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let leg = Settings {
        group: Some("dr".into()),
        network: Some("lan".into()),
        tags: keys(&[("who", "leg"), ("why", "leg")]),
        location: Location::Alternate,
        ..Settings::default()
    };
    let asked = Settings {
        name: Some("web".into()),
        network: Some("dmz".into()),
        tags: keys(&[("who", "web")]),
        ..Settings::default()
    };
    let both = Settings {
        name: Some("web".into()),
        group: Some("dr".into()),
        network: Some("dmz".into()),
        tags: keys(&[("who", "web"), ("why", "leg")]),
        location: Location::Alternate,
        ..Settings::default()
    };
    assert_eq!(asked.over(&leg), both);
    assert_eq!(Settings::default().over(&leg), leg);
    assert_eq!(both.over(&Settings::default()), both);
}

#[tokio::test]
async fn a_leg_that_says_what_is_of_one_machine_is_refused_by_name() -> Result<()> {
    let pair = World::new(7).pair();
    let named = Settings { name: Some("web".into()), ..Settings::default() };
    let error = vault(&pair, named).await.expect_err("a name");
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("leg.settings")), "{error}");
    assert_eq!(error.fact("leg"), Some("back"), "{error}");
    let same = Some("lan".to_owned());
    let drilled = Settings { network: same.clone(), test_network: same, ..Settings::default() };
    let error = vault(&pair, drilled).await.expect_err("drills reach production");
    assert_eq!((error.fact("field"), error.fact("leg")), (Some("settings.test_network"), Some("back")));
    Ok(())
}

#[tokio::test]
async fn a_group_has_settings_of_all_its_machines_and_none_of_one() -> Result<()> {
    let engine = MemoryEngine::new(7).await?;
    for name in ["web", "db"] {
        engine.pair.here.add_machine(name, &[("boot", 64 << 10)]);
    }
    let wish = |settings| ProtectRequest::group("shop", &["web", "db"]).settings(settings);
    let named = Settings { name: Some("web".into()), ..Settings::default() };
    let error = engine.vault.protect_group(wish(named)).await.expect_err("a name");
    assert_eq!(error.fact("field"), Some("protect.settings"), "{error}");
    assert_eq!(engine.vault.items().len(), 0);
    let apart = Settings { group: Some("dr".into()), ..Settings::default() };
    let shop = engine.vault.protect_group(wish(apart.clone())).await?;
    for item in shop.items() {
        assert_eq!(item.settings()?, apart);
    }
    let named = Some(Settings { name: Some("web".into()), ..Settings::default() });
    let request = ReprotectRequest { settings: named, ..ReprotectRequest::default() };
    let error = shop.reprotect(request).await.expect_err("a name");
    assert_eq!(error.fact("field"), Some("reprotect.settings"), "{error}");
    Ok(())
}

/// The engine dies while the landing is prepared, and the next one's leg says to land in place, where a snapshot stands that nobody has
/// looked for.
#[tokio::test]
async fn o1_a_reprotect_lands_by_what_it_began_with() -> Result<()> {
    let pair = World::new(7).pair();
    let plan = FaultPlan::new();
    let master_target: Arc<dyn MasterTarget> =
        Arc::new(Faulty::new(Arc::new(pair.master_target.clone()), &plan, pair.world.clock()));
    let leg = |location| {
        let reverse = &pair.reverse;
        let leg = Leg::back(reverse.source.clone(), reverse.process_server.clone(), master_target.clone());
        leg.settings(Settings { location, ..Settings::default() })
    };
    let journal = MemoryJournal::new();
    let builder = MemoryEngine::builder(&pair, Arc::new(journal.clone()));
    let vault = builder.back(leg(Location::Alternate)).build().await?;
    let engine = MemoryEngine { pair: pair.clone(), journal: journal.clone(), vault };
    pair.here.add_machine("web", &[("boot", 256 << 10), ("data", 256 << 10)]);
    let web = engine.protect("web").await?;
    failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    pair.here.snapshot_outside("web");
    let stood = pair.here.bytes("web");
    pair.cloud.scribble(&name(&web), 20);

    plan.next("prepare", Fault::Late(Duration::from_secs(1 << 30)));
    let _never_ends = web.reprotect(ReprotectRequest::default()).await?;
    until(|| plan.faulted() > 0).await;
    let builder = MemoryEngine::builder(&pair, Arc::new(journal.reopen()?));
    let vault = builder.back(leg(Location::Original)).build().await?;
    for job in vault.resume().await.into_values() {
        job?.done().await?;
    }
    assert_eq!(pair.here.all().len(), 2, "it lands on a machine of its own");
    assert_eq!((pair.here.bytes("web"), pair.here.snapshots("web")), (stood, 1));
    Ok(())
}
