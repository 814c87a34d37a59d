//! What is refused, cancelled, bounded, driven.

use super::*;
use async_trait::async_trait;
use site_recovery::state::{Divergence, Phase};
use site_recovery::{
    Booted, CommitRequest, Cutover, Deadlines, DisableRequest, DrillRequest, ErrorKind, FailoverRequest,
    Force, OnUnfenced, PointChoice, Policy, Power, ProtectRequest, Recovery, ReprotectRequest, Result,
    Retention, Settings, Shutdown, Source, UndoRequest, Validation, Verdict,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::world::World;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_cancelled_failover_goes_on_replicating() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.next("cloud.materialise", Fault::Late(Duration::from_secs(60)));
    let mut out = engine.pair.forward.clone();
    out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, clock.clone()));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    let web = vault.item(web.id())?;
    let job = web.failover(FailoverRequest::planned(OUT)).await?;
    until(|| plan.faulted() > 0).await;
    assert!(engine.pair.here.running().is_empty(), "the source is fenced by then");
    assert!(web.cancel().await?.is_none(), "the job itself turns back");
    let report = job.wait().await?;
    assert!(matches!(report.outcome, site_recovery::Outcome::Unwound { .. }), "{report:?}");
    assert_eq!(web.state()?.phase, Phase::Protected);
    assert_eq!(engine.pair.here.running(), ["web"]);
    assert!(engine.pair.cloud.all().is_empty());
    let points = web.points().await?.len();
    engine.pair.here.scribble("web", 1);
    vault.replicate_now(web.id()).await?;
    assert_eq!(web.points().await?.len(), points + 1);
    Ok(())
}

/// A machine is named by what people call it, as long as that names one.
#[tokio::test]
async fn a_machine_is_protected_and_found_by_its_title() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    for (name, title) in [("id-1", "shop / db"), ("id-2", "twin"), ("id-3", "twin"), ("id-4", "web")] {
        engine.pair.here.add_machine(name, &[("boot", 64 * 1024)]);
        engine.pair.here.entitle(name, Some(title));
    }
    let shop = engine.vault.protect(ProtectRequest::machine("shop / db")).await?;
    shop.until_done().await?;
    assert_eq!(engine.vault.find("shop / db")?.id(), engine.vault.find("id-1")?.id());
    assert_eq!(shop.item()?.machine.instance.name, "id-1");
    let twins = engine.vault.protect(ProtectRequest::machine("twin")).await.expect_err("two are called so");
    assert_eq!(twins.kind(), ErrorKind::Conflict);
    assert!(twins.to_string().contains("id-2") && twins.to_string().contains("id-3"), "{twins}");
    for name in ["id-2", "id-3", "id-4"] {
        engine.vault.protect(ProtectRequest::machine(name)).await?.until_done().await?;
    }
    assert_eq!(engine.vault.find("twin").expect_err("both are").kind(), ErrorKind::Conflict);
    assert_eq!(engine.vault.find("web")?.id(), web.id(), "its name goes before what another one is called");
    assert_eq!(engine.vault.find("nobody").expect_err("none is").kind(), ErrorKind::NotFound);
    Ok(())
}

/// Bad input is refused before anything changes, naming field, value, rule and remedy.
#[tokio::test]
async fn bad_input_changes_nothing() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let before = (web.item()?, engine.pair.cloud.all());
    let named = |error: site_recovery::Error, field: &str| {
        assert_eq!(error.fact("field"), Some(field), "{error}");
        assert!(error.to_string().contains(';'), "a remedy: {error}");
    };
    named(web.failover(FailoverRequest::planned(BACK)).await.expect_err("direction"), "failover.direction");
    let older = FailoverRequest::planned(OUT).to(PointChoice::LatestProcessed);
    named(web.failover(older).await.expect_err("point"), "failover.point");
    let never = Cutover::Unplanned { shutdown: Shutdown::Skip, on_unfenced: OnUnfenced::Unwind };
    let never = FailoverRequest { cutover: never, ..FailoverRequest::planned(OUT) };
    named(web.failover(never).await.expect_err("a1"), "failover.shutdown");
    named(
        web.failover(FailoverRequest::unplanned(OUT, Force::by("", ""))).await.expect_err("force"),
        "force",
    );
    named(
        web.set_policy(Policy::default().keep(Retention::Grid { days: 16 })).await.expect_err("days"),
        "policy.retention.days",
    );
    let name = Settings { name: Some("we_b".into()), ..Settings::default() };
    named(web.set_settings(name).await.expect_err("name"), "settings.name");
    let again = engine.vault.protect(ProtectRequest::machine("web")).await.expect_err("protected already");
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
    let absent = engine.vault.protect(ProtectRequest::machine("mail")).await.expect_err("not there");
    assert!(absent.to_string().contains("it has web"), "{absent}");
    let gone = FailoverRequest::unplanned(OUT, fire()).to(PointChoice::Custom(site_recovery::PointId(99)));
    let report = web.failover(gone).await?.wait().await?;
    assert!(report.done().expect_err("no such point").to_string().contains("newest points"));
    assert_eq!(
        web.commit(CommitRequest::default()).await.expect_err("nothing to commit").kind(),
        ErrorKind::Refused
    );
    assert_eq!(engine.pair.here.running(), ["web"]);
    assert_eq!((&before.0.machine, before.1), (&web.item()?.machine, engine.pair.cloud.all()));
    Ok(())
}

/// What drives replication: due cycles, retention, a stop within a bound, and leaving.
#[tokio::test]
async fn the_vault_runs_until_it_is_told_to_stop() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let clock = engine.pair.world.clock();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut events = engine.vault.events();
    let work = async {
        for _ in 0..3 {
            engine.pair.here.scribble("web", 1);
            let sealed = web.points().await?.len();
            while web.points().await?.len() == sealed {
                clock.advance(Duration::from_secs(20));
                tokio::task::yield_now().await;
            }
        }
        drop(stop);
        Ok::<_, site_recovery::Error>(())
    };
    let (_, worked) = tokio::join!(engine.vault.run(async { drop(stopped.await) }), work);
    worked?;
    let mut sealed = 0;
    while let Some(site_recovery::Delivery::Notice(notice)) = events.try_next() {
        sealed += usize::from(matches!(notice.kind, site_recovery::NoticeKind::Sealed { .. }));
    }
    assert!(sealed >= 3, "{sealed} points were told");
    web.disable(DisableRequest::default()).await?.done().await?;
    assert_eq!(engine.pair.here.running(), ["web"], "machines stay as they run");
    assert!(engine.vault.items().is_empty());
    engine.protect("web").await?;
    Ok(())
}

#[tokio::test]
async fn deadlines_bound_an_unplanned_failover() -> Result<()> {
    let (engine, _) = MemoryEngine::protecting("web").await?;
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.always("here.fence", Fault::Late(Duration::from_secs(1_000_000)));
    let mut out = engine.pair.forward.clone();
    out.source = Arc::new(Faulty::new(out.source, &plan, clock.clone()));
    let limits =
        Deadlines { source: Duration::from_secs(10), retry_after: Duration::ZERO, ..Deadlines::default() };
    let vault = MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone()))
        .out(out)
        .deadlines(limits)
        .build()
        .await?;
    let web = vault.find("web")?;
    let began = site_recovery::Clock::now(&clock);
    let job = web.failover(FailoverRequest::unplanned(OUT, fire())).await?;
    while job.state() == site_recovery::JobState::InProgress {
        clock.advance(Duration::from_secs(1));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let spent = site_recovery::Clock::now(&clock).since(began);
        assert!(spent < Duration::from_secs(3_000), "a source that hangs holds it up for ever");
    }
    job.done().await?;
    assert_eq!(engine.pair.cloud.running().len(), 1);
    assert_eq!(web.state()?.divergence, Divergence::Possible);
    let _ = World::new(0);
    Ok(())
}

/// A caller that is gone leaves nothing in doubt: what was begun goes on, what is journalled is known, and nobody waits for
/// the turn in its name.
#[tokio::test]
async fn a_caller_that_is_dropped_leaves_nothing_in_doubt() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    for polls in 0..40 {
        let mut begin = Box::pin(web.failover(FailoverRequest::planned(OUT)));
        for _ in 0..polls {
            if futures_util::poll!(begin.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(begin);
        until(|| web.run().is_none() && web.job().is_none()).await;
        // Whatever became of it, this engine still knows what is written, and cycles do not give way to nobody.
        if web.state()?.phase == Phase::Protected {
            engine.pair.here.scribble("web", 1);
            engine.vault.replicate_now(web.id()).await?;
        } else {
            web.undo(UndoRequest::default()).await?.done().await?;
        }
    }
    Ok(())
}

/// A watch that is due at the same moment as a cycle is not left out.
#[tokio::test]
async fn a_watch_comes_also_where_a_cycle_is_due() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (cloud, clock) = (&engine.pair.cloud, engine.pair.world.clock());
    web.test_failover(DrillRequest::default()).await?.done().await?;
    clock.advance(Duration::from_secs(90_000)); // the drill has expired, and a cycle is due
    let before = web.points().await?.iter().map(|p| p.id).max();
    assert_eq!(engine.vault.tick(site_recovery::Clock::now(&clock), true), 1);
    until(|| cloud.all().is_empty()).await;
    // The cycle holds the turn of the unit: another one stands behind it.
    engine.vault.replicate_now(web.id()).await?;
    let points = web.points().await?;
    let newer = points.iter().filter(|p| Some(p.id) > before).count();
    assert_eq!(newer, 2, "the cycle that was due, and the one asked for: {points:?}");
    Ok(())
}

#[derive(Debug)]
struct Panics;

#[async_trait]
impl Validation for Panics {
    async fn validate(&self, _recovery: &Recovery, _booted: &Booted) -> Result<Verdict> {
        panic!("this validation is broken")
    }
}

/// A panic in what an embedder plugged in is an error for who waits, and the next engine goes on.
#[tokio::test]
async fn o1_a_panic_of_a_role_ends_the_job_and_is_resumed_anew() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let journal = Arc::new(engine.journal.clone());
    let vault = MemoryEngine::builder(&engine.pair, journal).validation(Arc::new(Panics)).build().await?;
    let job = vault.item(web.id())?.failover(FailoverRequest::planned(OUT)).await?;
    let error = job.wait().await.expect_err("it panicked");
    assert!(error.to_string().contains("this validation is broken"), "{error}");
    let health = vault.item(web.id())?.summary()?.health;
    assert!(health.findings.iter().any(|f| f.code == "undriven"), "{health:?}");
    let (anew, jobs) = engine.restarted().await?;
    for job in jobs {
        job.done().await?;
    }
    assert!(matches!(anew.vault.item(web.id())?.state()?.phase, Phase::FailoverCompleted(_)));
    assert_eq!((anew.pair.here.running().len(), anew.pair.cloud.running().len()), (0, 1));
    Ok(())
}

/// Where a machine that is off cannot be read, nothing is shut down for a last delta that would not come.
#[tokio::test]
async fn a_planned_failover_is_refused_where_captures_of_what_is_off_are_not_to_be_had() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let here = engine.pair.here.clone().without_captures_off();
    let error = web.failover(FailoverRequest::planned(OUT)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("unplanned"), "{error}");
    assert_eq!(here.power(&web.item()?.active().clone()).await?, Power::On, "nothing was shut down");
    web.failover(FailoverRequest::unplanned(OUT, fire())).await?.done().await?;
    // Nor is it captured while it is off, to find what it wrote last: the way back compares.
    web.commit(CommitRequest::default()).await?.done().await?;
    let losing = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    let report = web.reprotect(losing).await?.done().await?;
    let notes = &report.only()?.notes;
    assert!(notes.iter().any(|note| note.contains("cannot be read while it is off")), "{notes:?}");
    Ok(())
}
