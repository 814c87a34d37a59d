//! A directory as a site.

use super::Site;
use crate::settings::LocalSettings;
use site_recovery::{Clock, Result};
use site_recovery_local::LocalSite;
use std::sync::Arc;

pub(crate) fn open(name: &str, told: &LocalSettings, clock: Arc<dyn Clock>) -> Result<Site> {
    let site = Arc::new(LocalSite::open(name.into(), &told.directory, clock)?);
    Ok(Site { source: site.clone(), target: site.clone(), landing: site })
}
