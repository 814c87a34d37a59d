//! A vCenter, VMware's simulator in its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admission;
mod kind;
#[path = "../../../vmware/tests/support/mod.rs"]
mod support;
mod vcenter;

use site_recovery_vmware::Builder;
use site_recovery_vsphere::Settings;
use std::path::PathBuf;
use support::process::{Mode, Sim};

const MODE: Mode = Mode::VCenter;

fn open(sim: &Sim, state: PathBuf) -> Builder {
    open_with(sim.settings.clone(), state)
}

fn open_with(settings: Settings, state: PathBuf) -> Builder {
    site_recovery_vsphere::VCenter::new(settings).site("berlin".into(), state)
}

async fn looked_at(sim: &Sim, appliance: Option<&str>) -> site_recovery::Result<Vec<site_recovery::Finding>> {
    site_recovery_vsphere::VCenter::new(sim.settings.clone()).check(appliance).await
}
