//! What goes wrong, told apart by what its caller does about it.

use crate::known::Known;
use crate::said::Said;
use site_recovery::ErrorKind;
use site_recovery_https::Unusable;
use std::time::Duration;

/// Why Azure did not do what it was asked. Each names the call, as `PUT disks/web-1`; none holds a token or a signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; nothing was sent.
    #[error(transparent)]
    Invalid(#[from] Unusable),
    /// Whoever asks may not (HTTP 401 and 403), or could not sign in.
    #[error("{call}: not allowed: {said}")]
    Denied {
        /// The call.
        call: String,
        /// Azure's words.
        said: Box<Said>,
    },
    /// Too many calls (HTTP 429). Nothing was done.
    #[error("{call}: too many calls: {said}")]
    Throttled {
        /// The call.
        call: String,
        /// How long Azure wants to be left alone, where it says so.
        after: Option<Duration>,
        /// Azure's words.
        said: Box<Said>,
    },
    /// The resource's state does not allow it, mostly because something else is being done to it (HTTP 409).
    #[error("{call}: in conflict: {said}")]
    Conflict {
        /// The call.
        call: String,
        /// Azure's words.
        said: Box<Said>,
    },
    /// It was begun, and failed or was given up: Azure says so of the operation or of the resource.
    #[error("{call}: failed: {said}")]
    Failed {
        /// The call.
        call: String,
        /// Azure's words.
        said: Box<Said>,
    },
    /// Azure refused (HTTP 400 and others).
    #[error("{call}: refused with HTTP {status}: {said}")]
    Refused {
        /// The call.
        call: String,
        /// Of HTTP.
        status: u16,
        /// Azure's words.
        said: Box<Said>,
    },
    /// No answer came, or not whole, or it was that of a server in trouble (HTTP 408 and from 500 on).
    #[error("{call}: no answer: {because}")]
    Lost {
        /// The call.
        call: String,
        /// A change may have been made, or may yet be: look at what is before it is asked for again.
        may_have_been_done: bool,
        /// What happened to the answer.
        because: String,
    },
    /// The sign-in does not answer, which is asked several times: nothing was sent.
    #[error("{call}: not sent: no token: {because}")]
    Unsigned {
        /// The call.
        call: String,
        /// What happened to the sign-in's answer.
        because: String,
    },
    /// The operation is not at its end within [`Limits::longest_ms`](crate::Limits::longest_ms). It goes on.
    #[error("{call}: not at its end within {span:?}; it goes on")]
    TooLong {
        /// The call.
        call: String,
        /// How long it was waited for.
        span: Duration,
    },
    /// There is no such resource (HTTP 404).
    #[error("{call}: not there: {said}")]
    Absent {
        /// The call.
        call: String,
        /// Azure's words.
        said: Box<Said>,
    },
    /// The answer is none that Resource Manager gives.
    #[error("the answer to {call} makes no sense: {what}")]
    Unreadable {
        /// The call.
        call: String,
        /// What is wrong with it, without its bytes.
        what: String,
    },
}

impl Error {
    /// By the status of an answer that is no success, with what it says.
    pub(crate) fn refused(
        call: String,
        status: u16,
        after: Option<Duration>,
        said: Box<Said>,
        change: bool,
    ) -> Self {
        match status {
            401 | 403 => Self::Denied { call, said },
            404 => Self::Absent { call, said },
            408 | 500.. => {
                let because = format!("HTTP {status}, {said}");
                Self::Lost { call, may_have_been_done: change, because }
            }
            409 => Self::Conflict { call, said },
            429 => Self::Throttled { call, after, said },
            _ => Self::Refused { call, status, said },
        }
    }

    pub(crate) fn unreadable(call: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Unreadable { call: call.into(), what: what.into() }
    }

    /// Azure's words, where it said something.
    pub fn said(&self) -> Option<&Said> {
        match self {
            Self::Denied { said, .. }
            | Self::Throttled { said, .. }
            | Self::Conflict { said, .. }
            | Self::Failed { said, .. }
            | Self::Refused { said, .. }
            | Self::Absent { said, .. } => Some(said),
            Self::Invalid(_)
            | Self::Lost { .. }
            | Self::Unsigned { .. }
            | Self::TooLong { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// Azure's code, as `SkuNotAvailable`; empty where there is none.
    pub fn code(&self) -> &str {
        self.said().map_or("", |said| &said.code)
    }

    /// Azure's words; empty where there are none.
    pub fn message(&self) -> &str {
        self.said().map_or("", |said| &said.message)
    }

    /// The status of HTTP, where the answer had one that tells something.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Throttled { .. } => Some(429),
            Self::Conflict { .. } => Some(409),
            Self::Absent { .. } => Some(404),
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether a change may have been made although there is an error, or may yet be.
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::Lost { may_have_been_done, .. } => *may_have_been_done,
            Self::TooLong { .. } | Self::Unreadable { .. } => true,
            _ => false,
        }
    }

    /// Whether the same question may be answered a little later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Lost { .. })
    }

    /// What a caller of the library can do about it: by Azure's code where it is known, else by the sort of error.
    pub fn kind(&self) -> ErrorKind {
        if let Some(known) = self.known() {
            return known.kind;
        }
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Throttled { .. } | Self::Lost { .. } | Self::Unsigned { .. } | Self::TooLong { .. } => {
                ErrorKind::Unavailable
            }
            Self::Conflict { .. } => ErrorKind::Busy,
            Self::Failed { .. } | Self::Refused { .. } => ErrorKind::Refused,
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Unreadable { .. } => ErrorKind::Corrupt,
        }
    }

    /// What to do about it, where the code is a known one.
    pub fn remedy(&self) -> Option<&'static str> {
        self.known().map(|known| known.remedy)
    }

    fn known(&self) -> Option<Known> {
        self.said().and_then(|said| Known::of(&said.code, &said.message))
    }
}

impl From<Error> for site_recovery::Error {
    /// With the facts `field`, `code`, `status`, `remedy`, `request`, `correlation` and `outcome` (`unknown`), where they are
    /// known.
    fn from(error: Error) -> Self {
        let mut made = Self::new(error.kind(), error.to_string());
        if let Error::Invalid(wrong) = &error {
            made = made.with("field", wrong.field);
        }
        if !error.code().is_empty() {
            made = made.with("code", error.code());
        }
        if let Some(status) = error.status() {
            made = made.with("status", status);
        }
        if let Some(remedy) = error.remedy() {
            made = made.with("remedy", remedy);
        }
        if let Some(said) = error.said() {
            for (name, id) in [("request", &said.request), ("correlation", &said.correlation)] {
                if let Some(id) = id {
                    made = made.with(name, id);
                }
            }
        }
        if error.may_have_been_done() {
            made = made.with("outcome", "unknown");
        }
        made
    }
}
