//! One machine, several hosts: each a network namespace with mounts of its own, on a bridge, with disks on loop devices.
//!
//! A test stands on a [`Ground`], which has [`Host`]s and a [`Store`] for [`Disk`]s. All that a ground sets up carries its
//! name, `srh-<process>-<number>`, and is taken down by that name when the last of it is dropped, also by a panic; the next
//! run takes down what a killed one left. Needs root.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses a part, and nobody else"
)]
#![allow(missing_debug_implementations, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clock;
mod disk;
mod line;
mod link;
mod namespace;
mod process;
mod program;
mod sweep;
pub mod tokens;
mod tool;
mod writer;

pub use disk::{Disk, Frozen, Mount, Store, fsck, reflink};
pub use line::Line;
pub use namespace::{Ground, Host};
pub use process::Process;
pub use program::{Binary, build};
pub use sweep::{is_running, left};
pub use tool::{run, try_run, until};
pub use writer::{Prefix, Writer, check_images, check_logs};

use std::path::{Path, PathBuf};

/// What the harness runs.
const PROGRAMS: [&str; 15] = [
    "ip",
    "tc",
    "nsenter",
    "unshare",
    "timeout",
    "sh",
    "sleep",
    "mount",
    "umount",
    "losetup",
    "fsfreeze",
    "mkfs.xfs",
    "mkfs.ext4",
    "e2fsck",
    "debugfs",
];

/// Whether hosts can be set up here, and these programs are there, too. Says so where not, and fails where they have to be.
pub fn peers(what: &str, programs: &[&str]) -> bool {
    let path = tool::path();
    let here = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let absent = PROGRAMS.iter().chain(programs).copied().find(|program| !here(program));
    let root = rustix::process::geteuid().is_root();
    let Some(absent) = (if root { absent } else { Some("root") }) else { return true };
    println!("SKIPPED {what}: {absent} is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{absent} is required");
    false
}

/// Where the test command leaves what it makes, whatever directory cargo builds in.
fn target() -> PathBuf {
    workspace().join("target/tests/hosts")
}

/// The root of the checkout, of whichever package this is compiled into.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("packages of the workspace lie below its root")
}
