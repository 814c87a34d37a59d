//! NBD both ways: a recovery point becomes a block device for every hypervisor, and any NBD export becomes a [`Disk`].
//!
//! - [`Server`] serves opened disks under names. What it serves can be read at once by `qemu-img`, `nbdcopy`, a virtual
//!   machine, a scanner. An [`Export`] is read-only, or takes writes in an overlay that is thrown away.
//! - [`RemoteDisk`] reads an export of any server: QEMU's own, `qemu-nbd`, `nbdkit`, ours. Each dirty bitmap of the server
//!   becomes a [`ChangeSet`].
//! - [`RemoteDiskMut`] writes to one, too, as a [`DiskMut`]: to a landing disk behind `qemu-nbd`, say.
//! - [`find_last_clean`] finds the newest point that a check calls clean, by bisection.
//!
//! [`Disk`]: site_recovery::Disk
//! [`DiskMut`]: site_recovery::DiskMut
//! [`ChangeSet`]: site_recovery::ChangeSet
//!
//! ```no_run
//! # async fn serve(disk: std::sync::Arc<dyn site_recovery::Disk>) -> site_recovery::Result<()> {
//! use site_recovery_nbd::{Address, Export, Server};
//! use std::time::Duration;
//!
//! let server = Server::builder()
//!     .export(Export::read_only("web/root@17", disk))
//!     .listen(Address::Unix("/run/points/web.sock".into()))
//!     .await?;
//! println!("qemu-img convert -O qcow2 {} web.qcow2", server.address().uri("web/root@17"));
//! server.stop(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol
//! Fixed newstyle, `LIST`, `INFO`, `GO`, `EXPORT_NAME`, `ABORT`, `STARTTLS`, structured replies, meta contexts
//! (`base:allocation`, `qemu:dirty-bitmap:NAME`), block status, several connections to one export. Not: old style, extended
//! headers, resize, fast zero.
//!
//! A run is skipped where a server says that it reads as zeros (`NBD_STATE_ZERO`), never because it is called a hole: a
//! hole of QEMU's snapshot of a disk with a backing file reads as the backing file's bytes.
//!
//! The client writes by `WRITE`, `WRITE_ZEROES` and `FLUSH`, never by `TRIM`, which promises no zeros. A write's bytes are
//! sent from the caller's memory.
//!
//! # Who may read
//! Whoever can connect. A Unix socket is made for its owner alone; TCP without TLS is served on loopback alone, and beyond
//! loopback a client has to show a certificate. The socket's mode is set a moment after the socket is made, so its directory
//! should be its owner's, too. TLS is required or off: a peer is never allowed to go on without it.
//!
//! # A peer's garbage
//! cuts that peer off, is logged with its name (`tracing`, target `site_recovery_nbd`), and harms nobody else. Every wait for
//! a peer has a time-out, and every length that it names a bound: [`Limits`].
//!
//! # Errors
//! Of the client: `Unavailable` for a connection that broke or was silent, for it and all that was in flight on it;
//! temporary, unless the peer broke the protocol. `Denied` for TLS that does not come about, and where the server wants
//! TLS; `NotFound` for an export or bitmap that is not there. A write that the server refuses is told by its number:
//! `OutOfSpace`, `Denied`, `Invalid`, `Unavailable`. Of the server's own calls: `Invalid`, `Conflict` for a socket
//! that exists, `Unavailable`.
//!
//! # Cancel safety
//! Dropping a read's future takes back no request that is on its way: its memory returns to the pool with the answer, or
//! with the end of the connection. A write that is dropped goes on to its end, so that what follows on its connection is
//! understood; a later write to the same place waits for it.
#![forbid(unsafe_code)]

mod address;
mod client;
mod fault;
#[cfg(test)]
mod fuzz;
mod last_clean;
mod protocol;
mod server;
mod tls;

pub use address::Address;
pub use client::{RemoteDisk, RemoteDiskBuilder, RemoteDiskMut};
pub use last_clean::{Health, LastClean, find_last_clean};
pub use server::{Export, Limits, Server, ServerBuilder, Stopped};
pub use tls::{ClientTls, ServerTls};
