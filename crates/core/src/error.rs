//! The one error type of the library.

use crate::RoleName;
use std::borrow::Cow;
use std::fmt;

/// What the caller can do about an error. Kinds differ by what the caller does, not by where they came from.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ErrorKind {
    /// The input breaks a rule: mend the field that the context names. Nothing was changed.
    Invalid,
    /// Not allowed in this state: do what the context says instead. Nothing was changed.
    Refused,
    /// The thing does not exist (any more).
    NotFound,
    /// The thing exists already and belongs to somebody else, or differs from what was asked for.
    Conflict,
    /// Another engine holds the authority: stop.
    StaleEpoch,
    /// No answer: try again, or treat the other side as silent. Silence is never a proof.
    Unavailable,
    /// Somebody else is at it: try again later.
    Busy,
    /// Bytes are not what was written: repair or resynchronise.
    Corrupt,
    /// The platform cannot do this, now or ever.
    Unsupported,
    /// The caller may not do this.
    Denied,
    /// No room: make some, then try again.
    OutOfSpace,
    /// Cancelled at the caller's wish.
    Cancelled,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ErrorStatus {
    /// The same call may succeed later.
    Temporary,
    /// The same call will fail again.
    Permanent,
}

/// An error: its kind, whether it passes, which role in which operation met it, and what helps a person.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    status: ErrorStatus,
    role: Option<RoleName>,
    operation: Option<&'static str>,
    message: String,
    context: Vec<(Cow<'static, str>, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A new error. [`Unavailable`](ErrorKind::Unavailable) and [`Busy`](ErrorKind::Busy) start as temporary, all
    /// others as permanent.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::Unavailable | ErrorKind::Busy => ErrorStatus::Temporary,
            _ => ErrorStatus::Permanent,
        };
        Self {
            kind,
            status,
            role: None,
            operation: None,
            message: message.into(),
            context: vec![],
            source: None,
        }
    }

    /// Bad input: the field, the value it had, the rule it breaks, and what to do.
    pub fn invalid(field: &'static str, value: impl fmt::Display, rule: &str, remedy: &str) -> Self {
        Self::new(ErrorKind::Invalid, format!("{field} is {value}: {rule}; {remedy}")).with("field", field)
    }

    /// Names the role that met the error.
    #[must_use]
    pub fn at(mut self, role: &RoleName, operation: &'static str) -> Self {
        self.role.get_or_insert_with(|| role.clone());
        self.operation.get_or_insert(operation);
        self
    }

    /// Adds a fact. Never a secret.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl fmt::Display) -> Self {
        self.context.push((name.into(), value.to_string()));
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says whether trying again can help.
    #[must_use]
    pub fn status(mut self, status: ErrorStatus) -> Self {
        self.status = status;
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.status == ErrorStatus::Temporary
    }

    /// The role that met the error, where one did.
    pub fn role(&self) -> Option<&RoleName> {
        self.role.as_ref()
    }

    /// What a person should read.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// All facts by name, in the order in which they were added.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.context.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// A named fact.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.context.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(role) = &self.role {
            write!(f, "{role}: ")?;
        }
        if let Some(operation) = self.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.message)?;
        for (name, value) in self.context.iter().filter(|(n, _)| *n != "field") {
            write!(f, " [{name}={value}]")?;
        }
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}
