//! What goes wrong with a server, told apart by what its caller does about it.

use crate::names::words;
use site_recovery::ErrorKind;
use site_recovery_https::{Lost, Unusable};

/// Why a server did not do what it was asked. None holds a password, a session's token, or the body of a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; nothing was sent.
    #[error(transparent)]
    Invalid(#[from] Unusable),
    /// No answer came, or not whole.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// An answer that is not the API's: of a proxy, of a server that starts, or of one that does not have this call.
    #[error("{server} answers {call} with HTTP {status}")]
    Status {
        /// Host and port.
        server: String,
        /// The call.
        call: &'static str,
        /// 503 and others.
        status: u16,
    },
    /// There is no Automation API: a standalone ESXi host has none, nor has a vCenter before 6.5.
    #[error("{server} has no Automation API: it is no vCenter from 6.5 on")]
    NoApi {
        /// Host and port.
        server: String,
    },
    /// The answer is not what the API allows.
    #[error("the server's answer to {call} makes no sense: {what}")]
    Garbage {
        /// The call.
        call: &'static str,
        /// What is wrong with it, without its bytes.
        what: String,
    },
    /// The server refused.
    #[error("{call}: {refusal}{}", said(.words))]
    Refused {
        /// The call.
        call: &'static str,
        /// Why.
        refusal: Refusal,
        /// The server's words, for people, each of its messages on its own.
        words: Vec<String>,
    },
    /// The call changes something, and its answer was lost: it may have been done, or may yet be. It was not repeated; look at
    /// what is, before it is.
    #[error("{call}: unknown whether it was done ({cause})")]
    Unknown {
        /// The call.
        call: &'static str,
        /// What happened to the answer.
        cause: Box<Error>,
    },
    /// No tag of this name is there, or none that the user may read.
    #[error("there is no tag {name}, or none that this user may read")]
    NoTag {
        /// `dr=gold`.
        name: String,
    },
}

words! {
    /// Why the server refused, by the `error_type` of `/api` or the `type` of `/rest`.
    Refusal {
        /// There is no session (any more), or user and password are wrong.
        Unauthenticated = "UNAUTHENTICATED",
        /// The user may not.
        Unauthorized = "UNAUTHORIZED",
        /// It is not there, or the user may not read it.
        NotFound = "NOT_FOUND",
        /// The name is taken.
        AlreadyExists = "ALREADY_EXISTS",
        /// It is so already.
        AlreadyInDesiredState = "ALREADY_IN_DESIRED_STATE",
        /// Its state does not allow it.
        NotAllowedInCurrentState = "NOT_ALLOWED_IN_CURRENT_STATE",
        /// An argument is not taken.
        InvalidArgument = "INVALID_ARGUMENT",
        /// Another kind of object than the call is for.
        InvalidElementType = "INVALID_ELEMENT_TYPE",
        /// A part of vCenter does not run, or VMware Tools do not, where a guest is asked.
        ServiceUnavailable = "SERVICE_UNAVAILABLE",
        /// Others use it just now.
        ResourceBusy = "RESOURCE_BUSY",
        /// Others use it.
        ResourceInUse = "RESOURCE_IN_USE",
        /// What it needs cannot be reached, as the host of a machine.
        ResourceInaccessible = "RESOURCE_INACCESSIBLE",
        /// Too many objects match a list, or there is no room.
        UnableToAllocateResource = "UNABLE_TO_ALLOCATE_RESOURCE",
        /// It changed meanwhile.
        ConcurrentChange = "CONCURRENT_CHANGE",
        /// It took the server too long.
        TimedOut = "TIMED_OUT",
        /// Somebody cancelled it.
        Canceled = "CANCELED",
        /// Not there on this server.
        Unsupported = "UNSUPPORTED",
        /// This version does not have the call.
        OperationNotFound = "OPERATION_NOT_FOUND",
        /// Something that the server has no word for.
        Error = "ERROR",
        /// Something within the server.
        InternalServerError = "INTERNAL_SERVER_ERROR",
    }
}

impl Refusal {
    /// What a caller of the library can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unauthenticated | Self::Unauthorized => ErrorKind::Denied,
            Self::NotFound => ErrorKind::NotFound,
            Self::AlreadyExists | Self::ConcurrentChange => ErrorKind::Conflict,
            Self::InvalidArgument | Self::InvalidElementType => ErrorKind::Invalid,
            Self::ServiceUnavailable | Self::ResourceInaccessible | Self::TimedOut => ErrorKind::Unavailable,
            Self::ResourceBusy | Self::ResourceInUse => ErrorKind::Busy,
            Self::Canceled => ErrorKind::Cancelled,
            Self::Unsupported | Self::OperationNotFound => ErrorKind::Unsupported,
            Self::AlreadyInDesiredState
            | Self::NotAllowedInCurrentState
            | Self::UnableToAllocateResource
            | Self::Error
            | Self::InternalServerError
            | Self::Other(_) => ErrorKind::Refused,
        }
    }
}

fn said(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(": {words:?}") }
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

    pub(crate) fn garbage(call: &'static str, what: impl Into<String>) -> Self {
        Self::Garbage { call, what: what.into() }
    }

    /// Why the server refused, where it answered so.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether it was refused because it is so already, as a machine is off that was to be stopped.
    pub fn is_already(&self) -> bool {
        self.refusal() == Some(&Refusal::AlreadyInDesiredState)
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
            Self::Status { status: 401 | 403, .. } => ErrorKind::Denied,
            Self::Status { status: 404, .. } | Self::NoTag { .. } => ErrorKind::NotFound,
            Self::Status { .. } | Self::Unknown { .. } => ErrorKind::Unavailable,
            Self::NoApi { .. } => ErrorKind::Unsupported,
            Self::Garbage { .. } => ErrorKind::Corrupt,
            Self::Refused { refusal, .. } => refusal.kind(),
        }
    }

    /// The server says that there is no session.
    pub(crate) fn is_logged_out(&self) -> bool {
        self.refusal() == Some(&Refusal::Unauthenticated) || matches!(self, Self::Status { status: 401, .. })
    }
}

impl From<Error> for site_recovery::Error {
    /// With the facts `field`, `refusal` and `outcome` (`unknown`), where they are known.
    fn from(error: Error) -> Self {
        let mut made = Self::new(error.kind(), error.to_string());
        match &error {
            Error::Invalid(wrong) => made = made.with("field", wrong.field),
            Error::Refused { refusal, .. } => made = made.with("refusal", refusal),
            Error::Unknown { .. } => made = made.with("outcome", "unknown"),
            _ => {}
        }
        made
    }
}
