//! Machines of a vCenter, or of a host of VMware's.

use super::Site;
use crate::settings::Devices;
use site_recovery::{Clock, Error, Result};
use std::sync::Arc;

/// Both adapters build their site alike.
macro_rules! built {
    ($adapter:ident, $builder:expr, $told:expr, $clock:expr) => {{
        let mut builder = $builder.clock($clock);
        if let Some(seen) = &$told.block_devices {
            check(seen)?;
        }
        if let Some(appliance) = &$told.appliance {
            let devices = match &$told.block_devices {
                Some(seen) => $adapter::BlockDevices::below(&seen.sys, &seen.dev),
                None => $adapter::BlockDevices::default(),
            };
            builder = builder.appliance($adapter::Appliance::new(appliance, Arc::new(devices)));
        }
        if let Some(scratch) = &$told.leases {
            builder = builder.leases(scratch);
        }
        let site = Arc::new(builder.open().await?);
        Ok(Site { source: site.clone(), target: None, landing: Some(site), points: None })
    }};
}

/// Where the command was started says nothing of them.
fn check(seen: &Devices) -> Result<()> {
    match [&seen.sys, &seen.dev].into_iter().find(|folder| !folder.is_absolute()) {
        Some(folder) => {
            let remedy = "write the whole path";
            Err(Error::invalid("block_devices", folder.display(), "paths of a site are absolute", remedy))
        }
        None => Ok(()),
    }
}

#[cfg(feature = "vsphere")]
pub(crate) async fn vcenter(
    name: &str,
    told: &crate::settings::Vsphere,
    clock: Arc<dyn Clock>,
) -> Result<Site> {
    let mut vcenter = site_recovery_vsphere::VCenter::new(told.server.clone());
    if let Some(tag) = &told.tag {
        vcenter = vcenter.tagged(tag.clone());
    }
    built!(site_recovery_vsphere, vcenter.site(name.into(), &told.directory), told, clock)
}

#[cfg(feature = "esxi")]
pub(crate) async fn host(name: &str, told: &crate::settings::Esxi, clock: Arc<dyn Clock>) -> Result<Site> {
    let server = told.server.clone();
    built!(site_recovery_esxi, site_recovery_esxi::site(name.into(), &told.directory, server), told, clock)
}
