//! What an operator is shown before the go, and what can be chosen when something is lost.

use super::*;
use site_recovery::state::{Divergence, Phase};
use site_recovery::{
    CommitRequest, CompleteCopy, Deadlines, DrillRequest, ErrorKind, FailoverRequest, Operation, PointChoice,
    PromoteRequest, ReprotectRequest, Request, Result, UndoRequest,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use std::sync::Arc;
use std::time::Duration;

/// A plan says what the operation then does, and changes nothing.
#[tokio::test]
async fn a_plan_of_any_operation_changes_nothing() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, clock) = (&engine.pair.here, &engine.pair.cloud, engine.pair.world.clock());
    let unplanned = Request::Failover(FailoverRequest::unplanned(OUT, fire()));
    let plan = web.plan(Operation::UnplannedFailover, &unplanned).await?;
    assert_eq!(plan.downtime, None, "nothing like it was ever measured");
    clock.advance(Duration::from_secs(60));
    web.test_failover(DrillRequest::default()).await?.done().await?;
    web.clean_up_test().await?.done().await?;

    let world = || (here.bytes("web"), here.running(), cloud.all(), web.item().ok());
    let before = world();
    let plan = web.plan(Operation::UnplannedFailover, &unplanned).await?;
    assert_eq!((plan.stops.as_slice(), plan.starts.len()), (&["web".to_owned()][..], 1));
    let newest = web.points().await?.last().map(|p| p.id);
    assert_eq!(plan.points.first().map(|p| p.1), newest);
    let at_most = web.loss_of(PointChoice::Latest).await?.at_most;
    assert!(at_most >= Duration::from_secs(60) && plan.loss[0].1.at_most == at_most, "{:?}", plan.loss);
    let drill = web.finished().pop().map(|cleanup| cleanup.id);
    assert!(plan.downtime.is_some_and(|d| Some(d.measured_in) != drill), "as the drill took");
    let planned = Request::Failover(FailoverRequest::planned(OUT));
    let plan = web.plan(Operation::PlannedFailover, &planned).await?;
    assert_eq!(plan.loss[0].1.at_most, Duration::ZERO);
    let refused = web.plan(Operation::Commit, &Request::Commit(CommitRequest::default())).await;
    assert_eq!(refused.expect_err("nothing to commit").kind(), ErrorKind::Refused);
    assert!(world() == before, "a plan changed something");

    let there = failed_over(&engine, &web).await?;
    let plan = web.plan(Operation::UndoFailover, &Request::Undo(UndoRequest::default())).await?;
    assert_eq!((plan.stops, plan.starts), (vec![there], vec!["web at here".into()]));
    web.undo(UndoRequest::default()).await?.done().await?;
    let kept = web.item()?.kept[0].name.clone();
    failed_over(&engine, &web).await?;
    let plan = web.plan(Operation::Commit, &Request::Commit(CommitRequest::default())).await?;
    assert_eq!(plan.removes, [kept]);
    Ok(())
}

/// A boot that is tried again and again ends when the operator says so, and then the failover can be undone.
#[tokio::test]
async fn s5_retries_end_when_the_operator_says_so() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.always("cloud.boot", Fault::Before(ErrorKind::Unavailable));
    let mut out = engine.pair.forward.clone();
    out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, clock.clone()));
    let patient = Deadlines { tries: u32::MAX, retry_after: Duration::from_secs(30), ..Deadlines::default() };
    let journal = Arc::new(engine.journal.clone());
    let vault = MemoryEngine::builder(&engine.pair, journal).out(out).deadlines(patient).build().await?;
    let web = vault.item(web.id())?;
    assert_eq!(web.stop_retrying().expect_err("nothing runs").kind(), ErrorKind::NotFound);
    let job = web.failover(FailoverRequest::unplanned(OUT, fire())).await?;
    for _ in 0..5 {
        let faulted = plan.faulted();
        until(|| plan.faulted() > faulted || clock.sleepers() > 0).await;
        clock.advance(Duration::from_secs(31));
        until(|| plan.faulted() > faulted).await;
    }
    assert!(matches!(web.state()?.phase, Phase::FailoverCompleting(_)));
    assert_eq!(web.cancel().await.expect_err("past the pivot").kind(), ErrorKind::Refused);
    web.stop_retrying()?;
    assert!(matches!(bounded(job.wait()).await?.outcome, site_recovery::Outcome::NeedsOperator { .. }));
    web.undo(UndoRequest::default()).await?.done().await?;
    assert_eq!((engine.pair.here.running(), engine.pair.cloud.running()), (vec!["web".into()], vec![]));
    Ok(())
}

/// What is made final or set aside may have to be copied: it is asked again as often as it takes, and an error that
/// is none of that kind is not.
#[tokio::test]
async fn s5_what_is_busy_with_a_copy_is_waited_for() -> Result<()> {
    for (call, busy) in ["cloud.settle", "cloud.set_aside"].iter().flat_map(|c| [(c, true), (c, false)]) {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
        let mut out = engine.pair.forward.clone();
        out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, clock));
        let at_once = Deadlines { retry_after: Duration::ZERO, ..Deadlines::default() };
        let journal = Arc::new(engine.journal.clone());
        let vault = MemoryEngine::builder(&engine.pair, journal).out(out).deadlines(at_once).build().await?;
        let web = vault.item(web.id())?;
        let kind = if busy { ErrorKind::Busy } else { ErrorKind::Unavailable };
        let times = u64::from(at_once.tries) * 5;
        (0..times).for_each(|_| plan.next(call, Fault::Before(kind)));
        web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
        let job = match *call {
            "cloud.settle" => web.commit(CommitRequest::default()).await?,
            _ => web.undo(UndoRequest::default()).await?,
        };
        let outcome = bounded(job.wait()).await?.outcome;
        let gave_up = matches!(outcome, site_recovery::Outcome::NeedsOperator { .. });
        assert_eq!(gave_up, !busy, "{call} with {kind:?}: {outcome:?}");
        let asked = plan.calls().iter().filter(|c| *c == call).count() as u64;
        assert_eq!(asked > times, busy, "{call} with {kind:?}: asked {asked} times");
    }
    Ok(())
}

/// The active side is lost while it is reprotected: the reprotect gives way, and the copy that is named is started.
#[tokio::test]
async fn s5_the_last_resort_starts_the_copy_that_is_named() -> Result<()> {
    for copy in [CompleteCopy::Newest, CompleteCopy::Machine, CompleteCopy::Point(site_recovery::PointId(0))]
    {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
        let stood = here.bytes("web");
        let there = failed_over(&engine, &web).await?;
        web.commit(CommitRequest::default()).await?.done().await?;
        cloud.scribble(&there, 6);
        let plan = FaultPlan::new();
        let clock = engine.pair.world.clock();
        let mut back = engine.pair.reverse.clone();
        plan.always("process-server.ship", Fault::Late(Duration::from_secs(1_000_000)));
        back.process_server = Arc::new(Faulty::new(back.process_server, &plan, clock.clone()));
        let journal = Arc::new(engine.journal.clone());
        let vault = MemoryEngine::builder(&engine.pair, journal).back(back).build().await?;
        let web = vault.item(web.id())?;
        web.reprotect(ReprotectRequest::default()).await?;
        until(|| clock.sleepers() > 0 && plan.faulted() > 0).await;
        let runs = web.promote_other(PromoteRequest::newest(fire())).await;
        assert!(runs.is_err() && web.run().is_some(), "while the active side runs nothing gives way");
        cloud.set_down(true);
        let request = PromoteRequest { force: fire(), copy };
        let planned = web.plan(Operation::PromoteOther, &Request::Promote(request.clone())).await;
        let promoted = web.promote_other(request).await?.wait().await?.done();
        if copy == CompleteCopy::Machine {
            assert_eq!(planned.expect_err("the landing is unfinished").kind(), ErrorKind::NotFound);
            assert!(promoted.is_err() && here.running().is_empty());
            continue;
        }
        promoted?;
        assert!(planned?.loss[0].1.at_most > Duration::ZERO || copy != CompleteCopy::Machine);
        let runs = here.running();
        assert_eq!(runs.len(), 1, "{copy:?}");
        assert_eq!(here.bytes(&runs[0]), stood, "{copy:?}: as it was before the first byte of the way back");
        assert_eq!(web.state()?.divergence, Divergence::Possible);
    }
    Ok(())
}

/// To stay for good while the other side may hold writes, that side is named as the one that loses.
#[tokio::test]
async fn s4_a_migration_of_sides_that_may_differ_names_the_loser() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let here = &engine.pair.here;
    here.set_down(true);
    web.failover(FailoverRequest::unplanned(OUT, fire())).await?.done().await?;
    assert_eq!(web.state()?.divergence, Divergence::Possible);
    let error = web.complete_migration(CommitRequest::default()).await.expect_err("nobody is named");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    here.set_down(false);
    let bytes = here.bytes("web");
    let named = CommitRequest { other_side_loses: true, ..CommitRequest::default() };
    web.complete_migration(named).await?.done().await?;
    assert_eq!(web.state()?.phase, Phase::MigrationCompleted);
    engine.vault.watch_now().await?;
    assert!(here.running().is_empty() && here.bytes("web") == bytes, "fenced as it is");
    Ok(())
}

/// What an undo has set aside is there until somebody drops it by name.
#[tokio::test]
async fn what_is_kept_is_dropped_by_name() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let cloud = &engine.pair.cloud;
    failed_over(&engine, &web).await?;
    web.undo(UndoRequest::default()).await?.done().await?;
    let item = web.item()?;
    let kept = item.kept[0].clone();
    let error = web.drop_kept(item.active()).await.expect_err("it runs, and is not kept");
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains(&kept.name), "{error}");
    assert_eq!(cloud.all(), std::slice::from_ref(&kept.name));
    web.drop_kept(&kept).await?;
    assert!(cloud.all().is_empty() && web.item()?.kept.is_empty());
    assert!(web.item()?.must_not_run().next().is_none(), "nobody watches what is gone");
    assert_eq!(engine.pair.here.running(), ["web"]);
    Ok(())
}
