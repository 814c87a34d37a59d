//! What runs: a source, or bare disks.

use crate::guard::shows_its_own;
use crate::hand::Hand;
use crate::settings::Agent;
use crate::vital::Vital;
use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, Result, SystemClock};
use site_recovery_physical::agent::{self, Look};
use site_recovery_physical::bare::{BareDisks, Rescue};
use site_recovery_physical::inventory::{Inventory, Server};
use site_recovery_register::lock_file;
use site_recovery_service::{Peers, Service};
use site_recovery_transport::{Limits, enrol};
use std::fs::{File, TryLockError};
use std::sync::Arc;

/// Who asks, unless the settings say it: the vault's engines, the keeper of this site and of no other, and one kind more.
fn peers(settings: &Agent, more: &str) -> Result<Peers> {
    let site = &settings.server.site.0;
    // A site whose name no service can have has its keeper in the engine's process.
    let keeper = enrol::Service::new(enrol::ServiceKind::Keeper, site).ok().map(|_| format!("keeper:{site}"));
    Peers::of(["engine:*", more].into_iter().chain(keeper.as_deref()))
}

/// The server, as it is found at each look.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    with: Vec<std::path::PathBuf>,
    only: Vec<std::path::PathBuf>,
    scratch: Option<std::path::PathBuf>,
    name: String,
}

impl Here {
    pub(crate) fn of(settings: &Agent) -> Self {
        let server = &settings.server;
        let scratch = settings.capture.device_mapper.as_ref().map(|mapped| mapped.scratch.clone());
        Self { with: server.with.clone(), only: server.only.clone(), scratch, name: server.name.clone() }
    }

    fn read(&self) -> Result<Server> {
        let inventory = Inventory::here()?.with(&self.with).scratch(&self.scratch);
        let inventory = if self.only.is_empty() { inventory } else { inventory.only(&self.only) };
        Ok(Server { name: self.name.clone(), ..inventory.read()? })
    }
}

#[async_trait]
impl Look for Here {
    async fn look(&self) -> Result<Server> {
        let this = self.clone();
        let gone = |e| Error::new(ErrorKind::Unavailable, "the look at the server broke off").caused_by(e);
        tokio::task::spawn_blocking(move || this.read()).await.map_err(gone)?
    }
}

/// One agent at a time has its directory: another one would let go of what this one holds frozen.
pub(crate) fn alone(settings: &Agent) -> Result<File> {
    let path = settings.agent()?.state.join("running");
    let file = lock_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let said = format!("another agent runs in {}", settings.service.state.display());
            Err(Error::new(ErrorKind::Conflict, said))
        }
        Err(TryLockError::Error(e)) => {
            Err(Error::new(ErrorKind::Unavailable, format!("{} cannot be locked", path.display()))
                .caused_by(e))
        }
    }
}

pub(crate) fn open(settings: &Agent) -> Result<agent::Agent> {
    agent::Agent::open(settings.agent()?, Arc::new(Here::of(settings)), Arc::new(SystemClock))
}

/// Serves the server as a source, until it is told to stop.
pub(crate) async fn source(settings: &Agent) -> Result<()> {
    shows_its_own(settings)?;
    let _alone = alone(settings)?;
    let agent = Arc::new(open(settings)?);
    for finding in agent.check().await? {
        tracing::info!(code = finding.code, severity = ?finding.severity, "{}", finding.cause);
    }
    let service = Service::open(&settings.service, settings.stated(false)?).await?;
    let limits = Limits { connection_bytes: settings.limits.memory_bytes, ..Limits::default() };
    let site = settings.service.site.clone();
    let vitals = Arc::new(Vital { agent: Arc::clone(&agent), site, limits: settings.limits.clone() });
    let server = service
        .server(&peers(settings, "process-server:*")?)
        .source(agent)
        .vitals(service.vitals(vitals))
        .limits(limits);
    service.serve(server).await
}

/// Serves the disks of a server that runs a rescue system, until it is told to stop. Not on a server whose own system runs:
/// who asks would hear that it is off.
pub(crate) async fn bare_disks(settings: &Agent) -> Result<()> {
    let _alone = alone(settings)?;
    let landing = Arc::new(landing(settings)?);
    match landing.must_be_free().await {
        // It may be mended while this runs, and nothing lands there before that.
        Err(e) if e.kind() != ErrorKind::Busy => {
            tracing::warn!(error = %e, "a disk that is named cannot be read")
        }
        free => free?,
    }
    let service = Service::open(&settings.service, settings.stated(true)?).await?;
    let peers = peers(settings, "master-target:*")?;
    let rescued = Arc::new(landing.rescued(settings.agent()?.capability()));
    let server = service.server(&peers).landing_site(landing).source(rescued);
    service.serve(server).await
}

pub(crate) fn landing(settings: &Agent) -> Result<BareDisks> {
    let receive = settings.receive()?;
    let leave = match &receive.leave {
        Some(command) => Rescue::leaving_by(command.clone()),
        None => Rescue::rebooting(),
    };
    let state = settings.service.state.join("landing");
    let disks = BareDisks::builder(settings.server.site.clone(), state, Arc::new(SystemClock));
    let disks = disks.server(receive.server.clone().in_rescue(leave));
    let disks = match &receive.installed {
        Some(installed) => {
            let (credentials, name) = (settings.service.credentials(), settings.server.name.clone());
            let hand = Arc::new(Hand { credentials, name });
            disks.installed(&receive.server.name, installed.clone(), Some(hand))
        }
        None => disks,
    };
    disks.open()
}
