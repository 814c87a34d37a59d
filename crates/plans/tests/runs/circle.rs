//! The whole circle by plan.

use super::world::*;
use site_recovery::state::Phase;
use site_recovery::{
    CommitRequest, DrillRequest, ErrorKind, FailoverRequest, ReprotectRequest, Result, Settings,
};
use site_recovery_plans::{MemberState, Outcome};

#[tokio::test]
async fn a_plan_goes_over_and_comes_back() -> Result<()> {
    let site = Site::with(&["db", "app", "web"]).await?;
    let shop = plan(&[&["db"], &["app", "web"]]);
    let (plans, pair) = (site.plans.clone().acting_as("ana").because("the move"), &site.engine.pair);
    for round in 0..2_u8 {
        pair.here.write("db", "data", 0, &[round + 1; 64]);
        let written = pair.here.bytes("db");
        plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
        let run = site.wait("shop").await;
        assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
        assert_eq!((site.here().len(), site.in_cloud().len()), (0, 3));
        let db = site.engine.vault.find("db")?;
        let name = db.item()?.active().name.clone();
        assert_eq!(pair.cloud.bytes(&name), written, "nothing is lost");
        let member = run.member("db").expect("a member");
        assert!(member.job.is_some() && member.started <= member.ended);
        let machine = &member.machines[0];
        assert_eq!(machine.reach, [format!("{name}.cloud")]);
        assert!(machine.point.is_some() && machine.loss.as_ref().is_some_and(|l| l.at_most.is_zero()));

        plans.commit("shop", &shop, CommitRequest::default()).await?;
        assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
        plans.reprotect("shop", &shop, ReprotectRequest::default()).await?;
        assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));

        pair.cloud.write(&name, "data", 64, &[round + 9; 64]);
        let written = pair.cloud.bytes(&name);
        plans.failover("shop", &shop, FailoverRequest::planned(BACK)).await?;
        let run = site.wait("shop").await;
        assert_eq!((run.outcome.clone(), run.direction), (Some(Outcome::Done), BACK), "{run:?}");
        assert_eq!((site.here().len(), site.in_cloud().len()), (3, 0));
        let name = db.item()?.active().name.clone();
        assert_eq!(pair.here.bytes(&name), written, "nothing is lost on the way back");
        plans.commit("shop", &shop, CommitRequest::default()).await?;
        assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
        plans.reprotect("shop", &shop, ReprotectRequest::default()).await?;
        assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
        assert!(
            site.engine.vault.items().iter().all(|i| i.state().is_ok_and(|s| s.phase == Phase::Protected))
        );
    }
    Ok(())
}

#[tokio::test]
async fn o5_a_drill_is_isolated_and_is_cleaned_up() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.shutdown.before.push(runs("drain"));
    shop.failover.before.push(runs("begin"));
    let before = (site.here(), site.engine.pair.here.bytes("db"));
    let request = DrillRequest { network: Some("lab".into()), ..DrillRequest::default() };
    site.plans.drill("shop", &shop, request).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    assert_eq!(site.engine.pair.cloud.isolated("lab").len(), 2);
    assert_eq!((site.here(), site.engine.pair.here.bytes("db")), before, "production goes on");
    assert!(site.in_cloud().is_empty(), "nothing runs in production there");
    assert_eq!(site.actions.programs(), ["begin"], "nothing is shut down, so nothing of that is done");
    let points = site.engine.vault.find("db")?.points().await?.len();
    site.engine.pair.here.scribble("db", 1);
    site.engine.vault.replicate_now(site.engine.vault.find("db")?.id()).await?;
    assert_eq!(site.engine.vault.find("db")?.points().await?.len(), points + 1, "it replicates");

    site.plans.clean_up("shop", &shop).await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    assert!(site.engine.pair.cloud.all().is_empty(), "nothing of it is left");
    let none = site.plans.clean_up("shop", &shop).await.expect_err("nothing to clean up");
    assert!(none.to_string().contains("no member has anything to do"), "{none}");
    Ok(())
}

#[tokio::test]
async fn an_action_is_of_its_kinds_and_directions_scripts_on_the_way_back_included() -> Result<()> {
    let site = Site::with(&["web"]).await?;
    let mut shop = plan(&[&["web"]]);
    let mut back = runs("back");
    back.directions.insert(BACK);
    let mut unplanned = runs("unplanned");
    unplanned.on.insert(site_recovery_plans::Kind::Unplanned);
    shop.groups[0].after = vec![back, unplanned, runs("always")];
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    assert_eq!(site.actions.programs(), ["unplanned", "always"]);
    site.plans.commit("shop", &shop, CommitRequest::default()).await?;
    assert!(over(&site.wait("shop").await));
    site.plans.reprotect("shop", &shop, ReprotectRequest::default()).await?;
    assert!(over(&site.wait("shop").await));
    site.plans.failover("shop", &shop, FailoverRequest::planned(BACK)).await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    assert_eq!(site.actions.programs(), ["unplanned", "always", "back", "always"]);
    Ok(())
}

#[tokio::test]
async fn a_reprotect_says_what_all_machines_shall_be_and_nothing_that_one_alone_can_be() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let shop = plan(&[&["db"], &["web"]]);
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    site.plans.commit("shop", &shop, CommitRequest::default()).await?;
    assert!(over(&site.wait("shop").await));
    let told = |settings| ReprotectRequest { settings: Some(settings), ..ReprotectRequest::default() };
    let named = Settings { name: Some("both".into()), ..Settings::default() };
    let refused = site.plans.reprotect("shop", &shop, told(named)).await.expect_err("both under one name");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("reprotect.settings"), "{refused}");

    let tagged = Settings { tags: [("owner".into(), "shop".into())].into(), ..Settings::default() };
    site.plans.reprotect("shop", &shop, told(tagged.clone())).await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    for name in ["db", "web"] {
        assert_eq!(site.engine.vault.find(name)?.settings()?, tagged, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_machine_that_was_brought_up_already_is_skipped_and_said_so() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    site.engine.vault.find("db")?.failover(FailoverRequest::planned(OUT)).await?.done().await?;
    let shop = plan(&[&["db"], &["web"]]);
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done));
    let db = run.member("db").expect("a member");
    assert_eq!((db.state, db.job.clone()), (MemberState::Skipped, None));
    assert!(db.note.as_ref().is_some_and(|n| n.contains("brought up in this direction already")), "{db:?}");
    assert_eq!(site.in_cloud().len(), 2);
    let all = site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await.expect_err("all run");
    assert!(all.to_string().contains("no member has anything to do"), "{all}");
    Ok(())
}

#[tokio::test]
async fn o4_a_replication_group_goes_as_one_member() -> Result<()> {
    let site = Site::with(&["web"]).await?;
    site.protect_group("pair", &["left", "right"]).await?;
    let shop = plan(&[&["pair"], &["web"]]);
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    assert_eq!(site.in_cloud().len(), 3);
    let pair = run.member("pair").expect("a member");
    let names: Vec<&str> = pair.machines.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["left", "right"]);
    assert!(pair.machines.iter().all(|m| m.point.is_some() && m.reach.len() == 1));
    Ok(())
}
