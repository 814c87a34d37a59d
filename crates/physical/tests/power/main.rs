//! Power controls: the user's own programs, and controllers that speak Redfish.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/emulator.rs"]
mod emulator;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

mod commands;
mod fake;
mod odd;
mod sushy;
