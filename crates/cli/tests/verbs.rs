//! Verbs for a bad day, each to its end on real files: a boot that is refused, a member that leaves its group, a side that is lost.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use support::Ground;

/// Started by hand and by us it runs while `up` is there; as long as `broken` is there no start brings it up.
const FRAIL: &str = r#"{
    "start": { "run": ["/bin/sh", "-c", "test -e broken || touch up"] },
    "stop": { "run": ["/bin/rm", "-f", "up"] },
    "is_running": { "run": ["/usr/bin/test", "-e", "up"] } }"#;

fn frail(ground: &Ground, machine: &str) {
    fs::create_dir_all(ground.path("here").join(machine)).unwrap();
    fs::write(ground.path("here").join(machine).join("up"), "").unwrap();
    ground.machine_with(machine, 1, FRAIL);
}

fn runs(ground: &Ground, machine: &str) -> bool {
    ground.path("here").join(machine).join("up").exists()
}

#[track_caller]
fn same(ground: &Ground, machine: &str) {
    assert_eq!(ground.disks("here", machine), ground.disks("cloud", machine), "{machine}");
}

#[test]
fn a_refused_boot_waits_for_a_person_and_is_tried_again() {
    let ground = Ground::new();
    frail(&ground, "web");
    for words in ["protect web", "failover web", "commit web --yes", "reprotect web"] {
        ground.run(words).with(0);
    }
    assert!(!runs(&ground, "web"));
    ground.write("cloud", "web", 4096, "written over there");
    ground.run("replicate web").with(0);
    fs::write(ground.path("here/web/broken"), "").unwrap();
    let back = ground.run("failback web --unplanned --yes --reason dark --json").with(7).json();
    assert_eq!(back["job"]["outcome"], "needs_person");
    assert!(back["job"]["why"].as_str().unwrap().contains("does not run now"), "{back}");
    assert!(back["job"]["items"][0]["allowed"].as_array().unwrap().contains(&"retry".into()), "{back}");
    // As long as nothing is mended, it is refused again.
    ground.run("retry web").with(7);
    assert!(!runs(&ground, "web"));

    fs::remove_file(ground.path("here/web/broken")).unwrap();
    let again = ground.run("retry web --json").with(0).json();
    assert_eq!(again["job"]["items"][0]["runs_at"], "here");
    assert!(runs(&ground, "web"));
    same(&ground, "web");
    ground.run("retry web").with(3);
    ground.run("commit web --yes").with(0);
}

#[test]
fn a_member_whose_boot_was_refused_leaves_and_the_others_come_up() {
    let ground = Ground::new();
    let file = ground.path("site-recovery.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, settings + "\n[groups.shop]\nmachines = [\"app\", \"db\"]\n").unwrap();
    for machine in ["app", "db"] {
        frail(&ground, machine);
    }
    for words in ["protect shop", "failover shop", "commit shop --yes", "reprotect shop", "replicate shop"] {
        ground.run(words).with(0);
    }
    ground.run("leave db").with(3);
    fs::write(ground.path("here/db/broken"), "").unwrap();
    ground.run("failback shop --unplanned --yes --reason dark").with(7);
    let left = ground.run("leave db --json").with(0).json();
    let alone = &left["done"]["items"][0];
    assert_eq!((&alone["machine"], &alone["group"]), (&"db".into(), &serde_json::Value::Null));

    ground.run("retry shop").with(0);
    assert!(runs(&ground, "app") && !runs(&ground, "db"));
    same(&ground, "app");
    ground.run("commit shop --yes").with(0);
    fs::remove_file(ground.path("here/db/broken")).unwrap();
    ground.run("retry db").with(0);
    assert!(runs(&ground, "db"));
    same(&ground, "db");
    assert_eq!(ground.phase("app"), "CommitFailoverCompleted");
    assert_eq!(ground.phase("db"), "UnplannedFailoverCompleted");
}

#[test]
fn the_last_resort_starts_the_other_side_where_the_active_one_is_lost() {
    let ground = Ground::new();
    ground.machine("web", 1);
    for words in ["protect web", "failover web", "commit web --yes"] {
        ground.run(words).with(0);
    }
    let kept = ground.disks("cloud", "web");
    ground.write("cloud", "web", 4096, "is lost");
    let resort = "failover web --last-resort --yes --reason burnt";
    let allowed = ground.run("show web --json").with(0).json()["shown"][0]["allowed"].clone();
    assert!(allowed.as_array().unwrap().contains(&"failover --last-resort".into()), "{allowed}");
    // The active side is there, and runs.
    let refused = ground.run(resort).with(3);
    assert!(
        refused.err.contains("web runs; the other side is started only when it is lost"),
        "{}",
        refused.err
    );

    fs::remove_dir_all(ground.path("cloud/web")).unwrap();
    let over = ground.run(&format!("{resort} --json")).with(0).json();
    assert_eq!(over["job"]["items"][0]["runs_at"], "here");
    assert_eq!(over["job"]["members"][0]["running"], true);
    assert_eq!(ground.disks("here", "web"), kept);
    let trail = ground.run("audit web --json").with(0).json();
    let why = |record: &&serde_json::Value| record["why"].as_str().is_some_and(|why| why.contains("burnt"));
    assert!(
        trail["audit"].as_array().unwrap().iter().find(why).is_some_and(|r| r["who"] == "ana"),
        "{trail}"
    );
}
