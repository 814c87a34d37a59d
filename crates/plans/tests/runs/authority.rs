//! Two engines, and two plans.

use super::world::*;
use site_recovery::{ErrorKind, FailoverRequest, Result};
use site_recovery_plans::{Outcome, RunState};

#[tokio::test]
async fn o3_what_the_first_engine_still_asks_for_is_refused_once_a_second_one_goes_on() -> Result<()> {
    let first = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].before.push(by_hand("look"));
    first.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert_eq!(first.wait("shop").await.state(), RunState::WaitingForManualAction);

    let second = first.again().await?;
    assert_eq!(second.resume_jobs().await?, 2, "both stand prepared");
    let resumed = second.resume_plans().await?;
    assert_eq!(resumed.iter().map(|r| r.plan.as_str()).collect::<Vec<_>>(), ["shop"]);
    for late in [first.plans.complete("shop", "look", "it is well").await, first.plans.cancel("shop").await] {
        assert_eq!(late.expect_err("another engine goes on with it").kind(), ErrorKind::StaleEpoch);
    }
    assert!(first.in_cloud().is_empty(), "nothing came of it");
    second.plans.complete("shop", "look", "it is well").await?;
    assert_eq!(second.wait("shop").await.outcome, Some(Outcome::Done));
    assert_eq!((second.here().len(), second.in_cloud().len()), (0, 2));
    let late = first.plans.go_on("shop").await.expect_err("it is over, and not ours");
    assert_eq!(late.kind(), ErrorKind::Refused, "as this engine saw it last it had not stopped: {late}");
    Ok(())
}

#[tokio::test]
async fn o3_an_engine_that_was_away_while_another_took_over_boots_nothing() -> Result<()> {
    let first = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].before.push(runs("slow"));
    first.actions.hangs("slow");
    first.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    until(|| first.actions.programs() == ["slow"]).await;
    let second = first.again().await?;
    second.resume_jobs().await?;
    second.resume_plans().await?;
    let run = second.wait("shop").await;
    let why = run.waiting().and_then(|a| a.error.clone()).expect("nobody knows how it ended");
    assert!(why.message.contains("when its engine died"), "{why:?}");

    first.actions.let_go("slow");
    let late = bounded(first.plans.wait("shop")).await.expect_err("another engine goes on with it");
    assert_eq!(late.kind(), ErrorKind::StaleEpoch);
    assert!(first.in_cloud().is_empty(), "nothing boots by the engine that was away");
    second.plans.complete("shop", "slow", "it did its work").await?;
    assert_eq!(second.wait("shop").await.outcome, Some(Outcome::Done));
    assert_eq!((second.in_cloud().len(), first.actions.programs()), (2, vec!["slow".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn o3_a_run_that_another_engine_went_on_with_holds_up_no_other() -> Result<()> {
    let first = Site::with(&["db", "web"]).await?;
    for (name, machine) in [("office", "db"), ("shop", "web")] {
        let mut waits = plan(&[&[machine]]);
        waits.failover.before.push(by_hand("look"));
        first.plans.failover(name, &waits, FailoverRequest::planned(OUT)).await?;
        first.wait(name).await;
    }
    let second = first.again().await?;
    first.plans.complete("office", "look", "it is well").await?;
    assert_eq!(first.wait("office").await.outcome, Some(Outcome::Done));
    let mut resumed = second.plans.resume().await;
    let late = resumed.remove("office").expect("told").expect_err("the first one went on with it");
    assert_eq!(late.kind(), ErrorKind::StaleEpoch);
    let run = resumed.remove("shop").expect("told")?;
    assert_eq!((run.state(), resumed.len()), (RunState::WaitingForManualAction, 0));
    second.plans.complete("shop", "look", "it is well").await?;
    assert_eq!(second.wait("shop").await.outcome, Some(Outcome::Done));
    assert_eq!(second.in_cloud().len(), 2);
    Ok(())
}

#[tokio::test]
async fn o4_a_run_of_a_plan_that_shares_a_member_is_busy_and_names_the_other() -> Result<()> {
    let site = Site::with(&["db", "web", "mail"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].before.push(by_hand("look"));
    let run = site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert_eq!(site.wait("shop").await.state(), RunState::WaitingForManualAction);
    let office = plan(&[&["mail", "web"]]);
    for (name, plan) in [("office", &office), ("shop", &shop)] {
        let busy = site.plans.failover(name, plan, FailoverRequest::planned(OUT)).await.expect_err("busy");
        assert_eq!((busy.kind(), busy.fact("run")), (ErrorKind::Busy, Some(run.id.as_str())), "{busy}");
    }
    let elsewhere = site.again().await?;
    let busy = elsewhere.plans.failover("office", &office, FailoverRequest::planned(OUT)).await;
    assert_eq!(busy.expect_err("also for another engine").kind(), ErrorKind::Busy);
    assert_eq!(site.here(), ["mail"], "the other plan touched nothing");
    let alone = plan(&[&["mail"]]);
    site.plans.failover("alone", &alone, FailoverRequest::planned(OUT)).await?;
    assert_eq!(site.wait("alone").await.outcome, Some(Outcome::Done), "one that shares nobody goes its way");
    site.plans.complete("shop", "look", "it is well").await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    site.plans
        .failover("office", &office, FailoverRequest::planned(OUT))
        .await
        .expect_err("all are up by now");
    assert_eq!(site.plans.list().len(), 2);
    Ok(())
}

#[tokio::test]
async fn o4_a_member_with_a_job_of_its_own_is_busy() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let held = FailoverRequest { hold_boot: true, ..FailoverRequest::planned(OUT) };
    let job = site.engine.vault.find("web")?.failover(held).await?;
    until(|| job.state() == site_recovery::JobState::Suspended).await;
    let shop = plan(&[&["db"], &["web"]]);
    let busy = site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await.expect_err("busy");
    assert_eq!((busy.kind(), busy.fact("member")), (ErrorKind::Busy, Some("web")), "{busy}");
    assert!(busy.to_string().contains(job.id().as_str()), "{busy}");
    assert_eq!(site.here(), ["db"]);
    job.let_boot();
    job.done().await?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_nobody_resumed_in_the_vault_says_so() -> Result<()> {
    let first = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].before.push(by_hand("look"));
    first.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    first.wait("shop").await;
    let second = first.again().await?;
    second.resume_plans().await?;
    second.plans.complete("shop", "look", "it is well").await?;
    let error = bounded(second.plans.wait("shop")).await.expect_err("its job is not driven");
    assert!(error.to_string().contains("Vault::resume"), "{error}");
    second.resume_jobs().await?;
    second.resume_plans().await?;
    assert_eq!(second.wait("shop").await.outcome, Some(Outcome::Done));
    Ok(())
}
