//! Against a server that answers as a test tells it: rightly, wrongly, late, in part, or never.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;
mod faults;
#[path = "../../../https/tests/support/fake.rs"]
mod server;
mod sessions;
mod tags;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;
