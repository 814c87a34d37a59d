//! What one look at many machines asks of Azure once.

use super::Site;
use site_recovery::Result;
use site_recovery_azure_arm::{Snapshot, Usage};
use tokio::sync::OnceCell;

/// Answers, of one look.
#[derive(Debug, Default)]
pub(super) struct Once {
    usages: OnceCell<Vec<Usage>>,
    snapshots: OnceCell<Vec<Snapshot>>,
}

impl Once {
    /// What is used of the region's quotas.
    pub(super) async fn usages(&self, site: &Site) -> Result<&[Usage]> {
        Ok(self.usages.get_or_try_init(|| site.arm.usages(&site.location)).await?)
    }

    /// Those of the group.
    pub(super) async fn snapshots(&self, site: &Site) -> Result<&[Snapshot]> {
        let snapshots = site.arm.snapshots(&site.group);
        Ok(self.snapshots.get_or_try_init(|| snapshots.list()).await?)
    }
}
