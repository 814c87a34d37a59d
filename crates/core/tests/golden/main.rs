//! What is written to journals, points and the wire, frozen as files.
//!
//! Each file beside this one holds examples, one a line, byte for byte as they are written. Today's code must read every
//! line and write the same bytes again. A form that changes on purpose gets a *new* file (and, for a unit, a new schema):
//! the old one stays and must still be read. `UPDATE_GOLDEN=1 cargo test -p site-recovery --test golden` adds examples that
//! a file lacks, at its end; what stands in it stays as it is.

mod samples;

use serde::Serialize;
use serde::de::DeserializeOwned;
use site_recovery::audit;
use site_recovery::{AlarmRule, ErrorKind, Event, Evidence, Policy, Request, SCHEMA, Settings, Unit};
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn o9_units() {
    let read = |line: &str| Unit::from_bytes("unit/web", line.as_bytes()).expect("it was written so once");
    check("units", &samples::units(), read, |unit| String::from_utf8(unit.to_bytes()).expect("JSON is text"));
}

#[test]
fn o9_audit_records() {
    let trail = samples::trail();
    json("audit_records", &trail);
    let stored: Vec<Vec<u8>> = lines("audit_records").into_iter().map(String::into_bytes).collect();
    assert_eq!(audit::read(&stored).expect("hashes that were once made still hold"), trail);
}

#[test]
fn o9_manifests() {
    json("manifests", &[samples::manifest()]);
}

#[test]
fn o9_machines() {
    json("machines", &samples::machines());
}

#[test]
fn o9_phase_records() {
    json("phase_records", &samples::phase_records());
}

#[test]
fn o9_every_event() {
    all_variants::<Event>("events", &samples::events());
}

#[test]
fn o9_every_request() {
    all_variants::<Request>("requests", &samples::requests());
}

#[test]
fn o9_settings() {
    json("settings", &samples::settings());
}

#[test]
fn o9_policies() {
    let rule = AlarmRule { cycles: 100, factor: 5, percentage_points: 30, least_bytes: 1 << 20 };
    let (tuned, off) =
        (Policy { alarm: Some(rule), ..samples::policy() }, Policy { alarm: None, ..samples::policy() });
    let proves = samples::policy().verify_every(Duration::from_secs(86_400));
    json("policies", &[Policy::default(), Policy::failback(), samples::policy(), tuned, off, proves]);
}

#[test]
fn o9_evidence() {
    all_variants::<Evidence>("evidence", &samples::evidence());
}

#[test]
fn o9_names_of_variants() {
    let names: Vec<(&str, Vec<String>)> = samples::enums();
    json("names", &names.into_iter().map(|(what, names)| (what.to_owned(), names)).collect::<Vec<_>>());
}

/// Fields that may be left out: what an older version, or a person, wrote without them.
#[test]
fn o9_settings_without_fields_are_read() {
    assert_eq!(read::<Settings>("{}"), Settings::default());
    let settings: Settings = read(r#"{"name":"web","nics":{"eth0":{"primary":true}}}"#);
    assert!(settings.nics[&"eth0".into()].primary && settings.name.as_deref() == Some("web"));
}

#[test]
fn o9_a_unit_of_a_newer_schema_is_refused_naming_both() {
    let newer = String::from_utf8(samples::units()[0].to_bytes()).expect("JSON is text");
    let newer = newer.replacen(&format!("\"schema\":{SCHEMA}"), &format!("\"schema\":{}", SCHEMA + 1), 1);
    let error = Unit::from_bytes("unit/web", newer.as_bytes()).expect_err("newer");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let told = error.to_string();
    let names = |version: u32| told.contains(&version.to_string());
    assert!(names(SCHEMA) && names(SCHEMA + 1) && told.contains("unit/web"), "{told}");
    // Whatever else such a unit holds: its version is told, not what this engine does not understand.
    let strange = format!(r#"{{"schema":{},"unit":"of another shape"}}"#, SCHEMA + 1);
    let error = Unit::from_bytes("unit/web", strange.as_bytes()).expect_err("newer");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn o9_a_damaged_unit_is_corrupt_naming_its_subject() {
    let bytes = samples::units()[0].to_bytes();
    let error = Unit::from_bytes("unit/web", &bytes[..bytes.len() - 1]).expect_err("cut off");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("unit/web"), "{error}");
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, samples: &[T]) {
    check(name, samples, read, |sample| serde_json::to_string(sample).expect("plain data serialises"));
}

/// As [`json`], and no variant is without an example.
fn all_variants<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, samples: &[T]) {
    let tag = |sample: &T| match serde_json::to_value(sample).expect("plain data serialises") {
        serde_json::Value::String(tag) => tag,
        value => value.as_object().and_then(|o| o.keys().next()).expect("one key").clone(),
    };
    let shown: Vec<String> = samples.iter().map(tag).collect();
    let missing: Vec<String> = samples::variants::<T>().into_iter().filter(|v| !shown.contains(v)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
    json(name, samples);
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
        "{name}: an example is not in the file yet; see the head of this test"
    );
}

fn read<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("it was written so once: {e}: {line}"))
}

fn lines(name: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{}: {e}", path(name).display()));
    text.lines().map(str::to_owned).collect()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.jsonl"))
}
