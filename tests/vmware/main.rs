//! The circle with VMware on one side, VMware's simulator in its place: its disks hold real bytes, on real files.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod circle;
mod ground;
#[path = "../../crates/vim/tests/simulator/process.rs"]
mod process;
mod reads;
mod undone;
#[path = "../../crates/vmware/tests/support/world.rs"]
mod world;
