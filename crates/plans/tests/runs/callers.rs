//! Callers that are gone before they are answered, and those who wait meanwhile.

use super::world::*;
use futures_util::FutureExt;
use futures_util::future::join;
use site_recovery::{FailoverRequest, Result};
use site_recovery_plans::{ActionState, Outcome, PlanRun, RunState};

/// Asks, and is gone before the answer.
fn gone(asked: impl Future) {
    assert!(asked.now_or_never().is_none(), "it was answered at once");
}

/// The run once it is so.
async fn comes_to(site: &Site, so: impl Fn(&PlanRun) -> bool) -> PlanRun {
    until(|| site.plans.status("shop").is_ok_and(|run| so(&run))).await;
    site.plans.status("shop").expect("it was begun")
}

fn action_is(state: ActionState, name: &str) -> impl Fn(&PlanRun) -> bool {
    move |run| run.action(name).is_some_and(|action| action.state == state)
}

#[tokio::test]
async fn what_somebody_decided_is_driven_also_when_he_is_gone() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].before = vec![by_hand("look"), runs("dns"), runs("slow")];
    site.actions.ends("dns", &[1]);
    site.actions.hangs("slow");
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    site.wait("shop").await;
    gone(site.plans.complete("shop", "look", "it is well"));
    comes_to(&site, |run| run.state() == RunState::Stopped).await;
    gone(site.plans.go_on("shop"));
    comes_to(&site, action_is(ActionState::Running, "slow")).await;

    let next = site.again().await?;
    next.resume_jobs().await?;
    gone(next.plans.resume());
    comes_to(&next, action_is(ActionState::Waiting, "slow")).await;
    gone(next.plans.cancel("shop"));
    let run = comes_to(&next, over).await;
    assert_eq!(run.outcome, Some(Outcome::Cancelled { stay: vec![], failed: vec!["dns".into()] }));
    assert_eq!(next.here(), ["db"], "it was taken back");
    Ok(())
}

#[tokio::test]
async fn who_waits_is_not_answered_between_a_decision_and_what_comes_of_it() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].before.push(by_hand("look"));
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    site.wait("shop").await;
    let waits = async {
        comes_to(&site, action_is(ActionState::Done, "look")).await;
        site.wait("shop").await
    };
    // Who waits looks first, each time.
    let (run, completed) = join(waits, site.plans.complete("shop", "look", "it is well")).await;
    completed?;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    Ok(())
}
