//! Against VMware's own simulator with our extensions (`tests/vsphere-sim`), as vCenter and as one host. That shows that the
//! protocol is spoken rightly, on real bytes; not how a real ESXi quiesces, stuns, locks or tracks changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod changes;
mod faults;
mod inventory;
mod leases;
mod machines;
#[path = "../../../../tests/vsphere-oracle/oracle.rs"]
mod oracle;
mod process;
mod seen;
mod sim;
