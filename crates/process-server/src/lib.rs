//! The process server: it reads a capture, skips zeros, compares, checksums, compresses, ships the
//! records, and seals the point. While the replica is away it keeps whole captures in a spool on disk.
//!
//! ```text
//!  plan                 lane (per disk, up to 3 at once)                delivery | spool
//!  head of the replica  extents, hashes -> room -> read -> judge:       batches, up to 4 under way at once, counted as
//!  + changes + touched  zero, equal, or packed, on bounded threads      they are acknowledged; then the seal. Or one
//!                                                                       durable file, drained later
//! ```
//!
//! [`ProcessServer::builder`] says how much memory, how many threads, and where the spool is. One process server
//! serves many machines; one machine is served by one call at a time. The program `site-recovery-process-server` (feature
//! `service`) is one as a service; [`sizing`] says how large its host has to be.
#![forbid(unsafe_code)]

mod base;
mod blocking;
mod builder;
mod delivery;
mod desk;
mod drain;
mod halt;
mod health;
mod host;
mod judge;
mod lane;
mod means;
mod meter;
mod plan;
mod progress;
mod room;
mod server;
mod ship;
pub mod sizing;
mod spool;
mod throttle;

pub use builder::Builder;
pub use server::ProcessServer;
pub use site_recovery_record::{Codec, KEY_BYTES, Key, Keyring};
pub use throttle::{Throttle, Weekday, Window};
