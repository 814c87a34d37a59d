//! What ends a connection, by name.

use crate::frame::Malformed;
use crate::message::Versions;
use crate::told::Told;
use site_recovery::{Capability, Clock, Error, ErrorKind, ErrorStatus};
use std::io;
use std::time::Duration;

/// Of the library's errors, or of faults where that is said.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("TLS did not come about: {0}")]
    Tls(io::Error),
    #[error("no {what} within {span:?}")]
    Silent { what: &'static str, span: Duration },
    #[error("the peer sent {0}")]
    Malformed(#[from] Malformed),
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    #[error(
        "this side speaks versions {ours} of the protocol, the peer {theirs}; bring the older one up to date"
    )]
    Version { ours: Versions, theirs: Versions },
    #[error("the server does not let us in: {}", .0.message())]
    Unwelcome(Error),
    #[error("the role's capability was {before:?} and is now {now:?}; make the store anew")]
    Changed { before: Box<Capability>, now: Box<Capability> },
    #[error("{0}")]
    Ended(&'static str),
}

impl From<io::Error> for Fault {
    /// In TLS 1.3 a server refuses a client's certificate only once the handshake has ended for the client.
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            Self::Tls(error)
        } else {
            Self::Broken(error)
        }
    }
}

impl Fault {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// Whether another connection may do better.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Unwelcome(error) => error.is_temporary(),
            Self::Tls(_) | Self::Version { .. } | Self::Changed { .. } => false,
            _ => true,
        }
    }

    /// What the caller can do about it.
    pub(crate) fn told(&self) -> Error {
        let kind = match self {
            Self::Unwelcome(error) => return Told::from(error).into(),
            Self::Tls(_) => ErrorKind::Denied,
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Changed { .. } => ErrorKind::Conflict,
            _ => ErrorKind::Unavailable,
        };
        let status = if self.passes() { ErrorStatus::Temporary } else { ErrorStatus::Permanent };
        Error::new(kind, self.to_string()).status(status)
    }
}

/// The outcome of `work`, or the fault that it did not come in time.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    span: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = clock.sleep(span) => Err(Fault::Silent { what, span }),
    }
}
