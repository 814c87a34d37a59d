//! Servers that are no host of ours to work with: told at once, with the reason and what to do.

use crate::process::{Mode, Sim};
use crate::{MODE, open, open_with};
use serde_json::json;
use site_recovery::ErrorKind;

#[tokio::test(flavor = "multi_thread")]
async fn a_free_licence_is_refused_with_the_reason_before_anything_changes() {
    let Some(sim) = Sim::start(MODE) else { return };
    let dir = tempfile::tempdir().unwrap();
    sim.tell("settings", json!({ "restricted": true })).await;
    let error = open(&sim, dir.path().join("state")).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for word in ["RestrictedVersion", "free ESXi", "licence", "vCenter"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    sim.tell("settings", json!({ "restricted": false })).await;
    open(&sim, dir.path().join("state")).open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vcenter_is_no_host() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let dir = tempfile::tempdir().unwrap();
    let error = open_with(sim.settings.clone(), dir.path().join("state")).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("site_recovery_vsphere"), "{error}");
}
