//! A vCenter, VMware's simulator in its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../vmware/tests/support/kept.rs"]
mod kept;
#[path = "../../../vmware/tests/support/pitfalls.rs"]
mod pitfalls;
#[path = "../../../vim/tests/simulator/process.rs"]
mod process;
#[path = "../../../vmware/tests/support/strangers.rs"]
mod strangers;
#[path = "../../../vmware/tests/support/suites.rs"]
mod suites;
#[path = "../../../vmware/tests/support/world.rs"]
mod world;

use process::{Mode, Sim};
use site_recovery_vmware::Builder;
use std::path::PathBuf;

const MODE: Mode = Mode::VCenter;

fn open(sim: &Sim, state: PathBuf) -> Builder {
    site_recovery_vsphere::VCenter::new(sim.settings.clone()).site("berlin".into(), state)
}
