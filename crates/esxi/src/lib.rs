//! One VMware ESXi host without vCenter as a site: its machines are protected, and machines land on it.
//!
//! ```no_run
//! # async fn example(settings: site_recovery_esxi::Settings) -> site_recovery::Result<()> {
//! use site_recovery::Source;
//! use site_recovery_esxi::{Appliance, BlockDevices, site};
//! use std::sync::Arc;
//!
//! // The machine on this very host in which the program runs: disks of others are attached to it.
//! let appliance = Appliance::new("5029c9d2-1e0c-4a4b-9d53-0d8c2c7a9f10", Arc::new(BlockDevices::default()));
//! let branch = site("branch-office".into(), "/var/lib/site-recovery/branch", settings).appliance(appliance).open().await?;
//! for machine in branch.discover().await? {
//!     println!("{}", machine.instance.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a site of VMware's is, how it works and where its promises end: `site_recovery_vmware`. What differs on a host alone:
//! - A host that a vCenter manages is refused: changes past vCenter are lost on it. Use `site_recovery_vsphere`.
//! - With a free licence nobody changes anything on a host: it is refused at once, with the reason. That is tried on some machine, so
//!   a host without one is opened, and refuses the first change.
//! - There is no DRS and no storage DRS, so nothing has to be kept from moving.
//! - Its events, by which a start past us is seen, are forgotten when its agent starts anew.
#![forbid(unsafe_code)]

mod check;

use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, Finding, Result, RoleName};
use site_recovery_vim::{Moref, Product, Vim, Writes};
use site_recovery_vmware::Estate;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use site_recovery_vim::{DatastorePath, Limits, Secret, SecretRef, Settings, Trust};
pub use site_recovery_vmware::{
    Appliance, AttachedDisk, BlockDevices, Builder, DeviceResolver, Means, On, Patience, RIGHTS, Right,
    Site as EsxiSite, Vddk, Way,
};

/// The machines of a host as a site of this name; what it keeps of its own stands in `state`, on no disk of the host's.
pub fn site(name: RoleName, state: impl Into<PathBuf>, settings: Settings) -> Builder {
    Builder::new(name, state, settings, Arc::new(Host))
}

/// What stands in the way of the whole circle at a host. Reads alone, and writes nothing here: no site is opened. `appliance` is
/// the instance UUID of the machine in which the program would run.
///
/// # Errors
/// Those of the connection; those of the server's that are no finding.
pub async fn check(settings: &Settings, appliance: Option<&str>) -> Result<Vec<Finding>> {
    site_recovery_vmware::check(settings, &Host, appliance).await
}

#[derive(Debug)]
struct Host;

#[async_trait]
impl Estate for Host {
    fn product(&self) -> Product {
        Product::Host
    }

    async fn admit(&self, vim: &Vim) -> Result<()> {
        let unsupported = |message: String| Err(Error::new(ErrorKind::Unsupported, message));
        if let Some(vcenter) = vim.hosts().await?.into_iter().find_map(|host| host.managed_by) {
            return unsupported(check::managed(&vcenter));
        }
        // Asked of some machine: the licence has no call of its own that tells.
        let machines = vim.machines(&vim.content().root_folder).await?;
        let Some(machine) = machines.first() else { return Ok(()) };
        match vim.probe_writes(&machine.moref, Duration::from_secs(60)).await? {
            Writes::Restricted => unsupported(
                "the licence of this host lets nobody change anything by its interface (RestrictedVersion), as that of a free \
                 ESXi: give it a licence, or put it under a vCenter"
                    .into(),
            ),
            Writes::Allowed | Writes::Refused(_) => Ok(()),
        }
    }

    async fn chosen(&self, _: &Vim) -> Result<Option<BTreeSet<Moref>>> {
        Ok(None)
    }

    async fn loose(&self, _: &Vim, _: &Moref) -> Result<Vec<String>> {
        Ok(vec![])
    }

    async fn pin(&self, _: &Vim, _: &Moref, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn unpin(&self, _: &Vim, _: &Moref, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn check(&self, vim: &Vim, _: Option<&Moref>) -> Result<Vec<Finding>> {
        Ok(check::findings(&vim.hosts().await?, &vim.licences().await?))
    }
}
