//! Where in the file something is wrong, as a person looks for it: line and key.

use site_recovery::{Error, ErrorKind};
use std::ops::Range;
use std::path::Path;

/// A file and its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    file: &'a Path,
    text: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// What the reader of TOML, or of a type, says.
    pub(crate) fn told(&self, error: &toml::de::Error) -> Error {
        let at = error.span().unwrap_or(0..0);
        let remedy = "mend the file; `site-recovery schema` and docs/cli.md say what may stand there";
        self.refuse(at, error.message(), remedy)
    }

    /// Refuses what stands at `at`.
    pub(crate) fn refuse(&self, at: Range<usize>, rule: &str, remedy: &str) -> Error {
        let (line, key) = self.find(at.start);
        let key = if key.is_empty() { String::new() } else { format!(", {key}") };
        let message = format!("{}, line {line}{key}: {}; {remedy}", self.file.display(), rule.trim_end());
        Error::new(ErrorKind::Invalid, message).with("field", "settings")
    }

    /// Line from 1, and the key there with the tables that it is in.
    fn find(&self, at: usize) -> (usize, String) {
        let (mut table, mut key, mut line, mut from) = (String::new(), String::new(), 1, 0);
        for (number, text) in self.text.split_inclusive('\n').enumerate() {
            let plain = text.trim();
            if let Some(header) = plain.strip_prefix('[') {
                table = header.trim_start_matches('[').split(']').next().unwrap_or_default().trim().into();
                key.clear();
            } else if let Some((name, _)) = plain.split_once('=').filter(|_| !plain.starts_with('#')) {
                key = name.trim().into();
            }
            line = number + 1;
            from += text.len();
            if from > at {
                break;
            }
        }
        let parts: Vec<&str> = [table.as_str(), key.as_str()].into_iter().filter(|p| !p.is_empty()).collect();
        (line, parts.join("."))
    }
}

/// An error of a value that only the library judges, told where it stands.
pub(crate) fn refused(place: &Place<'_>, at: Range<usize>, error: &Error) -> Error {
    place.refuse(at, error.message(), "choose a value within the rule")
}
