//! Which machines belong to the site.

use site_recovery::{Result, SystemClock};
use site_recovery_vim::{Moref, Settings};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use vmware_vsphere_rest::{TagName, VCenter};

/// All, or those with a tag, asked of the Automation API. A machine has one identifier at both interfaces; its name is written
/// differently, and says nothing.
#[derive(Debug)]
pub(crate) struct Choice {
    settings: Settings,
    pub(crate) tag: Option<TagName>,
    rest: Mutex<Option<VCenter>>,
}

impl Choice {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, tag: None, rest: Mutex::default() }
    }

    pub(crate) async fn machines(&self) -> Result<Option<BTreeSet<Moref>>> {
        let Some(tag) = &self.tag else { return Ok(None) };
        let rest = self.rest().await?;
        let tagged = rest.machines_by_tag(tag).await?;
        Ok(Some(tagged.into_iter().map(|m| Moref::new("VirtualMachine", m.id.to_string())).collect()))
    }

    /// Connected at the first use: a site that chooses nothing needs no second session.
    async fn rest(&self) -> Result<VCenter> {
        let held = self.rest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(rest) = held {
            return Ok(rest);
        }
        let rest = VCenter::connect(&self.settings, Arc::new(SystemClock)).await?;
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest.clone());
        Ok(rest)
    }
}
