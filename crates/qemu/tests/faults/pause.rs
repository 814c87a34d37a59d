//! The pause of a machine with several disks, as another monitor sees it.

use crate::protected::*;
use crate::support::*;
use site_recovery::*;
use std::time::Duration;

#[test]
fn d3_every_stop_of_a_capture_is_followed_by_its_resume() {
    on_qemu(async {
        let protected = Protected::running_in(World::new().await).await;
        let mut monitor = protected.world.monitor("web").unwrap();
        monitor.take_events();
        let mut pauses = vec![];
        for round in 0..10 {
            let capture = protected.capture(&format!("capture {round}")).await.unwrap();
            // The RESUME comes before the answer to `cont`, and that came before the capture.
            let events = monitor.take_events();
            let seen: Vec<_> =
                events.iter().filter(|e| ["STOP", "RESUME"].contains(&e.name.as_str())).collect();
            let names: Vec<_> = seen.iter().map(|e| e.name.as_str()).collect();
            assert_eq!(names, ["STOP", "RESUME"], "round {round}");
            pauses.push(seen[1].at.unwrap().saturating_sub(seen[0].at.unwrap()));
            protected.release(&format!("capture {round}"), &capture, Fate::Abandoned).await.unwrap();
            assert!(monitor.take_events().iter().all(|e| e.name != "STOP"), "a release pauses nobody");
        }
        let longest = pauses.iter().max().unwrap();
        println!("paused for {pauses:?}, at most {longest:?}");
        assert!(*longest < Duration::from_secs(2), "longer than the limit of a pause: {longest:?}");
        drop(monitor);
        protected.is_as_before();
    });
}

#[test]
fn o5_a_guest_that_a_person_paused_stays_paused_and_one_that_we_paused_goes_on() {
    on_qemu(async {
        let protected = Protected::running_in(World::new().await).await;
        let world = &protected.world;
        world.monitor("web").unwrap().call("stop", serde_json::Value::Null).unwrap();
        let first = protected.seal("first").await;
        assert!(!world.is_on("web"), "a capture resumed what a person had paused");
        protected.site().sweep(&op("sweep"), &protected.instance, &[]).await.unwrap();
        assert!(!world.is_on("web"), "a sweep resumed what a person had paused");
        world.monitor("web").unwrap().call("cont", serde_json::Value::Null).unwrap();
        world.put("web", 0, 0, b"on again");
        let second = protected.seal_delta("second", &first).await.expect("tracking was kept");
        protected.is_as_before();

        // As a capture leaves it that was killed in the middle, its watchdog with it.
        world.monitor("web").unwrap().call("stop", serde_json::Value::Null).unwrap();
        std::fs::write(world.path("web/.site-recovery/paused.json"), "0").unwrap();
        protected.site().sweep(&op("sweep"), &protected.instance, &[]).await.unwrap();
        protected.is_as_before();
        world.monitor("web").unwrap().call("stop", serde_json::Value::Null).unwrap();
        protected.site().sweep(&op("sweep"), &protected.instance, &[]).await.unwrap();
        assert!(!world.is_on("web"), "the note of an older pause was taken for this one's");
        world.monitor("web").unwrap().call("cont", serde_json::Value::Null).unwrap();
        protected.seal_delta("third", &second).await.expect("tracking was kept");
    });
}
