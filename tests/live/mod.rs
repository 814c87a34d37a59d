//! What the tests with live guests share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod other;

use serde_json::Value;
use site_recovery::{Clock, ItemHandle, Policy, ProtectRequest, SystemClock, Vault};
use site_recovery_examples::live::LiveStage;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every live test runs.
pub const PROGRAMS: [&str; 5] =
    ["qemu-system-x86_64", "qemu-img", "qemu-storage-daemon", "e2fsck", "debugfs"];
/// Longer than anything takes under emulation on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Points are taken when a test says so.
pub const INTERVAL: Duration = Duration::from_secs(3600);

/// Takes a guest into care, and waits for its first point.
pub async fn protect(vault: &Vault, stage: &LiveStage, name: &str) -> ItemHandle {
    let request =
        ProtectRequest::machine(name).policy(Policy::every(INTERVAL)).settings(stage.settings(name));
    let item = vault.protect(request).await.unwrap();
    item.until_done().await.unwrap();
    item
}

/// Looks again and again, for a bounded time.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = SystemClock.now();
    while !holds() {
        assert!(SystemClock.now().since(began) < PATIENCE, "it never came: {what}");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
}

/// The image of a disk of a machine that was not fenced, by its place in the description.
pub fn image(dir: &Path, site: &str, name: &str, disk: usize) -> PathBuf {
    let dir = dir.join(site).join(name);
    let described: Value = serde_json::from_slice(&fs::read(dir.join("machine.json")).unwrap()).unwrap();
    dir.join("disks").join(described["disks"][disk]["file"].as_str().unwrap())
}
