//! The whole circle by verbs, on real files, with the bytes of both sides compared.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use site_recovery_report::{Report, verify};
use support::Ground;

#[test]
fn o3_over_and_back_by_verbs_and_no_byte_is_lost() {
    let ground = Ground::new();
    ground.machine("web", 4);
    let first = ground.run("protect web --json").with(0).json();
    assert_eq!(first["job"]["outcome"], "done");
    assert_eq!(first["job"]["items"][0]["phase"], "Protected");

    ground.write("here", "web", 4096, "written after the first point");
    ground.run("replicate web").with(0);
    let points = ground.run("points web --json").with(0).json();
    assert_eq!(points["points"].as_array().unwrap().len(), 2);
    assert_eq!(points["points"][1]["consistency"], "Crash");

    let drill = ground.run("drill web --json").with(0).json();
    assert_eq!(drill["job"]["members"][0]["running"], true);
    assert_eq!(ground.disks("cloud", "web-test"), ground.disks("here", "web"));
    ground.run("drill web --clean-up").with(0);
    assert!(!ground.path("cloud/web-test").exists());

    ground.write("here", "web", 8192, "written last");
    let over = ground.run("failover web --json").with(0).json();
    assert_eq!(over["job"]["members"][0]["loss_at_most_seconds"], 0.0);
    assert_eq!(over["job"]["items"][0]["runs_at"], "cloud");
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
    ground.run("commit web --yes").with(0);

    ground.write("cloud", "web", 65536, "written over there");
    ground.run("reprotect web").with(0);
    assert_eq!(ground.disks("here", "web"), ground.disks("cloud", "web"));
    ground.write("cloud", "web", 131_072, "written last over there");
    ground.run("failback web").with(0);
    assert_eq!(ground.disks("here", "web"), ground.disks("cloud", "web"));
    ground.run("commit web --yes").with(0);
    ground.run("reprotect web").with(0);
    let shown = ground.run("show web --json").with(0).json();
    assert_eq!(shown["shown"][0]["direction"], "PrimaryToRecovery");
    assert_eq!(shown["shown"][0]["runs_at"], "here");

    let audit = ground.run("audit web --json").with(0).json();
    assert!(audit["audit"].as_array().unwrap().iter().any(|record| record["who"] == "ana"));
    let jobs = ground.run("jobs web --json").with(0).json();
    let operations: Vec<&str> =
        jobs["jobs"].as_array().unwrap().iter().map(|j| j["operation"].as_str().unwrap()).collect();
    let over_and_back =
        ["PlannedFailover", "Commit", "ReverseReplicate", "PlannedFailover", "Commit", "ReverseReplicate"];
    assert!(operations.ends_with(&over_and_back), "{operations:?}");
    assert_eq!(reports(&ground), ["drill-web", "clean-up-web", "failover-web", "failback-web"]);
}

/// What is reported, in its order; each report verified, and its page beside it.
fn reports(ground: &Ground) -> Vec<String> {
    let files = std::fs::read_dir(ground.path("state/reports")).unwrap().map(|entry| entry.unwrap().path());
    let (mut json, pages): (Vec<_>, Vec<_>) =
        files.partition(|file| file.extension().is_some_and(|end| end == "json"));
    assert_eq!(json.len(), pages.len());
    json.sort();
    for file in &json {
        let report = Report::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
        let verified = verify(&report).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(verified.records > 0, "{}", file.display());
        assert_eq!(std::fs::read_to_string(file.with_extension("html")).unwrap(), report.to_html());
    }
    let what = |file: &std::path::PathBuf| {
        file.file_stem().unwrap().to_str().unwrap().split_once("Z-").unwrap().1.to_owned()
    };
    json.iter().map(what).collect()
}

#[test]
fn a_report_that_cannot_be_written_fails_nothing() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    std::fs::remove_dir(ground.path("state/reports")).unwrap();
    std::fs::write(ground.path("state/reports"), "in the way").unwrap();
    let over = ground.run("failover web").with(0);
    assert!(over.err.contains("warning: the report"), "{}", over.err);
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
    assert_eq!(std::fs::read_to_string(ground.path("state/reports")).unwrap(), "in the way");
}

#[test]
fn o3_another_point_and_undo_by_verbs() {
    let ground = Ground::new();
    ground.machine("web", 2);
    ground.run("protect web").with(0);
    let at_first = ground.disks("here", "web");
    ground.write("here", "web", 0, "later");
    ground.run("replicate web").with(0);
    ground.run("failover web --unplanned --yes --reason darkness").with(0);
    ground.run("change-point web 1").with(0);
    assert_eq!(ground.disks("cloud", "web"), at_first);
    ground.run("undo web").with(0);
    assert_eq!(ground.phase("web"), "Protected");
    let trail = ground.run("audit web --json").with(0).out;
    assert!(trail.contains("UnplannedFailover"), "{trail}");
    assert_eq!(reports(&ground), ["failover-web", "undo-web"]);
}

#[test]
fn o3_a_group_goes_over_as_one() {
    let ground = Ground::new();
    let file = ground.path("site-recovery.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings + "\n[groups.shop]\nmachines = [\"app\", \"db\"]\n").unwrap();
    ground.machine("app", 1);
    ground.machine("db", 1);
    ground.run("protect shop").with(0);
    let listed = ground.run("list --json").with(0).json();
    assert_eq!(listed["items"][0]["group"], "shop");
    let over = ground.run("failover shop --json").with(0).json();
    assert_eq!(over["job"]["members"].as_array().unwrap().len(), 2);
    for machine in ["app", "db"] {
        assert_eq!(ground.disks("cloud", machine), ground.disks("here", machine));
        assert_eq!(ground.phase(machine), "PlannedFailoverCompleted");
    }
    assert_eq!(reports(&ground), ["failover-shop"]);
}

#[test]
fn o8_the_journal_is_lost_and_the_vault_adopts() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    for end in ["", "-wal", "-shm"] {
        let _gone = std::fs::remove_file(ground.path(&format!("state/journal.db{end}")));
    }
    ground.run("show web").with(5);
    let adopted = ground.run("adopt --json").with(0).json();
    assert_eq!(adopted["adopted"]["machines"][0], "web");
    assert_eq!(ground.phase("web"), "Protected");
    ground.run("failover web").with(0);
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
}

#[test]
fn o3_the_demonstration_goes_round_and_ends_with_equal_digests() {
    let ground = Ground::new();
    let demo = ground.run("demo").with(0);
    let sums: Vec<&str> = demo.out.lines().filter(|line| line.contains('…')).collect();
    assert_eq!(sums.len(), 8, "{}", demo.out);
    for four in sums.chunks(4) {
        let digest = |line: &str| line.split(' ').next().unwrap().to_owned();
        assert_eq!([digest(four[0]), digest(four[1])], [digest(four[2]), digest(four[3])]);
    }
    assert!(demo.out.ends_with("only what had changed was moved\n"), "{}", demo.out);
}
