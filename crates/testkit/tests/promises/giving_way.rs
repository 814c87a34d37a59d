//! Nothing that can wait holds up what cannot.

use super::*;
use site_recovery::state::{Divergence, Phase};
use site_recovery::{
    CommitRequest, Deadlines, DisableRequest, ErrorKind, FailoverRequest, PromoteRequest, ReprotectRequest,
    Result, Shutdown,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use std::sync::Arc;
use std::time::Duration;

const NEVER: Fault = Fault::Late(Duration::from_secs(1_000_000_000));

/// A dead site holds up the watch of an engine that starts anew; a failover does not wait for it.
#[tokio::test]
async fn o8_a_failover_does_not_wait_for_the_watch() -> Result<()> {
    for hangs in ["here.sweep", "here.discover", "master-target.check"] {
        let (engine, _) = MemoryEngine::protecting("web").await?;
        let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
        plan.next(hangs, NEVER);
        let (mut out, mut back) = (engine.pair.forward.clone(), engine.pair.reverse.clone());
        out.source = Arc::new(Faulty::new(out.source, &plan, clock.clone()));
        back.recovery_site = Arc::new(Faulty::new(back.recovery_site, &plan, clock.clone()));
        let endless = Duration::from_secs(1_000_000);
        let limits = Deadlines { source: endless, recovery_site: endless, ..Deadlines::default() };
        let journal = Arc::new(engine.journal.reopen()?);
        let vault = MemoryEngine::builder(&engine.pair, journal).out(out).back(back).deadlines(limits);
        let vault = vault.build().await?;
        let web = vault.find("web")?;
        vault.tick(site_recovery::Clock::now(&clock), true);
        until(|| plan.faulted() > 0 && clock.sleepers() > 0).await;
        let mut request = FailoverRequest::unplanned(OUT, fire());
        request.cutover = site_recovery::Cutover::Unplanned {
            shutdown: Shutdown::Skip,
            on_unfenced: site_recovery::OnUnfenced::Continue(fire()),
        };
        bounded(async { web.failover(request).await?.done().await }).await?;
        assert_eq!(engine.pair.cloud.running().len(), 1, "{hangs}");
    }
    Ok(())
}

/// A commit that hangs at a site that is lost gives way to the last resort, by its own machine.
#[tokio::test]
async fn s5_a_hanging_commit_gives_way_to_the_last_resort() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    failed_over(&engine, &web).await?;
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.always("cloud.settle", NEVER);
    let mut out = engine.pair.forward.clone();
    out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, clock.clone()));
    let journal = Arc::new(engine.journal.clone());
    let vault = MemoryEngine::builder(&engine.pair, journal).out(out).build().await?;
    let web = vault.item(web.id())?;
    web.commit(CommitRequest::default()).await?;
    until(|| plan.faulted() > 0 && clock.sleepers() > 0).await;
    engine.pair.cloud.set_down(true);
    web.promote_other(PromoteRequest::newest(fire())).await?.done().await?;
    assert_eq!(engine.pair.here.running(), ["web"]);
    assert_eq!(web.state()?.divergence, Divergence::Possible);
    Ok(())
}

/// The machine that came back is lost while it is reprotected. The cloud machine that ran before stands whole, is started,
/// and is owed to nobody's removal any more.
#[tokio::test]
async fn s4_the_last_resort_takes_the_machine_that_stands_whole() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    cloud.scribble(&there, 5);
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    let whole = cloud.bytes(&there);
    engine.pair.store.set_down(true);
    assert!(web.reprotect(ReprotectRequest::default()).await?.wait().await?.done().is_err());
    engine.pair.store.set_down(false);
    assert_eq!(web.state()?.phase, Phase::ReprotectFailed);
    here.destroy_outside("web");
    web.promote_other(PromoteRequest::newest(fire())).await?.done().await?;
    assert_eq!((cloud.running(), cloud.bytes(&there)), (vec![there.clone()], whole));
    for _ in 0..3 {
        engine.vault.watch_now().await?;
    }
    assert!(web.item()?.owed.is_empty() && cloud.running() == [there]);
    Ok(())
}

/// What has left our care is not taken into it again by an engine that adopts.
#[tokio::test]
async fn o8_what_was_disabled_is_not_adopted() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    web.disable(DisableRequest::default()).await?.done().await?;
    let anew = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
    let adopted = anew.vault.adopt("out").await?;
    assert!(adopted.machines.is_empty() && anew.vault.items().is_empty(), "{adopted:?}");
    anew.vault.watch_now().await?;
    assert_eq!(engine.pair.here.running(), ["web"]);
    // And it can be protected anew, where its points are deleted.
    let points = site_recovery::Replica::points(&engine.pair.store, web.id()).await?;
    assert!(!points.is_empty(), "points are kept unless it is asked otherwise");
    Ok(())
}

/// A machine that was kept because somebody had started it goes when it is dropped by name.
#[tokio::test]
async fn what_was_kept_as_the_losing_side_can_be_dropped() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let cloud = &engine.pair.cloud;
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    cloud.tells(true);
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    cloud.start_outside(&there);
    cloud.stop_outside(&there);
    let kept = web.item()?.must_not_run().next().cloned().expect("the cloud machine");
    let error = web.drop_kept(&kept).await.expect_err("a reprotect may still need it");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    assert_eq!(cloud.all(), std::slice::from_ref(&there), "kept");
    web.drop_kept(&kept).await?;
    assert!(cloud.all().is_empty() && web.item()?.must_not_run().next().is_none());
    Ok(())
}
