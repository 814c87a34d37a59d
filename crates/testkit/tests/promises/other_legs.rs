//! A machine that comes back somewhere else: the legs of the next round are named.

use super::*;
use site_recovery::state::Phase;
use site_recovery::{
    CommitRequest, ErrorKind, FailoverRequest, Instance, Leg, Location, ReprotectRequest, Settings,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::{MemoryMasterTarget, Site, World};
use std::sync::Arc;

/// A machine `web` that went from `here` to the cloud for good, and a third site with a master target of its own.
struct Elsewhere {
    engine: MemoryEngine,
    web: ItemHandle,
    there: Site,
}

async fn elsewhere() -> Result<Elsewhere> {
    let world = World::new(7);
    let (pair, there) = (world.pair(), world.site("there"));
    let server = || Arc::new(pair.process_server.clone());
    let landing = MemoryMasterTarget::new("other-master-target", world.clock(), Arc::new(there.clone()));
    let (store, cloud) = (Arc::new(pair.store.clone()), Arc::new(pair.cloud.clone()));
    let out = Leg::out(Arc::new(there.clone()), server(), store, cloud.clone());
    let back = Leg::back(cloud, server(), Arc::new(landing));
    let journal = MemoryJournal::new();
    let vault = MemoryEngine::builder(&pair, Arc::new(journal.clone()));
    let vault = vault.leg("out of there", out).leg("to there", back).build().await?;
    pair.here.add_machine("web", &[("boot", 256 << 10), ("data", 256 << 10)]);
    let engine = MemoryEngine { pair, journal, vault };
    let web = engine.protect("web").await?;
    engine.pair.here.scribble("web", 20);
    failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    Ok(Elsewhere { engine, web, there })
}

fn named(out: &str, back: &str) -> ReprotectRequest {
    ReprotectRequest { legs: Some((out.into(), back.into())), ..ReprotectRequest::default() }
}

/// Whatever the settings say of the location: what stands at the first site is not there to be landed on.
#[tokio::test]
async fn d4_a_machine_comes_back_at_another_site_and_goes_on_from_there() -> Result<()> {
    for location in [Location::Original, Location::Alternate] {
        let Elsewhere { engine, web, there } = elsewhere().await?;
        let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
        let stood = here.bytes("web");
        here.snapshot_outside("web");
        cloud.scribble(&name(&web), 20);
        let settings = Some(Settings { location, ..Settings::default() });
        let request = ReprotectRequest { settings, ..named("out of there", "to there") };
        web.reprotect(request).await?.done().await?;
        let in_cloud = cloud.bytes(&name(&web));
        web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
        let made = name(&web);
        assert_eq!((there.bytes(&made), there.running()), (in_cloud, vec![made.clone()]));
        assert_eq!((here.bytes("web"), here.running().len(), cloud.running().len()), (stood, 0, 0));
        web.commit(CommitRequest::default()).await?.done().await?;
        web.reprotect(ReprotectRequest::default()).await?.done().await?;
        there.write(&made, "data", 4096, b"from there");
        engine.vault.replicate_now(web.id()).await?;
        web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
        assert_eq!(cloud.bytes(&name(&web)), there.bytes(&made));
        // All that ever were it are proven off still.
        let stands: Vec<String> =
            web.item()?.instances.iter().map(|i: &Instance| i.site.to_string()).collect();
        assert_eq!(stands, ["here", "there", "cloud"]);
        assert!(!here.start_outside("web"), "the first one is not kept off");
    }
    Ok(())
}

#[tokio::test]
async fn a_leg_that_does_not_come_from_where_the_machine_runs_is_refused_before_anything_begins() -> Result<()>
{
    let Elsewhere { web, .. } = elsewhere().await?;
    for (out, back, why) in [
        ("back", "out", "a leg from here"),
        ("out", "out of there", "a leg from there"),
        ("out", "none", "none"),
    ] {
        let error = web.reprotect(named(out, back)).await.expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!((web.state()?.phase, web.run().is_none()), (Phase::CommitFailoverCompleted, true));
    }
    Ok(())
}

/// Legs that were named for one round are those of the next one, where none are named: they have to fit it too.
#[tokio::test]
async fn a_leg_of_the_last_round_that_comes_from_elsewhere_is_refused_before_anything_begins() -> Result<()> {
    let Elsewhere { engine, web, .. } = elsewhere().await?;
    // Back to where it was first, and out again from where it is not.
    web.reprotect(named("out of there", "back")).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    assert_eq!(engine.pair.here.running().len(), 1);
    let error = web.reprotect(ReprotectRequest::default()).await.expect_err("a leg from there");
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("reprotect.legs")), "{error}");
    assert_eq!((web.state()?.phase, web.run().is_none()), (Phase::CommitFailoverCompleted, true));
    web.reprotect(named("out", "back")).await?.done().await?;
    assert_eq!(web.state()?.phase, Phase::Protected);
    Ok(())
}

/// The way out may land in place as the way back does: legs that are named land on what stands there, too.
#[tokio::test]
async fn named_legs_land_on_what_stands_where_the_way_out_leads() -> Result<()> {
    let world = World::new(7);
    let pair = world.pair();
    let cloud = Arc::new(pair.cloud.clone());
    let landing = MemoryMasterTarget::new("cloud-target", world.clock(), cloud);
    let server = Arc::new(pair.process_server.clone());
    let out = Leg::back(Arc::new(pair.here.clone()), server, Arc::new(landing));
    let journal = MemoryJournal::new();
    let vault = MemoryEngine::builder(&pair, Arc::new(journal.clone())).out(out).build().await?;
    pair.here.add_machine("web", &[("boot", 256 << 10), ("data", 256 << 10)]);
    let engine = MemoryEngine { pair, journal, vault };
    let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
    let web = engine.protect("web").await?;
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    cloud.snapshot_outside(&there);
    let error = web.reprotect(named("out", "back")).await?.done().await.expect_err("it has a snapshot");
    assert!(error.to_string().contains("ask to consolidate"), "{error}");
    here.scribble("web", 20);
    let merged = ReprotectRequest { consolidate: true, ..named("out", "back") };
    web.reprotect(merged).await?.done().await?;
    assert_eq!(
        (cloud.all(), cloud.snapshots(&there)),
        (vec![there.clone()], 0),
        "it lands on what stands there"
    );
    let stood = here.bytes("web");
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    assert_eq!((name(&web), cloud.bytes(&there)), (there, stood));
    Ok(())
}
