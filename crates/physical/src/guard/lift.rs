//! What an operator answers for, and the log of it all.

use super::{Mark, Verdict};
use serde::{Deserialize, Serialize};
use site_recovery::{Result, Timestamp};
use site_recovery_register::{Told, durable};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `lift.json`: counts for one start alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lift {
    pub(crate) operator: String,
    pub(crate) reason: String,
    /// The start that it was made for.
    pub(crate) start: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Judged(Verdict),
    LiftAsked { operator: String, reason: String },
    Lifted { operator: String, reason: String },
    OtherHardware { why: String },
}

impl Entry {
    /// As an event.
    pub(crate) fn tell(&self, mark: &Mark) {
        let (machine, name) = (&mark.machine, &mark.name);
        match self {
            Self::Judged(Verdict::TakesPart) => {
                tracing::info!(%machine, name, "this server is the one that counts: it takes part");
            }
            Self::Judged(Verdict::NotNow { why }) => {
                tracing::warn!(%machine, name, "this server is kept off the network, and asks again: {why}");
            }
            Self::Judged(Verdict::StaysOff { why }) => {
                tracing::warn!(%machine, name, "this server stays off the network: {why}");
            }
            Self::LiftAsked { operator, reason } | Self::Lifted { operator, reason } => {
                tracing::warn!(%machine, name, "{operator} answers for this start: {reason}");
            }
            Self::OtherHardware { why } => {
                tracing::warn!(%machine, name, "this is another server, and takes part: {why}");
            }
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    when: String,
    machine: &'a str,
    name: &'a str,
    what: &'a Entry,
}

/// Appends a line, durably. One that says what the last one said is not written again.
pub(crate) fn log(path: &Path, now: Timestamp, mark: &Mark, what: &Entry) -> Result<()> {
    let line = |when: String| {
        let line = Line { when, machine: mark.machine.as_str(), name: &mark.name, what };
        serde_json::to_string(&line).expect("a log is plain data")
    };
    let before = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.told("read", path)?,
    };
    let said = |line: &str| line.split_once("\"machine\"").map(|(_, rest)| rest.to_owned());
    let new = line(now.to_string());
    if before.lines().last().and_then(said) == said(&new) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        durable::make_dir(parent)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut file = file.told("open", path)?;
    // A line that a power cut has torn ends where the next one begins.
    let torn = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{torn}{new}\n").as_bytes()).and_then(|()| file.sync_all()).told("write", path)
}
