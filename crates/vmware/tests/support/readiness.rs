//! Readiness of a site of VMware's: what stands in the way is told with its code, and looking changes nothing.

use super::process::Sim;
use super::world::World;
use crate::{MODE, looked_at, open};
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::suite;
use site_recovery_vim::ConfigSpec;

fn codes(found: &[Finding], at_least: Severity) -> Vec<&str> {
    let all = found.iter().filter(|f| f.severity >= at_least);
    all.map(|f| f.code.as_str()).collect()
}

fn named<'a>(found: &'a [Finding], code: &str) -> &'a Finding {
    found.iter().find(|f| f.code == code).unwrap_or_else(|| panic!("{code} is not among {found:?}"))
}

/// A site with its appliance, and a machine with two disks that is enrolled.
async fn ground() -> Option<(World, Machine)> {
    let world = World::start(MODE, open).await?;
    let name = world.machine("web", &[256, 128]).await;
    let machine = world.enrol(&name, "m-web").await;
    Some((world, machine))
}

async fn survey(world: &World, machine: &Machine, location: Location) -> Vec<Finding> {
    let settings = Settings { datastore: Some("LocalDS_1".into()), location, ..Settings::default() };
    world.site.survey(machine, &settings).await.unwrap().findings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_well_has_nothing_in_its_way() {
    let Some((world, machine)) = ground().await else { return };
    for location in [Location::Original, Location::Alternate] {
        let found = survey(&world, &machine, location).await;
        assert_eq!(codes(&found, Severity::Warning), [""; 0], "{location:?}: {found:?}");
    }
    let found = world.site.check().await.unwrap();
    assert_eq!(codes(&found, Severity::Critical), [""; 0], "{found:?}");
    assert!(
        named(&found, "server.inventory").cause.contains("1 machines"),
        "the appliance is none to protect"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_lacking_is_named_with_its_object_before_it_is_needed() {
    let Some((world, machine)) = ground().await else { return };
    for (privilege, code, at) in [
        ("VirtualMachine.State.CreateSnapshot", "rights.protect", "machine web"),
        ("VirtualMachine.Config.AddExistingDisk", "rights.protect", "appliance "),
        ("VirtualMachine.State.RevertToSnapshot", "rights.failback", "machine web"),
        ("VirtualMachine.Inventory.Create", "rights.failback", "folder "),
        ("Resource.AssignVMToPool", "rights.failback", "pool "),
    ] {
        world.sim.tell("settings", json!({ "denied": [privilege] })).await;
        let mut all = world.site.check().await.unwrap();
        all.extend(survey(&world, &machine, Location::Original).await);
        all.extend(survey(&world, &machine, Location::Alternate).await);
        let mut told: Vec<&Finding> = all.iter().filter(|f| f.code.starts_with("rights.")).collect();
        // What is needed on a machine is needed on new ones, too, where they are made.
        told.retain(|f| at == "folder " || !f.cause.contains(" on folder "));
        assert!(told.iter().all(|f| f.code == code && f.blocks()), "{privilege}: {told:?}");
        assert!(told.len() >= 2, "the check and a survey tell it: {told:?}");
        assert!(told.iter().all(|f| f.cause.contains(privilege) && f.cause.contains(at)), "{told:?}");
        let uses = |location| {
            let settings = Settings { datastore: Some("LocalDS_1".into()), location, ..Settings::default() };
            let (site, machine) = (world.site.clone(), machine.clone());
            async move { site.survey(&machine, &settings).await.unwrap().findings.iter().any(Finding::blocks) }
        };
        let only_new = at == "folder " || at == "pool ";
        assert_eq!(
            uses(Location::Original).await,
            !only_new,
            "{privilege}: what is not needed there does not block"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_machine_needs_is_asked_where_it_is_made() {
    let Some((world, machine)) = ground().await else { return };
    for privilege in [
        "VirtualMachine.Config.ChangeTracking",
        "VirtualMachine.Provisioning.DiskRandomRead",
        "VirtualMachine.State.CreateSnapshot",
        "VirtualMachine.State.RemoveSnapshot",
        "VirtualMachine.State.RevertToSnapshot",
        "VirtualMachine.Interact.PowerOn",
        "VirtualMachine.Interact.PowerOff",
    ] {
        world.sim.tell("settings", json!({ "denied": [privilege] })).await;
        let on_folder = |f: &Finding| f.cause.contains(&format!("{privilege} on folder ")) && f.blocks();
        assert!(survey(&world, &machine, Location::Alternate).await.iter().any(on_folder), "{privilege}");
        let original = survey(&world, &machine, Location::Original).await;
        assert!(!original.iter().any(on_folder), "none is made there: {original:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_appliance_is_told_and_refuses_the_landing() {
    let Some((world, machine)) = ground().await else { return };
    let appliance = world.appliance.clone();
    world.reconfigure(&appliance, ConfigSpec { disk_uuid: Some(false), ..ConfigSpec::default() }).await;
    world.told("snapshot", &appliance, json!({ "name": "nightly" })).await;
    let found = survey(&world, &machine, Location::Original).await;
    assert_eq!(codes(&found, Severity::Critical), ["appliance.snapshots", "appliance.disk-uuid"]);
    assert!(named(&found, "appliance.snapshots").cause.contains("nightly"));
    world.stop(&machine.instance.name).await;
    let settings = Settings { datastore: Some("LocalDS_1".into()), ..Settings::default() };
    let existing = Some(machine.instance.clone());
    let refused = world.site.attach(&suite::op("attach"), &machine, existing, &settings).await.unwrap_err();
    assert_eq!((refused.kind(), refused.fact("field")), (ErrorKind::Refused, Some("appliance.snapshots")));
    assert!(world.site.power(&machine.instance).await.unwrap() != Power::On);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_says_what_keeps_it_from_being_protected_well() {
    let Some((world, machine)) = ground().await else { return };
    let name = machine.instance.name.clone();
    world.told("tools", &name, json!({ "running": false })).await;
    world.told("snapshot", &name, json!({ "name": "theirs" })).await;
    let found = survey(&world, &machine, Location::Original).await;
    assert_eq!(
        codes(&found, Severity::Warning),
        ["machine.tools"],
        "snapshots are the engine's to tell: {found:?}"
    );
    let found = world.site.check().await.unwrap();
    assert!(named(&found, "machine.tools").cause.starts_with("web has no"));
    assert!(named(&found, "snapshots").cause.contains("web"), "without an engine nobody else tells it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_machine_stands_on_the_appliances_host_under_a_name_that_is_free() {
    let Some((world, machine)) = ground().await else { return };
    world.machine("web-back", &[128]).await;
    let settings = |name: &str| Settings {
        datastore: Some("LocalDS_1".into()),
        location: Location::Alternate,
        name: Some(name.into()),
        ..Settings::default()
    };
    let found = world.site.survey(&machine, &settings("web-back")).await.unwrap().findings;
    assert_eq!(codes(&found, Severity::Warning), ["landing.name"]);
    let landed = world.site.attach(&suite::op("land"), &machine, None, &settings("web-new")).await.unwrap();
    let whole = async |name: &str| world.eyes.machine(&world.moref(name).await).await.unwrap();
    let (made, stands) = (whole(&landed.name).await, whole(&world.appliance).await);
    assert_eq!((made.name.as_str(), &made.host), ("web-new", &stands.host));
    assert!(
        made.details
            .unwrap()
            .devices
            .disks
            .iter()
            .all(|disk| { disk.backing.file.as_ref().is_some_and(|file| file.datastore() == "LocalDS_1") })
    );
    let found = world.site.survey(&machine, &settings("web-new")).await.unwrap().findings;
    assert_eq!(codes(&found, Severity::Warning), [""; 0], "it is the one that was made: {found:?}");
    world.site.remove(&suite::op("remove"), &landed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_discovery_is_not_complete_takes_no_machine_and_says_what_is_missing() {
    let Some((world, machine)) = ground().await else { return };
    // The server does not show the host any more, as before it has looked at it.
    let empty = "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\
                 <soapenv:Body><RetrievePropertiesExResponse xmlns=\"urn:vim25\"/></soapenv:Body></soapenv:Envelope>";
    let unseen = |holds: &str| {
        json!({ "path": "/sdk", "holds": holds, "kind": "body", "status": 200, "body": empty, "contentType": "text/xml",
                "count": 0 })
    };
    for (holds, code, word) in [
        ("summary.managementServerIp", "host.unseen", "not seen"),
        ("summary.maintenanceMode", "host.incomplete", "no datastore"),
        ("<pathSet>resourcePool</pathSet></propSet>", "host.incomplete", "no resource pool"),
    ] {
        world.sim.tell("http-fault", unseen(holds)).await;
        let found = survey(&world, &machine, Location::Alternate).await;
        let told = named(&found, code);
        assert!(told.blocks() && told.cause.contains(word), "{told:?}");
        assert!(told.cause.contains("discovery") && told.cause.contains("not complete"), "{told:?}");
        world.sim.tell("clear", json!({})).await;
    }
    let found = survey(&world, &machine, Location::Alternate).await;
    assert_eq!(codes(&found, Severity::Critical), [""; 0], "once it is complete, nothing is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_runs_and_that_no_means_reads_is_refused_at_protect_time() {
    let Some(sim) = Sim::start_with(MODE, &["--machines", "1", "--disk-size", "65536"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let site = open(&sim, dir.path().join("state")).open().await.unwrap();
    let machine = site.discover().await.unwrap().remove(0);
    let refused = site.enrol(&suite::op("enrol"), &machine).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(
        refused.message().contains("read by nothing that this site has")
            && refused.message().contains("appliance"),
        "{refused}"
    );
    let found = site.check().await.unwrap();
    assert_eq!(named(&found, "reading.none").severity, Severity::Warning);
    let moref = site.vim().find(&machine.instance.name).await.unwrap().unwrap();
    assert!(site.vim().snapshots(&moref).await.unwrap().is_empty(), "the snapshot of the trial is gone");
    let after = site.discover().await.unwrap().remove(0);
    assert_eq!(after.instance, machine.instance, "it is not enrolled");

    sim.tell("settings", json!({ "folder_locked": false })).await;
    site.enrol(&suite::op("enrol"), &machine).await.unwrap();
    assert!(
        codes(&site.check().await.unwrap(), Severity::Info).iter().all(|code| !code.starts_with("reading."))
    );
}

/// Calls that change nothing at the server beside the session.
const READS: &[&str] = &[
    "RetrieveServiceContent",
    "Login",
    "Logout",
    "CurrentTime",
    "CreateContainerView",
    "DestroyView",
    "RetrievePropertiesEx",
    "ContinueRetrievePropertiesEx",
    "FindAllByUuid",
    "HasPrivilegeOnEntities",
];

#[tokio::test(flavor = "multi_thread")]
async fn looking_reads_alone() {
    let Some((world, _)) = ground().await else { return };
    for appliance in [None, Some(world.appliance.as_str())] {
        world.sim.tell("calls", json!({ "reset": true })).await;
        let found = looked_at(&world.sim, appliance).await.unwrap();
        assert_eq!(found.iter().any(|f| f.code == "appliance.none"), appliance.is_none(), "{found:?}");
        let calls: Value = world.sim.tell("calls", json!({})).await;
        let soap = calls["soap"].as_object().unwrap();
        assert!(soap.contains_key("HasPrivilegeOnEntities") && soap.contains_key("Logout"), "{soap:?}");
        let changed: Vec<&String> = soap.keys().filter(|call| !READS.contains(&call.as_str())).collect();
        assert!(changed.is_empty(), "{changed:?}");
        assert!(calls["folder_bytes"].as_u64().unwrap() <= 1, "{calls}");
    }
    let wrong = looked_at(&world.sim, Some("5029c9d2-1e0c-4a4b-9d53-0d8c2c7a9f10")).await.unwrap();
    assert!(named(&wrong, "appliance.unseen").blocks());
    assert_eq!(wrong.iter().filter(|f| f.code == "server.kind").count(), 0, "{MODE:?}: {wrong:?}");
}
