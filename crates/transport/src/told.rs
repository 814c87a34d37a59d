//! Errors as they cross: kind, whether they pass, who met them, what a person reads, and the facts.

use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, ErrorStatus, RoleName};

/// Names of facts. An error gives a fact to who knows its name, and does not list them: so those that are told are those
/// of this list. One that is heard and not on it stays as text, at the end of the message, where an error prints it, too.
const FACTS: [&str; 39] = [
    "asked",
    "at",
    "attempts",
    "code",
    "compare",
    "crashed",
    "cut",
    "disk",
    "entry",
    "epoch",
    "errno",
    "export",
    "field",
    "file",
    "flush",
    "folder",
    "job",
    "key",
    "ledger",
    "limit",
    "locked_until",
    "machine",
    "not_set_aside",
    "not_spooled",
    "object",
    "operation",
    "output",
    "point",
    "read",
    "register",
    "run",
    "session",
    "set_aside_as",
    "subject",
    "timeline_stands_at",
    "unit",
    "window",
    "write",
    "zero",
];

/// An error on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    kind: ErrorKind,
    temporary: bool,
    role: Option<RoleName>,
    message: String,
    facts: Vec<(String, String)>,
    causes: Option<String>,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        let fact = |name: &&str| error.fact(name).map(|value| (name.to_string(), value.to_owned()));
        Self {
            kind: error.kind(),
            temporary: error.is_temporary(),
            role: error.role().cloned(),
            message: error.message().to_owned(),
            facts: FACTS.iter().filter_map(fact).collect(),
            causes: std::error::Error::source(error).map(ToString::to_string),
        }
    }
}

impl From<Told> for Error {
    fn from(told: Told) -> Self {
        let status = if told.temporary { ErrorStatus::Temporary } else { ErrorStatus::Permanent };
        let (mut message, mut facts) = (told.message, vec![]);
        for (name, value) in told.facts {
            match FACTS.iter().find(|known| **known == name) {
                Some(known) => facts.push((known, value)),
                None => message.push_str(&format!(" [{name}={value}]")),
            }
        }
        let error = Error::new(told.kind, message).status(status);
        let error = facts.into_iter().fold(error, |error, (name, value)| error.with(name, value));
        match told.causes {
            Some(causes) => error.caused_by(causes),
            None => error,
        }
    }
}

impl Told {
    /// As JSON, cut so that it is never longer than a peer takes.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let json = |told: &Self| serde_json::to_vec(told).expect("plain data serialises");
        let whole = json(self);
        if whole.len() <= crate::message::LONGEST_WORD as usize {
            return whole;
        }
        let cut = |text: &str| text[..text.floor_char_boundary(2048)].to_owned();
        let role = self.role.as_ref().map(|role| RoleName(cut(role.as_str())));
        json(&Self { role, message: cut(&self.message), facts: vec![], causes: None, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_as_it_left() {
        let disk = std::io::Error::other("the disk is gone");
        let error =
            Error::invalid("plan", "odd", "it is even", "round it").with("disk", "root").caused_by(disk);
        let error = error.status(ErrorStatus::Temporary);
        let json = Told::from(&error).to_json();
        let told: Told = serde_json::from_slice(&json).expect("JSON");
        let back = Error::from(told);
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!((back.kind(), back.is_temporary()), (error.kind(), true));
        assert_eq!((back.fact("field"), back.fact("disk")), (Some("plan"), Some("root")));
    }

    #[test]
    fn a_fact_that_only_the_other_side_knows_is_read_all_the_same() {
        let error = Error::new(ErrorKind::Refused, "no").with("disk", "root");
        let mut told = Told::from(&error);
        told.facts.push(("colour_of_the_moon".into(), "blue".into()));
        let error = Error::from(told);
        assert_eq!(error.fact("disk"), Some("root"));
        assert!(error.to_string().contains("[colour_of_the_moon=blue]"), "{error}");
    }

    /// In this workspace; what others name their facts is theirs.
    #[test]
    fn every_fact_that_a_role_tells_crosses() {
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut folders = vec![std::path::PathBuf::from(crates)];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let is_of_tests = ["tests", "testkit", "told.rs"].iter().any(|name| path.ends_with(name));
                if path.is_dir() && !is_of_tests {
                    folders.push(path);
                } else if !is_of_tests && path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).expect("a source file");
                    for rest in text.split(".with(\"").skip(1) {
                        let name = rest.split('"').next().expect("there is a first");
                        assert!(FACTS.contains(&name), "{name} of {} does not cross", path.display());
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 10, "{found}");
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let error = Error::new(ErrorKind::Corrupt, "é".repeat(100_000)).with("disk", "d".repeat(100_000));
        let json = Told::from(&error).to_json();
        assert!(json.len() <= crate::message::LONGEST_WORD as usize);
        let told: Told = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(Error::from(told).kind(), ErrorKind::Corrupt);
        let error = Error::new(ErrorKind::Corrupt, "").at(&"r".repeat(100_000).as_str().into(), "read");
        assert!(Told::from(&error).to_json().len() <= crate::message::LONGEST_WORD as usize);
    }
}
