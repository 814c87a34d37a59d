//! Bare disks: what is refused before a byte is written, what a rescue system does, and what outlives a kill.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod killed;
mod refusals;
mod rescue;
mod rescued;
mod way_back;
