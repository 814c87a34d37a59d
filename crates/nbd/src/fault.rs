//! What goes wrong between two peers, by name.

use site_recovery::{Clock, Error, ErrorKind, ErrorStatus};
use std::future::Future;
use std::io;
use std::time::Duration;

/// Of the library's errors, or of faults where that is said.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    #[error("no {what} within {span:?}")]
    Silent { what: &'static str, span: Duration },
    #[error("TLS did not come about: {0}")]
    Tls(io::Error),
    #[error("the peer asked for {0} without TLS")]
    Plain(&'static str),
    #[error("the server refused {what}: {answer}{}", reason(.message))]
    Refused { what: &'static str, answer: Answer, message: String },
    #[error("the server has no {0}")]
    Absent(String),
    #[error("the disk failed in the middle of an answer: {0}")]
    CutShort(Error),
    #[error("what was written may be lost: {0}")]
    Unflushed(Error),
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

fn reason(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message:?})") }
}

/// The number of an option's negative reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) u32);

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::protocol::reply;
        match self.0 {
            reply::ERR_UNSUP => f.write_str("not supported"),
            reply::ERR_POLICY => f.write_str("forbidden by its policy"),
            reply::ERR_INVALID => f.write_str("invalid"),
            reply::ERR_TLS_REQD => f.write_str("TLS is required"),
            reply::ERR_UNKNOWN => f.write_str("not known"),
            other => write!(f, "reply {other:#x}"),
        }
    }
}

impl Fault {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// What the caller of the client can do about it.
    pub(crate) fn told(self) -> Error {
        use crate::protocol::reply;
        let kind = match &self {
            Self::Tls(_)
            | Self::Plain(_)
            | Self::Refused { answer: Answer(reply::ERR_TLS_REQD | reply::ERR_POLICY), .. } => {
                ErrorKind::Denied
            }
            Self::Absent(_) | Self::Refused { answer: Answer(reply::ERR_UNKNOWN), .. } => ErrorKind::NotFound,
            Self::Refused { answer: Answer(reply::ERR_UNSUP), .. } => ErrorKind::Unsupported,
            Self::Unflushed(error) => error.kind(),
            _ => ErrorKind::Unavailable,
        };
        let status = match &self {
            Self::Broken(_) | Self::Silent { .. } => ErrorStatus::Temporary,
            Self::Unflushed(error) if error.is_temporary() => ErrorStatus::Temporary,
            _ => ErrorStatus::Permanent,
        };
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
