//! Azure as a user opens it, by settings alone, on our fakes of Resource Manager, sign-in and Blob Storage: `tests/fake-arm`,
//! `tests/fake-blob`.

mod chosen;
mod drill;
mod ground;
mod ready;
mod rights;

use drill::Drill;
use ground::{ACCOUNT, CONTAINER, Ground, SECRET};
use serde_json::json;
use site_recovery::{ErrorKind, SystemClock};
use site_recovery_azure::Subscription;
use std::sync::Arc;

fn opened(ground: &Ground) -> Subscription {
    Subscription::new(ground.settings(|_| {}), Arc::new(SystemClock)).expect("right settings")
}

pub(crate) async fn drill(azure: &Subscription, tag: &str) -> Drill {
    let points = azure.points("points".into()).await.expect("they open");
    let site = azure.site("azure".into(), Some(&points)).await.expect("it opens");
    Drill::new(tag, points, site, "isolated")
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_open_both_roles_and_nothing_of_a_drill_is_left() {
    let ground = Ground::new(|_| {}).await;
    let drill = drill(&opened(&ground), "a").await;
    drill.run().await.expect("a drill");
    for kind in ["virtualMachines", "disks", "snapshots"] {
        assert_eq!(ground.names(&format!("Microsoft.Compute/{kind}")), [""; 0], "{kind}");
    }
    assert_eq!(ground.names("Microsoft.Network/networkInterfaces"), [""; 0]);
    let left = ground.blobs.blobs(ACCOUNT, CONTAINER).into_iter();
    let (withdrawn, left): (Vec<_>, Vec<_>) = left.partition(|name| name.starts_with("s/azure/withdrawn/"));
    assert_eq!(left, ["m/sr-test-a/state", "s/azure/register/sr-test-a"], "the epochs, for good");
    assert_eq!(withdrawn.len(), 1, "that its key makes nothing any more, for good: {withdrawn:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drill_that_failed_has_left_is_removed() {
    let ground = Ground::new(|_| {}).await;
    let drill = drill(&opened(&ground), "a").await;
    let point = drill.sealed().await.expect("a point");
    let what = drill.recovery(&point).await.expect("a manifest");
    let replica: Arc<dyn site_recovery::Replica> = drill.points.clone();
    site_recovery::RecoverySite::materialise(&drill.site, &drill.op("materialise"), &what, &replica)
        .await
        .expect("disks");
    assert_eq!(ground.names("Microsoft.Compute/disks").len(), 1);
    drill.clean().await.expect("it goes");
    drill.clean().await.expect("and is gone");
    assert_eq!(ground.names("Microsoft.Compute/disks"), [""; 0]);
    assert_eq!(ground.names("Microsoft.Compute/snapshots"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_bad_settings_are_refused_before_anything_is_asked() {
    let ground = Ground::new(|_| {}).await;
    let clock = Arc::new(SystemClock);
    for (field, value) in [
        ("region", json!("West Europe")),
        ("limits", json!({ "manager": { "tries": 0 } })),
        ("limits", json!({ "storage": { "blob_bytes": 1 } })),
        ("trust", json!({ "ca": "/nowhere.pem" })),
        ("storage", json!({ "account_key": { "file": "/nowhere" } })),
        ("test_network", json!("vnet")),
    ] {
        let settings = ground.settings(|told| told[field] = value.clone());
        let error = Subscription::new(settings, clock.clone()).expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}: {error}");
        assert!(error.fact("field").is_some(), "{field}: {error:?}");
    }
    assert_eq!((ground.asked(), ground.blobs.log()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_secret_that_is_wrong_is_refused_and_shown_to_nobody() {
    let ground = Ground::new(|_| {}).await;
    let azure = opened(&ground);
    let settings = format!("{azure:?} {:?}", azure.settings());
    assert!(!settings.contains(SECRET), "{settings}");
    ground.write("secret", "canary-of-yesterday");
    let error = azure.site("azure".into(), None).await.expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    assert!(!ground.manager.recording().iter().any(|line| line.to_string().contains("canary")));
    // It is read anew.
    ground.write("secret", SECRET);
    azure.site("azure".into(), None).await.expect("known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_account_is_taken_where_it_is_named() {
    let ground = Ground::new(|_| {}).await;
    let key = ground.write("key", "bm8tc3VjaC1rZXk=");
    let settings = ground.settings(|told| told["storage"] = json!({ "account_key": { "file": key } }));
    let azure = Subscription::new(settings, Arc::new(SystemClock)).expect("right settings");
    let error = azure.points("points".into()).await.expect_err("another key");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(ground.asked().is_empty(), "no token was asked for");
    assert!(!format!("{error:?} {azure:?}").contains("bm8t"), "{error:?}");
}
