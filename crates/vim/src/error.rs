//! What goes wrong with a server, told apart by what its caller does about it.

use crate::{DatastorePath, Fault, Moref};
use site_recovery::ErrorKind;
use site_recovery_https::{Lost, Unusable};
use std::time::Duration;

/// Why a server did not do what it was asked. None holds a password, a cookie, or the body of a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; nothing was sent.
    #[error(transparent)]
    Invalid(#[from] Unusable),
    /// No answer came, or not whole.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// What stands before the server answered in its place: a proxy, or a server that starts.
    #[error("{server} answers with HTTP {status}")]
    Status {
        /// Host and port.
        server: String,
        /// 503 and others.
        status: u16,
    },
    /// The answer is not what the protocol allows.
    #[error("the server's answer makes no sense: {what}")]
    Garbage {
        /// What is wrong with it, without its bytes.
        what: String,
    },
    /// The server refused.
    #[error("{method}: {fault}{}", said(.words))]
    Refused {
        /// The call, or the task's.
        method: &'static str,
        /// Why.
        fault: Fault,
        /// The server's words, for people.
        words: String,
    },
    /// The call changes something, and its answer was lost: it may have been done, or may yet be. It was not repeated; look at
    /// what is, before it is.
    #[error("{method}: unknown whether it was done ({cause})")]
    Unknown {
        /// The call.
        method: &'static str,
        /// What happened to the answer.
        cause: Box<Error>,
    },
    /// Several machines have one identifier: what is done to one of them says nothing of the others.
    #[error("{} have one instance UUID, {uuid}: a copy that was registered by hand; give one of them another", joined(.machines))]
    Several {
        /// The identifier.
        uuid: String,
        /// Which they are.
        machines: Vec<Moref>,
    },
    /// The task was waited for long enough. It goes on.
    #[error("{task} still runs after {span:?}")]
    Running {
        /// Which.
        task: Moref,
        /// How long.
        span: Duration,
    },
    /// A file on a datastore cannot be read or written so.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: DatastorePath,
        /// Why.
        why: FileRefusal,
    },
}

/// Why a file on a datastore cannot be read or written over HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileRefusal {
    /// It is not there, or its datastore is not.
    #[error("there is no such file")]
    NotFound,
    /// The user may not: `Datastore.Browse` and `Datastore.FileManagement` are needed.
    #[error("the user may not (HTTP {0}); Datastore.Browse and Datastore.FileManagement are needed")]
    Denied(u16),
    /// The host gives it to nobody: most often a running machine has it open.
    #[error("the host does not give it out (HTTP {0}): it is in use")]
    Locked(u16),
    /// The range was passed by, as for a file of no bytes, and by some hosts for each.
    #[error("the host sends the whole file instead of the range")]
    RangeIgnored,
    /// The range begins after the end.
    #[error("the range lies beyond the end of the file")]
    BeyondEnd,
    /// Another range than was asked for.
    #[error("the host sends another range than was asked for")]
    WrongRange,
    /// Fewer or more bytes than the range has.
    #[error("the host sends {got} bytes of {wanted}")]
    WrongLength {
        /// How many were asked for.
        wanted: u64,
        /// How many came.
        got: u64,
    },
    /// Something else.
    #[error("the host answers with HTTP {0}")]
    Status(u16),
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words:?}") }
}

fn joined(machines: &[Moref]) -> String {
    machines.iter().map(|machine| machine.id.as_str()).collect::<Vec<_>>().join(" and ")
}

impl Error {
    pub(crate) fn invalid(
        field: &'static str,
        value: impl ToString,
        rule: &'static str,
        remedy: &'static str,
    ) -> Self {
        Unusable::new(field, value, rule, remedy).into()
    }

    pub(crate) fn garbage(what: impl Into<String>) -> Self {
        Self::Garbage { what: what.into() }
    }

    /// The server's fault, where it answered with one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Refused { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// Whether a change may have been made although there is an error.
    pub fn may_have_been_done(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// What a caller of the library can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Lost(lost) => lost.kind(),
            Self::Status { .. } | Self::Unknown { .. } => ErrorKind::Unavailable,
            Self::Garbage { .. } => ErrorKind::Corrupt,
            Self::Refused { fault, .. } => fault.kind(),
            Self::Several { .. } => ErrorKind::Conflict,
            Self::Running { .. } => ErrorKind::Busy,
            Self::File { why, .. } => match why {
                FileRefusal::NotFound => ErrorKind::NotFound,
                FileRefusal::Denied(_) => ErrorKind::Denied,
                FileRefusal::Locked(_) => ErrorKind::Busy,
                FileRefusal::RangeIgnored => ErrorKind::Unsupported,
                FileRefusal::BeyondEnd => ErrorKind::Invalid,
                FileRefusal::WrongRange | FileRefusal::WrongLength { .. } => ErrorKind::Corrupt,
                FileRefusal::Status(_) => ErrorKind::Refused,
            },
        }
    }

    /// The server says that there is no session.
    pub(crate) fn is_logged_out(&self) -> bool {
        matches!(self.fault(), Some(Fault::NotAuthenticated))
    }
}

impl From<Error> for site_recovery::Error {
    /// With the facts `field`, `fault` and `outcome` (`unknown`), where they are known.
    fn from(error: Error) -> Self {
        let mut made = Self::new(error.kind(), error.to_string());
        match &error {
            Error::Invalid(wrong) => made = made.with("field", wrong.field),
            Error::Refused { fault, .. } => made = made.with("fault", fault),
            Error::Unknown { .. } => made = made.with("outcome", "unknown"),
            _ => {}
        }
        made
    }
}
