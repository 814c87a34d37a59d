//! The keeper: the suite of a source over it, and what it does when agents and controllers fail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod conformance;
mod faults;
mod hall;
