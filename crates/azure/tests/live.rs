//! On real Azure, where somebody asks for it: a point, a machine of it in the network of drills, its capture, its fence, and all of it
//! removed again.
//!
//! - `SITE_RECOVERY_AZURE_SETTINGS`: a file with the crate's `Settings`, JSON. Its `test_network` has to be set, and be one that
//!   reaches nothing.
//! - `SITE_RECOVERY_AZURE_REALLY`: `yes`. It may make, run and remove things in that group and container.
//!
//! It costs minutes of the smallest size of machine that fits, and one small disk. What it makes bears names of its own, and is removed
//! also where it fails.
//!
//! **It was never run**: no subscription was at hand. What it does is run against our fakes by `tests/opened`.

#[path = "opened/drill.rs"]
mod drill;

use drill::Drill;
use futures_util::FutureExt;
use site_recovery::{Clock, Finding, SystemClock};
use site_recovery_azure::{Settings, StorageAccess, Subscription};
use site_recovery_azure_blob::{Container, Who};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

fn told() -> Option<Settings> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(file) = variable("SITE_RECOVERY_AZURE_SETTINGS") else {
        eprintln!("SKIPPED on real Azure: SITE_RECOVERY_AZURE_SETTINGS names no file with settings");
        return None;
    };
    if variable("SITE_RECOVERY_AZURE_REALLY").as_deref() != Some("yes") {
        eprintln!("SKIPPED on real Azure: SITE_RECOVERY_AZURE_REALLY is not yes");
        return None;
    }
    let text = std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    Some(serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{file}: {e}")))
}

/// The documents that stay for good where machines come and go: of this run, they are in nobody's way but of no use either.
async fn no_document_is_left(settings: &Settings, drill: &Drill, site: &str) {
    let Some(account) = settings.account.rsplit('/').next() else { panic!("no account") };
    let base = settings.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let base = base.unwrap_or_else(|| format!("https://{account}.{}", settings.cloud.blob_suffix));
    let stored = site_recovery_azure_blob::Settings {
        container: format!("{base}/{}", settings.container),
        trust: settings.trust.clone(),
        limits: settings.limits.storage,
    };
    if settings.storage != StorageAccess::SignIn {
        eprintln!("left in the container, as a key was named: m/{}/state, s/{site}/", drill.machine.id());
        return;
    }
    let credential =
        settings.sign_in.credential(&settings.cloud, &settings.trust).expect("it signed in before");
    let container = Container::new(&stored, Who::Signed(credential)).expect("it was opened before");
    for prefix in [format!("m/{}/", drill.machine.id()), format!("s/{site}/")] {
        for listed in container.list(&prefix).await.expect("listed") {
            container.pages(&listed.name).delete_all().await.expect("deleted");
        }
        assert_eq!(container.list(&prefix).await.expect("listed"), [], "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_on_real_azure_leaves_nothing() {
    let Some(settings) = told() else { return };
    let network = settings.test_network.clone().expect("test_network has to be set");
    let tag = format!("{:x}", SystemClock.now().0);
    let site = format!("sr-live-{tag}");
    let azure = Subscription::new(settings.clone(), Arc::new(SystemClock)).expect("right settings");
    let found = azure.check(site.as_str().into()).await.expect("looked at");
    for finding in &found {
        eprintln!("{:?} {}: {}", finding.severity, finding.code, finding.cause);
    }
    assert!(!found.iter().any(Finding::blocks), "something critical stands in the way");
    let points = azure.points("points".into()).await.expect("they open");
    let opened = azure.site(site.as_str().into(), Some(&points)).await.expect("it opens");
    let drill = Drill::new(&tag, points, opened, &network);
    let ran = AssertUnwindSafe(drill.run()).catch_unwind().await;
    let cleaned = drill.clean().await;
    if cleaned.is_ok() {
        no_document_is_left(&settings, &drill, &site).await;
    }
    match ran {
        Ok(ran) => ran.expect("a drill"),
        Err(panic) => resume_unwind(panic),
    }
    cleaned.expect("nothing is left");
}
