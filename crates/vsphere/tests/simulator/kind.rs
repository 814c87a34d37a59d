//! What vCenter has beside what a host has: movers, tags, hosts that are away.

use crate::looked_at;
use crate::support::process::{Mode, Sim};
use serde_json::json;
use site_recovery::{Finding, Severity, SystemClock};
use site_recovery_vim::{Override, Vim};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

async fn start() -> Option<(Sim, Vim)> {
    let sim = Sim::start_with(Mode::VCenter, &["--machines", "2", "--disk-size", "65536"])?;
    let vim = Vim::connect(&sim.settings, Arc::new(SystemClock)).await.unwrap();
    Some((sim, vim))
}

fn find<'a>(found: &'a [Finding], code: &str) -> Option<&'a Finding> {
    found.iter().find(|f| f.code == code)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appliance_that_drs_may_move_is_told_until_an_override_keeps_it() {
    let Some((sim, vim)) = start().await else { return };
    let all = vim.machines(&vim.content().root_folder).await.unwrap();
    let appliance = all.iter().find(|m| m.name.starts_with("DC0_C0")).expect("one is in the cluster");
    let uuid = appliance.instance_uuid.as_deref().unwrap();
    let cluster = vim.computes().await.unwrap().into_iter().find(|c| c.is_cluster()).unwrap();
    let automated = vim.drs_moves(&cluster.moref).await.unwrap();
    let found = looked_at(&sim, Some(uuid)).await.unwrap();
    assert_eq!(find(&found, "appliance.drs").is_some(), automated, "{found:?}");
    assert!(automated, "the simulator's cluster is automated: else this test shows nothing");
    assert_eq!(find(&found, "appliance.drs").unwrap().severity, Severity::Warning);
    let task =
        vim.set_drs_override(&cluster.moref, &appliance.moref, Override::Stays).await.unwrap().unwrap();
    task.wait(LIMIT).await.unwrap();
    let found = looked_at(&sim, Some(uuid)).await.unwrap();
    assert_eq!(find(&found, "appliance.drs"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_away_is_told_and_blocks_where_it_is_the_appliances() {
    let Some((sim, vim)) = start().await else { return };
    let all = vim.machines(&vim.content().root_folder).await.unwrap();
    let hosts = vim.hosts().await.unwrap();
    let away = all.iter().find(|m| m.name.starts_with("DC0_H0")).expect("one is on the single host");
    let here = all.iter().find(|m| m.name.starts_with("DC0_C0")).expect("one is in the cluster");
    let host = hosts.iter().find(|h| Some(&h.moref) == away.host.as_ref()).unwrap();
    sim.tell("host", json!({ "host": host.name, "state": "notResponding" })).await;
    for (appliance, severity) in [(away, Severity::Critical), (here, Severity::Warning)] {
        let found = looked_at(&sim, appliance.instance_uuid.as_deref()).await.unwrap();
        let told = find(&found, "host.connection").expect("it is told");
        assert_eq!(told.severity, severity, "{told:?}");
        assert!(told.cause.contains(&host.name), "{told:?}");
    }
    let found = looked_at(&sim, here.instance_uuid.as_deref()).await.unwrap();
    let told = find(&found, "machine.unread").expect("its machine is not discovered");
    assert!(told.cause.contains("discovery is not complete") && told.cause.contains(&away.name), "{told:?}");
}
