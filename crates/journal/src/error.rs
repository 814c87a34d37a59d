use rusqlite::ErrorCode;
use site_recovery::{Error, ErrorKind};

/// What can be wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the journal has version {found}, known is {known}: use a newer release")]
    Newer { found: i64, known: i64 },
    #[error("this is a database of something else, not a journal")]
    Foreign,
    #[error("entry {entry} of {subject} is {how}: restore the journal, or adopt from the replica")]
    Damaged { subject: String, entry: i64, how: &'static str },
    #[error("{subject} has {found} entries, not {expect}: another engine writes here")]
    Stale { subject: String, found: i64, expect: u64 },
    #[error("{subject} has no entries to fold")]
    NothingToFold { subject: String },
    #[error("SQLite gave the transaction up")]
    GivenUp,
    #[error("the journal's thread has ended")]
    Ended,
    #[error("the journal's thread cannot be started: {0}")]
    NoThread(std::io::Error),
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Error::new(fault.kind(), fault.to_string());
        match fault {
            Fault::Damaged { subject, entry, .. } => error.with("subject", subject).with("entry", entry),
            Fault::Stale { subject, .. } | Fault::NothingToFold { subject } => error.with("subject", subject),
            Fault::Sqlite(source) => error.caused_by(source),
            Fault::Newer { .. } | Fault::Foreign | Fault::GivenUp | Fault::Ended | Fault::NoThread(_) => {
                error
            }
        }
    }
}

impl Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Fault::Newer { .. } => ErrorKind::Unsupported,
            Fault::Foreign => ErrorKind::Conflict,
            Fault::Damaged { .. } => ErrorKind::Corrupt,
            Fault::Stale { .. } => ErrorKind::StaleEpoch,
            Fault::NothingToFold { .. } => ErrorKind::Refused,
            Fault::GivenUp | Fault::Ended | Fault::NoThread(_) => ErrorKind::Unavailable,
            Fault::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
                Some(ErrorCode::DiskFull) => ErrorKind::OutOfSpace,
                Some(ErrorCode::CannotOpen) => ErrorKind::NotFound,
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => ErrorKind::Denied,
                Some(ErrorCode::SystemIoFailure) => ErrorKind::Unavailable,
                // A table, a column or a type that is not as we made it is a damaged file too.
                _ => ErrorKind::Corrupt,
            },
        }
    }
}
