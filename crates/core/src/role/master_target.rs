use super::{RecoverySite, Replica};
use crate::{Offers, Result};
use async_trait::async_trait;

/// The pin of point 0: what stood on the landing disks first.
pub const POINT_ZERO: &str = "point zero";

/// The pin of what the side that lost had, kept until the operator takes it away.
pub const LOSING_SIDE: &str = "losing side";

/// Receives the way back onto landing disks, keeps the retention log, and hands the machine over. One per replication
/// group. `site-recovery-master-target` implements it once, over any [`LandingSite`](super::LandingSite).
///
/// # Contract
/// - MTG-2 What stood on existing landing disks before the first byte is point 0 of the timeline, pinned as
///   [`POINT_ZERO`] until the engine takes that pin away. It can be rolled to; `manifest` of it describes the landing as
///   it was found, without a cursor, or is `NotFound`: no ingest sealed it.
#[async_trait]
pub trait MasterTarget: Replica + RecoverySite {
    /// Datastores and retention volumes of its host, ineligible ones with their reason.
    ///
    /// # Contract
    /// - MTG-1 What is offered without a reason is accepted by `prepare`.
    async fn offers(&self) -> Result<Offers>;
}
