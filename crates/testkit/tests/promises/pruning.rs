//! Points that should go: what keeps them, and what that holds up.

use super::*;
use site_recovery::{
    CommitRequest, Deadlines, Delivery, ErrorKind, Finding, NoticeKind, Policy, ProtectRequest, Result,
    Retention, Vault,
};
use site_recovery_testkit::engine::{DISK, MemoryEngine};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use std::sync::Arc;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(300);
const CODE: &str = "points.not-dropped";

/// A vault on the engine's journal whose calls of the store go by the plan, and are waited for without end.
async fn planned(engine: &MemoryEngine, plan: &FaultPlan) -> Result<Vault> {
    let mut out = engine.pair.forward.clone();
    out.replica = Arc::new(Faulty::new(out.replica, plan, engine.pair.world.clock()));
    let limits = Deadlines { replica: Duration::from_secs(1_000_000_000), ..Deadlines::default() };
    let journal = Arc::new(engine.journal.clone());
    MemoryEngine::builder(&engine.pair, journal).out(out).deadlines(limits).build().await
}

fn newest_only() -> Policy {
    Policy::every(INTERVAL).keep(Retention::Grid { days: 0 })
}

/// What is told of points that stay too long.
fn alerts(vault: &Vault) -> Vec<Finding> {
    let mut events = vault.events_from(0);
    let told = std::iter::from_fn(|| events.try_next()).filter_map(|delivery| match delivery {
        Delivery::Notice(notice) => match &notice.kind {
            NoticeKind::Alert(finding) if finding.code == CODE => Some(finding.clone()),
            NoticeKind::CycleFailed { reason } => panic!("a cycle failed: {reason}"),
            _ => None,
        },
        Delivery::Lagged { missed } => panic!("{missed} were missed"),
    });
    told.collect()
}

fn finding(item: &ItemHandle) -> Result<Option<Finding>> {
    Ok(item.summary()?.health.findings.into_iter().find(|f| f.code == CODE))
}

/// A cycle that sealed has not failed because points could not be dropped: health says so until they are, once told, and the
/// other members' points go.
#[tokio::test]
async fn points_that_cannot_be_dropped_are_told_and_fail_no_cycle() -> Result<()> {
    let engine = MemoryEngine::new(17).await?;
    for machine in ["db", "web"] {
        engine.pair.here.add_machine(machine, &[("boot", DISK)]);
    }
    let request = ProtectRequest::group("shop", &["db", "web"]).policy(newest_only());
    for item in engine.vault.protect_group(request).await?.items() {
        item.until_done().await?;
    }
    let plan = FaultPlan::new();
    let vault = planned(&engine, &plan).await?;
    let items = [vault.find("db")?, vault.find("web")?];
    let cycle = async || {
        engine.pair.world.clock().advance(INTERVAL);
        vault.replicate_now(items[0].id()).await
    };
    let there = async || {
        Ok::<_, site_recovery::Error>([items[0].points().await?.len(), items[1].points().await?.len()])
    };
    cycle().await?;
    assert_eq!((there().await?, alerts(&vault)), ([1, 1], vec![]));
    // The first member's call fails, three cycles long.
    for number in 2..5 {
        plan.next("store.prune", Fault::Before(ErrorKind::Unavailable));
        cycle().await?;
        assert_eq!(there().await?, [number, 1]);
        let found = finding(&items[0])?.expect("health says so");
        assert_eq!(found.severity, site_recovery::Severity::Warning);
        assert!(found.cause.contains("prune") && finding(&items[1])?.is_none(), "{found:?}");
        assert_eq!(alerts(&vault).len(), 1, "told once while it lasts");
    }
    cycle().await?;
    assert_eq!(there().await?, [1, 1]);
    assert!(finding(&items[0])?.is_none(), "it is over");
    plan.next("store.points", Fault::Before(ErrorKind::Unavailable));
    cycle().await?;
    assert_eq!((there().await?, alerts(&vault).len()), ([2, 1], 2), "another one");
    Ok(())
}

/// Points that hang while they are dropped hold up no failover: the cycle has sealed, and what is due goes later.
#[tokio::test]
async fn o8_points_that_are_being_dropped_do_not_hold_up_a_failover() -> Result<()> {
    for hangs in ["store.prune", "store.points"] {
        let engine = MemoryEngine::new(19).await?;
        engine.pair.here.add_machine("web", &[("boot", DISK)]);
        engine
            .vault
            .protect(ProtectRequest::machine("web").policy(newest_only()))
            .await?
            .until_done()
            .await?;
        let plan = FaultPlan::new();
        let vault = planned(&engine, &plan).await?;
        let web = vault.find("web")?;
        vault.watch_now().await?;
        plan.next(hangs, Fault::Late(Duration::from_secs(1_000_000)));
        let failover = async {
            until(|| plan.faulted() > 0).await;
            web.failover(FailoverRequest::planned(OUT)).await?.done().await
        };
        let (cycle, failed_over) =
            bounded(async { tokio::join!(vault.replicate_now(web.id()), failover) }).await;
        cycle?;
        failed_over?;
        assert_eq!(engine.pair.cloud.running().len(), 1, "{hangs}");
    }
    Ok(())
}

/// A commit drops all that it ends, where a call drops a part as well; what stays is told, with the right reason.
#[tokio::test]
async fn a_commit_drops_what_it_ends_however_many_calls_that_takes() -> Result<()> {
    for at_once in [1, 3, 1000] {
        let (engine, web) = MemoryEngine::protecting("web").await?;
        for number in 0..20_u8 {
            engine.pair.world.clock().advance(INTERVAL);
            engine.pair.here.write("web", "data", 0, &[number; 4096]);
            engine.vault.replicate_now(web.id()).await?;
        }
        let audited = web.points().await?[4].id;
        web.pin(audited, "audit").await?;
        engine.pair.store.drops_at_most(at_once);
        failed_over(&engine, &web).await?;
        let newest = web.points().await?.last().expect("points").id;
        let report = web.commit(CommitRequest::default()).await?.done().await?;
        let left: Vec<_> = web.points().await?.into_iter().map(|p| p.id).collect();
        assert_eq!(left, [audited, newest], "{at_once} at once");
        let notes = report.only()?.notes.iter().filter(|note| note.contains("kept")).collect::<Vec<_>>();
        let pinned = format!("point {audited} is kept: pinned: audit");
        let base = format!("point {newest} is kept: the way back starts from it");
        assert_eq!(notes, [&pinned, &base], "{at_once} at once");
    }
    Ok(())
}
