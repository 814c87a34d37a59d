//! The circle with Azure on one side, by bytes: our fakes of Resource Manager and of Blob Storage stand in its place, and their
//! disks hold real bytes. On the other side stands a directory, or a server of VMware's, simulated.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod circle;
#[path = "../../crates/azure/tests/site/world.rs"]
#[expect(dead_code, reason = "the circle uses a part")]
mod cloud;
mod crash;
mod ground;
mod guest;
mod here;
mod images;
mod left;
mod outside;
#[path = "../../crates/vim/tests/simulator/process.rs"]
mod process;
#[path = "../../crates/vmware/tests/support/world.rs"]
#[expect(dead_code, reason = "the circle uses a part")]
mod server;
mod undone;
