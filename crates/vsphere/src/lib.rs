//! VMware vCenter as a site: its machines are protected, and machines land at it.
//!
//! ```no_run
//! # async fn example(settings: site_recovery_vsphere::Settings) -> site_recovery::Result<()> {
//! use site_recovery::Source;
//! use site_recovery_vsphere::{Appliance, BlockDevices, VCenter};
//! use std::sync::Arc;
//!
//! // The machine in which the program runs: disks of others are attached to it.
//! let appliance = Appliance::new("5029c9d2-1e0c-4a4b-9d53-0d8c2c7a9f10", Arc::new(BlockDevices::default()));
//! let berlin = VCenter::new(settings)
//!     .tagged("dr=gold".parse()?) // category dr, tag gold; all machines where nothing is said
//!     .site("berlin".into(), "/var/lib/site-recovery/berlin")
//!     .appliance(appliance)
//!     .open()
//!     .await?;
//! for machine in berlin.discover().await? {
//!     println!("{}", machine.instance.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a site of VMware's is, how it works and where its promises end: `site_recovery_vmware`. What vCenter adds:
//! - Machines can be chosen by tag, over its Automation API, and the tag can be [followed](Following). What is enrolled stays so when
//!   it loses the tag.
//! - Machines that land are kept from moving by overrides of DRS and storage DRS, until they start or are removed. An override that
//!   somebody made stays as it is, also one by which the machine moves. The appliance is the operator's: readiness says where it
//!   could be moved.
#![forbid(unsafe_code)]

mod check;
mod follow;
mod stay;

use async_trait::async_trait;
use site_recovery::{Finding, Result, RoleName, SystemClock};
use site_recovery_vim::{Moref, Override, Product, Vim};
use site_recovery_vmware::Estate;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::OnceCell;
use vmware_vsphere_rest as rest;

pub use follow::{Followed, Following};
pub use site_recovery_vim::{DatastorePath, Limits, Secret, SecretRef, Settings, Trust};
pub use site_recovery_vmware::{
    Appliance, AttachedDisk, BlockDevices, Builder, DeviceResolver, Means, On, Patience, RIGHTS, Right,
    Site as VsphereSite, Vddk, Way,
};
pub use vmware_vsphere_rest::TagName;

/// A vCenter, and which of its machines belong to a site.
#[derive(Debug)]
pub struct VCenter {
    settings: Settings,
    tag: Option<TagName>,
    /// The Automation API, which knows tags. Connected at the first use: a site that chooses nothing needs no second session.
    tags: OnceCell<rest::VCenter>,
}

impl VCenter {
    /// All machines of the vCenter behind these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, tag: None, tags: OnceCell::new() }
    }

    /// Those alone that have this tag.
    #[must_use]
    pub fn tagged(mut self, tag: TagName) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Follows the tag by which machines are chosen; nothing where there is none.
    pub fn following(&self) -> Option<Following> {
        self.tag.clone().map(|tag| Following::new(self.settings.clone(), tag))
    }

    /// What stands in the way of the whole circle at this vCenter. Reads alone, and writes nothing here: no site is opened.
    /// `appliance` is the instance UUID of the machine in which the program would run.
    ///
    /// # Errors
    /// Those of the connection; those of the server's that are no finding.
    pub async fn check(&self, appliance: Option<&str>) -> Result<Vec<Finding>> {
        let found = site_recovery_vmware::check(&self.settings, self, appliance).await;
        // It ends by itself, where nobody can end it.
        if let Some(tags) = self.tags.get() {
            let _ = tags.log_out().await;
        }
        found
    }

    /// Them as a site of this name; what it keeps of its own stands in `state`, on no disk of the vCenter's.
    pub fn site(self, name: RoleName, state: impl Into<PathBuf>) -> Builder {
        let settings = self.settings.clone();
        Builder::new(name, state, settings, Arc::new(self))
    }
}

/// A machine has one identifier at both interfaces; its name is written differently, and says nothing.
fn at_vim(id: &rest::MachineId) -> Moref {
    Moref::new("VirtualMachine", id.to_string())
}

#[async_trait]
impl Estate for VCenter {
    fn product(&self) -> Product {
        Product::VCenter
    }

    async fn admit(&self, _: &Vim) -> Result<()> {
        Ok(())
    }

    async fn chosen(&self, _: &Vim) -> Result<Option<BTreeSet<Moref>>> {
        let Some(tag) = &self.tag else { return Ok(None) };
        let connect = || rest::VCenter::connect(&self.settings, Arc::new(SystemClock));
        let tagged = self.tags.get_or_try_init(connect).await?.machines_by_tag(tag).await?;
        Ok(Some(tagged.iter().map(|machine| at_vim(&machine.id)).collect()))
    }

    async fn loose(&self, vim: &Vim, machine: &Moref) -> Result<Vec<String>> {
        stay::loose(vim, machine).await
    }

    async fn pin(&self, vim: &Vim, machine: &Moref, pins: &[String]) -> Result<()> {
        stay::set(vim, machine, pins, Override::Stays).await
    }

    async fn unpin(&self, vim: &Vim, machine: &Moref, pins: &[String]) -> Result<()> {
        stay::set(vim, machine, pins, Override::None).await
    }

    async fn check(&self, vim: &Vim, appliance: Option<&Moref>) -> Result<Vec<Finding>> {
        match appliance {
            Some(appliance) => check::findings(vim, appliance).await,
            None => Ok(vec![]),
        }
    }
}
