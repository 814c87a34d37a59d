//! The order of shutdowns and boots.

use super::world::*;
use site_recovery::{Delivery, DrillRequest, ErrorKind, Events, FailoverRequest, Notice, NoticeKind, Result};
use site_recovery_plans::{Change, Does, Member, MemberState, Outcome, PlanAudit, RunState, Stage};
use site_recovery_testkit::faults::{Fault, FaultPlan, Faulty};
use site_recovery_testkit::world::World;
use std::sync::Arc;

/// At which record of the trail a member came to this.
fn when(trail: &[PlanAudit], name: &str, state: MemberState) -> usize {
    let found = trail
        .iter()
        .position(|record| matches!(&record.change, Change::Member(m) if m.name == name && m.state == state));
    found.unwrap_or_else(|| panic!("{name} never came to {state:?}"))
}

/// What the vault told from there on.
fn told(mut from: Events) -> Vec<Arc<Notice>> {
    let deliveries = std::iter::from_fn(|| from.try_next());
    let notice = |delivery| match delivery {
        Delivery::Notice(notice) => notice,
        Delivery::Lagged { missed } => panic!("{missed} were missed"),
    };
    deliveries.map(notice).collect()
}

/// At which notice the job of a machine told this; none where it never did.
fn at(site: &Site, told: &[Arc<Notice>], name: &str, step: &str) -> Option<usize> {
    let unit = site.engine.vault.find(name).expect("protected").unit().clone();
    told.iter().position(|notice| {
        notice.unit == unit && matches!(&notice.kind, NoticeKind::Job { what, .. } if what == step)
    })
}

/// Whether the source of one machine was off before anything was done with another one.
fn off_before(site: &Site, told: &[Arc<Notice>], first: &str, then: &str) -> bool {
    let off = at(site, told, first, "Fence done").expect("its source was shut down");
    off < at(site, told, then, "Claim begins").expect("its job began")
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
    let events = site.engine.vault.events();
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

    let told = told(events);
    assert!(off_before(&site, &told, "web", "app") && off_before(&site, &told, "app", "db"));
    let stages: Vec<Stage> = run.stages.iter().map(|s| s.stage).collect();
    assert_eq!(stages.iter().filter(|s| matches!(s, Stage::Boot(_))).count(), 3);
    assert!(run.stages.iter().all(|s| s.started.is_some() && s.started <= s.ended));
    Ok(())
}

#[tokio::test]
async fn an_earlier_group_is_left_alone_until_the_sources_of_a_later_one_are_off() -> Result<()> {
    let (mut pair, faults) = (World::new(7).pair(), FaultPlan::new());
    let source = Faulty::new(pair.forward.source.clone(), &faults, pair.world.clock());
    pair.forward.source = Arc::new(source);
    let site = Site::of(pair, &["db", "web"]).await?;
    let shop = plan(&[&["db"], &["web"]]);
    faults.next("here.fence", Fault::Before(ErrorKind::Refused));
    let events = site.engine.vault.events();
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!((run.state(), faults.faulted()), (RunState::Stopped, 1), "{run:?}");
    assert_eq!(run.member("web").map(|m| m.state), Some(MemberState::Failed));
    assert_eq!(run.member("db").map(|m| m.state), Some(MemberState::Waiting));
    assert_eq!(at(&site, &told(events.clone()), "db", "Claim begins"), None, "nobody touched it");
    assert_eq!(site.here().len(), 2);
    site.plans.go_on("shop").await?;
    assert_eq!(site.wait("shop").await.outcome, Some(Outcome::Done));
    assert!(off_before(&site, &told(events), "web", "db"));
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
