//! The order of shutdowns and boots.

use super::world::*;
use site_recovery::{DrillRequest, FailoverRequest, Result};
use site_recovery_plans::{Change, Does, Member, MemberState, Outcome, PlanAudit, Stage};

/// At which record of the trail a member came to this.
fn when(trail: &[PlanAudit], name: &str, state: MemberState) -> usize {
    let found = trail
        .iter()
        .position(|record| matches!(&record.change, Change::Member(m) if m.name == name && m.state == state));
    found.unwrap_or_else(|| panic!("{name} never came to {state:?}"))
}

#[tokio::test]
async fn a_planned_run_shuts_the_last_group_down_first_and_boots_the_first_one_first() -> Result<()> {
    let site = Site::with(&["db", "app", "web"]).await?;
    let mut shop = plan(&[&["db"], &["app"], &["web"]]);
    shop.shutdown.before.push(runs("drain"));
    shop.shutdown.after.push(runs("off"));
    shop.failover.before.push(runs("first"));
    shop.failover.after.push(runs("prepared"));
    for (at, group) in shop.groups.iter_mut().enumerate() {
        group.before.push(runs(&format!("before-{}", at + 1)));
        group.after.push(runs(&format!("after-{}", at + 1)));
    }
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    let names = [
        "drain", "first", "off", "prepared", "before-1", "after-1", "before-2", "after-2", "before-3",
        "after-3",
    ];
    assert_eq!(site.actions.programs(), names);
    let calls = site.actions.calls();
    let seen: Vec<(usize, usize)> = calls.iter().map(|c| (c.here.len(), c.cloud.len())).collect();
    let world = [(3, 0), (3, 0), (0, 0), (0, 0), (0, 0), (0, 1), (0, 1), (0, 2), (0, 2), (0, 3)];
    assert_eq!(seen, world, "what ran on either side when each program did");

    let trail = site.plans.audit("shop").await?;
    let begun = |name| when(&trail, name, MemberState::Begun);
    assert!(begun("web") < begun("app") && begun("app") < begun("db"));
    // The fence of a group is done before the next one begins.
    let vault = &site.engine.vault;
    let fence = |name: &str| {
        let run = vault.find(name).expect("protected").finished().pop().expect("a job");
        run.tasks.iter().find(|t| t.step == site_recovery::Step::Fence).expect("fenced").ended
    };
    assert!(fence("web") <= fence("app") && fence("app") <= fence("db"));
    let stages: Vec<Stage> = run.stages.iter().map(|s| s.stage).collect();
    assert_eq!(stages.iter().filter(|s| matches!(s, Stage::Boot(_))).count(), 3);
    assert!(run.stages.iter().all(|s| s.started.is_some() && s.started <= s.ended));
    Ok(())
}

#[tokio::test]
async fn the_source_of_a_later_group_is_off_before_an_earlier_one_begins() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    let mut waits = by_hand("look");
    waits.on.insert(site_recovery_plans::Kind::Planned);
    shop.shutdown.after.push(waits);
    // The fence of the last group is refused: nothing of the first group is touched.
    site.engine.pair.here.set_down(true);
    let refused = site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await;
    site.engine.pair.here.set_down(false);
    assert!(refused.is_err(), "readiness needs the source");
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert!(run.waiting().is_some_and(|a| a.name == "look"));
    assert!(site.here().is_empty() && site.in_cloud().is_empty(), "all off, none up");
    site.plans.complete("shop", "look", "all dark").await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    Ok(())
}

#[tokio::test]
async fn members_boot_in_waves_of_what_they_wait_for() -> Result<()> {
    let site = Site::with(&["a", "b", "c", "d"]).await?;
    let mut shop = plan(&[&["a", "b", "c", "d"]]);
    let waits = |unit: &str, after: &[&str]| Member {
        unit: unit.into(),
        after: after.iter().map(|s| (*s).to_owned()).collect(),
    };
    shop.groups[0].members =
        vec![waits("a", &["c"]), waits("b", &["a", "d"]), waits("c", &[]), waits("d", &[])];
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    let trail = site.plans.audit("shop").await?;
    let up = |name| when(&trail, name, MemberState::Done);
    let boots = |name| when(&trail, name, MemberState::Booting);
    assert!(boots("a") > up("c") && boots("b") > up("a") && boots("b") > up("d"));
    assert!(boots("d") < up("c") && boots("c") < up("d"), "those that wait for nobody go side by side");
    Ok(())
}

#[tokio::test]
async fn an_unplanned_run_does_not_wait_for_one_group_to_shut_down_the_next() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let shop = plan(&[&["db"], &["web"]]);
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    let trail = site.plans.audit("shop").await?;
    let prepared = when(&trail, "web", MemberState::Prepared).min(when(&trail, "db", MemberState::Prepared));
    assert!(
        when(&trail, "db", MemberState::Begun) < prepared
            && when(&trail, "web", MemberState::Begun) < prepared
    );
    Ok(())
}

#[tokio::test]
async fn a_group_boots_once_the_one_before_is_up_and_its_port_is_open() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].after.push(action("sql", Does::Port { machine: "db".into(), port: 5432 }));
    shop.groups[1].after.push(action("page", Does::Probe { machine: "web".into() }));
    site.plans
        .drill("shop", &shop, DrillRequest { network: Some("lab".into()), ..DrillRequest::default() })
        .await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    let host = run.member("db").expect("a member").machines[0].reach[0].clone();
    site.plans.clean_up("shop", &shop).await?;
    assert!(over(&site.wait("shop").await));

    site.actions.close(&host, 5432);
    site.plans
        .drill("shop", &shop, DrillRequest { network: Some("lab".into()), ..DrillRequest::default() })
        .await?;
    let (clock, cloud) = (site.clock(), site.engine.pair.cloud.clone());
    until(|| cloud.isolated("lab").len() == 1 && clock.sleepers() > 1).await;
    assert_eq!(
        site.plans.status("shop")?.action("sql").map(|a| a.state),
        Some(site_recovery_plans::ActionState::Running)
    );
    site.actions.open(&host, 5432);
    clock.advance(std::time::Duration::from_secs(1));
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done), "{run:?}");
    assert_eq!(cloud.isolated("lab").len(), 2);
    Ok(())
}
