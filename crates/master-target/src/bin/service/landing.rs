//! The landing site that the settings name.

use crate::settings::{Landing, Settings};
use site_recovery::{LandingSite, Result, RoleName, SystemClock};
use site_recovery_local::LocalSite;
use site_recovery_physical::bare::{BareDisks, BareServer, Rescue};
use site_recovery_transport::RemoteLandingSite;
use site_recovery_transport::enrol::{Credentials, RoleKind};
use std::sync::Arc;

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
        Landing::Rescue { site, server } => {
            let listed = RoleName(format!("{site}/{server}"));
            let entry = credentials.locate(RoleKind::LandingSite, &listed).await?;
            let tls = credentials.client_tls(&entry.service)?;
            let far = RemoteLandingSite::builder(entry.address, site.clone(), tls).connect().await?;
            Ok(Arc::new(far))
        }
    }
}
