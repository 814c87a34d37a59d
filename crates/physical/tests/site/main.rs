//! The keeper: the suite of a source over it, and what it does when agents and controllers fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/emulator.rs"]
mod emulator;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod agent;
mod by_redfish;
mod conformance;
mod ended;
mod faults;
mod hall;
mod landing_conformance;
mod pretends;
mod rescue;
mod returning;
