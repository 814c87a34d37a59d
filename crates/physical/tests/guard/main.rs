//! The boot guard: what follows from a record, what it remembers, and that it keeps a server off a real network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../inventory_tree/mod.rs"]
mod inventory_tree;

#[cfg(feature = "agent")]
mod answered;
mod asking;
mod elsewhere;
mod namespaces;
#[cfg(feature = "agent")]
mod program;
mod records;
mod units;
mod verdicts;
