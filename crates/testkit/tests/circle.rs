//! The whole circle by one engine in memory, every byte compared.

use site_recovery::state::{Direction, Divergence, Phase};
use site_recovery::{
    CommitRequest, DrillRequest, FailoverRequest, Force, ItemHandle, PointChoice, PointId, Pool, Replica,
    ReprotectRequest, Result, Run, UndoRequest,
};
use site_recovery_testkit::engine::MemoryEngine;
use site_recovery_testkit::world::BLOCK;

const OUT: Direction = Direction::PrimaryToRecovery;
const BACK: Direction = Direction::RecoveryToPrimary;

fn fire() -> Force {
    Force::by("ana", "the site is on fire")
}

fn name(item: &ItemHandle) -> String {
    item.item().expect("protected").active().name.clone()
}

async fn content(engine: &MemoryEngine, item: &ItemHandle, point: PointId) -> Result<Vec<Vec<u8>>> {
    let (pool, mut all) = (Pool::new(1 << 22), vec![]);
    for disk in engine.pair.master_target.open(item.id(), point).await?.values() {
        all.push(disk.read(Run::new(0, disk.size()), &pool).await?.to_vec());
    }
    Ok(all)
}

#[tokio::test]
async fn the_full_circle() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, vault) = (&engine.pair.here, &engine.pair.cloud, &engine.vault);
    for _ in 0..3 {
        here.scribble("web", 3);
        vault.replicate_now(web.id()).await?;
    }
    assert_eq!(web.points().await?.len(), 4);

    // Drill: nothing on the source changes.
    web.test_failover(DrillRequest::default()).await?.done().await?;
    assert_eq!((here.running(), cloud.running()), (vec!["web".into()], vec![]));
    assert_eq!(cloud.all().len(), 1);
    web.clean_up_test().await?.done().await?;
    assert!(cloud.all().is_empty());

    // Planned failover: nothing is lost.
    here.scribble("web", 5);
    let truth = here.bytes("web");
    let report = web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    assert_eq!(report.only()?.loss.as_ref().map(|l| l.at_most.as_secs()), Some(0));
    let there = name(&web);
    assert_eq!(cloud.bytes(&there), truth);
    assert_eq!((here.running(), cloud.running()), (vec![], vec![there.clone()]));
    web.commit(CommitRequest::default()).await?.done().await?;

    // Reprotect by delta, and replicate back.
    cloud.write(&there, "data", 5 * BLOCK, &[7; BLOCK as usize]);
    let report = web.reprotect(ReprotectRequest::default()).await?.done().await?;
    assert!(report.only()?.changed <= 8 * BLOCK, "a delta, not {} bytes", report.only()?.changed);
    assert_eq!((web.state()?.phase, web.state()?.direction), (Phase::Protected, BACK));
    cloud.scribble(&there, 4);
    vault.replicate_now(web.id()).await?;

    // Failback, commit, reprotect.
    cloud.scribble(&there, 2);
    let truth = cloud.bytes(&there);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!(here.bytes("web"), truth);
    assert_eq!((here.running(), cloud.running()), (vec!["web".into()], vec![]));
    web.commit(CommitRequest::default()).await?.done().await?;
    assert_eq!(cloud.all().len(), 1, "a second copy exists until the next point out is sealed");
    here.scribble("web", 3);
    let report = web.reprotect(ReprotectRequest::default()).await?.done().await?;
    assert!(report.only()?.changed <= 16 * BLOCK, "a delta, not {} bytes", report.only()?.changed);
    assert!(cloud.all().is_empty(), "the cloud machine is gone: {:?}", cloud.all());
    assert_eq!((web.state()?.phase, web.state()?.direction), (Phase::Protected, OUT));

    // And once more, to be sure that the circle closes.
    here.scribble("web", 3);
    let truth = here.bytes("web");
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    assert_eq!(cloud.bytes(&name(&web)), truth);
    vault.audit(web.unit()).await?;
    Ok(())
}

#[tokio::test]
async fn an_unplanned_failover_changes_its_point_and_is_undone() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, vault) = (&engine.pair.here, &engine.pair.cloud, &engine.vault);
    let mut truth = vec![here.bytes("web")];
    for _ in 0..3 {
        here.scribble("web", 3);
        vault.replicate_now(web.id()).await?;
        truth.push(here.bytes("web"));
    }
    let points = web.points().await?;
    here.scribble("web", 1);
    let last = here.bytes("web");
    let request = FailoverRequest::unplanned(OUT, fire()).to(PointChoice::LatestProcessed);
    web.failover(request).await?.done().await?;
    let first = name(&web);
    assert_eq!(cloud.bytes(&first), truth[3]);
    assert_eq!(web.state()?.divergence, Divergence::OldSideAhead);
    cloud.scribble(&first, 2);
    let written = cloud.bytes(&first);

    web.change_point(PointChoice::Custom(points[1].id)).await?.done().await?;
    let second = name(&web);
    assert_ne!(first, second);
    assert_eq!(cloud.bytes(&second), truth[1]);
    assert_eq!(cloud.running(), vec![second.clone()]);

    // d6: what the earlier instance wrote is kept until commit.
    let kept = web.item()?.kept.clone();
    assert_eq!(cloud.bytes(&kept[0].name), written);
    web.undo(UndoRequest::default()).await?.done().await?;
    assert_eq!((here.running(), cloud.running()), (vec!["web".into()], vec![]));
    assert_eq!(here.bytes("web"), last);
    assert_eq!(web.state()?.phase, Phase::Protected);
    here.scribble("web", 1);
    vault.replicate_now(web.id()).await?;
    assert_eq!(web.points().await?.len(), 5, "replication goes on from where it was");
    Ok(())
}

#[tokio::test]
async fn a_failback_in_place_is_undone_and_nothing_newer_is_lost() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, vault) = (&engine.pair.here, &engine.pair.cloud, &engine.vault);
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    let there = name(&web);
    let mut truth = vec![cloud.bytes(&there)];
    for _ in 0..2 {
        cloud.scribble(&there, 3);
        vault.replicate_now(web.id()).await?;
        truth.push(cloud.bytes(&there));
    }
    let points: Vec<_> = web.points().await?.into_iter().filter(|p| p.id.0 > 0).collect();
    let request = FailoverRequest::unplanned(BACK, fire()).to(PointChoice::Custom(points[0].id));
    web.failover(request).await?.done().await?;
    assert_eq!(here.bytes("web"), truth[0]);
    here.scribble("web", 4);
    web.undo(UndoRequest::default()).await?.done().await?;
    assert_eq!((here.running(), cloud.running()), (vec![], vec![there.clone()]));
    cloud.scribble(&there, 1);
    vault.replicate_now(web.id()).await?;
    let last = cloud.bytes(&there);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!(here.bytes("web"), last);
    Ok(())
}

#[tokio::test]
async fn o8_s2_s4_a_dead_site_is_left_behind_by_name_and_then_compared() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, vault) = (&engine.pair.here, &engine.pair.cloud, &engine.vault);
    here.scribble("web", 3);
    vault.replicate_now(web.id()).await?;
    here.scribble("web", 2); // never shipped
    here.set_down(true);
    let report = web.failover(FailoverRequest::unplanned(OUT, fire())).await?.done().await?;
    assert!(report.only()?.loss.is_some());
    assert_eq!(web.state()?.divergence, Divergence::Possible);
    assert_eq!(cloud.running().len(), 1);
    assert!(web.undo(UndoRequest::default()).await.is_err(), "undo of a diverged item names the loser");
    here.set_down(false);
    assert_eq!(here.running(), ["web"], "it ran on, unknown to us");
    vault.watch_now().await?;
    assert!(here.running().is_empty(), "it is fenced as soon as it answers");
    web.commit(CommitRequest::default()).await?.done().await?;
    assert!(web.reprotect(ReprotectRequest::default()).await?.done().await.is_err(), "no loser named");
    let loser = here.bytes("web");
    let named = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    web.reprotect(named).await?.done().await?;
    let there = name(&web);
    assert_eq!(web.state()?.divergence, Divergence::None);
    // S4: what the loser held is a pinned point, byte for byte.
    let zero = web.points().await?.into_iter().find(|p| p.pins.iter().any(|pin| pin == "losing side"));
    let zero = zero.expect("the losing side is kept");
    assert_eq!(content(&engine, &web, zero.id).await?, loser.into_values().collect::<Vec<_>>());
    let truth = cloud.bytes(&there);
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    assert_eq!(here.bytes("web"), truth);
    Ok(())
}

#[tokio::test]
async fn d7_a_refused_boot_goes_back_by_itself() -> Result<()> {
    let (engine, web) = MemoryEngine::protecting("web").await?;
    let (here, cloud, vault) = (&engine.pair.here, &engine.pair.cloud, &engine.vault);
    cloud.refuse_boot("quota");
    let error = web.failover(FailoverRequest::planned(OUT)).await?.done().await.expect_err("refused");
    assert!(error.to_string().contains("quota"), "{error}");
    assert_eq!(web.state()?.phase, Phase::Protected);
    assert_eq!((here.running(), cloud.running()), (vec!["web".into()], vec![]));
    here.scribble("web", 1);
    vault.replicate_now(web.id()).await?;
    cloud.allow_boot();
    web.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    Ok(())
}
