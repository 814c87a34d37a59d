//! The way back: what it waits for, what it refuses, and what it never overwrites or removes.

use super::*;
use site_recovery::state::{Divergence, Phase, Resync};
use site_recovery::{
    CommitRequest, Consistency, Deadlines, ErrorKind, Event, FailoverRequest, LOSING_SIDE, ReprotectRequest,
    Result, Settings,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::journal::MemoryJournal;
use std::sync::Arc;
use std::time::Duration;

async fn committed() -> Result<(MemoryEngine, ItemHandle, String)> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let there = failed_over(&engine, &web).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    Ok((engine, web, there))
}

async fn failed_back() -> Result<(MemoryEngine, ItemHandle, String)> {
    let (engine, web, there) = committed().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    Ok((engine, web, there))
}

/// What is missing is told and waited for, within a bound; then nothing was changed.
#[tokio::test]
async fn a_reprotect_waits_for_what_is_missing_within_a_bound() -> Result<()> {
    let (engine, web, there) = committed().await?;
    let (plan, clock) = (FaultPlan::new(), engine.pair.world.clock());
    plan.always("process-server.knows", Fault::Before(ErrorKind::Unavailable));
    let mut back = engine.pair.reverse.clone();
    back.process_server = Arc::new(Faulty::new(back.process_server, &plan, clock.clone()));
    let minute = Duration::from_secs(60);
    let limits = Deadlines { retry_after: minute, prerequisites: 3 * minute, ..Deadlines::default() };
    let journal = Arc::new(engine.journal.clone());
    let vault = MemoryEngine::builder(&engine.pair, journal).back(back).deadlines(limits).build().await?;
    let web = vault.item(web.id())?;
    let stood = engine.pair.here.bytes("web");
    let job = web.reprotect(ReprotectRequest::default()).await?;
    while job.state() == site_recovery::JobState::InProgress {
        until(|| clock.sleepers() > 0 || job.state() != site_recovery::JobState::InProgress).await;
        clock.advance(minute);
    }
    let error = job.wait().await?.done().expect_err("it never came");
    assert!(error.to_string().contains("still waits for: process-server"), "{error}");
    assert_eq!((web.state()?.phase, engine.pair.here.bytes("web")), (Phase::ReprotectFailed, stood));

    let job = web.reprotect(ReprotectRequest::default()).await?;
    until(|| clock.sleepers() > 0).await;
    plan.stop();
    clock.advance(minute);
    job.done().await?;
    let mut told = vault.events_from(0);
    let waits = std::iter::from_fn(|| told.try_next()).any(|d| format!("{d:?}").contains("waits for"));
    assert!(waits, "progress says what it waits for");
    assert_eq!(engine.pair.cloud.running(), [there]);
    Ok(())
}

/// Settings that the site refuses are refused before the job begins, naming the field.
#[tokio::test]
async fn a_reprotect_with_bad_settings_begins_nothing() -> Result<()> {
    let (_engine, web, _) = committed().await?;
    let settings = Settings { name: Some("a/b".into()), ..Settings::default() };
    let request = ReprotectRequest { settings: Some(settings), ..ReprotectRequest::default() };
    let error = web.reprotect(request).await.expect_err("a bad name");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!((web.state()?.phase, web.run().is_none()), (Phase::CommitFailoverCompleted, true));
    Ok(())
}

/// Snapshots on the machine to land on refuse the reprotect; on request they are merged first.
#[tokio::test]
async fn snapshots_refuse_a_reprotect_or_are_merged_on_request() -> Result<()> {
    let (engine, web, there) = committed().await?;
    let here = &engine.pair.here;
    here.snapshot_outside("web");
    let stood = here.bytes("web");
    let error = web.reprotect(ReprotectRequest::default()).await?.wait().await?.done();
    assert!(error.expect_err("it has a snapshot").to_string().contains("1 snapshots"));
    assert_eq!((here.snapshots("web"), here.bytes("web")), (1, stood));
    let request = ReprotectRequest { consolidate: true, ..ReprotectRequest::default() };
    let report = web.reprotect(request).await?.done().await?;
    assert!(report.only()?.notes.iter().any(|n| n.contains("merged")), "{report:?}");
    assert_eq!(here.snapshots("web"), 0);
    let truth = engine.pair.cloud.bytes(&there);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!(here.bytes("web"), truth);
    Ok(())
}

/// A cloud machine that was started and stopped past us after the failback holds writes nobody else has: it is kept.
#[tokio::test]
async fn s4_what_was_started_since_the_failback_is_not_removed() -> Result<()> {
    for when in ["before commit", "before reprotect"] {
        let (engine, web, there) = committed().await?;
        let cloud = &engine.pair.cloud;
        cloud.tells(true); // as on Azure: a start cannot be blocked, but it tells
        web.reprotect(ReprotectRequest::default()).await?.done().await?;
        web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
        let sneak = || {
            cloud.start_outside(&there);
            cloud.scribble(&there, 2);
            cloud.stop_outside(&there);
        };
        if when == "before commit" {
            sneak();
        }
        web.commit(CommitRequest::default()).await?.done().await?;
        if when == "before reprotect" {
            sneak();
        } else {
            assert_eq!(web.state()?.divergence, Divergence::Possible, "seen at commit");
        }
        let wrote = cloud.bytes(&there);
        let loser = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
        web.reprotect(loser).await?.done().await?;
        for _ in 0..3 {
            engine.vault.watch_now().await?;
        }
        assert_eq!(cloud.bytes(&there), wrote, "{when}");
        assert!(cloud.running().is_empty(), "{when}: kept, and off");
    }
    // Where nobody started it, it goes.
    let (engine, web, there) = failed_back().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    assert!(!engine.pair.cloud.all().contains(&there));
    Ok(())
}

/// What somebody wrote on the disks that are landed on is the losing side of the resync that overwrites it, and stays
/// until an operator lets go of it.
#[tokio::test]
async fn s4_a_resync_in_place_keeps_what_it_overwrites() -> Result<()> {
    let (engine, web, there) = committed().await?;
    let here = &engine.pair.here;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    here.break_in("web");
    here.scribble("web", 3);
    let wrote = here.bytes("web");
    for _ in 0..4 {
        engine.vault.watch_now().await?;
        if let Some(job) = web.job() {
            job.done().await?;
        }
    }
    assert_eq!(web.state()?.resync, Resync::None);
    let losing = |points: &[site_recovery::Point]| {
        points.iter().find(|p| p.pins.iter().any(|pin| pin == LOSING_SIDE)).map(|p| p.id)
    };
    let loser = losing(&web.points().await?).expect("pinned");
    // Another resync, for another reason, does not let go of it.
    web.repair().await?.done().await?;
    assert_eq!(losing(&web.points().await?), Some(loser));
    let replica = &engine.pair.reverse.replica;
    let disks = replica.open(web.id(), loser).await?;
    let mut found = vec![];
    for disk in disks.values() {
        let pool = site_recovery::Pool::new(DISK as usize);
        found.push(disk.read(site_recovery::Run::new(0, disk.size()), &pool).await?.to_vec());
    }
    let wrote: Vec<Vec<u8>> = wrote.into_values().map(|bytes| bytes.to_vec()).collect();
    assert!(found.len() == wrote.len() && found.iter().all(|f| wrote.contains(f)), "its bytes are openable");
    web.unpin(loser, LOSING_SIDE).await?;
    let truth = engine.pair.cloud.bytes(&there);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!(here.bytes("web"), truth);
    Ok(())
}

/// A machine that changes is described anew, with its next check; what is not replicated is told.
#[tokio::test]
async fn d9_a_machine_that_changes_is_described_anew() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let here = &engine.pair.here;
    here.grow("web", "data", 2 * DISK);
    here.add_disk("web", "logs", DISK);
    web.check_readiness().await?;
    let item = web.item()?;
    let grown = item.machine.disks.iter().filter(|d| d.size == 2 * DISK).count();
    let added = item.machine.disks.iter().filter(|d| !d.included).count();
    assert_eq!((item.machine.disks.len(), grown, added), (3, 1, 1), "{:?}", item.machine.disks);
    let described = |r: &site_recovery::audit::AuditRecord| matches!(r.event, Event::Described(_));
    assert_eq!(engine.vault.audit(web.unit()).await?.iter().filter(|r| described(r)).count(), 1);
    web.check_readiness().await?;
    assert_eq!(engine.vault.audit(web.unit()).await?.iter().filter(|r| described(r)).count(), 1, "once");
    let mut told = engine.vault.events_from(0);
    let alert = std::iter::from_fn(|| told.try_next()).any(|d| format!("{d:?}").contains("disk-added"));
    assert!(alert, "an operator is told of the disk that is not replicated");
    // The grown disk goes over whole, in the next cycle or the compare that it asks for.
    here.write("web", "data", 2 * DISK - 4096, &[7; 4096]);
    for _ in 0..3 {
        let _ = engine.vault.replicate_now(web.id()).await;
        engine.vault.watch_now().await?;
        if let Some(job) = web.job() {
            job.done().await?;
        }
    }
    let newest = web.points().await?.pop().expect("a point");
    assert_eq!(newest.consistency, Consistency::Crash);
    let truth = here.bytes("web");
    let there = failed_over(&engine, &web).await?;
    let recovered = engine.pair.cloud.bytes(&there);
    assert!(recovered.iter().all(|(disk, bytes)| truth.get(disk) == Some(bytes)), "disks of the point");
    assert!(recovered.values().any(|b| b.len() as u64 == 2 * DISK), "the grown disk is whole");
    Ok(())
}

/// What people call a machine is known all round the circle, past a site that knows no titles and to whoever adopts it.
#[tokio::test]
async fn d9_what_people_call_a_machine_stays_known() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud) = (&engine.pair.here, &engine.pair.cloud);
    let id = web.id().clone();
    here.entitle("web", Some("웹/서버"));
    web.check_readiness().await?;
    let machine = web.item()?.machine;
    assert_eq!((machine.called(), machine.instance.name.as_str(), machine.id()), ("웹/서버", "web", &id));
    engine.vault.replicate_now(web.id()).await?;
    let newest = web.points().await?.pop().expect("a point").id;
    let manifest = engine.pair.forward.replica.manifest(&id, newest).await?;
    assert_eq!((manifest.machine.called(), manifest.control.item.machine.called()), ("웹/서버", "웹/서버"));
    let there = failed_over(&engine, &web).await?;
    Settings { name: Some(there.clone()), ..Settings::default() }.validate()?;
    cloud.entitle(&there, None);
    web.check_readiness().await?;
    assert_eq!(web.item()?.machine.called(), "웹/서버");
    let anew = MemoryEngine::over(engine.pair.clone(), MemoryJournal::new()).await?;
    anew.vault.adopt("out").await?;
    assert_eq!(anew.vault.item(&id)?.item()?.machine.called(), "웹/서버");
    Ok(())
}
