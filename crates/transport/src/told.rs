//! Errors as they cross: kind, whether they pass, who met them, what a person reads, and the facts.

use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, ErrorStatus, RoleName};

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
        Self {
            kind: error.kind(),
            temporary: error.is_temporary(),
            role: error.role().cloned(),
            message: error.message().to_owned(),
            facts: error.facts().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            causes: std::error::Error::source(error).map(ToString::to_string),
        }
    }
}

impl From<Told> for Error {
    fn from(told: Told) -> Self {
        let status = if told.temporary { ErrorStatus::Temporary } else { ErrorStatus::Permanent };
        let error = Error::new(told.kind, told.message).status(status);
        let error = told.facts.into_iter().fold(error, |error, (name, value)| error.with(name, value));
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
        let error = Error::invalid("plan", "odd", "it is even", "round it")
            .with("colour of the moon", "blue")
            .caused_by(disk);
        let error = error.status(ErrorStatus::Temporary);
        let json = Told::from(&error).to_json();
        let told: Told = serde_json::from_slice(&json).expect("JSON");
        let back = Error::from(told);
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!((back.kind(), back.is_temporary()), (error.kind(), true));
        assert_eq!(back.facts().collect::<Vec<_>>(), error.facts().collect::<Vec<_>>());
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
