//! D: what is lost, kept, verified and final.

use super::*;
use async_trait::async_trait;
use site_recovery::state::{Divergence, Phase, Resync};
use site_recovery::{
    Booted, CommitRequest, Deadlines, ErrorKind, FailoverRequest, PointChoice, Recovery, ReprotectRequest,
    Result, UndoRequest, Validation, Verdict,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use std::sync::Arc;
use std::time::Duration;

/// A start from outside between the fence and the intent costs another delta, never a write.
#[tokio::test]
async fn d5_a_start_from_outside_in_a_planned_failback_loses_nothing() -> Result<()> {
    for sneak in ["master-target.materialise", "master-target.pin", "process-server.ship"] {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (here, cloud) = (engine.pair.here.clone(), engine.pair.cloud.clone());
        let there = failed_over(&engine, &web).await?;
        web.commit(CommitRequest::default()).await?.done().await?;
        web.reprotect(ReprotectRequest::default()).await?.done().await?;
        cloud.scribble(&there, 2);
        cloud.tells(true); // as on Azure: a start cannot be blocked, but it tells
        let plan = FaultPlan::new();
        plan.next(sneak, Fault::Late(Duration::from_secs(5)));
        let clock = engine.pair.world.clock();
        let mut back = engine.pair.reverse.clone();
        back.recovery_site = Arc::new(Faulty::new(back.recovery_site, &plan, clock.clone()));
        back.replica = Arc::new(Faulty::new(back.replica, &plan, clock.clone()));
        back.process_server = Arc::new(Faulty::new(back.process_server, &plan, clock.clone()));
        let vault =
            MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).back(back).build().await?;
        let web = vault.item(web.id())?;
        let job = web.failover(FailoverRequest::planned(BACK)).await?;
        until(|| clock.sleepers() > 0 && plan.faulted() > 0).await;
        cloud.start_outside(&there);
        cloud.scribble(&there, 2);
        cloud.stop_outside(&there);
        let truth = cloud.bytes(&there);
        clock.advance(Duration::from_secs(6));
        job.done().await?;
        assert_eq!(here.bytes("web"), truth, "{sneak}");
        assert_eq!((here.running(), cloud.running()), (vec!["web".into()], vec![]));
    }
    Ok(())
}

/// A point that rests on disks that somebody changed is refused, unless it is accepted by name.
#[tokio::test]
async fn d9_what_was_not_verified_is_not_booted() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    here.break_in("web");
    here.scribble("web", 1);
    let plan = FaultPlan::new();
    plan.always("process-server.ship", Fault::Before(ErrorKind::Refused)); // nothing can be compared yet
    let mut back = engine.pair.reverse.clone();
    back.process_server = Arc::new(Faulty::new(back.process_server, &plan, engine.pair.world.clock()));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).back(back).build().await?;
    let web = vault.item(web.id())?;
    vault.watch_now().await?;
    if let Some(job) = web.job() {
        job.wait().await?;
    }
    assert!(here.running().is_empty(), "fenced again");
    let mut told = vault.events_from(0);
    let alert = std::iter::from_fn(|| told.try_next()).any(|d| match d {
        site_recovery::Delivery::Notice(n) => {
            matches!(&n.kind, site_recovery::NoticeKind::Alert(f) if f.code == "both-sides-running")
        }
        site_recovery::Delivery::Lagged { .. } => false,
    });
    assert!(alert, "an operator is told");
    assert_ne!(web.state()?.resync, Resync::None);
    let error = web.failover(FailoverRequest::planned(BACK)).await.expect_err("not compared");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    plan.stop();
    // It is compared, and then everything is as it should be.
    for _ in 0..3 {
        vault.watch_now().await?;
        if let Some(job) = web.job() {
            job.done().await?;
        }
    }
    assert_eq!((web.state()?.divergence, web.state()?.resync), (Divergence::None, Resync::None));
    let truth = cloud.bytes(&there);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!(here.bytes("web"), truth);
    Ok(())
}

/// The loss that is told is never less than what was written and is gone.
#[tokio::test]
async fn d10_reported_loss_covers_every_lost_write() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, clock) = (&engine.pair.here, engine.pair.world.clock());
    let mut writes = vec![];
    for minute in 0..7 {
        clock.advance(Duration::from_secs(60));
        here.scribble("web", 1);
        writes.push(site_recovery::Clock::now(&clock));
        if minute == 3 {
            engine.vault.replicate_now(web.id()).await?;
        }
    }
    let sealed = web.points().await?.last().expect("a point").taken;
    let lost: Vec<_> = writes.iter().filter(|w| **w > sealed).collect();
    let offered = web.loss_of(PointChoice::LatestProcessed).await?;
    here.set_down(true);
    let request = FailoverRequest::unplanned(OUT, fire()).to(PointChoice::LatestProcessed);
    let report = web.failover(request).await?.done().await?;
    let told = report.only()?.loss.clone().expect("told");
    for write in lost {
        assert!(
            told.from < *write && told.to >= *write && told.at_most >= write.since(told.from),
            "{told:?} for {write}"
        );
        assert!(offered.at_most >= write.since(offered.from), "{offered:?}");
    }
    let summary = web.summary()?;
    assert!(summary.health.rpo.is_some_and(|rpo| rpo >= told.at_most), "{:?}", summary.health.rpo);
    Ok(())
}

#[derive(Debug)]
struct Picky(Verdict);

#[async_trait]
impl Validation for Picky {
    async fn validate(&self, _recovery: &Recovery, _booted: &Booted) -> Result<Verdict> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn d7_commit_can_require_a_good_verdict_and_reads_back_who_runs() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let bad = Verdict::Bad { reason: "no answer on port 443".into() };
    let vault = MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone()))
        .validation(Arc::new(Picky(bad.clone())))
        .build()
        .await?;
    let web = vault.item(web.id())?;
    let report = web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    assert_eq!(report.only()?.verdict, Some(bad));
    let good = CommitRequest { require_good: true, ..CommitRequest::default() };
    assert_eq!(web.commit(good).await.expect_err("bad").kind(), ErrorKind::Refused);
    // A machine that is off is not committed, and nothing is lost by asking.
    let there = name(&web);
    engine.pair.cloud.stop_outside(&there);
    assert_eq!(web.commit(CommitRequest::default()).await.expect_err("off").kind(), ErrorKind::Refused);
    assert!(matches!(web.state()?.phase, Phase::FailoverCompleted(_)));
    web.undo(UndoRequest::default()).await?.done().await?;
    assert_eq!(engine.pair.here.running(), ["web"]);
    Ok(())
}

/// A reprotect that breaks is started again, or rolled back: the landing is never left as a mixture that somebody boots.
#[tokio::test]
async fn d6_a_broken_reprotect_starts_again_or_goes_back() -> Result<()> {
    for restore in [false, true] {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
        let there = failed_over(&engine, &web).await?;
        web.commit(CommitRequest::default()).await?.done().await?;
        cloud.scribble(&there, 6);
        let stood = here.bytes("web");
        for record in 1..4 {
            engine.pair.process_server.break_after(record);
            let once = Deadlines { tries: 1, ..Deadlines::default() };
            let vault = MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.reopen()?))
                .deadlines(once)
                .build()
                .await?;
            let broken = vault.item(web.id())?.reprotect(ReprotectRequest::default()).await?.wait().await?;
            assert!(broken.done().is_err());
            cloud.scribble(&there, 1);
        }
        engine.pair.process_server.break_after(u64::MAX);
        let fresh = MemoryEngine::over(engine.pair.clone(), engine.journal.reopen()?).await?;
        let web = fresh.vault.item(web.id())?;
        assert_eq!(web.state()?.phase, Phase::ReprotectFailed);
        if restore {
            web.restore_landing().await?.done().await?;
            assert_eq!(here.bytes("web"), stood, "as it was before the first byte");
        }
        web.reprotect(ReprotectRequest::default()).await?.done().await?;
        let truth = cloud.bytes(&there);
        web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
        assert_eq!(here.bytes("web"), truth);
    }
    Ok(())
}

/// A failure after the last changes were shipped a second time takes everything back, once.
#[tokio::test]
async fn d7_going_back_ends_also_after_a_second_round() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, clock) = (&engine.pair.here, engine.pair.world.clock());
    here.tells(true);
    let plan = FaultPlan::new();
    plan.next("cloud.materialise", Fault::Late(Duration::from_secs(5)));
    plan.nth("cloud.materialise", 1, Fault::Before(ErrorKind::Refused));
    let mut out = engine.pair.forward.clone();
    out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, clock.clone()));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    let web = vault.item(web.id())?;
    let job = web.failover(FailoverRequest::planned(OUT)).await?;
    until(|| clock.sleepers() > 0 && plan.faulted() > 0).await;
    here.start_outside("web");
    here.scribble("web", 2);
    here.stop_outside("web");
    let truth = here.bytes("web");
    clock.advance(Duration::from_secs(6));
    let report = job.wait().await?;
    assert_eq!(plan.faulted(), 2, "a second round was begun");
    assert!(matches!(report.outcome, site_recovery::Outcome::Unwound { .. }), "{:?}", report.outcome);
    assert_eq!((here.running(), web.state()?.phase), (vec!["web".into()], Phase::Protected));
    assert!(here.bytes("web") == truth && engine.pair.cloud.all().is_empty());
    Ok(())
}
