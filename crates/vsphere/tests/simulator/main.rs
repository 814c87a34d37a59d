//! A vCenter, VMware's simulator in its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admission;
#[path = "../../../vmware/tests/support/engines.rs"]
mod engines;
#[path = "../../../vmware/tests/support/faults.rs"]
mod faults;
#[path = "../../../vmware/tests/support/kept.rs"]
mod kept;
#[path = "../../../vmware/tests/support/landings.rs"]
mod landings;
#[path = "../../../vmware/tests/support/pitfalls.rs"]
mod pitfalls;
#[path = "../../../vim/tests/simulator/process.rs"]
mod process;
#[path = "../../../vmware/tests/support/secrets.rs"]
mod secrets;
#[path = "../../../vmware/tests/support/spellings.rs"]
mod spellings;
#[path = "../../../vmware/tests/support/strangers.rs"]
mod strangers;
#[path = "../../../vmware/tests/support/suites.rs"]
mod suites;
#[path = "../../../vmware/tests/support/world.rs"]
mod world;

use process::{Mode, Sim};
use site_recovery_vmware::Builder;
use site_recovery_vsphere::Settings;
use std::path::PathBuf;

const MODE: Mode = Mode::VCenter;

fn open(sim: &Sim, state: PathBuf) -> Builder {
    open_with(sim.settings.clone(), state)
}

fn open_with(settings: Settings, state: PathBuf) -> Builder {
    site_recovery_vsphere::VCenter::new(settings).site("berlin".into(), state)
}
