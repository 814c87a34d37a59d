//! What vCenter has beside what a host has: movers, tags, hosts that are away.

use crate::support::process::{Mode, Sim};
use crate::{looked_at, open};
use serde_json::json;
use site_recovery::{Finding, LandingSite, Location, Settings, Severity, Source, SystemClock};
use site_recovery_vim::{Override, Vim};
use site_recovery_vmware::{Appliance, BlockDevices};
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

/// No datastore of the simulator is in its pod: the server says that one is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_may_move_the_appliances_disks_is_told_by_its_name() {
    let Some((sim, vim)) = start().await else { return };
    let all = vim.machines_whole(&vim.content().root_folder).await.unwrap();
    let datastore = all[0].details.as_ref().unwrap().datastores[0].clone();
    let folders = vim.folders().await.unwrap();
    let pod = folders.iter().find(|f| f.moref.kind == "StoragePod").unwrap();
    let inside = format!(
        "<objects><obj type=\"Datastore\">{}</obj><propSet><name>name</name><val>LocalDS_0</val></propSet>\
         <propSet><name>parent</name><val type=\"StoragePod\">{}</val></propSet></objects>",
        datastore.id, pod.moref.id
    );
    let body = format!(
        "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body>\
         <RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>{inside}</returnval></RetrievePropertiesExResponse>\
         </soapenv:Body></soapenv:Envelope>"
    );
    let lie = json!({ "path": "/sdk", "holds": "summary.maintenanceMode", "kind": "body", "body": body, "count": 0 });
    sim.tell("http-fault", lie).await;
    let found = looked_at(&sim, all[0].instance_uuid.as_deref()).await.unwrap();
    let told = find(&found, "appliance.storage-drs").unwrap_or_else(|| panic!("{found:?}"));
    assert!(told.cause.contains(&pod.name) && !told.cause.contains(&pod.moref.id), "{told:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_keep_a_new_machine_from_moving_is_asked_at_the_appliances_cluster() {
    let Some((sim, vim)) = start().await else { return };
    let all = vim.machines(&vim.content().root_folder).await.unwrap();
    let uuid = |prefix: &str| {
        let found = all.iter().find(|m| m.name.starts_with(prefix)).expect("it is there");
        found.instance_uuid.clone().unwrap().to_ascii_lowercase()
    };
    let (appliance, alone) = (uuid("DC0_C0"), uuid("DC0_H0"));
    sim.tell("settings", json!({ "denied": ["Host.Inventory.EditCluster"] })).await;
    let at_cluster = |found: &[Finding]| {
        let told = find(found, "rights.failback");
        told.is_some_and(|f| f.blocks() && f.cause.contains("Host.Inventory.EditCluster on cluster DC0_C0"))
    };
    let found = looked_at(&sim, Some(&appliance)).await.unwrap();
    assert!(at_cluster(&found), "{found:?}");
    let dir = tempfile::tempdir().unwrap();
    let here = Appliance::new(appliance, Arc::new(BlockDevices::default()));
    let site = open(&sim, dir.path().join("state")).appliance(here).open().await.unwrap();
    let discovered = site.discover().await.unwrap();
    let machine = discovered.iter().find(|m| m.instance.name == alone).unwrap();
    for (location, asked) in [(Location::Alternate, true), (Location::Original, false)] {
        let settings = Settings { datastore: Some("LocalDS_0".into()), location, ..Settings::default() };
        let found = site.survey(machine, &settings).await.unwrap().findings;
        assert_eq!(at_cluster(&found), asked, "{location:?}: {found:?}");
    }
}
