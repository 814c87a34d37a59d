//! Landing sites, where the authority's roster says that they are.

use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, LandingSite, Result, RoleName};
use site_recovery_physical::site::{Rescues, WayBack};
use site_recovery_transport::RemoteLandingSite;
use site_recovery_transport::enrol::{Credentials, RoleKind, RosterEntry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Those of one physical site: the keeper by the name of the site, the rescue system of a server as `site/server`.
#[derive(Debug)]
pub(super) struct Roster {
    site: RoleName,
    credentials: Credentials,
    /// Connections that were made, each with the entry that it was made by: one that has moved is reached anew.
    reached: Mutex<BTreeMap<RoleName, (RosterEntry, Arc<RemoteLandingSite>)>>,
}

impl Roster {
    pub(super) fn new(site: RoleName, credentials: Credentials) -> Self {
        Self { site, credentials, reached: Mutex::default() }
    }

    async fn reach(&self, listed: &RoleName) -> Result<Arc<RemoteLandingSite>> {
        let entry = self.credentials.locate(RoleKind::LandingSite, listed).await?;
        let standing = self.reached.lock().expect("no panic under this lock").get(listed).cloned();
        if let Some((_, there)) = standing.filter(|(by, _)| *by == entry) {
            return Ok(there);
        }
        let tls = self.credentials.client_tls(&entry.service)?;
        let builder = RemoteLandingSite::builder(entry.address.clone(), self.site.clone(), tls);
        let there = Arc::new(builder.connect().await?);
        let mut reached = self.reached.lock().expect("no panic under this lock");
        reached.insert(listed.clone(), (entry, Arc::clone(&there)));
        Ok(there)
    }
}

#[async_trait]
impl WayBack for Roster {
    async fn keeper(&self) -> Result<Arc<dyn LandingSite>> {
        let keeper = self.reach(&self.site).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let said = format!("no keeper of {} serves its way back", self.site);
                Error::new(ErrorKind::Unavailable, said).with("settings", "landing.servers.site").caused_by(e)
            }
            _ => e,
        })?;
        Ok(keeper)
    }
}

#[async_trait]
impl Rescues for Roster {
    async fn rescue(&self, server: &str) -> Result<Arc<dyn LandingSite>> {
        Ok(self.reach(&RoleName(format!("{}/{server}", self.site))).await?)
    }
}
