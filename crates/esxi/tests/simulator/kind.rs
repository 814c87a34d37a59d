//! What is no host of its own is found at once, and told.

use crate::process::{Mode, Sim};
use crate::{MODE, looked_at, open};
use serde_json::json;
use site_recovery::ErrorKind;

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
    let Some(sim) = Sim::start_with(MODE, &["--machines", "1", "--disk-size", "65536"]) else { return };
    sim.tell("http-fault", managed()).await;
    let dir = tempfile::tempdir().unwrap();
    let refused = open(&sim, dir.path().join("state")).open().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().contains("10.0.0.5"), "{refused}");
    let told = looked_at(&sim, None).await.unwrap();
    let told = told.iter().find(|f| f.code == "server.managed").expect("it is told");
    assert!(told.blocks() && told.cause.contains("10.0.0.5"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_licence_is_refused_at_once_and_explained() {
    let Some(sim) = Sim::start_with(MODE, &["--machines", "1", "--disk-size", "65536"]) else { return };
    sim.tell("settings", json!({ "restricted": true })).await;
    let dir = tempfile::tempdir().unwrap();
    let refused = open(&sim, dir.path().join("state")).open().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(
        refused.message().contains("RestrictedVersion") && refused.message().contains("licence"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vcenter_is_no_host() {
    let Some(sim) = Sim::start_with(Mode::VCenter, &["--machines", "1", "--disk-size", "65536"]) else {
        return;
    };
    let told = looked_at(&sim, None).await.unwrap();
    let told = told.iter().find(|f| f.code == "server.kind").expect("it is told");
    assert!(told.blocks() && told.remedy.contains("site_recovery_vsphere"), "{told:?}");
}
