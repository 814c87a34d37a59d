//! What the firmware and the TPM of a machine keep travels with it, and a firmware that the other side lacks is found
//! before anybody needs it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod live;

use live::*;
use serde_json::{Value, json};
use site_recovery::{Consistency, DrillRequest, ErrorKind, Policy, ProtectRequest};
use site_recovery_examples::live::{Emulator, Guest, GuestOptions, LiveStage};
use site_recovery_guest::peers;
use std::fs;
use std::path::Path;

/// Firmware descriptors of the host.
const DESCRIPTORS: &str = "/usr/share/qemu/firmware";

/// A guest on a machine that is described so.
fn described(fields: Value) -> GuestOptions {
    let described = fields.as_object().unwrap().clone();
    GuestOptions { words: "delay=50".into(), described, ..GuestOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn variables_and_tpm_travel_with_the_point() {
    if !peers("a guest with UEFI and a TPM", &[&PROGRAMS[..], &["swtpm"]].concat()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let stage = LiveStage::open(dir.path(), &Emulator::default()).await.unwrap();
    let options = described(json!({ "machine": "q35", "firmware": "uefi", "tpm": true }));
    let a = stage.add_guest("web", &options).await.unwrap();
    let first = started(&a, 1).await;
    let vault = stage.builder().await.unwrap().build().await.unwrap();
    let web = protect(&vault, &stage, "web").await;

    // What the first copy has not seen.
    let again = a.clone().from_here();
    stage.machines.ask("here", "web", "system_reset", Value::Null).unwrap();
    // Also while the firmware writes.
    while !again.lines().iter().any(|l| l.starts_with("GUEST")) {
        vault.take_point(web.id(), Consistency::Crash).await.unwrap();
    }
    let second = started(&again, 2).await;
    assert!(second > first, "{first}, {second}");
    again.writes(5).await.unwrap();
    vault.take_point(web.id(), Consistency::Crash).await.unwrap();

    web.test_failover(DrillRequest::default()).await.unwrap().done().await.unwrap();
    let b = stage.guest_of(&web.item().unwrap().drill.unwrap().armed.unwrap().instance);
    let third = started(&b, 3).await;
    assert!(third > second, "the TPM there has its own history: {second}, {third}");
    b.writes(5).await.unwrap();
    assert!(b.lines().iter().any(|l| l.starts_with("GUEST B-web")));
    web.clean_up_test().await.unwrap().done().await.unwrap();
    again.writes(1).await.unwrap();
}

/// Waits until a guest writes, which says that its firmware has seen so many starts. How often its TPM was started.
async fn started(guest: &Guest, starts: u32) -> u32 {
    guest.writes(5).await.unwrap();
    let lines = guest.lines();
    let of = |what: &str| lines.iter().find_map(|l| l.strip_prefix(what)?.parse().ok());
    assert_eq!(of("EFI yes starts="), Some(starts), "{lines:?}");
    assert!(lines.iter().any(|l| l == "SECUREBOOT off"));
    of("TPM 2 resets=").unwrap_or_else(|| panic!("no TPM: {lines:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn o7_secure_boot_that_the_other_side_lacks_is_found_before_it_is_needed() {
    if !peers("a machine with Secure Boot", &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("firmware");
    without_secure_boot(&plain);
    let emulator = Emulator::default();
    let stage = LiveStage::open_with(dir.path(), &emulator, |name, site| {
        if name == "cloud" { site.firmware(vec![plain.clone()]) } else { site }
    });
    let stage = stage.await.unwrap();
    for (name, firmware) in [("open", "uefi"), ("locked", "uefi-secure")] {
        stage.make_guest(name, &described(json!({ "machine": "q35", "firmware": firmware }))).unwrap();
    }
    let vault = stage.builder().await.unwrap().build().await.unwrap();
    let request = |name| {
        let policy = Policy::every(INTERVAL);
        ProtectRequest::machine(name).policy(policy).settings(stage.settings(name))
    };
    let error = vault.protect(request("locked")).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Refused, Some("target.firmware")), "{error}");
    assert!(error.message().contains("Secure Boot"), "{error}");
    assert!(vault.items().is_empty());
    // The other one has what it needs.
    vault.protect(request("open")).await.unwrap().until_done().await.unwrap();

    // Why that matters: with that firmware, a disk that nobody has signed boots nowhere.
    stage.here.power_on("locked").await.unwrap();
    let guest = stage.guest("here", "locked");
    let no = |lines: &[String]| lines.iter().find(|l| l.contains("Access Denied")).cloned();
    guest.wait_for("the firmware's refusal", no).await.unwrap();
    assert!(!guest.lines().iter().any(|l| l.starts_with("GUEST")));
}

/// A directory of descriptors like the host's, but for those of firmware with Secure Boot.
fn without_secure_boot(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for entry in fs::read_dir(DESCRIPTORS).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if !text.contains("\"secure-boot\"") {
            fs::write(dir.join(path.file_name().unwrap()), text).unwrap();
        }
    }
    assert_ne!(fs::read_dir(dir).unwrap().count(), 0, "{DESCRIPTORS} has no firmware for this");
}
