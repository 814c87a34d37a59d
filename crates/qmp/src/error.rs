//! What goes wrong with a peer, told apart by what its caller does about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a peer did not do what it was asked. No variant holds the arguments of a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call cannot be made so; nothing was sent.
    #[error("{field} {value} is invalid: {rule}; {remedy}")]
    Invalid {
        /// What is wrong.
        field: &'static str,
        /// Its value, or of arguments its kind.
        value: String,
        /// What it has to be.
        rule: String,
        /// What to do.
        remedy: &'static str,
    },
    /// There is no socket, or nobody listens on it: QEMU does not run, or runs without it.
    #[error("nobody listens on {}: {source}", socket.display())]
    Absent {
        /// Where.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// This process may not connect.
    #[error("may not connect to {}: {source}; run as who may write to the socket", socket.display())]
    Denied {
        /// Where.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing came in time. What was asked for may have been done, or may yet be.
    #[error("no {what} from {} within {span:?}: {remedy}", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// What was waited for.
        what: String,
        /// How long.
        span: Duration,
        /// What it may mean, and what to do.
        remedy: &'static str,
    },
    /// Somebody else answers: no monitor, or no guest agent.
    #[error("{} is not {wanted}: {said}", socket.display())]
    Stranger {
        /// Where.
        socket: PathBuf,
        /// Who should have answered.
        wanted: &'static str,
        /// How its first words begin, escaped; or what it is.
        said: String,
    },
    /// The connection ended, or failed. Connect anew.
    #[error("the connection to {} broke: {source}", socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// How; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where the peer closed it.
        source: io::Error,
    },
    /// The peer said what its protocol does not allow. A monitor's connection is given up with that.
    #[error("{} said {what}", socket.display())]
    Garbage {
        /// Where.
        socket: PathBuf,
        /// What it was, without its bytes.
        what: String,
    },
    /// The peer answered with an error.
    #[error("{command} was refused: {refusal}")]
    Refused {
        /// The command.
        command: String,
        /// The answer.
        refusal: Refusal,
    },
}

impl Error {
    /// What the peer answered, where it did.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// A peer's answer that it did not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The class: `GenericError`, `CommandNotFound`, `DeviceNotFound` and few others.
    pub class: String,
    /// In words, for people; they differ between versions.
    pub description: String,
}

impl Refusal {
    /// Whether the peer does not know the command, or has it switched off: an agent has most of its commands switched off
    /// while the guest is frozen.
    pub fn is_unknown_command(&self) -> bool {
        self.class == "CommandNotFound"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", excerpt(&self.description, 400), excerpt(&self.class, 40))
    }
}

/// The beginning of a peer's words, fit for a log.
pub(crate) fn excerpt(words: &str, most: usize) -> String {
    let mut shown: String = words.chars().take(most).flat_map(char::escape_debug).collect();
    if words.chars().nth(most).is_some() {
        shown.push('…');
    }
    // What `escape_debug` escapes for the sake of string literals alone.
    shown.replace("\\'", "'").replace("\\\"", "\"")
}
