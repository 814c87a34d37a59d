use super::{RecoverySite, Replica};
use crate::{Offers, Result};
use async_trait::async_trait;

/// Receives the way back onto landing disks, keeps the retention log, and hands the machine over. One per replication
/// group. `site-recovery-master-target` implements it once, over any [`LandingSite`](super::LandingSite).
#[async_trait]
pub trait MasterTarget: Replica + RecoverySite {
    /// Datastores and retention volumes of its host, ineligible ones with their reason.
    ///
    /// # Contract
    /// - MTG-1 What is offered without a reason is accepted by `prepare`.
    async fn offers(&self) -> Result<Offers>;
}
