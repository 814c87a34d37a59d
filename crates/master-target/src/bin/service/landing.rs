//! The landing site that the settings name.

use crate::settings::{Landing, Settings};
use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, LandingSite, Result, RoleName, SystemClock};
use site_recovery_local::LocalSite;
use site_recovery_physical::bare::{BareDisks, BareServer, Rescue};
use site_recovery_physical::site::{Direct, Rescues};
use site_recovery_transport::RemoteLandingSite;
use site_recovery_transport::enrol::{Credentials, RoleKind, RosterEntry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) async fn open(settings: &Settings, credentials: &Credentials) -> Result<Arc<dyn LandingSite>> {
    let (name, clock) = (settings.master_target.name.clone(), Arc::new(SystemClock));
    match &settings.landing {
        Landing::Directory { path } => Ok(Arc::new(LocalSite::open(name, path, clock)?)),
        Landing::Disks(disks) => {
            let builder = BareDisks::builder(name, settings.service.state.join("landing"), clock);
            let builder = disks.servers.iter().fold(builder, |builder, server| {
                let starter = Arc::new(Rescue::leaving_by(server.start.clone()));
                let (name, slots) = (server.name.clone(), server.slots.clone());
                builder.server(BareServer { name, slots, firmware: None, starter })
            });
            let builder = match &disks.room {
                Some(room) => builder.room(room, None),
                None => builder,
            };
            Ok(Arc::new(builder.open()?))
        }
        Landing::Servers { site } => {
            let roster =
                Roster { site: site.clone(), credentials: credentials.clone(), reached: Mutex::default() };
            let keeper = roster.located(site).await.map_err(|e| match e.kind() {
                ErrorKind::NotFound => {
                    let said = format!("no keeper of {site} serves its way back");
                    Error::new(ErrorKind::NotFound, said)
                        .with("settings", "landing.servers.site")
                        .caused_by(e)
                }
                _ => e,
            })?;
            let keeper = Arc::new(roster.connect(keeper).await?);
            Ok(Arc::new(Direct::new(keeper, Arc::new(roster))))
        }
    }
}

/// Landing sites, where the authority's roster says that they are: the keeper by the name of its site, the rescue system of a
/// server as `site/server`.
#[derive(Debug)]
struct Roster {
    site: RoleName,
    credentials: Credentials,
    /// Connections that were made, each with the entry that it was made by: one that has moved is reached anew.
    reached: Mutex<BTreeMap<String, (RosterEntry, Arc<RemoteLandingSite>)>>,
}

impl Roster {
    async fn located(&self, listed: &RoleName) -> Result<RosterEntry> {
        self.credentials.locate(RoleKind::LandingSite, listed).await
    }

    async fn connect(&self, to: RosterEntry) -> Result<RemoteLandingSite> {
        let tls = self.credentials.client_tls(&to.service)?;
        RemoteLandingSite::builder(to.address, self.site.clone(), tls).connect().await
    }
}

#[async_trait]
impl Rescues for Roster {
    async fn rescue(&self, server: &str) -> Result<Arc<dyn LandingSite>> {
        let entry = self.located(&RoleName(format!("{}/{server}", self.site))).await?;
        let standing = self.reached.lock().expect("no panic under this lock").get(server).cloned();
        if let Some((_, rescue)) = standing.filter(|(by, _)| *by == entry) {
            return Ok(rescue);
        }
        let rescue = Arc::new(self.connect(entry.clone()).await?);
        let mut reached = self.reached.lock().expect("no panic under this lock");
        reached.insert(server.to_owned(), (entry, Arc::clone(&rescue)));
        Ok(rescue)
    }
}
