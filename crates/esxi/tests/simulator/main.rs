//! One host, VMware's simulator in its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admission;
#[path = "../../../vmware/tests/support/mod.rs"]
mod support;

use site_recovery_esxi::Settings;
use site_recovery_vmware::Builder;
use std::path::PathBuf;
use support::process::{Mode, Sim};

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
