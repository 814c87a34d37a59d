//! What is journalled of plans, frozen as files.
//!
//! Each file beside this one holds examples, one a line, byte for byte as they are written. Today's code must read every
//! line and write the same bytes again. A form that changes on purpose gets a *new* file and a new schema: the old one stays
//! and must still be read. `UPDATE_GOLDEN=1 cargo test -p site-recovery-plans golden` adds examples that a file lacks, at
//! its end; what stands in it stays as it is.

mod samples;

use crate::change::Change;
use crate::plan::{Action, Does, Kind, Part};
use crate::record::{PlanAudit, Record, read};
use crate::run::{Course, MemberState, Outcome, PlanRun, Stage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use site_recovery::state::Direction;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

#[test]
fn o9_runs() {
    let read = |line: &str| Record::from_bytes("plan/shop", line.as_bytes()).expect("it was written so once");
    check("runs", &samples::records(), read, |record| text(record.to_bytes()));
}

#[test]
fn o9_audit_records() {
    let read_one = |line: &str| serde_json::from_str(line).expect("it was written so once");
    let write = |record: &PlanAudit| text(serde_json::to_vec(record).expect("plain data serialises"));
    check("audit_records", &samples::trail(), read_one, write);
    let stored: Vec<Vec<u8>> = lines("audit_records").into_iter().map(String::into_bytes).collect();
    assert_eq!(read(&stored).expect("hashes that were once made still hold"), samples::trail());
}

#[test]
fn o9_no_variant_is_without_an_example() {
    let runs: Vec<PlanRun> = samples::records().into_iter().map(|record| record.run).collect();
    let changes = samples::changes();
    let stages: Vec<Stage> = runs.iter().flat_map(|run| run.stages.iter().map(|s| s.stage)).collect();
    let actions: Vec<&Action> = runs.iter().flat_map(|run| run.of.actions()).collect();
    all::<Change>(&changes);
    all::<Course>(runs.iter().map(|run| &run.course));
    all::<Outcome>(runs.iter().filter_map(|run| run.outcome.as_ref()));
    all::<MemberState>(runs.iter().flat_map(|run| run.members.iter().map(|member| &member.state)));
    all::<crate::ActionState>(runs.iter().flat_map(|run| run.actions.iter().map(|action| &action.state)));
    all::<Stage>(&stages);
    all::<Part>(stages.iter().filter_map(|stage| match stage {
        Stage::Before(part) | Stage::After(part) => Some(part),
        _ => None,
    }));
    all::<Does>(actions.iter().map(|action| &action.does));
    all::<Kind>(actions.iter().flat_map(|action| &action.on));
    all::<Direction>(actions.iter().flat_map(|action| &action.directions));
}

fn all<'a, T: Serialize + DeserializeOwned + Debug + 'a>(examples: impl IntoIterator<Item = &'a T>) {
    let tag = |example: &T| match serde_json::to_value(example).expect("plain data serialises") {
        serde_json::Value::String(tag) => tag,
        value => value.as_object().and_then(|o| o.keys().next()).expect("one key").clone(),
    };
    let shown: BTreeSet<String> = examples.into_iter().map(tag).collect();
    // Serde lists the names that it knows when it meets an unknown one.
    let error = serde_json::from_str::<T>(r#""?""#).expect_err("no variant has this name").to_string();
    let (_, expected) = error.split_once("expected").expect("a list");
    let missing: Vec<&str> =
        expected.split('`').skip(1).step_by(2).filter(|name| !shown.contains(*name)).collect();
    assert!(missing.is_empty(), "{} has no example of {missing:?}", std::any::type_name::<T>());
}

fn check<T: PartialEq + Debug>(
    name: &str,
    samples: &[T],
    read: impl Fn(&str) -> T,
    write: impl Fn(&T) -> String,
) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let old = std::fs::read_to_string(path(name)).unwrap_or_default();
        let added = samples.iter().skip(old.lines().count()).map(|sample| write(sample) + "\n");
        let whole = old.clone() + &added.collect::<String>();
        std::fs::write(path(name), whole).expect("the file can be written");
    }
    let stored = lines(name);
    for (at, line) in stored.iter().enumerate() {
        let value = read(line);
        assert_eq!(&write(&value), line, "{name}, line {}: other bytes are written than were read", at + 1);
        assert_eq!(samples.get(at), Some(&value), "{name}, line {}: it means something else now", at + 1);
    }
    assert_eq!(
        stored.len(),
        samples.len(),
        "{name}: an example is not in the file yet; see the head of this module"
    );
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("JSON is text")
}

fn lines(name: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{}: {e}", path(name).display()));
    text.lines().map(str::to_owned).collect()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/golden").join(format!("{name}.jsonl"))
}
