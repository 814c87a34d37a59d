//! What readiness tells of a subscription, and that it changes nothing.

use crate::ground::{ACCOUNT, CONTAINER, Ground};
use crate::{drill, opened};
use serde_json::json;
use site_recovery::{ErrorKind, Finding, Recovery, RecoverySite, Settings, Severity, SystemClock};
use site_recovery_azure::Subscription;
use std::sync::Arc;

fn codes(found: &[Finding], severity: Severity) -> Vec<&str> {
    found.iter().filter(|finding| finding.severity == severity).map(|finding| finding.code.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_right_has_nothing_critical_and_is_not_changed() {
    let ground = Ground::new(|_| {}).await;
    let found = opened(&ground).check("azure".into()).await.expect("looked at");
    assert_eq!(codes(&found, Severity::Critical), [""; 0], "{found:?}");
    for code in
        ["group", "account", "container.none", "network", "test_network", "region.sizes", "region.quota"]
    {
        assert!(codes(&found, Severity::Info).contains(&code), "{code}: {found:?}");
    }
    let calls = ground.asked();
    let changes: Vec<_> = calls.iter().filter(|call| !call.starts_with("GET ")).collect();
    assert!(changes.iter().all(|call| call.ends_with("/oauth2/v2.0/token")), "{changes:?}");
    assert!(ground.blobs.log().iter().all(|entry| entry.method == "GET"), "{:?}", ground.blobs.log());
    assert_eq!(ground.blobs.blobs(ACCOUNT, CONTAINER), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_the_group_are_told_one_by_one() {
    let ground = Ground::new(|config| config.cores = 4).await;
    let azure = opened(&ground);
    let drill = drill(&azure, "a").await;
    let point = drill.sealed().await.expect("a point");
    let what = drill.recovery(&point).await.expect("a manifest");
    let replica: Arc<dyn site_recovery::Replica> = drill.points.clone();
    let made = RecoverySite::materialise(&drill.site, &drill.op("m"), &what, &replica).await;
    made.expect("disks");
    let other =
        Recovery { settings: Settings { name: Some("sr-test-b".into()), ..what.settings.clone() }, ..what };
    let other = RecoverySite::materialise(&drill.site, &drill.op("o"), &other, &replica).await;
    other.expect("disks");
    let before = ground.asked().len();
    let found = azure.check("azure".into()).await.expect("looked at");
    let asked = ground.asked().split_off(before);
    let times = |end: &str| asked.iter().filter(|call| call.ends_with(end)).count();
    // Usages once for the region, and once for all machines.
    assert_eq!((times("/usages"), times("/snapshots")), (2, 1), "{asked:?}");
    let told =
        |code: &str| found.iter().find(|finding| finding.code == code).map(|finding| finding.cause.as_str());
    assert!(told("container").is_some_and(|cause| cause.contains("points of 1 machines")), "{found:?}");
    assert!(
        told("group.inventory").is_some_and(|cause| cause.contains("2 machines, 2 disks, 2 of them")),
        "{found:?}"
    );
    // As Azure Site Recovery would: Azure itself imports it.
    assert!(told("azure.small_disk").is_some_and(|cause| cause.starts_with("sr-test-a-test: ")), "{found:?}");
    assert!(told("machine.size").is_some_and(|cause| cause.starts_with("sr-test-a-test: ")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_and_the_worst_first() {
    let lacks = |config: &mut fake_arm::Config| {
        config.hierarchical = true;
        config.accounts[0].location = "northeurope".into();
        config.cores = 0;
        config.rights = [vec!["*/read".into(), "Microsoft.Compute/*".into()], vec![]];
    };
    let ground = Ground::new(lacks).await;
    let settings = ground.settings(|told| {
        told["network"] = json!("nowhere");
        told["test_network"] = json!(null);
    });
    let found = Subscription::new(settings, Arc::new(SystemClock))
        .expect("settings")
        .check("azure".into())
        .await
        .expect("looked at");
    let critical = codes(&found, Severity::Critical);
    for code in ["account.namespace", "network.none", "region.quota", "rights"] {
        assert!(critical.contains(&code), "{code}: {found:?}");
    }
    assert_eq!(codes(&found, Severity::Warning), ["account.region", "test_network.unset"]);
    assert!(found.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)), "{found:?}");
    let lacking: Vec<_> = found.iter().filter(|finding| finding.code == "rights").map(|f| &f.cause).collect();
    let told = |what: &str| lacking.iter().any(|cause| cause.contains(what));
    assert!(
        told("networkInterfaces/write") && told("blobs/delete") && told("containers/write"),
        "{lacking:?}"
    );
    assert!(!told("disks/write") && !told("networkInterfaces/read"), "{lacking:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_group_or_a_sign_in_there_is_little_to_see() {
    let ground = Ground::new(|_| {}).await;
    let settings = ground.settings(|told| told["group"] = json!("elsewhere"));
    let azure = Subscription::new(settings, Arc::new(SystemClock)).expect("settings");
    let found = azure.check("azure".into()).await.expect("looked at");
    assert!(codes(&found, Severity::Critical).contains(&"group.none"), "{found:?}");
    ground.write("secret", "another");
    let error = opened(&ground).check("azure".into()).await.expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}
