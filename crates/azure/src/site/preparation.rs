//! What is done to a guest's disks before it starts in Azure for the first time.

use async_trait::async_trait;
use site_recovery::{DiskId, DiskMut, Machine, Result};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// The disks of a machine in the making, which nothing has started from yet. One above 8 TiB, of which no image can be made, is not
/// among them: the site's check says so.
pub type Images = BTreeMap<DiskId, Arc<dyn DiskMut>>;

/// Prepares a guest for Azure: drivers, DHCP, a console on the serial port. In drills too.
///
/// It writes to copies: points and production keep their bytes. What it writes is told among the changes of the way back.
#[async_trait]
pub trait Preparation: Debug + Send + Sync {
    /// Prepares the guest on these disks. It comes again on the same disks where an earlier call was broken off, and has to make
    /// the same of them.
    ///
    /// # Errors
    /// They end the failover before anything was started.
    async fn prepare(&self, machine: &Machine, disks: &Images) -> Result<()>;
}
