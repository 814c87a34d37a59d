//! What a restored system is told before it starts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod landed;
#[cfg(feature = "agent")]
mod program;
mod scene;
mod told;
