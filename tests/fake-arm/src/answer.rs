//! What the fake answers, and how it says no.

use serde_json::{Value, json};

/// No, as Resource Manager says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

pub(crate) type Ruled<T> = Result<T, Refusal>;

pub(crate) fn refuse(status: u16, code: &str, message: impl Into<String>) -> Refusal {
    Refusal { status, code: code.into(), message: message.into() }
}

/// What the real one knows and this does not: loud, so that no test leans on it.
pub(crate) fn not_faked(what: &str) -> Refusal {
    refuse(501, "NotFaked", format!("fake-arm does not know {what}"))
}

pub(crate) fn parameter_missing(name: &str) -> Refusal {
    refuse(400, "InvalidParameter", format!("Required parameter '{name}' is missing (null)."))
}

impl Refusal {
    pub(crate) fn error(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }

    pub(crate) fn answer(&self) -> Answer {
        Answer { status: self.status, headers: vec![], body: Some(json!({ "error": self.error() })) }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Value>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: vec![], body: Some(body) }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: vec![], body: None }
    }

    pub(crate) fn with(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }
}

/// A text in a body that has to be there.
pub(crate) fn text<'a>(of: &'a Value, name: &str, told: &str) -> Ruled<&'a str> {
    of[name].as_str().filter(|text| !text.is_empty()).ok_or_else(|| parameter_missing(told))
}

/// Without members that are null: clients write them for what they do not set.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
