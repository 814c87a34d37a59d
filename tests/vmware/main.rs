//! The circle with VMware on one side, VMware's simulator in its place: its disks hold real bytes, on real files.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../crates/physical/tests/agent_support/mod.rs"]
mod agent_support;
mod alternate;
mod circle;
#[path = "../../crates/physical/tests/support/mod.rs"]
mod fake_power;
mod ground;
mod hall;
mod physical;
#[path = "../../crates/vim/tests/simulator/process.rs"]
mod process;
mod reads;
mod undone;
#[path = "../../crates/vmware/tests/support/world.rs"]
#[expect(dead_code, reason = "the circle uses a part")]
mod world;
