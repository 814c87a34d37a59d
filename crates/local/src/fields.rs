//! Reads a JSON object field by field, so that every complaint names the field, its value, the rule and the remedy.

use serde_json::{Map, Value};
use site_recovery::{Error, Result};

/// One object of a document. Fields are taken out; what is left at [`done`](Fields::done) is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    at: String,
    rest: Map<String, Value>,
}

impl Fields {
    pub(crate) fn of(value: Value, field: &'static str, at: &str) -> Result<Self> {
        match value {
            Value::Object(rest) => Ok(Self { at: at.to_owned(), rest }),
            other => Err(wrong(field, at, &other, "an object", "write { … }")),
        }
    }

    /// Where in the document this object stands.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    pub(crate) fn text(&mut self, key: &str, field: &'static str) -> Result<Option<String>> {
        match self.rest.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(other) => {
                Err(wrong(field, &self.at, &other, "a text that is not empty", "write it in quotes"))
            }
        }
    }

    pub(crate) fn must(&mut self, key: &str, field: &'static str) -> Result<String> {
        let at = self.at.clone();
        self.text(key, field)?.ok_or_else(|| wrong(field, &at, &Value::Null, "it must be there", "add it"))
    }

    pub(crate) fn number(
        &mut self,
        key: &str,
        field: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>> {
        match self.rest.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|n| (least..=most).contains(n)) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(
                    field,
                    &self.at,
                    &value,
                    &format!("a number from {least} to {most}"),
                    "choose one",
                )),
            },
        }
    }

    pub(crate) fn flag(&mut self, key: &str, field: &'static str) -> Result<Option<bool>> {
        match self.rest.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(field, &self.at, &other, "true or false", "write it without quotes")),
        }
    }

    pub(crate) fn one_of<T: Copy>(
        &mut self,
        key: &str,
        field: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(text) = self.text(key, field)? else { return Ok(None) };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let rule = format!("one of {}", names.join(", "));
        Err(wrong(field, &self.at, &Value::String(text), &rule, "use one of these"))
    }

    pub(crate) fn texts(&mut self, key: &str, field: &'static str) -> Result<Vec<String>> {
        let list = self.list(key, field)?;
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(field, &self.at, &other, "a list of texts", "write each in quotes")),
        };
        list.into_iter().map(text).collect()
    }

    pub(crate) fn list(&mut self, key: &str, field: &'static str) -> Result<Vec<Value>> {
        match self.rest.remove(key) {
            None | Some(Value::Null) => Ok(vec![]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(wrong(field, &self.at, &other, "a list", "write [ … ]")),
        }
    }

    /// The objects of a list.
    pub(crate) fn objects(&mut self, key: &str, field: &'static str) -> Result<Vec<Fields>> {
        let list = self.list(key, field)?;
        list.into_iter()
            .enumerate()
            .map(|(n, v)| Fields::of(v, field, &format!("{}{key}[{n}]", self.dot())))
            .collect()
    }

    pub(crate) fn object(&mut self, key: &str, field: &'static str) -> Result<Option<Fields>> {
        let at = format!("{}{key}", self.dot());
        match self.rest.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Fields::of(value, field, &at).map(Some),
        }
    }

    /// Refuses whatever nobody asked for.
    pub(crate) fn done(self, field: &'static str) -> Result<()> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(key) => {
                let rule = "no such field is known here";
                let value = Value::String(key.clone());
                Err(wrong(field, &self.at, &value, rule, "check its spelling, or remove it"))
            }
        }
    }

    fn dot(&self) -> String {
        if self.at.is_empty() { String::new() } else { format!("{}.", self.at) }
    }
}

fn wrong(field: &'static str, at: &str, value: &Value, rule: &str, remedy: &str) -> Error {
    let shown = if value.is_null() { "missing".to_owned() } else { value.to_string() };
    Error::invalid(field, shown, rule, remedy).with("at", if at.is_empty() { "the top" } else { at })
}
