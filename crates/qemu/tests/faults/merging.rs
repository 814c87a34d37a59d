//! A merge while it is under way: others have their turn, a capture waits for its end, nothing is parted any more, and one
//! that broke off holds no guest.

use crate::landed::Landed;
use crate::support::*;
use serde_json::{Value, json};
use site_recovery::*;
use site_recovery_testkit::suite::pattern;
use std::fs;

/// A machine with a branch that runs, and holds something above.
async fn branched() -> Landed {
    let landed = Landed::attached().await;
    let site = &landed.world.site;
    site.branch(&op("branch"), &landed.instance).await.unwrap();
    site.detach(&op("detach"), &landed.instance).await.unwrap();
    assert!(landed.start("start").await.running);
    for disk in 0..2 {
        landed.world.put("web", disk, 64 * KIB, &pattern(5, 64 * KIB as usize));
    }
    landed
}

/// What landing.json says.
fn note(landed: &Landed) -> Value {
    let text = fs::read(landed.world.path("web/.site-recovery/landing.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A copy that does not end by itself: a hair a second.
fn slow_down(landed: &Landed) {
    let mut monitor = landed.world.monitor("web").unwrap();
    for job in ["dr-copy-0", "dr-copy-1"] {
        let arguments = json!({ "job-id": job, "device": &job.replace("dr-copy-", "d"),
            "base-node": format!("{}-below", job.replace("dr-copy-", "d")), "auto-dismiss": false, "speed": 1 });
        monitor.call("block-commit", arguments).unwrap();
    }
}

#[test]
fn o1_while_a_branch_is_merged_others_have_their_turn_and_a_capture_waits() {
    on_qemu(async {
        let landed = branched().await;
        let truth = landed.truth();
        let (site, instance) = (&landed.world.site, &landed.instance);
        slow_down(&landed);
        let error = site.merge(&op("merge"), instance).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        let facts = ["done", "of"].map(|fact| error.fact(fact).and_then(|f| f.parse::<u64>().ok()));
        assert!(matches!(facts, [Some(done), Some(of)] if done <= of), "no progress: {error:?}");
        assert!(landed.world.is_on("web"), "it stands still while it is copied");

        site.claim(&op("claim"), &instance.machine).await.unwrap();
        let of = std::slice::from_ref(instance);
        let error = site.capture(&op("capture"), of, Consistency::Crash).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        let error = site.part(&op("part"), instance).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "what is below is written already: {error}");

        let mut monitor = landed.world.monitor("web").unwrap();
        for job in ["dr-copy-0", "dr-copy-1"] {
            monitor.call("block-job-set-speed", json!({ "device": job, "speed": 0 })).unwrap();
        }
        drop(monitor);
        landed.merge("merge").await.unwrap();
        assert!(landed.truth() == truth, "the machine's bytes are others");
        assert!(landed.world.is_on("web"));
        let capture = site.capture(&op("capture"), of, Consistency::Crash).await.unwrap();
        site.release(&op("capture"), &capture, &instance.machine, Fate::Sealed).await.unwrap();
    });
}

#[test]
fn o1_a_merge_that_broke_off_at_its_end_without_its_copies_lets_the_guest_go_on_first() {
    on_qemu(async {
        let landed = branched().await;
        let truth = landed.truth();
        // As a process leaves it that was killed right after its copies were called off.
        let path = landed.world.path("web/.site-recovery/landing.json");
        let mut text = note(&landed);
        (text["ending"], text["merging"]) = (json!(true), json!(true));
        fs::write(path, text.to_string()).unwrap();
        landed.world.monitor("web").unwrap().call("stop", Value::Null).unwrap();
        assert!(!landed.world.is_on("web"));

        let error = landed.world.site.merge(&op("merge"), &landed.instance).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(landed.world.is_on("web"), "it stands still while everything is copied anew");
        assert!(note(&landed)["ending"].is_null());
        landed.merge("merge").await.unwrap();
        assert!(landed.truth() == truth, "the machine's bytes are others");
        assert!(landed.world.is_on("web"));
    });
}

#[test]
fn o1_one_disk_that_was_taken_over_goes_back_when_the_other_one_is_not() {
    on_qemu(async {
        let landed = branched().await;
        let truth = landed.truth();
        slow_down(&landed);
        let (site, instance) = (&landed.world.site, &landed.instance);
        assert_eq!(site.merge(&op("merge"), instance).await.unwrap_err().kind(), ErrorKind::Busy);
        // The first disk is taken over, the copy of the second goes on; then the merger died.
        let mut monitor = landed.world.monitor("web").unwrap();
        monitor.call("stop", Value::Null).unwrap();
        monitor.call("block-job-set-speed", json!({ "device": "dr-copy-0", "speed": 0 })).unwrap();
        let mut status = |wanted: &str| {
            until(wanted, || {
                let jobs = monitor.call("query-jobs", Value::Null).unwrap();
                jobs.as_array().unwrap().iter().any(|j| j["id"] == "dr-copy-0" && j["status"] == wanted)
            });
            if wanted == "ready" {
                monitor.call("job-complete", json!({ "id": "dr-copy-0" })).unwrap();
            }
        };
        status("ready");
        status("concluded");
        drop(monitor);
        assert_eq!(landed.world.drives("web"), ["d0-below", "d1"]);
        let path = landed.world.path("web/.site-recovery/landing.json");
        let mut text = note(&landed);
        text["ending"] = json!(true);
        fs::write(path, text.to_string()).unwrap();

        assert_eq!(site.merge(&op("merge"), instance).await.unwrap_err().kind(), ErrorKind::Busy);
        assert!(landed.world.is_on("web"), "it stands still while everything is copied anew");
        for disk in 0..2 {
            landed.world.put("web", disk, 8 * KIB, &pattern(6, 4096));
        }
        landed.merge("merge").await.unwrap();
        for (disk, before) in truth.iter().enumerate() {
            let found = landed.world.content("web", disk);
            assert!(
                found[8192..12288] == pattern(6, 4096),
                "what was written in between is lost on disk {disk}"
            );
            assert!(found[12288..] == before[12288..], "disk {disk} holds other bytes");
        }
    });
}
