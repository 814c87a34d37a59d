//! Why a transfer stopped, and on which side: only a silent replica is a reason to spool.

use site_recovery::{Error, ErrorKind};

pub(crate) type Transfer<T> = std::result::Result<T, Halt>;

#[derive(Debug)]
pub(crate) enum Halt {
    Replica(Error),
    Here(Error),
}

impl Halt {
    pub(crate) fn replica_is_away(&self) -> bool {
        matches!(self, Halt::Replica(e) if e.kind() == ErrorKind::Unavailable)
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Halt::Here(error)
    }
}

impl From<Halt> for Error {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Replica(error) | Halt::Here(error) => error,
        }
    }
}
