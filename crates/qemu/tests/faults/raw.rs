//! Raw disks: tracked while the machine runs, and never longer.

use crate::protected::*;
use crate::support::*;
use serde_json::json;
use site_recovery::*;
use std::fs;

/// A machine whose disks are raw.
async fn raw_machine() -> Protected {
    let world = World::new().await;
    world.machine("web");
    for disk in ["root", "data"] {
        let [from, to] = ["qcow2", "raw"].map(|f| world.path(format!("web/disks/{disk}.{f}")));
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text_of(&from), text_of(&to)]);
        fs::remove_file(from).unwrap();
    }
    let path = world.path("web/machine.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    text["disks"] = json!([
        { "id": "root", "file": "root.raw", "format": "raw" },
        { "id": "data", "file": "data.raw", "format": "raw" },
    ]);
    fs::write(path, text.to_string()).unwrap();
    world.site.power_on("web").await.unwrap();
    let instance = world.enrol("web").await;
    Protected { world, instance }
}

#[test]
fn d4_raw_disks_are_tracked_while_the_machine_runs_and_compared_after_a_stop() {
    on_qemu(async {
        let protected = raw_machine().await;
        let world = &protected.world;
        let first = protected.seal("first").await;
        world.put("web", 1, 64 * KIB, b"while it runs");
        let second = protected.seal_delta("second", &first).await.expect("a raw disk has volatile bitmaps");
        world.put("web", 0, 0, b"once more");
        let third = protected.seal_delta("third", &second).await.expect("a raw disk has volatile bitmaps");

        world.put("web", 1, 0, b"before the stop");
        world.switch_off("web");
        world.site.power_on("web").await.unwrap();
        assert!(
            protected.seal_delta("after a stop", &third).await.is_none(),
            "nothing kept what was tracked"
        );

        let fourth = protected.seal("fourth").await;
        world.kill("web");
        world.site.power_on("web").await.unwrap();
        assert!(protected.seal_delta("after a kill", &fourth).await.is_none());
    });
}

#[test]
fn d4_a_raw_machine_that_is_off_is_captured_and_compared() {
    on_qemu(async {
        let protected = raw_machine().await;
        let first = protected.seal("first").await;
        protected.world.put("web", 1, 0, b"before the stop");
        protected.world.switch_off("web");
        let capture = protected.capture("off").await.unwrap();
        assert!(protected.image("off", &capture).await.unwrap() == protected.truth());
        assert!(matches!(protected.changes(&capture, &first).await, Changes::Lost { .. }));
        protected.release("off", &capture, Fate::Sealed).await.unwrap();
        assert_eq!(protected.world.captures("web"), 0);
    });
}
