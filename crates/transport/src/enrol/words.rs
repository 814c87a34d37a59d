//! The messages, and what of them is the library's own.

use super::roster::{RosterEntry, ServedRole, Stated};
use crate::fault::{Fault, Result};
use crate::message::Versions;
use crate::told::Told;
use site_recovery::{Error, ErrorKind, RoleName};
use std::fmt;
use tonic::{Code, Status};

/// What the service protocol is made of, compiled from `proto/enrolment.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "written by a compiler")]
pub(super) mod wire {
    tonic::include_proto!("site_recovery.enrolment.v1");
}

/// Versions of the enrolment protocol that this build speaks.
pub(super) const SPOKEN: Versions = Versions { oldest: 1, newest: 1 };
/// The most bytes of a request.
pub(super) const LONGEST_ASKED: usize = 128 * 1024;
/// The most bytes of an answer: a roster of thousands.
pub(super) const LONGEST_TOLD: usize = 8 * 1024 * 1024;

// By hand: it has a secret in it.
impl fmt::Debug for wire::JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("token", &self.token).finish_non_exhaustive()
    }
}

/// The version to speak with a peer that speaks these.
pub(super) fn version(oldest: u32, newest: u32) -> Result<u32> {
    let theirs = Versions { oldest, newest };
    SPOKEN.common(theirs).ok_or_else(|| Fault::Version { ours: SPOKEN, theirs }.told())
}

/// That the peer speaks a version that was offered.
pub(super) fn agreed(version: u32) -> Result<()> {
    if SPOKEN.contains(version) {
        return Ok(());
    }
    Err(Fault::Version { ours: SPOKEN, theirs: Versions { oldest: version, newest: version } }.told())
}

impl From<&Stated> for wire::Statement {
    fn from(stated: &Stated) -> Self {
        let role =
            |role: &ServedRole| wire::ServedRole { kind: role.kind.to_string(), name: role.name.0.clone() };
        Self {
            address: stated.address.clone().unwrap_or_default(),
            roles: stated.roles.iter().map(role).collect(),
        }
    }
}

impl TryFrom<Option<wire::Statement>> for Stated {
    type Error = Error;

    fn try_from(statement: Option<wire::Statement>) -> Result<Self> {
        let wire::Statement { address, roles } = statement.unwrap_or_default();
        let role =
            |role: wire::ServedRole| Ok(ServedRole { kind: role.kind.parse()?, name: RoleName(role.name) });
        let roles = roles.into_iter().map(role).collect::<Result<_>>()?;
        Ok(Self { address: Some(address).filter(|address| !address.is_empty()), roles })
    }
}

impl From<RosterEntry> for wire::RosterEntry {
    fn from(entry: RosterEntry) -> Self {
        let RosterEntry { service, address, roles } = entry;
        Self {
            service: service.to_string(),
            states: Some((&Stated { address: Some(address), roles }).into()),
        }
    }
}

/// What of a roster this build understands: a newer authority may know kinds that it does not.
pub(super) fn entry(entry: wire::RosterEntry) -> Option<RosterEntry> {
    let statement = entry.states?;
    let known = |role: wire::ServedRole| {
        Some(ServedRole { kind: role.kind.parse().ok()?, name: RoleName(role.name) })
    };
    let roles = statement.roles.into_iter().filter_map(known).collect();
    Some(RosterEntry { service: entry.service.parse().ok()?, address: statement.address, roles })
}

/// An error, as it is told.
pub(super) fn status(error: &Error) -> Status {
    let code = match error.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unsupported | ErrorKind::Refused => Code::FailedPrecondition,
        ErrorKind::Busy => Code::ResourceExhausted,
        // What goes wrong inside is for the log.
        _ => {
            tracing::error!(target: "site_recovery_transport", %error, "the authority could not answer");
            let error =
                Error::new(ErrorKind::Unavailable, "the authority cannot answer now; its log says why");
            return Status::with_details(
                Code::Unavailable,
                error.message(),
                Told::from(&error).to_json().into(),
            );
        }
    };
    Status::with_details(code, error.message(), Told::from(error).to_json().into())
}

/// What was told.
pub(super) fn error(status: &Status) -> Error {
    match crate::frame::json::<Told>("an error", status.details()) {
        Ok(told) => told.into(),
        Err(_) => {
            let said = format!("the authority does not answer: {}", status.message());
            Error::new(ErrorKind::Unavailable, said)
        }
    }
}
