//! How services come by their certificates, keep them fresh, and learn of each other.
//!
//! - [`Authority`] is the one of a vault: it mints [join tokens](JoinToken), signs certificates, revokes them, and keeps the
//!   roster. [`EnrolmentServer`] is its port.
//! - [`Credentials`] are a service's own: key and certificate, on disk and in use. [`server_tls`](Credentials::server_tls) and
//!   [`client_tls`](Credentials::client_tls) always show the newest certificate.
//!
//! ```no_run
//! # use site_recovery::{Result, SystemClock, TokioSpawner};
//! # use site_recovery_transport::enrol::*;
//! # use std::sync::Arc;
//! # async fn authority() -> Result<()> {
//! // Where the vault is: once for each service, and its text is carried there as the secret that it is.
//! let authority = Authority::open("/var/lib/site-recovery/authority", Arc::new(SystemClock))?;
//! let address = "0.0.0.0:7444".parse().expect("an address");
//! let server = EnrolmentServer::listen(authority.clone(), address, EnrolmentLimits::default()).await?;
//! let points = Service::new(ServiceKind::PointStore, "points-1")?;
//! let invitation = Invitation::new(points, "dr.example.net:7444").role(ServedRole::new(RoleKind::Store, "points"));
//! println!("{}", authority.mint(invitation).await?.to_text());
//! # Ok(())
//! # }
//! # async fn service(token: Option<&str>) -> Result<()> {
//! // Where the store is: with the token the first time, from then on without.
//! let stated = Stated {
//!     address: Some("store.example.net:7443".into()),
//!     roles: vec![ServedRole::new(RoleKind::Store, "points")],
//! };
//! let at = Credentials::at("/var/lib/site-recovery/identity").states(stated);
//! let credentials = match token {
//!     Some(text) => at.join(&text.parse()?).await?,
//!     None => at.open().await?,
//! };
//! let renewal = credentials.keep(Keeping::default(), &TokioSpawner::current()?)?;
//! let tls = credentials.server_tls();
//! # Ok(())
//! # }
//! ```
//!
//! # Who is who
//! A [`Service`] is a kind and a name: `agent/web-1`. Its certificate says so twice: by a DNS name, which clients ask for
//! wherever they reach it, and by a URI, which [rules](crate::Client::service) are about. It is good for both sides of a
//! connection. An engine's name is its engine id: evidence for a start is taken from that engine alone.
//!
//! # Joining
//! A token works once, for a short time, and for the service that it was minted for. It names the authority by the SHA-256
//! of its certificate, so nothing is trusted on first use, and the secret is said to nobody else. The service makes its key
//! itself; of its request nothing counts but the public key. A reply that is lost is had again with the same token, by the
//! same key alone.
//!
//! # Times
//! A certificate lives a day, is renewed at half of that, with a new key, and is good from ten minutes before it was made:
//! clocks that are further apart than that keep services from meeting. One that has expired renews nothing: its service joins
//! anew. All times are those of [`Clock`](site_recovery::Clock).
//!
//! # What is revoked
//! is turned away in the handshake by every service that knows, on both sides, and renews nothing. Services ask for the list
//! every [`Keeping::ask`], keep it on disk, and never forget what was on it. A [`Server`](crate::Server) that learns of it ends
//! the connections of that client; a client stays with a server until the connection breaks. A service that reaches no authority does not learn
//! of it; the certificate ends by itself then. The authority's own certificate cannot be revoked or replaced: who has its
//! key is the authority.
//!
//! # Who is where
//! With each renewal a service says where it is and which roles it serves, none but those of its token; each role belongs to
//! one service until that is revoked. [`Credentials::locate`] answers from what it knows and asks when it does not know. It
//! is where a service said that it was, and no proof of anything: whom one talks to there is seen by the certificate.
//!
//! # Who can reach the port
//! Strangers can. They are few at a time, the oldest makes room, and each has bounds for time and size;
//! [`EnrolmentLimits`]. What they send that is not a join request is cut off and logged.
//!
//! # On disk
//! Both directories are for their owner alone (0700), and so are the files in them (0600); one that others may look into is
//! refused. Every file is replaced whole and survives a power cut, key and certificate in one. The authority writes a
//! certificate down before the token is spent, and spends the token before the certificate leaves: nobody has one that it
//! cannot revoke.

mod answers;
mod authority;
mod certify;
mod credentials;
mod digits;
mod handover;
mod handshake;
mod known;
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
