//! Every job of a long life, from the first copy on: each one's report holds together with its records.

use crate::runs::{Hall, Ran};
use site_recovery::state::Direction::{PrimaryToRecovery as OUT, RecoveryToPrimary as BACK};
use site_recovery::{
    CommitRequest, DrillRequest, FailoverRequest, Force, ItemHandle, JobRun, Operation, PointChoice,
    ReprotectRequest, Result, UndoRequest,
};
use site_recovery_report::verify;
use std::collections::BTreeSet;

/// The runs that ended since the last look, with the trail as it is now.
async fn look(hall: &Hall, web: &ItemHandle, seen: &mut Vec<JobRun>) -> Result<()> {
    hall.wait(5);
    let (items, trail) = (vec![web.item()?], hall.vault.audit(web.unit()).await?);
    let known = seen.len();
    let fresh = web.finished().into_iter().filter(|run| !seen[..known].iter().any(|s| s.id == run.id));
    let fresh: Vec<JobRun> = fresh.collect();
    for run in fresh {
        let ran =
            Ran { unit: web.unit().clone(), run: run.clone(), items: items.clone(), trail: trail.clone() };
        let report = hall.report(&ran).build()?;
        let what = format!("{} {:?}", run.id, run.operation);
        let verified = verify(&report).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(verified.records > 0, "{what}");
        crate::page::check(&what, &report.to_html());
        seen.push(run);
    }
    Ok(())
}

#[tokio::test]
async fn c3_every_job_of_a_life_verifies() -> Result<()> {
    let hall = Hall::new().await?;
    let web = hall.protect("web").await?.acting_as("ana");
    let (here, cloud) = (&hall.pair.here, &hall.pair.cloud);
    let mut seen = vec![];
    look(&hall, &web, &mut seen).await?;
    for _ in 0..2 {
        here.scribble("web", 2);
        hall.vault.replicate_now(web.id()).await?;
    }
    web.verify().await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    web.test_failover(DrillRequest::default()).await?.done().await?;
    web.clean_up_test().await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    cloud.refuse_boot("no quota is left");
    web.test_failover(DrillRequest::default()).await?.done().await.expect_err("refused");
    look(&hall, &web, &mut seen).await?;
    web.failover(FailoverRequest::planned(OUT)).await?.done().await.expect_err("refused");
    cloud.allow_boot();
    look(&hall, &web, &mut seen).await?;
    web.failover(FailoverRequest::unplanned(OUT, Force::by("ben", "the hall burns"))).await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    let earlier = web.points().await?[1].id;
    web.change_point(PointChoice::Custom(earlier)).await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    web.undo(UndoRequest::default()).await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    web.test_failover(DrillRequest::default()).await?.done().await?;
    web.promote_test(FailoverRequest::unplanned(OUT, Force::by("ben", "the drill is good")))
        .await?
        .done()
        .await?;
    look(&hall, &web, &mut seen).await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await.expect_err("the old side is ahead");
    look(&hall, &web, &mut seen).await?;
    let loses = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    web.reprotect(loses).await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    web.failover(FailoverRequest::planned(BACK)).await?.done().await?;
    web.commit(CommitRequest::default()).await?.done().await?;
    web.reprotect(ReprotectRequest::default()).await?.done().await?;
    look(&hall, &web, &mut seen).await?;
    use Operation::*;
    let told: BTreeSet<Operation> = seen.iter().map(|run| run.operation).collect();
    for operation in [
        EnableProtection,
        VerifyBoot,
        TestFailover,
        TestFailoverCleanup,
        PlannedFailover,
        UnplannedFailover,
        ChangePit,
        UndoFailover,
        PromoteTestFailover,
        Commit,
        ReverseReplicate,
    ] {
        assert!(told.contains(&operation), "no report of {operation:?}");
    }
    Ok(())
}
