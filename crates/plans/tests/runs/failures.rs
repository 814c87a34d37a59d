//! What fails: a planned run stops, an unplanned one finishes; a run is cancelled.

use super::world::*;
use futures_util::future::join;
use site_recovery::state::Phase;
use site_recovery::{DrillRequest, ErrorKind, FailoverRequest, Result};
use site_recovery_plans::{ActionState, Does, MemberState, Outcome, PlanRun, RunState};
use std::sync::Arc;

#[tokio::test]
async fn a_planned_run_stops_at_a_refused_boot_and_goes_on() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let shop = plan(&[&["db"], &["web"]]);
    site.engine.pair.cloud.refuse_boot("no capacity");
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.state(), RunState::Stopped);
    let why = run.stopped.clone().expect("why");
    assert!(why.message.starts_with("db: ") && why.message.contains("no capacity"), "{why:?}");
    assert_eq!(run.member("db").map(|m| m.state), Some(MemberState::Failed));
    assert_eq!(run.member("web").map(|m| m.state), Some(MemberState::Prepared));
    assert_eq!(site.here(), ["db"], "the one that failed went back; the other stands prepared");
    assert!(site.in_cloud().is_empty());

    site.engine.pair.cloud.allow_boot();
    site.plans.clone().acting_as("bob").go_on("shop").await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    assert_eq!((site.here().len(), site.in_cloud().len()), (0, 2));
    let db = run.member("db").expect("a member");
    assert!(db.earlier.len() == 1 && db.job.is_some() && db.job.as_ref() != db.earlier.first());
    let refused = site.plans.go_on("shop").await.expect_err("it is over");
    assert!(refused.to_string().contains("has not stopped"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn d7_a_run_that_stopped_is_cancelled_and_what_is_prepared_goes_back() -> Result<()> {
    let site = Site::with(&["db", "app", "web"]).await?;
    let mut shop = plan(&[&["db"], &["app", "web"]]);
    shop.groups[1].before.push(runs("check"));
    site.actions.ends("check", &[3]);
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.state(), RunState::Stopped);
    let check = run.action("check").expect("it ran");
    assert_eq!(
        (check.state, check.exit, check.output.as_str()),
        (ActionState::Failed, Some(3), "check was here")
    );
    assert_eq!((site.here().len(), site.in_cloud().len()), (0, 1));

    site.plans.cancel("shop").await?;
    let run = site.wait("shop").await;
    let stay = vec!["db".to_owned()];
    assert_eq!(run.outcome, Some(Outcome::Cancelled { stay, failed: vec!["check".into()] }), "{run:?}");
    let mut here = site.here();
    here.sort();
    assert_eq!((here, site.in_cloud().len()), (vec!["app".to_owned(), "web".into()], 1));
    assert_eq!(run.member("web").map(|m| m.state), Some(MemberState::TakenBack));
    for name in ["app", "web"] {
        let item = site.engine.vault.find(name)?;
        assert_eq!(item.state()?.phase, Phase::Protected);
        site.engine.pair.here.scribble(name, 1);
        site.engine.vault.replicate_now(item.id()).await?;
    }
    assert!(matches!(site.engine.vault.find("db")?.state()?.phase, Phase::FailoverCompleted(_)));
    let again = site.plans.cancel("shop").await.expect_err("it is over");
    assert!(again.to_string().contains("is over"), "{again}");
    // The rest goes over by a new run of the same plan.
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    assert_eq!(run.member("db").map(|m| m.state), Some(MemberState::Skipped));
    Ok(())
}

#[tokio::test]
async fn a_program_that_failed_is_passed_over_or_run_again_as_its_plan_says() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    let again = action("again", Does::Command { program: vec!["again".into()], again: true });
    shop.groups[0].before = vec![runs("once"), again];
    site.actions.ends("once", &[1]);
    site.actions.ends("again", &[1]);
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert_eq!(site.wait("shop").await.state(), RunState::Stopped);
    assert_eq!(site.actions.programs(), ["once"]);
    let plans = site.plans.clone().acting_as("bob");
    plans.go_on("shop").await?;
    let run = site.wait("shop").await;
    assert_eq!(run.state(), RunState::Stopped, "the second one fails");
    let once = run.action("once").expect("it ran");
    assert_eq!((once.state, once.completed_by.as_deref()), (ActionState::PassedOver, Some("bob")));
    plans.go_on("shop").await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Partly { failed: vec!["once".into()] }));
    assert_eq!(site.actions.programs(), ["once", "again", "again"]);
    assert_eq!(site.in_cloud().len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_unplanned_run_finishes_and_says_what_failed() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    site.judge.0.lock().expect("no panic under this lock").insert("web".into());
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].before.push(runs("dns"));
    shop.groups[1].after = vec![action("page", Does::Probe { machine: "web".into() }), runs("mail")];
    site.actions.ends("dns", &[1]);
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Partly { failed: vec!["dns".into(), "page".into()] }));
    let page = run.action("page").and_then(|a| a.error.clone()).expect("why");
    assert!(page.message.contains("web does not answer"), "{page:?}");
    assert_eq!((site.here().len(), site.in_cloud().len()), (0, 2));
    assert_eq!(site.actions.programs(), ["dns", "mail"]);
    Ok(())
}

#[tokio::test]
async fn an_unplanned_run_brings_up_the_others_of_a_member_that_is_refused() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[1].before.push(by_hand("look"));
    site.engine.pair.cloud.refuse_boot("no capacity");
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.state(), RunState::WaitingForManualAction, "{run:?}");
    assert_eq!(run.member("db").map(|m| m.state), Some(MemberState::Failed));
    site.engine.pair.cloud.allow_boot();
    site.plans.complete("shop", "look", "there is room again").await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Partly { failed: vec!["db".into()] }));
    assert_eq!(site.in_cloud().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_program_is_ended_at_its_limit_and_its_output_is_kept() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].after.push(runs("slow"));
    site.actions.hangs("slow");
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    let run = site.wait_with_clock("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Partly { failed: vec!["slow".into()] }));
    let slow = run.action("slow").expect("it ran");
    assert_eq!((slow.exit, slow.output.as_str()), (None, "slow was here"));
    assert!(slow.error.as_ref().is_some_and(|e| e.message.contains("within 60 s")), "{slow:?}");
    Ok(())
}

#[tokio::test]
async fn o5_a_drill_is_cancelled_while_a_program_runs() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].after.push(runs("slow"));
    site.actions.hangs("slow");
    let request = DrillRequest { network: Some("lab".into()), ..DrillRequest::default() };
    site.plans.drill("shop", &shop, request).await?;
    until(|| site.actions.programs() == ["slow"]).await;
    site.plans.cancel("shop").await?;
    let run = site.wait("shop").await;
    let outcome = Outcome::Cancelled { stay: vec!["db".into()], failed: vec!["slow".into()] };
    assert_eq!(run.outcome, Some(outcome), "{run:?}");
    assert_eq!(
        site.engine.pair.cloud.isolated("lab").len(),
        1,
        "the one that had booted stays until it is removed"
    );
    assert_eq!(site.here().len(), 2);
    site.plans.clean_up("shop", &shop).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done));
    assert_eq!(run.member("web").map(|m| m.state), Some(MemberState::Skipped));
    assert!(site.engine.pair.cloud.all().is_empty());
    Ok(())
}

/// A run that was cancelled leaves nothing open.
fn was_dropped(run: &PlanRun, action: &str) {
    assert_eq!(run.outcome, Some(Outcome::Cancelled { stay: vec![], failed: vec![] }), "{run:?}");
    let dropped = run.action(action).map(|action| (action.state, action.ended.is_some()));
    assert_eq!((dropped, run.waiting()), (Some((ActionState::Dropped, true)), None));
}

#[tokio::test]
async fn what_waits_for_a_person_is_dropped_with_its_run() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].before.push(by_hand("look"));
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert!(site.wait("shop").await.waiting().is_some());
    let cancelled = site.plans.cancel("shop").await?;
    assert_eq!(cancelled.waiting(), None, "from then on");
    was_dropped(&site.wait("shop").await, "look");
    let late = site.plans.complete("shop", "look", "it is well").await.expect_err("nobody waits");
    assert_eq!(late.kind(), ErrorKind::Refused);
    Ok(())
}

#[tokio::test]
async fn a_program_whose_end_nobody_saw_is_dropped_with_its_run() -> Result<()> {
    let first = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].before.push(runs("slow"));
    first.actions.hangs("slow");
    first.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    until(|| first.actions.programs() == ["slow"]).await;
    let second = first.again().await?;
    second.resume_jobs().await?;
    second.plans.cancel("shop").await?;
    was_dropped(&second.wait("shop").await, "slow");
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_cancelled_asks_for_no_person() -> Result<()> {
    let mut site = Site::with(&["db"]).await?;
    let journal = Gated::over(&site.engine.journal);
    let plans = builder_of(&site.engine.vault, Arc::new(journal.clone()), &site.engine.pair, &site.actions);
    site.plans = plans.open().await?;
    let mut shop = plan(&[&["db"]]);
    shop.failover.before.push(by_hand("look"));
    journal.let_in(1);
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    // Its stage is being written as somebody cancels it; that is written while the driver, which has not seen it, goes to ask.
    others_go_on().await;
    let writes = async {
        for _ in 0..20 {
            others_go_on().await;
            journal.let_in(1);
        }
    };
    let (cancelled, ()) = join(site.plans.cancel("shop"), writes).await;
    assert_eq!(cancelled?.action("look"), None, "it had not asked by then");
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Cancelled { stay: vec![], failed: vec![] }));
    assert_eq!(run.action("look"), None);
    Ok(())
}

#[tokio::test]
async fn a_member_that_somebody_takes_out_of_the_run_stops_it() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.failover.after.push(by_hand("look"));
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert_eq!(site.wait("shop").await.state(), RunState::WaitingForManualAction);
    let db = site.engine.vault.find("db")?;
    db.cancel().await?;
    let item = db.clone();
    until(|| item.state().is_ok_and(|s| s.phase == Phase::Protected)).await;
    site.plans.complete("shop", "look", "as it should be").await?;
    let run = site.wait("shop").await;
    assert_eq!(run.state(), RunState::Stopped, "{run:?}");
    assert!(run.stopped.is_some_and(|why| why.message.contains("db: ")));
    assert_eq!(site.here(), ["db"]);
    site.plans.go_on("shop").await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    Ok(())
}

#[tokio::test]
async fn o8_an_unplanned_run_needs_nothing_of_the_side_that_is_lost() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    site.engine.pair.here.set_down(true);
    let shop = plan(&[&["db"], &["web"]]);
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    assert_eq!(site.in_cloud().len(), 2);
    let loss = |name: &str| run.member(name).and_then(|m| m.machines[0].loss.clone());
    assert!(loss("db").is_some() && loss("web").is_some(), "what may be lost is said: {run:?}");
    for name in ["db", "web"] {
        let state = site.engine.vault.find(name)?.state()?;
        assert_eq!(state.divergence, site_recovery::state::Divergence::Possible);
    }
    Ok(())
}
