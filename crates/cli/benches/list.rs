//! How long a person waits: the start of the command, and a list of 10,000 machines, on this machine's own files.
//!
//! ```sh
//! cargo bench -p site-recovery-cli --bench list
//! ```
//!
//! One machine is protected by the command; its journal and its points are then there 10,000 times, under other names. Nobody holds the
//! vault, so each list opens the journal and asks the replica for every machine's newest point.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]
#![allow(clippy::disallowed_methods, reason = "a bench measures the machine's own time")]

use site_recovery::{Append, Journal};
use site_recovery_journal::SqliteJournal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_site-recovery");
const MACHINES: usize = 10_000;
const RUNS: usize = 9;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["init"]);
    let home = dir.path().join("here/web");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("root.raw"), [7; 4096]).unwrap();
    std::fs::write(home.join("machine.json"), r#"{ "disks": [{ "id": "root", "file": "root.raw" }] }"#)
        .unwrap();
    run(dir.path(), &["protect", "web"]);
    tokio::runtime::Runtime::new().unwrap().block_on(multiply(dir.path()));

    let listed = Command::new(PROGRAM).args(["list", "--json"]).current_dir(dir.path()).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), MACHINES);
    assert!(items.iter().all(|item| item["newest_point"] == 1), "each has its point");
    for (what, words) in [("start, by `schema`", &["schema"][..]), ("list of 10,000", &["list"])] {
        let mut took: Vec<Duration> = (0..RUNS).map(|_| run(dir.path(), words)).collect();
        took.sort();
        println!("{what}: median {:?}, most {:?} of {RUNS}", took[RUNS / 2], took[RUNS - 1]);
    }
}

fn run(dir: &Path, words: &[&str]) -> Duration {
    let began = Instant::now();
    let status = Command::new(PROGRAM)
        .args(words)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{words:?}");
    began.elapsed()
}

/// The one machine, under the names of all others: in the journal and beside its points.
async fn multiply(dir: &Path) {
    let journal = SqliteJournal::open(dir.join("state/journal.db")).await.unwrap();
    let subjects = journal.subjects().await.unwrap();
    let id = subjects.iter().find_map(|subject| subject.strip_prefix("unit/")).unwrap().to_owned();
    let (_, entries) = journal.load(&format!("unit/{id}")).await.unwrap();
    let unit = String::from_utf8(entries.last().unwrap().clone()).unwrap();
    let points = dir.join("points");
    let mut all = vec![];
    for number in 1..MACHINES {
        let other = format!("web-{number:08}");
        copy(&points.join(&id), &points.join(&other));
        let named = unit.replace("\"name\":\"web\"", &format!("\"name\":\"web-{number}\""));
        let entry = named.replace(&id, &other).into_bytes();
        all.push(Append { subject: format!("unit/{other}"), expect: 0, entry });
    }
    for some in all.chunks(500) {
        journal.append(some).await.unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
