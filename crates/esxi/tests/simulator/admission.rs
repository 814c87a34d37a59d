//! Servers that are no host of ours to work with: told at once, with the reason and what to do.

use crate::support::process::{Mode, Sim};
use crate::{MODE, looked_at, open};
use serde_json::json;
use site_recovery::{Error, ErrorKind, Finding};

async fn refused(sim: &Sim) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let error = open(sim, state.clone()).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(!state.exists(), "a state directory is left");
    error
}

async fn told(sim: &Sim, code: &str) -> Finding {
    let found = looked_at(sim, None).await.unwrap();
    let told = found.into_iter().find(|f| f.code == code).expect("it is told");
    assert!(told.blocks(), "{told:?}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_licence_is_refused_with_the_reason_before_anything_changes() {
    let Some(sim) = Sim::start(MODE) else { return };
    sim.tell("settings", json!({ "restricted": true })).await;
    let error = refused(&sim).await;
    for word in ["RestrictedVersion", "free ESXi", "licence", "vCenter"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    sim.tell("settings", json!({ "restricted": false })).await;
    let dir = tempfile::tempdir().unwrap();
    open(&sim, dir.path().join("state")).open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vcenter_is_no_host() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let error = refused(&sim).await;
    assert!(error.to_string().contains("site_recovery_vsphere"), "{error}");
    let told = told(&sim, "server.kind").await;
    assert!(told.remedy.contains("site_recovery_vsphere"), "{told:?}");
}

/// The host as one that a vCenter manages would be told.
fn managed() -> serde_json::Value {
    let host = "<objects><obj type=\"HostSystem\">ha-host</obj><propSet><name>name</name><val>esx</val></propSet>\
                <propSet><name>summary.managementServerIp</name><val>10.0.0.5</val></propSet></objects>";
    let body = format!(
        "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body>\
         <RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval>{host}</returnval></RetrievePropertiesExResponse>\
         </soapenv:Body></soapenv:Envelope>"
    );
    json!({ "path": "/sdk", "holds": "summary.managementServerIp", "kind": "body", "status": 200, "body": body,
            "contentType": "text/xml", "count": 0 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_a_vcenter_manages_is_refused_with_its_vcenter_named() {
    let Some(sim) = Sim::start(MODE) else { return };
    sim.tell("http-fault", managed()).await;
    let error = refused(&sim).await;
    assert!(error.message().contains("10.0.0.5"), "{error}");
    let told = told(&sim, "server.managed").await;
    assert!(told.cause.contains("10.0.0.5"), "{told:?}");
}
