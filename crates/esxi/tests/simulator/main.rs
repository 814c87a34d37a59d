//! One host, VMware's simulator in its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admission;
#[path = "../../../vmware/tests/support/care.rs"]
mod care;
#[path = "../../../vmware/tests/support/engines.rs"]
mod engines;
#[path = "../../../vmware/tests/support/faults.rs"]
mod faults;
#[path = "../../../vmware/tests/support/kept.rs"]
mod kept;
mod kind;
#[path = "../../../vmware/tests/support/landings.rs"]
mod landings;
#[path = "../../../vmware/tests/support/lost.rs"]
mod lost;
#[path = "../../../vmware/tests/support/making.rs"]
mod making;
#[path = "../../../../tests/vsphere-oracle/oracle.rs"]
mod oracle;
#[path = "../../../vmware/tests/support/pitfalls.rs"]
mod pitfalls;
#[path = "../../../vim/tests/simulator/process.rs"]
mod process;
#[path = "../../../vmware/tests/support/readiness.rs"]
mod readiness;
#[path = "../../../vmware/tests/support/reading.rs"]
mod reading;
#[path = "../../../vmware/tests/support/secrets.rs"]
mod secrets;
#[path = "../../../vmware/tests/support/seen.rs"]
mod seen;
#[path = "../../../vmware/tests/support/spellings.rs"]
mod spellings;
#[path = "../../../vmware/tests/support/strangers.rs"]
mod strangers;
#[path = "../../../vmware/tests/support/suites.rs"]
mod suites;
#[path = "../../../vmware/tests/support/world.rs"]
mod world;

use process::{Mode, Sim};
use site_recovery_esxi::Settings;
use site_recovery_vmware::Builder;
use std::path::PathBuf;

const MODE: Mode = Mode::Esxi;

fn open(sim: &Sim, state: PathBuf) -> Builder {
    open_with(sim.settings.clone(), state)
}

fn open_with(settings: Settings, state: PathBuf) -> Builder {
    site_recovery_esxi::site("branch".into(), state, settings)
}

async fn looked_at(sim: &Sim, appliance: Option<&str>) -> site_recovery::Result<Vec<site_recovery::Finding>> {
    site_recovery_esxi::check(&sim.settings, appliance).await
}
