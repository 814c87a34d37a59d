//! Promises of the engine that no other test carries, one test each, by the world's state.

use async_trait::async_trait;
use site_recovery::state::{Direction, Divergence, Phase, Resync};
use site_recovery::{
    Booted, CommitRequest, Cutover, Deadlines, DisableRequest, DrillRequest, Epoch, ErrorKind,
    FailoverRequest, Force, ItemHandle, OnUnfenced, Op, PointChoice, Policy, ProtectRequest, Recovery,
    Replica, ReprotectRequest, Result, Retention, Role, Settings, Shutdown, UndoRequest, Validation, Verdict,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::world::World;
use std::sync::Arc;
use std::time::Duration;

const OUT: Direction = Direction::PrimaryToRecovery;
const BACK: Direction = Direction::RecoveryToPrimary;

fn fire() -> Force {
    Force::by("ana", "the site is on fire")
}

fn name(item: &ItemHandle) -> String {
    item.item().expect("protected").active().name.clone()
}

/// Lets the others go on until it is so; not for ever.
async fn until(so: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to that");
}

async fn failed_over(engine: &MemoryEngine, web: &ItemHandle) -> Result<String> {
    let _ = engine;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    Ok(name(web))
}

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

/// An engine whose authority is gone changes nothing, anywhere.
#[tokio::test]
async fn o3_a_stale_engine_changes_nothing() -> Result<()> {
    let (old, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud) = (old.pair.here.clone(), old.pair.cloud.clone());
    // Another engine on the same journal goes on, while the old one sleeps.
    let new = MemoryEngine::over(old.pair.clone(), old.journal.reopen()?).await?;
    let again = new.vault.item(web.id())?;
    again.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let (bytes, running) = (cloud.bytes(&name(&again)), cloud.running());
    let (entries, points) = (old.journal.snapshot(), old.pair.store.points(web.id()).await?.len());
    assert!(old.vault.replicate_now(web.id()).await.is_err());
    let late = web.failover(FailoverRequest::unplanned(OUT, fire())).await;
    let error = match late {
        Ok(job) => job.wait().await.expect_err("the journal refuses"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error}");
    assert_eq!((cloud.bytes(&name(&again)), cloud.running(), here.running()), (bytes, running, vec![]));
    assert_eq!(old.pair.store.points(web.id()).await?.len(), points);
    let _ = entries;
    // Nor does one whose journal was restored from an old copy.
    let stale = Op { key: "late".into(), epoch: Epoch { number: 1, owner: old.vault.engine_id().clone() } };
    assert_eq!(
        old.pair.store.claim(&stale, web.id()).await.expect_err("stale").kind(),
        ErrorKind::StaleEpoch
    );
    Ok(())
}

/// A group fails over to one cut, and not before all its members are ready; one that cannot boot holds up nobody for ever.
#[tokio::test]
async fn o4_a_group_goes_together_or_not_at_all() -> Result<()> {
    let engine = MemoryEngine::new(3).await?;
    let (here, cloud) = (engine.pair.here.clone(), engine.pair.cloud.clone());
    for machine in ["web", "db"] {
        here.add_machine(machine, &[("boot", DISK)]);
    }
    let group = engine.vault.protect_group(ProtectRequest::group("shop", &["web", "db"])).await?;
    for item in group.items() {
        item.until_done().await?;
    }
    here.scribble("web", 2);
    here.scribble("db", 2);
    engine.vault.replicate_now(group.items()[0].id()).await?;
    let points: Vec<_> = {
        let mut all = vec![];
        for item in group.items() {
            all.push(item.points().await?);
        }
        all
    };
    assert_eq!(points[0][1].cut, points[1][1].cut, "one instant");
    assert!(
        group
            .failover(FailoverRequest::unplanned(OUT, fire()).to(PointChoice::Custom(points[0][0].id)))
            .await
            .is_err()
    );
    cloud.refuse_boot("quota");
    let error = group.failover(FailoverRequest::planned(OUT)).await?.done().await.expect_err("quota");
    assert!(error.to_string().contains("quota"), "{error}");
    assert_eq!((here.running().len(), cloud.running().len()), (2, 0), "all or none");
    cloud.allow_boot();
    let truth = (here.bytes("web"), here.bytes("db"));
    group.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let names: Vec<String> = group.items().iter().map(name).collect();
    assert_eq!((cloud.bytes(&names[0]), cloud.bytes(&names[1])), truth);
    group.commit(CommitRequest::default()).await?.done().await?;
    group.reprotect(ReprotectRequest::default()).await?.done().await?;
    let truth = (cloud.bytes(&names[0]), cloud.bytes(&names[1]));
    group.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!((here.bytes("web"), here.bytes("db")), truth);
    Ok(())
}

/// A drill is in its own network, and nothing of it is left: after clean-up, after expiry, after a commit.
#[tokio::test]
async fn o5_a_drill_changes_nothing_outside_and_goes() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, clock) = (&engine.pair.here, &engine.pair.cloud, engine.pair.world.clock());
    let before = (here.bytes("web"), here.running(), web.points().await?.len());
    let request = DrillRequest { network: Some("lab".into()), ..DrillRequest::default() };
    web.test_failover(request.clone()).await?.done().await?;
    assert_eq!((cloud.running().len(), cloud.isolated("lab").len()), (0, 1));
    let drill = cloud.all()[0].clone();
    assert!(drill.ends_with("-test"), "{drill}");
    cloud.scribble(&drill, 3);
    assert_eq!((here.bytes("web"), here.running(), web.points().await?.len()), before);
    assert!(web.test_failover(request.clone()).await.is_err(), "one at a time");
    engine.vault.replicate_now(web.id()).await?;
    clock.advance(Duration::from_secs(90_000));
    engine.vault.watch_now().await?;
    assert!(cloud.all().is_empty(), "it expired");
    engine.vault.replicate_now(web.id()).await?;
    web.test_failover(request).await?.done().await?;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    assert_eq!(cloud.all().len(), 1, "a drill never blocks a failover, and a commit cleans it up");
    Ok(())
}

/// Whatever fails, nothing that we made is left without an owner.
#[tokio::test]
async fn o6_nothing_is_left_behind() -> Result<()> {
    for fault in
        ["here.capture", "store.seal", "cloud.materialise", "cloud.boot", "store.pin", "here.release"]
    {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let plan = FaultPlan::new();
        plan.always(fault, Fault::Before(ErrorKind::Refused));
        let (clock, mut out) = (engine.pair.world.clock(), engine.pair.forward.clone());
        out.source = Arc::new(Faulty::new(out.source, &plan, clock.clone()));
        out.replica = Arc::new(Faulty::new(out.replica, &plan, clock.clone()));
        out.recovery_site = Arc::new(Faulty::new(out.recovery_site, &plan, clock));
        let vault =
            MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
        let item = vault.item(web.id())?;
        let _ = vault.replicate_now(item.id()).await;
        let _ = item.test_failover(DrillRequest::default()).await?.wait().await?;
        if item.state()?.drill != site_recovery::state::DrillState::None {
            item.clean_up_test().await?.wait().await?;
        }
        let ended = item.failover(FailoverRequest::planned(OUT)).await?.wait().await?;
        plan.stop();
        vault.watch_now().await?;
        // A new engine sweeps what a capture left.
        let fresh = MemoryEngine::over(engine.pair.clone(), engine.journal.reopen()?).await?;
        fresh.vault.watch_now().await?;
        let kept: Vec<String> = item.item()?.kept.iter().map(|k| k.name.clone()).collect();
        let cloud: Vec<String> = engine.pair.cloud.all().into_iter().filter(|n| !kept.contains(n)).collect();
        let expected = usize::from(ended.done().is_ok());
        assert_eq!(cloud.len(), expected, "{fault}: {cloud:?} in {}", item.state()?);
        assert!(engine.pair.here.captures().is_empty(), "{fault}: {:?}", engine.pair.here.captures());
    }
    Ok(())
}

/// "Ready" comes from evidence, and evidence grows old.
#[tokio::test]
async fn o7_readiness_expires() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let clock = engine.pair.world.clock();
    let ready = web.check_readiness().await?;
    assert!(ready.is_ready(site_recovery::Clock::now(&clock)), "{ready:?}");
    clock.advance(Duration::from_secs(13 * 3_600));
    assert!(!ready.is_ready(site_recovery::Clock::now(&clock)));
    assert!(
        web.summary()?.health.findings.iter().any(|f| f.code == "readiness"),
        "{:?}",
        web.summary()?.health
    );
    engine.vault.watch_now().await?;
    assert!(
        !web.summary()?.health.findings.iter().any(|f| f.code == "readiness"),
        "it is checked again by itself"
    );
    Ok(())
}

/// Journal and protected site are gone: the recovery side alone gives everything back.
#[tokio::test]
async fn o8_control_state_is_rebuilt_from_the_replica_alone() -> Result<()> {
    // In every phase that an operator can meet.
    for stop in ["protected", "completed", "committed", "reprotected"] {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        let (here, cloud) = (engine.pair.here.clone(), engine.pair.cloud.clone());
        here.scribble("web", 2);
        engine.vault.replicate_now(web.id()).await?;
        if stop != "protected" {
            failed_over(&engine, &web).await?;
        }
        if matches!(stop, "committed" | "reprotected") {
            web.commit(CommitRequest::default()).await?.done().await?;
        }
        if stop == "reprotected" {
            web.reprotect(ReprotectRequest::default()).await?.done().await?;
        }
        let was = web.item()?;
        let anew = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
        let leg = if stop == "reprotected" { "back" } else { "out" };
        if stop == "protected" {
            here.set_down(true);
        }
        let adopted = anew.vault.adopt(leg).await?;
        assert_eq!(adopted.machines, [web.id().clone()], "{stop}");
        let item = anew.vault.item(web.id())?;
        let now = item.item()?;
        assert_eq!((now.state.phase, now.state.direction), (was.state.phase, was.state.direction), "{stop}");
        assert_eq!(
            (&now.lineage, &now.instances, &now.policy),
            (&was.lineage, &was.instances, &was.policy),
            "{stop}"
        );
        assert!(now.epoch.number > was.epoch.number, "{stop}");
        // And it goes on from there.
        match stop {
            "protected" => {
                item.failover(FailoverRequest::unplanned(OUT, fire())).await?.done().await?;
                assert_eq!(cloud.running().len(), 1);
            }
            "completed" => drop(item.commit(CommitRequest::default()).await?.done().await?),
            "committed" => drop(item.reprotect(ReprotectRequest::default()).await?.done().await?),
            _ => drop(item.failover(FailoverRequest::planned(BACK)).await?.done().await?),
        }
        assert!(engine.vault.replicate_now(web.id()).await.is_err(), "{stop}: the old engine is fenced out");
    }
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
    let alone = group.leave(&members[1]).await?;
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

/// A first copy can be cancelled; what has landed stays landed, and it goes on from there.
#[tokio::test]
async fn o2_a_cancelled_first_copy_goes_on_where_it_was() -> Result<()> {
    let engine = MemoryEngine::new(9).await?;
    engine.pair.here.add_machine("web", &[("boot", DISK)]);
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.nth("store.write", 5, Fault::Late(Duration::from_secs(60)));
    let mut out = engine.pair.forward.clone();
    out.replica = Arc::new(Faulty::new(out.replica, &plan, clock));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    let web = vault.protect(ProtectRequest::machine("web")).await?;
    let job = web.job().expect("under way");
    until(|| plan.faulted() > 0).await;
    web.cancel().await?;
    assert!(job.wait().await?.done().is_err());
    assert_eq!(job.state(), site_recovery::JobState::Cancelled);
    assert_eq!(web.state()?.phase, Phase::InitialReplicationFailed);
    let before = plan.calls().iter().filter(|c| *c == "store.write").count();
    assert!(before > 5);
    let report = web.repair().await?.done().await?;
    assert_eq!(web.state()?.phase, Phase::Protected);
    assert!(
        report.only()?.shipped < DISK / 2,
        "what had landed was not sent again: {}",
        report.only()?.shipped
    );
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
    web.promote_other(fire()).await?.done().await?;
    assert_eq!(cloud.running(), std::slice::from_ref(&there));
    assert!(web.item()?.owed.is_empty(), "{:?}", web.item()?.owed);
    for _ in 0..3 {
        engine.vault.watch_now().await?;
    }
    assert_eq!((cloud.running(), cloud.bytes(&there)), (vec![there], bytes));
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

/// A cycle that hangs, or a resync, never holds up a failover.
#[tokio::test]
async fn o8_a_hanging_cycle_gives_way_to_a_failover() -> Result<()> {
    let (engine, _) = MemoryEngine::protecting("web").await?;
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.next("process-server.ship", Fault::Late(Duration::from_secs(1_000_000)));
    let mut out = engine.pair.forward.clone();
    out.process_server = Arc::new(Faulty::new(out.process_server, &plan, clock));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    let web = vault.find("web")?;
    let failover = async {
        until(|| plan.faulted() > 0).await;
        web.failover(FailoverRequest::planned(OUT)).await?.done().await
    };
    let (cycle, failed_over) = tokio::join!(vault.replicate_now(web.id()), failover);
    assert_eq!(cycle.expect_err("it gave way").kind(), ErrorKind::Cancelled);
    failed_over?;
    assert_eq!(engine.pair.cloud.running().len(), 1);
    assert!(engine.pair.here.captures().is_empty() || vault.watch_now().await.is_ok());
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
