//! A job that holds before its boot: prepared, and not booted until somebody lets it.

use super::*;
use site_recovery::state::{Operation, Phase};
use site_recovery::workflow::Step;
use site_recovery::{
    DrillRequest, ErrorKind, FailoverRequest, JobState, Outcome, Request, Result, UndoRequest,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use std::time::Duration;

fn held() -> FailoverRequest {
    FailoverRequest { hold_boot: true, ..FailoverRequest::planned(OUT) }
}

fn held_drill() -> DrillRequest {
    DrillRequest { hold_boot: true, network: Some("lab".into()), ..DrillRequest::default() }
}

async fn until_it_holds(job: &site_recovery::Job) {
    until(|| job.state() == JobState::Suspended).await;
}

#[tokio::test]
async fn s1_a_held_failover_boots_only_when_it_may() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let job = web.failover(held()).await?;
    until_it_holds(&job).await;
    assert!(engine.pair.here.running().is_empty(), "the source is off");
    assert!(engine.pair.cloud.running().is_empty(), "nothing boots yet");
    assert!(web.run().is_some_and(|run| run.holds_boot() && !run.past_pivot()));
    job.let_boot();
    job.done().await?;
    assert_eq!(engine.pair.cloud.running().len(), 1);
    Ok(())
}

#[tokio::test]
async fn d7_a_held_failover_is_cancelled_and_replication_goes_on() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let job = web.failover(held()).await?;
    until_it_holds(&job).await;
    job.cancel();
    assert!(matches!(job.wait().await?.outcome, Outcome::Unwound { .. }));
    assert_eq!(engine.pair.here.running(), ["web"]);
    assert!(engine.pair.cloud.running().is_empty());
    engine.pair.here.scribble("web", 1);
    engine.vault.replicate_now(web.id()).await?;
    assert_eq!(web.state()?.phase, Phase::Protected);
    Ok(())
}

/// What let it boot may have died with the engine: the next one waits anew.
#[tokio::test]
async fn o1_a_held_failover_is_held_by_the_next_engine_too() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let job = web.failover(held()).await?;
    until_it_holds(&job).await;
    let (id, pair) = (web.id().clone(), engine.pair.clone());
    let next = MemoryEngine::over(pair, engine.journal.reopen()?).await?;
    let jobs = next.vault.resume().await.into_values().collect::<Result<Vec<_>>>()?;
    assert_eq!(jobs.len(), 1);
    until_it_holds(&jobs[0]).await;
    assert!(engine.pair.cloud.running().is_empty(), "nothing boots yet");
    jobs[0].let_boot();
    jobs[0].done().await?;
    assert_eq!(engine.pair.cloud.running().len(), 1);
    assert!(matches!(next.vault.item(&id)?.state()?.phase, Phase::FailoverCompleted(_)));
    Ok(())
}

#[tokio::test]
async fn o3_a_job_that_another_engine_went_on_with_holds_up_no_other() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    engine.pair.here.add_machine("db", &[("boot", DISK)]);
    let db = engine.protect("db").await?;
    let lets_boot = db.failover(held()).await?;
    until_it_holds(&lets_boot).await;
    until_it_holds(&web.failover(held()).await?).await;
    let next = MemoryEngine::over(engine.pair.clone(), engine.journal.reopen()?).await?;
    lets_boot.let_boot();
    lets_boot.done().await?;

    let mut resumed = next.vault.resume().await;
    let (unit, late) = resumed.pop_first().expect("told");
    assert_eq!(unit.as_str(), db.id().as_str(), "it comes first");
    assert_eq!(late.expect_err("the first one went on with it").kind(), ErrorKind::StaleEpoch);
    let (unit, job) = resumed.pop_first().expect("told");
    assert_eq!(unit.as_str(), web.id().as_str());
    let job = job?;
    until_it_holds(&job).await;
    job.let_boot();
    job.done().await?;
    assert_eq!((engine.pair.cloud.running().len(), resumed.len()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn o5_a_held_drill_replicates_and_gives_way_to_a_failover() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let drill = web.test_failover(held_drill()).await?;
    until_it_holds(&drill).await;
    engine.pair.here.scribble("web", 1);
    let points = web.points().await?.len();
    engine.vault.replicate_now(web.id()).await?;
    assert_eq!(web.points().await?.len(), points + 1, "a point was sealed meanwhile");
    assert!(engine.pair.cloud.isolated("lab").is_empty(), "no drill boots yet");
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    assert!(matches!(drill.wait().await?.outcome, Outcome::Unwound { .. }));
    assert_eq!(engine.pair.cloud.running().len(), 1);
    assert!(engine.pair.cloud.isolated("lab").is_empty(), "no drill is left");
    Ok(())
}

#[tokio::test]
async fn a_drill_that_may_boot_before_it_is_prepared_does_not_wait() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let job = web.test_failover(held_drill()).await?;
    job.let_boot();
    job.done().await?;
    assert_eq!(engine.pair.cloud.isolated("lab").len(), 1);
    Ok(())
}

/// Hours that somebody let it wait say nothing of the next one.
#[tokio::test]
async fn what_was_held_is_no_downtime_of_the_next_one() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let job = web.failover(held()).await?;
    until_it_holds(&job).await;
    engine.pair.world.clock().advance(Duration::from_secs(7200));
    job.let_boot();
    job.done().await?;
    web.undo(UndoRequest::default()).await?.done().await?;
    let plan = async |request| web.plan(Operation::PlannedFailover, &Request::Failover(request)).await;
    let next = plan(FailoverRequest::planned(OUT)).await?;
    let downtime = next.downtime.expect("one has been measured");
    assert!(downtime.expected < Duration::from_secs(3600), "{downtime:?}");
    assert!(!next.steps.contains(&Step::HoldBoot));
    assert!(plan(held()).await?.steps.contains(&Step::HoldBoot));
    Ok(())
}
