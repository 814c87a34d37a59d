//! O: engines that come and go, groups, drills, leftovers, readiness, adoption.

use super::*;
use site_recovery::state::Phase;
use site_recovery::{
    CommitRequest, DrillRequest, Epoch, ErrorKind, FailoverRequest, Op, PointChoice, ProtectRequest, Replica,
    ReprotectRequest, Result, Role,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use std::sync::Arc;
use std::time::Duration;

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

/// A capture that was taken though its reply was lost goes of every member, in the life of the same engine; and what was let
/// go of is not swept for at every cycle.
#[tokio::test]
async fn o6_a_capture_that_was_lost_is_swept_of_every_member() -> Result<()> {
    let engine = MemoryEngine::new(7).await?;
    let here = &engine.pair.here;
    for machine in ["web", "db"] {
        here.add_machine(machine, &[("boot", DISK)]);
    }
    let group = engine.vault.protect_group(ProtectRequest::group("shop", &["web", "db"])).await?;
    for item in group.items() {
        item.until_done().await?;
    }
    let plan = FaultPlan::new();
    let mut out = engine.pair.forward.clone();
    out.source = Arc::new(Faulty::new(out.source, &plan, engine.pair.world.clock()));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    let group = vault.group("shop")?;
    let first = group.items()[0].id().clone();
    vault.replicate_now(&first).await?;
    let sweeps = || plan.calls().iter().filter(|call| *call == "here.sweep").count();
    let once = sweeps();
    vault.replicate_now(&first).await?;
    assert_eq!((once, sweeps()), (2, 2), "once in the life of the engine");
    plan.next("here.capture", Fault::Lost);
    assert!(vault.replicate_now(&first).await.is_err());
    assert_eq!(here.captures().len(), 1, "it was taken all the same");
    vault.watch_now().await?;
    assert!(here.captures().is_empty(), "left by a cycle: {:?}", here.captures());
    // The last delta of a failover is such a capture too.
    plan.always("here.capture", Fault::Lost);
    assert!(group.failover(FailoverRequest::planned(OUT)).await?.wait().await?.done().is_err());
    assert_eq!(here.captures().len(), 1, "it was taken all the same");
    vault.watch_now().await?;
    assert!(here.captures().is_empty(), "left by a failover: {:?}", here.captures());
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

/// What stands beside a machine and is of another one, of a unit without it, or under an epoch that nothing follows, does not
/// count: what was sealed does.
#[tokio::test]
async fn o8_a_record_that_cannot_be_of_its_machine_does_not_count() -> Result<()> {
    for wrong in ["another machine", "a unit without it", "the last epoch"] {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        engine.pair.here.add_machine("db", &[("boot", DISK)]);
        let db = engine.protect("db").await?;
        for item in [&web, &db] {
            engine.vault.replicate_now(item.id()).await?;
        }
        let store = &engine.pair.store;
        let newest = |points: Vec<site_recovery::Point>| points.last().map(|p| p.id).expect("a point");
        let of = if wrong == "another machine" { db.id() } else { web.id() };
        let mut control = store.manifest(of, newest(store.points(of).await?)).await?.control;
        control.item.epoch.number = 1000;
        match wrong {
            "a unit without it" => control.members = vec![db.id().clone()],
            "the last epoch" => control.item.epoch.number = u64::MAX,
            _ => {}
        }
        let written = site_recovery::Timestamp(0);
        let record = site_recovery::PhaseRecord { written, run: None, prepared: None, control };
        store.remember(&web.item()?.op("forged"), web.id(), &record).await?;

        let (was, before) = (web.item()?, web.points().await?);
        let anew = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
        let mut adopted = anew.vault.adopt("out").await?;
        adopted.machines.sort();
        assert_eq!(adopted.machines, [db.id().clone(), web.id().clone()], "{wrong}: {:?}", adopted.questions);
        let web = anew.vault.item(web.id())?;
        let now = web.item()?;
        assert_eq!((&now.machine, &now.lineage), (&was.machine, &was.lineage), "{wrong}");
        assert_eq!(now.epoch.number, was.epoch.number + 1, "{wrong}");
        anew.vault.replicate_now(web.id()).await?;
        assert_eq!(web.points().await?.len(), before.len() + 1, "{wrong}");
    }
    Ok(())
}

/// An engine that starts anew knows how old the newest point is before it seals another one.
#[tokio::test]
async fn the_age_of_the_newest_point_is_known_after_a_start_anew() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let sealed = web.summary()?.health.rpo;
    let (anew, _) = engine.restarted().await?;
    let clock = anew.pair.world.clock();
    clock.advance(Duration::from_secs(60));
    anew.vault.watch_now().await?;
    let rpo = anew.vault.item(web.id())?.summary()?.health.rpo;
    assert!(rpo >= sealed.map(|rpo| rpo + Duration::from_secs(60)) && rpo.is_some(), "{rpo:?}");
    Ok(())
}

/// The site that it was replicating back to is lost with the journal: the recovery side knows that the direction turned.
#[tokio::test]
async fn o8_the_recovery_side_knows_of_a_reprotect_also_alone() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    let plan = FaultPlan::new();
    for call in ["recall", "points", "claim"] {
        plan.always(&format!("master-target.{call}"), Fault::Before(ErrorKind::Unavailable));
    }
    let mut back = engine.pair.reverse.clone();
    back.replica = Arc::new(Faulty::new(back.replica, &plan, engine.pair.world.clock()));
    back.recovery_site = Arc::new(Faulty::new(back.recovery_site, &plan, engine.pair.world.clock()));
    let vault =
        MemoryEngine::builder(&engine.pair, Arc::new(MemoryJournal::new())).back(back).build().await?;
    let adopted = vault.adopt("out").await?;
    let codes: Vec<&str> = adopted.questions.iter().map(|q| q.code.as_str()).collect();
    assert_eq!((adopted.machines.len(), codes), (1, vec!["adopt.unheard", "adopt.silent"]));
    let state = vault.item(web.id())?.state()?;
    assert_eq!((state.phase, state.direction), (Phase::Protected, BACK));
    assert_eq!(engine.pair.cloud.running(), [there]);
    Ok(())
}

/// What a run had prepared when its engine and journal were lost is taken back by the engine that adopts.
#[tokio::test]
async fn o6_what_a_lost_run_had_prepared_is_taken_back() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.nth("here.fence", 2, Fault::Late(Duration::from_secs(1_000_000))); // the one before the intent
    let mut out = engine.pair.forward.clone();
    out.source = Arc::new(Faulty::new(out.source, &plan, clock.clone()));
    let lost = MemoryEngine::builder(&engine.pair, Arc::new(engine.journal.clone())).out(out).build().await?;
    lost.item(web.id())?.failover(FailoverRequest::planned(OUT)).await?;
    until(|| plan.faulted() > 0 && clock.sleepers() > 0).await;
    assert!(!cloud.all().is_empty() && cloud.running().is_empty());

    let anew = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
    anew.vault.adopt("out").await?;
    let web = anew.vault.item(web.id())?;
    assert!(matches!(web.state()?.phase, Phase::CancelFailoverFailed(_)), "{}", web.state()?);
    if let Some(job) = web.cancel().await? {
        job.done().await?;
    }
    anew.vault.watch_now().await?;
    assert!(cloud.all().is_empty() && web.item()?.owed.is_empty(), "{:?}", web.item()?.owed);
    assert!(web.points().await?.iter().all(|p| p.pins.is_empty()));
    assert_eq!((here.running(), web.state()?.phase), (vec!["web".into()], Phase::Protected));
    Ok(())
}

/// What the watch has found is known to an engine that adopts.
#[tokio::test]
async fn o8_a_divergence_that_was_seen_is_known_after_adoption() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let there = failed_over(&engine, &web).await?;
    engine.pair.here.break_in("web");
    engine.pair.here.scribble("web", 1);
    engine.vault.watch_now().await?;
    assert_eq!(web.state()?.divergence, site_recovery::state::Divergence::Possible);
    let anew = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
    anew.vault.adopt("out").await?;
    assert_eq!(anew.vault.item(web.id())?.state()?.divergence, site_recovery::state::Divergence::Possible);
    assert_eq!(engine.pair.cloud.running(), [there]);
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
