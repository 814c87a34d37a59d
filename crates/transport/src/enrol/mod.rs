//! Enrolment.

mod answers;
mod authority;
mod certify;
mod credentials;
mod digits;
mod handshake;
mod ledger;
mod link;
mod place;
mod renewal;
mod revoked;
mod roster;
mod server;
mod service;
#[cfg(test)]
mod tests;
mod token;
mod words;

pub use authority::Authority;
pub(crate) use credentials::valid;
pub use credentials::{Credentials, CredentialsBuilder};
pub use renewal::{Keeping, Renewal};
pub use revoked::{Revoked, Serial};
pub use roster::{RoleKind, RosterEntry, ServedRole, Stated};
pub use server::{EnrolmentLimits, EnrolmentServer};
pub use service::{Service, ServiceKind};
pub use token::{Invitation, JoinToken};
