//! QEMU/KVM on this host.

use super::Site;
use crate::settings::{Accelerator, QemuSettings};
use site_recovery::{Clock, Result};
use site_recovery_qemu::{Accelerator as Executes, Choice, Network, QemuSite, Restore};
use std::sync::Arc;
use std::time::Duration;

/// A guest that proves KVM takes half a second.
const PROBE: Duration = Duration::from_secs(10);

pub(crate) async fn open(name: &str, told: &QemuSettings, clock: Arc<dyn Clock>) -> Result<Site> {
    let choice = match told.accelerator {
        Accelerator::Kvm => Choice::Fixed(Executes::Kvm),
        Accelerator::Tcg => Choice::Fixed(Executes::Tcg),
        Accelerator::Probe => Choice::Probe(PROBE),
    };
    let mut builder = QemuSite::builder(name.into(), &told.directory).clock(clock).accelerator(choice);
    builder = builder.launcher(told.launcher.iter().cloned());
    if let Some(scratch) = &told.scratch {
        builder = builder.scratch(scratch);
    }
    if let Some(firmware) = &told.firmware {
        builder = builder.firmware(firmware.clone());
    }
    if let Some(limit) = told.freeze_limit {
        builder = builder.freeze_limit(limit.0);
    }
    if told.restore_first {
        builder = builder.restore(Restore::First);
    }
    for (name, network) in &told.networks {
        let made = if network.isolated { Network::isolated } else { Network::production };
        builder = builder.network(name, made(&network.backend));
    }
    let site = Arc::new(builder.open().await?);
    Ok(Site { source: site.clone(), target: site.clone(), landing: site })
}
