//! Faults at every place where another process, a file system or a person can cause one: what the guest feels of them, what
//! the library says, and that afterwards all is as it should be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod another_process;
mod boot_sector;
mod fence_broken_off;
mod golden;
mod handles;
mod hydration;
mod landed;
mod merge_killed;
mod merging;
mod mounted;
mod parting;
mod pause;
mod point_lost;
mod point_taken;
mod protected;
mod qemu_killed;
mod raw;
mod reader;
mod recovered;
mod replicator_killed;
mod scratch;
mod stranger;
