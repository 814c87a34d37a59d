//! Services join an authority, keep their certificates fresh, and learn of each other and of what is revoked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clocks;
mod hostile;
mod join;
mod killed;
mod live;
mod oracle;
mod roster;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod world;
