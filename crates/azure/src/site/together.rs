//! One turn for changes that are asked for at the same time.

use super::Site;
use super::register::Turn;
use site_recovery::{Op, Recovery, Result};
use std::sync::{Arc, Weak};
use tokio::sync::Mutex;

/// A turn that whoever asks gets too while another one has it. Each looks at the register and at the key all the same.
pub(super) struct Together<'a> {
    site: &'a Site,
    pub(super) op: &'a Op,
    pub(super) what: &'a Recovery,
    held: Mutex<Weak<Turn>>,
}

impl<'a> Together<'a> {
    pub(super) fn new(site: &'a Site, op: &'a Op, what: &'a Recovery) -> Self {
        Self { site, op, what, held: Mutex::default() }
    }

    /// # Errors
    /// As [`Site::step`].
    pub(super) async fn step(&self) -> Result<Arc<Turn>> {
        let mut held = self.held.lock().await;
        if let Some(turn) = held.upgrade() {
            drop(held);
            self.site.raise(&turn).await?;
            self.site.must_stand(self.op).await?;
            return Ok(turn);
        }
        let turn = Arc::new(self.site.step(self.op, self.what).await?);
        *held = Arc::downgrade(&turn);
        Ok(turn)
    }
}
