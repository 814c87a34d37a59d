//! What is refused: with which exit code, in which words, and before anything has changed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use support::Ground;

#[test]
fn each_refusal_has_its_code_and_its_remedy() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("frobnicate").with(2);
    ground.run("failover web --point 3").with(2);
    let unknown = ground.run("show web").with(5);
    assert!(unknown.err.contains("protect web"), "{}", unknown.err);
    ground.run("protect nobody").with(5);
    ground.run("protect web --policy none").with(5);
    ground.run("protect web").with(0);
    ground.run("protect web").with(13);
    ground.run("init").with(13);

    let refused = ground.run("commit web --yes").with(3);
    assert!(refused.err.contains("allowed now: disable, failover"), "{}", refused.err);
    let json = ground.run("commit web --yes --json").with(3).json();
    assert_eq!((&json["code"], &json["failed"]["kind"]), (&3.into(), &"Refused".into()));
    assert!(json["failed"]["allowed"].as_array().unwrap().contains(&"failover".into()));
    ground.run("undo web").with(3);
    ground.run("failback web").with(4);
    ground.run("export web 99").with(5);
    ground.run("verify web").with(11);
    ground.run("--config /nowhere.toml list").with(5);
    assert_eq!(ground.phase("web"), "Protected");
}

#[test]
fn what_cannot_be_taken_back_is_not_done_without_a_word() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    for (words, wanted) in [
        ("failover web --unplanned", "--yes and --reason"),
        ("failover web --unplanned --yes", "--yes and --reason"),
        ("failover web --unplanned --reason fire", "--yes and --reason"),
        ("failover web --last-resort", "--yes and --reason"),
        ("disable web --delete-points", "--yes"),
        ("undo web --force", "--yes and --reason"),
        ("drill web --promote", "--yes"),
        ("commit web", "--yes"),
    ] {
        let refused = ground.run(words).with(2);
        assert!(refused.err.contains(&format!("give {wanted}")), "{words}: {}", refused.err);
    }
    assert_eq!(ground.phase("web"), "Protected");
    let jobs = ground.run("jobs --json").with(0).json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "only the protection: {jobs}");
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let ground = Ground::new();
    ground.machine("web", 1);
    ground.run("protect web").with(0);
    let plan = ground.run("failover web --unplanned --dry-run --json").with(0).json();
    assert_eq!(plan["plan"]["stops"][0], "web");
    assert!(plan["plan"]["points"][0]["loss_at_most_seconds"].as_f64().unwrap() > 0.0);
    assert!(ground.run("failover web --dry-run").with(0).out.contains("nothing is lost"));
    assert_eq!(ground.phase("web"), "Protected");
    assert!(!ground.path("cloud/web").exists());
}

#[test]
fn settings_are_refused_by_line_before_anything_is_made() {
    let ground = Ground::new();
    let file = ground.path("site-recovery.toml");
    let fine = fs::read_to_string(&file).unwrap();
    for name in ["state", "here", "cloud", "points", "retention"] {
        fs::remove_dir_all(ground.path(name)).unwrap();
    }
    let line = |text: &str, of: &str| text.lines().position(|line| line.starts_with(of)).unwrap() + 1;
    for (from, to, said) in [
        ("from = \"here\"", "from = \"nowhere\"", "no sites.nowhere is there; name one of these"),
        ("store = \"points\"", "store = \"tape\"", "no stores.tape is there"),
        ("interval = \"5m\"", "interval = \"often\"", "as in 5m"),
        ("metrics = \"off\"", "metrics = 9464", "invalid type"),
        ("state = \"state\"", "stat = \"state\"", "unknown field `stat`"),
    ] {
        let broken = fine.replacen(from, to, 1);
        fs::write(&file, &broken).unwrap();
        let refused = ground.run("list").with(4);
        let at = format!("site-recovery.toml, line {}", line(&broken, to));
        assert!(refused.err.contains(&at) && refused.err.contains(said), "{at}: {}", refused.err);
    }
    assert_eq!(fs::read_dir(ground.root()).unwrap().count(), 1, "the settings alone");
}

#[test]
fn c1_no_secret_is_in_output_log_journal_or_report() {
    let ground = Ground::new();
    let key = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";
    let file = ground.path("key");
    fs::write(&file, format!("{key}\n")).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let settings = ground.path("site-recovery.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "\n[process_server]\nkeys = [\"key\"]\n").unwrap();
    ground.machine("web", 1);
    let mut said = String::new();
    for words in ["protect web", "show web --json", "audit web --json", "drill web --json", "failover web", "list"] {
        let output = ground.command(words).env("SITE_RECOVERY_LOG", "trace").output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        said += &String::from_utf8_lossy(&output.stdout);
        said += &String::from_utf8_lossy(&output.stderr);
    }
    // What was sealed is not found at rest either: the disks' bytes are not in the store, and the key is nowhere.
    for (path, bytes) in files(&ground.path("state")).into_iter().chain(files(&ground.path("points"))) {
        assert!(!bytes.windows(key.len()).any(|w| w == key.as_bytes()), "{path}");
    }
    assert!(!said.contains(key));
    // A key that others may read is refused, and its content is not told.
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = ground.run("list").with(4);
    assert!(!refused.err.contains(key) && refused.err.contains("key"), "{}", refused.err);
}

fn files(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => all.extend(files(&entry.path())),
            kind if kind.is_file() => all.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap())),
            _ => {}
        }
    }
    all
}
