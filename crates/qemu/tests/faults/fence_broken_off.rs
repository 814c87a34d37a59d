//! The process that fences is killed while the guest, which does not listen, has time to shut down.
//!
//! The process is this test's own program, run once more with the case [`the_fencer`] alone.

use crate::another_process::{Another, ready, told};
use crate::landed::turns_off;
use crate::support::*;
use site_recovery::*;
use site_recovery_testkit::suite::permit;
use std::path::Path;
use std::time::Duration;

/// Fences a machine that is given more time than anybody waits.
#[test]
#[ignore = "is run by others, to be killed"]
fn the_fencer() {
    let Some(dir) = told() else { return };
    on_qemu(async {
        let site = builder(&Path::new(&dir).join("site")).open().await.unwrap();
        let instance = site.discover().await.unwrap().remove(0).instance;
        ready();
        site.fence(&op("fence"), &instance, 10 * BOUND).await.unwrap();
        panic!("it ended before it was killed");
    });
}

/// A machine whose guest was asked to shut down by a process that is no more, and that may still obey.
async fn asked() -> (World, Machine) {
    let world = World::new().await;
    world.enrolled("web").await;
    let machine = world.found("web").await;
    let fencer = Another::start("fence_broken_off::the_fencer", world.dir.path().to_str().unwrap());
    let mut monitor = world.monitor("web").unwrap();
    monitor.wait_for(BOUND, |event| event.name == "POWERDOWN").unwrap();
    assert!(fencer.kill(), "the fence ended by itself");
    drop(monitor);
    assert!(world.is_on("web") && !world.path("web/fenced").exists(), "it was to be killed in the middle");
    (world, machine)
}

fn later(key: &str) -> Op {
    Op { epoch: Epoch { number: 2, owner: "engine".into() }, ..op(key) }
}

#[test]
fn src_12_a_fence_that_was_broken_off_is_over_when_claim_returns() {
    on_qemu(async {
        let (world, machine) = asked().await;
        let site = world.again().await;
        site.claim(&later("claim"), machine.id()).await.unwrap();
        assert!(!world.is_on("web"), "it may still obey, and the next engine knows nothing of it");
        let start = turns_off(&site, &machine.instance).await;
        assert!(matches!(start, StartGuard::Blocked { .. }), "{start:?}");
        // What it was before the fence, the mark tells.
        let op = later("lift");
        let permit = permit(&op, &machine).await;
        let lifted = site.unfence(&op, &machine.instance, permit, Start::AsBefore).await.unwrap();
        assert!(lifted.running && world.is_on("web"));
    });
}

#[test]
fn src_12_a_fence_that_was_broken_off_is_over_when_unfence_returns() {
    on_qemu(async {
        let (world, machine) = asked().await;
        let was_asked = pid(&world.place("web").join("pid")).unwrap();
        let (site, op) = (world.again().await, op("lift"));
        let permit = permit(&op, &machine).await;
        let lifted = site.unfence(&op, &machine.instance, permit, Start::Run).await.unwrap();
        assert!(lifted.running && world.is_on("web"));
        let runs = pid(&world.place("web").join("pid")).unwrap();
        assert_ne!(runs, was_asked, "the process that may still obey is taken for the one that was started");
    });
}

#[test]
fn src_12_a_fence_that_was_broken_off_is_carried_on_by_a_repeat() {
    on_qemu(async {
        let (world, machine) = asked().await;
        let site = world.again().await;
        site.fence(&op("fence"), &machine.instance, Duration::ZERO).await.unwrap();
        let start = turns_off(&site, &machine.instance).await;
        assert!(matches!(start, StartGuard::Blocked { .. }) && !world.is_on("web"), "{start:?}");
        let mark = std::fs::read(world.path("web/.site-recovery/fence.json")).unwrap();
        let mark: serde_json::Value = serde_json::from_slice(&mark).unwrap();
        assert_eq!((&mark["ran_before"], &mark["asked"]), (&true.into(), &false.into()), "{mark}");
    });
}
