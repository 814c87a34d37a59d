//! Who is on the other end, and how long to wait for it.

use crate::tls::ClientTls;
use site_recovery::{Clock, RoleName, Spawner};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Far {
    pub(super) address: String,
    pub(super) role: RoleName,
    pub(super) tls: ClientTls,
    /// This client, at random.
    pub(super) client: String,
    pub(super) stall: Duration,
    pub(super) patience: Duration,
    /// The longest answer.
    pub(super) longest: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spawner: Arc<dyn Spawner>,
}
