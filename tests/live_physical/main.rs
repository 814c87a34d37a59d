//! A physical server for real: a whole machine of its own whose system runs the agent, with its root above dm-era and a
//! snapshot-origin in a Debian kernel. It is protected, drilled, failed over to QEMU, and brought back to its bare disks; the
//! numbered records that its guest writes tell what is there.
//!
//! The machine is a QEMU process, as no hardware is at hand: [`Hardware`](hardware::Hardware) stands in for a management
//! controller too. *Switching it off* kills the process; *held* it starts its rescue system, as a boot override does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "a test of several files")]

#[path = "../hosts/program.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is shared")]
mod program;
#[path = "../hosts/tool.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is shared")]
mod tool;

mod drive;
mod hall;
mod hardware;
mod server;

/// Where the workspace is.
fn workspace() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
