//! Who is on the other end, and how long to wait for it.

use crate::tls::ClientTls;
use site_recovery::{BootPermit, Clock, Evidence, RoleName, Spawner};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Who is on the other end, and how long to wait for it.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "named in a sealed trait")]
pub struct Far {
    pub(crate) address: String,
    pub(crate) role: RoleName,
    /// What it takes that for.
    pub(crate) kind: &'static str,
    pub(crate) tls: ClientTls,
    /// This client, at random.
    pub(crate) client: String,
    pub(crate) stall: Duration,
    pub(crate) patience: Duration,
    /// The longest answer.
    pub(crate) longest: u32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawner: Arc<dyn Spawner>,
    /// Patience ended once, and nobody has been there since: from then on a call is one try.
    pub(crate) out_of_reach: AtomicBool,
}

impl Far {
    /// Whether whoever asks has waited in vain before, since somebody was there last.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.out_of_reach.load(Ordering::Relaxed)
    }

    pub(crate) fn set_out_of_reach(&self, is: bool) {
        self.out_of_reach.store(is, Ordering::Relaxed);
    }

    /// A permit, as it goes there.
    pub(crate) fn evidence(&self, permit: &BootPermit) -> Evidence {
        permit.evidence(&self.client, self.clock.now())
    }
}
