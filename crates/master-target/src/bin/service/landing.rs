//! The landing site that the settings name.

mod roster;

use crate::settings::{Disks, Landing, Power, Server, Settings};
use roster::Roster;
use site_recovery::{Clock, Error, LandingSite, Result, RoleName, SystemClock};
use site_recovery_local::LocalSite;
use site_recovery_physical::bare::{BareDisks, BareServer, Switched};
use site_recovery_physical::power::{PowerControl, Redfish};
use site_recovery_physical::site::Direct;
use site_recovery_transport::enrol::Credentials;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) async fn open(settings: &Settings, credentials: &Credentials) -> Result<Arc<dyn LandingSite>> {
    let (name, clock) = (settings.master_target.name.clone(), Arc::new(SystemClock));
    match &settings.landing {
        Landing::Directory { path } => Ok(Arc::new(LocalSite::open(name, path, clock)?)),
        Landing::Disks(disks) => {
            Ok(Arc::new(on_disks(name, settings.service.state.join("landing"), disks, clock)?))
        }
        Landing::Servers { site } => {
            let roster = Roster::new(site.clone(), credentials.clone());
            Ok(Arc::new(Direct::new(site.clone(), Arc::new(roster))))
        }
    }
}

fn on_disks(name: RoleName, state: PathBuf, disks: &Disks, clock: Arc<dyn Clock>) -> Result<BareDisks> {
    let mut builder = BareDisks::builder(name, state, Arc::clone(&clock));
    for server in &disks.servers {
        let starter = Arc::new(Switched(control(server, &clock)?));
        let (name, slots) = (server.name.clone(), server.slots.clone());
        builder = builder.server(BareServer { name, slots, firmware: None, starter });
    }
    if let Some(room) = &disks.room {
        builder = builder.room(room, None);
    }
    builder.open()
}

/// Who starts a server and keeps it off: one that cannot do either would be found out once its disks are written.
fn control(server: &Server, clock: &Arc<dyn Clock>) -> Result<Arc<dyn PowerControl>> {
    let refused = |value: &str, rule: &str, remedy: &str| {
        Error::invalid("landing.disks.server.power", value, rule, remedy).with("server", &server.name)
    };
    let control: Arc<dyn PowerControl> = match &server.power {
        Power::Commands(commands) if commands.on.is_none() => {
            let rule = "what lands on a server is started";
            return Err(refused("commands without `on`", rule, "name the program that switches it on"));
        }
        Power::Commands(commands) => {
            commands.clone().control(&server.name).map_err(|e| e.with("server", &server.name))?
        }
        Power::Redfish(redfish) => {
            let made = Redfish::new(redfish, Arc::clone(clock));
            Arc::new(made.map_err(|e| e.with("server", &server.name))?)
        }
    };
    let keeps = control.keeps();
    if keeps.holds || keeps.tells {
        return Ok(control);
    }
    let rule = "a server is kept off while something lands on its disks, or its starts are counted";
    let remedy = "add hold, release and is_held; of a Redfish controller, hold or tells";
    Err(refused("a control that neither holds nor tells", rule, remedy))
}

#[cfg(test)]
mod tests;
