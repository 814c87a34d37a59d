//! What it means that an answer did not come, or not whole.

use site_recovery::ErrorKind;
use site_recovery_tls::rustls;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

/// Why an answer did not come, or not whole, told apart by what its caller does about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Nobody is there. Nothing was done.
    #[error("{server} does not answer: {because}")]
    Absent {
        /// Host and port.
        server: String,
        /// What the system says.
        because: String,
    },
    /// Somebody else is there: the certificate is not the one that is trusted. Nothing was sent.
    #[error("the certificate of {server} is not the one that is trusted: {because}")]
    Stranger {
        /// Host and port.
        server: String,
        /// What is wrong with it.
        because: String,
    },
    /// No answer within the limit.
    #[error("{server} does not answer within {span:?}")]
    Silent {
        /// Host and port.
        server: String,
        /// How long.
        span: Duration,
    },
    /// The connection ended before the answer was whole.
    #[error("the connection to {server} broke: {because}")]
    Broken {
        /// Host and port.
        server: String,
        /// What the system says.
        because: String,
    },
}

impl Lost {
    /// The one that an error came of, however deep: clients of others wrap it.
    pub fn behind<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut causes =
            std::iter::successors(Some(error), |cause: &&'a (dyn StdError + 'static)| (*cause).source());
        causes.find_map(|cause| cause.downcast_ref())
    }

    /// By the error of a request to this server (host and port) that had so long.
    pub fn of(error: &reqwest::Error, server: &str, span: Duration) -> Self {
        let (server, because) = (server.to_owned(), because(error));
        if is_stranger(error) {
            Self::Stranger { server, because }
        } else if error.is_connect() {
            Self::Absent { server, because }
        } else if error.is_timeout() {
            Self::Silent { server, span }
        } else {
            Self::Broken { server, because }
        }
    }

    /// Whether a read may come through a little later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Broken { .. })
    }

    /// Whether the request may have come there: a change may have been made.
    pub fn may_have_come(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Broken { .. })
    }

    /// What a caller of the library can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Stranger { .. } => ErrorKind::Denied,
            Self::Absent { .. } | Self::Silent { .. } | Self::Broken { .. } => ErrorKind::Unavailable,
        }
    }
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |e: &&(dyn StdError + 'static)| (*e).source())
}

/// Whether the server showed another certificate than the one that is trusted.
pub fn is_stranger(error: &reqwest::Error) -> bool {
    chain(error).any(|cause| {
        // An `io::Error` is not the source of what it is made of.
        let mut cause = cause;
        while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            cause = inner;
        }
        matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    })
}

/// The cause at the bottom, which names no address.
pub fn because(error: &reqwest::Error) -> String {
    match chain(error).last() {
        Some(cause) => cause.to_string(),
        None if error.is_timeout() => "it takes too long".into(),
        None => "no more is known".into(),
    }
}
