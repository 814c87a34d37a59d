//! S: authority, fences, generations, and a way on from everywhere.

use super::*;
use site_recovery::state::Phase;
use site_recovery::{
    CommitRequest, DrillRequest, Epoch, ErrorKind, FailoverRequest, Op, ProtectRequest, ReprotectRequest,
    Result, Role, UndoRequest,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use std::sync::Arc;

/// Every promotion has a generation of its own, also one that was undone, changed, withdrawn or drilled.
#[tokio::test]
async fn s3_no_generation_is_used_twice() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let mut seen = vec![web.item()?.active().generation];
    web.test_failover(DrillRequest::default()).await?.done().await?;
    seen.push(web.item()?.drill.expect("a drill").recovery.generation);
    web.clean_up_test().await?.done().await?;
    for _ in 0..2 {
        failed_over(&engine, &web).await?;
        seen.push(web.item()?.active().generation);
        web.undo(UndoRequest::default()).await?.done().await?;
    }
    failed_over(&engine, &web).await?;
    seen.push(web.item()?.active().generation);
    let mut unique = seen.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
    let lineage = web.item()?.lineage;
    assert_eq!(lineage.live.len(), 2, "the first, and the one that counts: {lineage:?}");
    assert!(seen[1..4].iter().all(|g| lineage.dead.contains(g)), "{lineage:?} remembers {seen:?}");
    Ok(())
}

/// A member that can never boot leaves by name, and the rest completes.
#[tokio::test]
async fn s5_a_member_that_cannot_boot_holds_up_nobody() -> Result<()> {
    let engine = MemoryEngine::new(5).await?;
    for machine in ["web", "db"] {
        engine.pair.here.add_machine(machine, &[("boot", DISK)]);
    }
    let group = engine.vault.protect_group(ProtectRequest::group("shop", &["web", "db"])).await?;
    for item in group.items() {
        item.until_done().await?;
    }
    let plan = FaultPlan::new();
    plan.nth("cloud.boot", 1, Fault::Before(ErrorKind::Refused));
    let mut out = engine.pair.forward.clone();
    out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, engine.pair.world.clock()));
    let journal = Arc::new(engine.journal.reopen()?);
    let vault = MemoryEngine::builder(&engine.pair, journal).out(out).build().await?;
    let group = vault.group("shop")?;
    engine.pair.here.set_down(true); // a real disaster
    let ended = group.failover(FailoverRequest::unplanned(OUT, fire())).await?.wait().await?;
    assert!(ended.done().is_err(), "one boot was refused");
    let members: Vec<_> = group.items().iter().map(|i| i.id().clone()).collect();
    let stale = group.items().pop().expect("two members");
    let alone = group.leave(&members[1]).await?;
    let error =
        stale.undo(UndoRequest::default()).await.expect_err("it has left: the group is not its to undo");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    group.retry(Some(fire())).await?.done().await?;
    assert_eq!(group.items().len(), 1);
    group.commit(CommitRequest::default()).await?.done().await?;
    assert!(matches!(alone.state()?.phase, Phase::FailoverCompletionFailed(_)));
    assert_eq!(engine.pair.cloud.running().len(), 1);
    alone.retry(Some(fire())).await?.done().await?;
    assert_eq!(engine.pair.cloud.running().len(), 2, "it was mended, and goes on alone");
    // Nobody is in two units, or in none, after a start anew.
    let anew = MemoryEngine::over(engine.pair.clone(), engine.journal.reopen()?).await?;
    assert_eq!(anew.vault.items().len(), 2);
    assert_eq!(anew.vault.group("shop")?.items().len(), 1);
    Ok(())
}

/// What was owed of a machine is forgotten when that machine is what runs.
#[tokio::test]
async fn s4_owed_removal_never_takes_what_runs() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    assert!(!web.item()?.owed.is_empty(), "the cloud machine's removal is owed");
    let bytes = cloud.bytes(&there);
    here.destroy_outside("web");
    web.promote_other(site_recovery::PromoteRequest::newest(fire())).await?.done().await?;
    assert_eq!(cloud.running(), std::slice::from_ref(&there));
    assert!(web.item()?.owed.is_empty(), "{:?}", web.item()?.owed);
    for _ in 0..3 {
        engine.vault.watch_now().await?;
    }
    assert_eq!((cloud.running(), cloud.bytes(&there)), (vec![there], bytes));
    Ok(())
}

#[tokio::test]
async fn s5_enabling_that_failed_is_started_again() -> Result<()> {
    let engine = MemoryEngine::new(9).await?;
    engine.pair.here.add_machine("web", &[("boot", DISK)]);
    let plan = FaultPlan::new();
    plan.next("store.prepare", Fault::Before(ErrorKind::Refused));
    let mut out = engine.pair.forward.clone();
    out.replica = Arc::new(Faulty::new(out.replica, &plan, engine.pair.world.clock()));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    let web = vault.protect(ProtectRequest::machine("web")).await?;
    assert!(web.until_done().await.is_err());
    assert_eq!(web.state()?.phase, Phase::EnablingFailed);
    web.enable().await?.done().await?;
    assert_eq!((web.state()?.phase, web.points().await?.len()), (Phase::Protected, 1));
    Ok(())
}

/// Nobody can answer for an authority that is gone: a force does not carry a stale engine past a source that says so.
#[tokio::test]
async fn s2_a_force_is_no_way_round_a_stale_epoch() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let next = Epoch { number: 1_000, owner: "another".into() };
    engine.pair.here.claim(&Op { key: "claim".into(), epoch: next }, web.id()).await?;
    let report = web.failover(FailoverRequest::unplanned(OUT, fire())).await?.wait().await?;
    assert_eq!(report.done().expect_err("stale").kind(), ErrorKind::StaleEpoch);
    assert!(engine.pair.cloud.running().is_empty());
    Ok(())
}

/// An engine that was refused does not climb, epoch by epoch, over the one that took its place.
#[tokio::test]
async fn s1_o3_an_engine_that_was_deposed_never_climbs_over_the_one_in_charge() -> Result<()> {
    let (old, web) = MemoryEngine::protecting("web").await?;
    let new = MemoryEngine::over(old.pair.clone(), MemoryJournal::new()).await?;
    new.vault.adopt("out").await?;
    let again = new.vault.item(web.id())?;
    for _ in 0..5 {
        let epoch = web.item()?.epoch;
        let asked = match web.test_failover(DrillRequest::default()).await {
            Ok(job) => job.done().await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(asked.expect_err("its authority is over").kind(), ErrorKind::StaleEpoch);
        assert_eq!(web.item()?.epoch, epoch, "nothing was raised");
        new.vault.replicate_now(web.id()).await?;
    }
    again.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let running = old.pair.cloud.running();
    for _ in 0..5 {
        old.vault.watch_now().await?;
        let late = web.failover(FailoverRequest::unplanned(OUT, fire())).await;
        let late = match late {
            Ok(job) => job.done().await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(late.expect_err("its authority is over").kind(), ErrorKind::StaleEpoch);
    }
    assert_eq!(old.pair.cloud.running(), running);
    again.commit(CommitRequest::default()).await?.done().await?;
    Ok(())
}

/// The same where it hears of nobody meanwhile: what it begins in vain raises nothing.
#[tokio::test]
async fn s1_o3_an_engine_that_is_cut_off_never_climbs_either() -> Result<()> {
    let engine = MemoryEngine::new(7).await?;
    engine.pair.here.add_machine("web", &[("boot", DISK)]);
    let (plan, mut out) = (FaultPlan::new(), engine.pair.forward.clone());
    out.replica = Arc::new(Faulty::new(out.replica, &plan, engine.pair.world.clock()));
    let journal = Arc::new(MemoryJournal::new());
    let old = MemoryEngine::builder(&engine.pair, journal).out(out).build().await?;
    let web = old.protect(ProtectRequest::machine("web")).await?;
    web.until_done().await?;

    plan.always("store.claim", Fault::Before(ErrorKind::Unavailable));
    let new = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
    new.vault.adopt("out").await?;
    let epoch = web.item()?.epoch;
    for _ in 0..5 {
        let asked = match web.test_failover(DrillRequest::default()).await {
            Ok(job) => job.done().await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(asked.expect_err("nobody answers").kind(), ErrorKind::Unavailable);
    }
    assert_eq!(web.item()?.epoch, epoch, "nothing was raised");

    // It hears of the others again, and is told that its time is over.
    plan.stop();
    let late = match web.test_failover(DrillRequest::default()).await {
        Ok(job) => job.done().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(late.expect_err("its authority is over").kind(), ErrorKind::StaleEpoch);
    new.vault.replicate_now(web.id()).await
}
