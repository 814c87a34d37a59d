//! Against a server that answers as a test tells it: as Azure, wrongly, late, in part, or never.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod azure;
mod calls;
mod ends;
mod models;
mod secrets;
#[path = "../../../https/tests/support/fake.rs"]
mod server;
mod trouble;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;
