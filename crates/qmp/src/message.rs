//! What a peer says in one line.

use crate::error::{Error, Refusal};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// The most values in one line. Each costs up to some hundred bytes of memory, for one of `{"":0},` in a line.
const MOST_VALUES: usize = 1 << 18;

/// The most lists and objects inside each other that are sent: QEMU reads 1024, with the command around them.
const DEEPEST: usize = 1000;

/// The version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Of `10.0.2`, the 10.
    pub major: u32,
    /// The 0.
    pub minor: u32,
    /// The 2.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Something that happened in QEMU.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// What: `STOP`, `BLOCK_JOB_COMPLETED`.
    pub name: String,
    /// More about it; `Null` where there is nothing.
    pub data: Value,
    /// When, by QEMU's clock, since 1970; nothing where it does not say.
    pub at: Option<Duration>,
}

/// One line of a peer.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    Greeting(Version),
    Event(Event),
    /// The id is `Null` where there is none.
    Answer {
        id: Value,
        outcome: Result<Value, Refusal>,
    },
    /// Of a kind that is not known yet.
    Other,
}

impl Message {
    /// # Errors
    /// What is wrong with the line, without its bytes.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let opening = |b: &&u8| matches!(b, b'{' | b'[' | b',');
        if line.iter().filter(opening).count() > MOST_VALUES {
            return Err(format!("a line of more than {MOST_VALUES} values"));
        }
        let value = serde_json::from_slice(line).map_err(|e| {
            format!("a line of {} bytes that is not JSON, at byte {}", line.len(), e.column())
        })?;
        let Value::Object(mut fields) = value else { return Err("a line that is no JSON object".into()) };
        if let Some(greeting) = fields.get("QMP") {
            return version(greeting).map(Self::Greeting).ok_or("a greeting without a version".into());
        }
        if let Some(name) = fields.remove("event") {
            let Value::String(name) = name else { return Err("an event without a name".into()) };
            let at = fields.get("timestamp").and_then(timestamp);
            return Ok(Self::Event(Event { name, data: take(&mut fields, "data"), at }));
        }
        let outcome = if let Some(error) = fields.remove("error") {
            Err(refusal(error).ok_or("an error without class and description")?)
        } else if let Some(value) = fields.remove("return") {
            Ok(value)
        } else {
            return Ok(Self::Other);
        };
        Ok(Self::Answer { id: take(&mut fields, "id"), outcome })
    }
}

fn take(fields: &mut Map<String, Value>, name: &str) -> Value {
    fields.remove(name).unwrap_or_default()
}

fn version(greeting: &Value) -> Option<Version> {
    let qemu = greeting.get("version")?.get("qemu")?;
    let part = |name| u32::try_from(qemu.get(name)?.as_u64()?).ok();
    Some(Version { major: part("major")?, minor: part("minor")?, micro: part("micro")? })
}

fn timestamp(value: &Value) -> Option<Duration> {
    let part = |name| value.get(name)?.as_u64();
    Some(Duration::new(part("seconds")?, u32::try_from(part("microseconds")?.checked_mul(1000)?).ok()?))
}

fn refusal(mut error: Value) -> Option<Refusal> {
    let mut text = |name| match error.get_mut(name)?.take() {
        Value::String(text) => Some(text),
        _ => None,
    };
    Some(Refusal { class: text("class")?, description: text("desc")? })
}

/// What the arguments of a command may be. What QEMU cannot read, it answers without an id, and more than once.
pub(crate) fn readable(command: &str, arguments: &Value) -> Result<(), Error> {
    let invalid = |what: &str, rule: String, remedy| {
        let value = format!("of {command}, {what},");
        Err(Error::Invalid { field: "arguments", value, rule, remedy })
    };
    let kind = match arguments {
        Value::Object(_) if is_deeper(arguments, DEEPEST) => {
            let rule = format!("QEMU reads at most {DEEPEST} values inside each other");
            return invalid("nested deeper", rule, "make it flatter");
        }
        Value::Null | Value::Object(_) => return Ok(()),
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    invalid(kind, "arguments are an object".into(), "name each argument, or give Null for none")
}

fn is_deeper(value: &Value, than: usize) -> bool {
    match value {
        Value::Array(values) => than == 0 || values.iter().any(|value| is_deeper(value, than - 1)),
        Value::Object(fields) => than == 0 || fields.values().any(|value| is_deeper(value, than - 1)),
        _ => false,
    }
}

/// A command as one line.
pub(crate) fn command(name: &str, arguments: &Value, id: Option<u64>) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("execute".into(), name.into());
    if !arguments.is_null() {
        fields.insert("arguments".into(), arguments.clone());
    }
    if let Some(id) = id {
        fields.insert("id".into(), id.into());
    }
    let mut line = Value::from(fields).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// A number that nobody uses by chance, exact in every reader of JSON.
pub(crate) fn fresh_id() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 16
}
