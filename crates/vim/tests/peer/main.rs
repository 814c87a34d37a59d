//! Against a server that answers as a test tells it: rightly, wrongly, late, in part, or never. Each request that any of these
//! tests makes is checked against the order of VMware's schema.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;
mod faults;
mod files;
mod leases;
mod operations;
mod order;
mod reading;
#[path = "../../../https/tests/support/fake.rs"]
mod server;
mod sessions;
mod tasks;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;
