//! The boot guard: what follows from a record, what it remembers, and that it keeps a server off a real network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod namespaces;
mod records;
mod units;
mod verdicts;
