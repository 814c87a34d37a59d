//! Roles in other processes, and on other hosts.
//!
//! - [`Server`] serves roles under their names, to clients that show a certificate of its authority.
//! - [`RemoteStore`] is a recovery point store on the other side: a [`Role`], a [`Replica`], a [`RecoveryPointStore`], with all
//!   their methods. [`RemoteSource`], [`RemoteProcessServer`], [`RemoteTarget`], [`RemoteMasterTarget`] and
//!   [`RemoteLandingSite`] are the others; [`RemoteWitness`] tells a server how its machine stands.
//! - [`enrol`] is how services come by their certificates, and learn of each other.
//! - [`Heartbeat`] hears of services, and what they tell of themselves.
//!
//! [`Role`]: site_recovery::Role
//! [`Replica`]: site_recovery::Replica
//! [`RecoveryPointStore`]: site_recovery::RecoveryPointStore
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! # async fn there(points: Arc<dyn site_recovery::RecoveryPointStore>, pem: impl Fn(&str) -> Vec<u8>) -> site_recovery::Result<()> {
//! use site_recovery_transport::{Server, ServerTls};
//!
//! let tls = ServerTls::new(&pem("server.pem"), &pem("server.key"), &pem("ca.pem"))?;
//! let server = Server::builder(tls).store(points).listen("0.0.0.0:7443".parse().expect("an address")).await?;
//! # let stopped = async {};
//! stopped.await;
//! server.stop(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! # async fn here(pem: impl Fn(&str) -> Vec<u8>) -> site_recovery::Result<()> {
//! use site_recovery_transport::{ClientTls, RemoteStore};
//!
//! let tls = ClientTls::new(&pem("client.pem"), &pem("client.key"), &pem("ca.pem"), "dr.example.net")?;
//! let store = RemoteStore::builder("dr.example.net:7443", "points".into(), tls).connect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What crosses
//! Two protocols on one port, told apart in the TLS handshake. *Bytes* (records, points, captured and landing disks) and a store's
//! calls are frames over one TLS 1.3 connection per client. A `write` is a compact head and the records' payloads as they lie in
//! memory; on the other side they are slices of one buffer. Reads of opened points, extents and hashes are plain bytes, every
//! other call is JSON. *Calls* of all other roles are gRPC, with JSON in it. Requests are answered in any order, and a list in parts, so no frame grows with it. `docs/formats.md`,
//! *Wire* and *Control plane*, has every byte.
//!
//! # Flow and limits
//! The server grants each connection a credit, [`Limits::connection_bytes`]: a client has never more bytes of unanswered requests on
//! the way, and one that goes beyond is cut off. Reads wait for memory of the same size. A batch that is larger than the
//! credit is `Invalid`. Of the control plane 16 calls of a connection are read at once, of 32 MiB or `connection_bytes` each, whichever is
//! less. Both sides say so every now and then when they have nothing to say; where nothing moves for a
//! [`stall`](Limits::stall), the peer is given up.
//!
//! # A connection that breaks
//! is made again with the next call, or at once where calls or opened points need it. What was not answered is asked again:
//! the [`Op`](site_recovery::Op) of a changing call names its effect, and a batch that comes again counts once. So a cut costs
//! what was in flight. The server ends an older connection of a client, and drops what it began, before it welcomes the next
//! one: no call strikes after a later one. What cannot be reached within the [`patience`](RemoteBuilder::patience), or
//! was sent sixteen times, is `Unavailable`.
//!
//! A point that is open is opened again, and has to be the same cut. Meanwhile nobody holds it on the other side, so a point
//! that is not pinned may be dropped there; its disks are `NotFound` then. A landing disk is not opened again: its handle ends with
//! its connection, so that no flush vouches for what was written before the break.
//!
//! # Who is let in, and for what
//! Whoever shows a certificate of the authority, to every role that is served, by TLS 1.3 alone. There is no way to skip a
//! check. A server of another name or authority is `Denied`. A service of an [authority](enrol::Authority) asks for what its kind
//! is for: an engine by its own authority alone; a keeper and a master target pass on what an engine told them; a process server
//! moves bytes and decides nothing; an agent asks how its server stands.
//!
//! Without rules a certificate gives everything: reading all points, deleting them, raising epochs. Then use an authority made
//! for this server alone. With rules, [`ServerBuilder::allow`], only the clients that they name are let in, by fingerprint or
//! by a name in the certificate, each to the machines of its rules; the rest is `Denied`. What a client says
//! inside of control state counts as well: whoever ships one of a replication group has to be allowed all its members. An authority that signs for others,
//! too, is safe with rules alone, and never one that is public, with rules by name.
//!
//! A certificate is looked at when a connection is made. After that, a connection whose client is known to be revoked ends, where
//! the certificates are of an [authority](enrol); they renew by themselves there. To change rules, or certificates that were made by
//! hand, make the server or the stub anew.
//!
//! Leave to start a machine crosses as evidence, and is taken from the engine alone that its certificate names.
//!
//! # A peer's garbage
//! cuts that peer off, is logged with its address (`tracing`, target `site_recovery_transport`), and harms nobody else. Who has
//! shown no certificate yet takes none of [`Limits::connections`]: there are [`Limits::strangers`] of them, each for up to
//! [`Limits::handshake`], and of too many the oldest goes. Strangers that come faster than that many in the time of one TLS
//! handshake keep others out all the same: keep the port behind a firewall.
//!
//! # Errors
//! Those of the far store arrive with kind, status, role, message, facts and causes. An answer that is longer than the client takes is `Unavailable`, not
//! `Refused`: what was asked may be done.
//!
//! Of the connection: `Unavailable`; `Denied` for certificates; `NotFound` for a store that is not served; `Unsupported`,
//! naming both, where there is no common version; `Conflict` where a store's capability changed.
//!
//! # Not yet
//! Compression of calls. One connection per client and protocol, and so one core per end for TLS.
#![forbid(unsafe_code)]

mod allow;
mod client;
mod control;
mod duty;
pub mod enrol;
mod fault;
mod frame;
#[cfg(test)]
mod fuzz;
mod message;
mod named;
mod server;
mod tls;
mod told;
mod wire;

pub use allow::{Client, Machines};
pub use client::{RemoteBuilder, RemoteStore, Stub};
pub use control::{
    Heard, Heartbeat, Names, Pulse, RemoteLandingSite, RemoteMasterTarget, RemoteProcessServer, RemoteSource,
    RemoteTarget, RemoteWitness, VitalSigns, Vitals,
};
pub use server::{Limits, Server, ServerBuilder, Stopped};
pub use tls::{ClientTls, ServerTls};
