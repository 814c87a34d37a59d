//! What was said, without what opens doors.

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;

/// Everything that was asked and answered.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) lines: Vec<Value>,
    pub(crate) file: Option<PathBuf>,
}

impl Recording {
    pub(crate) fn add(&mut self, line: Value) {
        let line = scrubbed(line);
        if let Some(path) = &self.file {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let written = opened.and_then(|mut file| writeln!(file, "{line}"));
            assert!(written.is_ok(), "the recording cannot be written: {written:?}");
        }
        self.lines.push(line);
    }
}

/// Headers as an object; those with a credential are left out.
pub(crate) fn headers<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let open = all.filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
    open.map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn scrubbed(value: Value) -> Value {
    match value {
        Value::String(text) => without_signature(&text).into(),
        Value::Array(items) => items.into_iter().map(scrubbed).collect::<Vec<_>>().into(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "access_token" => (name, "hidden".into()),
                _ => (name, scrubbed(value)),
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// Without the values of the query that sign an address.
fn without_signature(text: &str) -> String {
    let Some((front, query)) = text.split_once('?') else { return text.to_owned() };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name @ ("sig" | "s"), _)) => format!("{name}=hidden"),
        _ => pair.to_owned(),
    };
    format!("{front}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_hidden_wherever_they_stand() {
        let line =
            json!({ "a": [{ "sas": "https://h/p?sv=1&sig=abc%3D&sp=r" }], "b": "https://h/o?p=1&s=def" });
        let text = scrubbed(line).to_string();
        assert!(text.contains("sp=r") && text.contains("p=1"), "{text}");
        assert!(!text.contains("abc") && !text.contains("def"), "{text}");
    }

    #[test]
    fn a_token_is_not_kept() {
        let kept = headers([("Authorization", "Bearer x"), ("accept", "y")].into_iter());
        assert_eq!(kept, json!({ "accept": "y" }));
    }
}
