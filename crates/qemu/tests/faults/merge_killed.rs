//! The process that merges a branch is killed while the guest writes. Whatever QEMU comes to afterwards, nothing that the
//! guest had on its disks is gone.

use crate::another_process::{Another, ready, told};
use crate::boot_sector::{ERROR, WRITTEN, writer};
use crate::landed::{Landed, turns_off};
use crate::support::*;
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::clock::SeededRandom;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const AT_MOST: Duration = Duration::from_secs(18);

/// Merges once.
#[test]
#[ignore = "is run by others, to be killed"]
fn the_merger() {
    let Some(told) = told() else { return };
    let (root, key, instance): (PathBuf, String, Instance) = serde_json::from_str(&told).unwrap();
    on_qemu(async {
        let site = builder(&root).open().await.unwrap();
        ready();
        answered("merge", || async { site.merge(&op(&key), &instance).await }).await.unwrap();
    });
}

/// A machine whose guest counts on both its disks.
async fn counting() -> (Landed, PathBuf) {
    let world = World::new().await;
    world.machine("web");
    // The BIOS boots from no disk of less than a cylinder.
    run("qemu-img", &["resize", "-q", text_of(&world.image("web", 0)), "1M"]);
    world.put("web", 0, 0, &writer());
    let told = world.dir.path().join("told");
    let path = world.path("web/machine.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let arguments = text["arguments"].as_array_mut().unwrap();
    arguments.extend([json!("-debugcon"), json!(format!("file:{}", told.display()))]);
    fs::write(path, text.to_string()).unwrap();
    world.site.power_on("web").await.unwrap();
    world.enrol("web").await;
    (Landed::attached_in(world).await, told)
}

/// How far the guest has counted.
fn counted(told: &Path) -> u32 {
    let told = fs::read(told).unwrap_or_default();
    assert!(!told.contains(&ERROR), "the guest saw an error");
    told.len() as u32
}

fn counts_on(told: &Path) {
    let before = counted(told);
    until("the guest counts on", || counted(told) > before + 40);
}

/// Whether the merge was at its end when it was killed, by its own note.
fn was_ending(world: &World) -> bool {
    let text = fs::read(world.path("web/.site-recovery/landing.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["ending"].is_boolean()
}

/// Both disks hold every count that the guest has told; the one that it was at may be there already.
fn holds(landed: &Landed, told: u32, when: &str) {
    for (n, bytes) in landed.truth().iter().enumerate() {
        for place in 0..WRITTEN {
            let last = (0..=told).rev().find(|c| c % WRITTEN == place).filter(|c| *c > 0);
            let Some(last) = last else { continue };
            let at = (place as usize + 1) * 512;
            let found = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let under_way = told + 1 == found && found % WRITTEN == place;
            assert!(
                found == last || under_way,
                "{when}: disk {n}, sector {}: {found} of {told}, not {last}",
                place + 1
            );
        }
    }
}

#[test]
fn d6_a_merger_killed_at_any_moment_costs_no_byte_whether_qemu_lives_on_or_dies_after_it() {
    on_qemu(async {
        let seed = std::env::var("SITE_RECOVERY_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("SITE_RECOVERY_SEED={seed}");
        let (random, begun) = (SeededRandom::new(seed), now());
        let (mut landed, told) = counting().await;
        let (mut rounds, mut inside, mut ending) = (0, 0, 0);
        while rounds < 14 && (begun.elapsed() < AT_MOST || inside == 0) {
            rounds += 1;
            let key = |what: &str| op(&format!("{what} {rounds}"));
            let site = &landed.world.site;
            let again = Some(landed.machine.instance.clone());
            site.attach(&key("attach"), &landed.machine, again, &Settings::default()).await.unwrap();
            site.branch(&key("branch"), &landed.instance).await.unwrap();
            site.detach(&key("detach"), &landed.instance).await.unwrap();
            assert!(landed.start(&format!("start {rounds}")).await.running);
            counts_on(&told);

            let merge = json!([landed.world.root(), format!("merge {rounds}"), landed.instance]).to_string();
            let merger = Another::start("merge_killed::the_merger", &merge);
            std::thread::sleep(Duration::from_millis(random.below(500)));
            inside += u32::from(merger.kill());
            ending += u32::from(was_ending(&landed.world));
            landed.world.site = landed.world.again().await;
            let site = &landed.world.site;
            if rounds % 2 == 0 {
                // The guest runs on for a while, as far as it does; then QEMU dies, with all on disk that it was told.
                std::thread::sleep(Duration::from_millis(100));
                let mut monitor = landed.world.monitor("web").unwrap();
                monitor.call("stop", Value::Null).unwrap();
                drop(monitor);
                let count = counted(&told);
                landed.world.flush("web");
                landed.world.kill("web");
                turns_off(site, &landed.instance).await;
                holds(&landed, count, "killed after its merger");
                landed.merge(&format!("merge {rounds}")).await.unwrap();
                holds(&landed, count, "merged after that");
            } else {
                landed.merge(&format!("merge {rounds}")).await.unwrap();
                counts_on(&told);
                site.stop(&key("stop"), &landed.instance, Duration::ZERO).await.unwrap();
                holds(&landed, counted(&told), "merged by another");
            }
            assert!(!landed.world.image("web", 0).to_string_lossy().ends_with(".branch"), "it is not merged");
        }
        println!("killed {inside} of {rounds} times inside a merge, {ending} times at its end");
        assert!(inside > 0, "it was never killed inside a merge");
    });
}
