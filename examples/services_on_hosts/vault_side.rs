//! The vault's side: who enrols, what is kept, where machines are recovered, and the stubs by which the services are reached.

use crate::power::StandIn;
use crate::programs::Program;
use crate::proof::image;
use crate::services::free_address;
use crate::{CLOUD, PROCESSING, SERVER, SITE};
use site_recovery::{
    Capability, Deadlines, Form, LandingSite, Leg, Result, SystemClock, TokioSpawner, Vault,
};
use site_recovery_journal::SqliteJournal;
use site_recovery_local::LocalSite;
use site_recovery_physical::site::{Patience, PhysicalSite, Server as PhysicalServer};
use site_recovery_points::Points;
use site_recovery_transport::enrol::{
    Authority, Credentials, EnrolmentLimits, EnrolmentServer, Invitation, JoinToken, Keeping, Renewal,
    RoleKind, ServedRole, Service, ServiceKind, Stated,
};
use site_recovery_transport::{
    Client, Machines, RemoteLandingSite, RemoteMasterTarget, RemoteProcessServer, RemoteSource, Server,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Which programs an embedder has in its own: engine, authority, keeper, store and target.
pub(crate) struct VaultSide {
    dir: PathBuf,
    authority: Authority,
    enrolment: EnrolmentServer,
    credentials: Credentials,
    /// As long as it is held, the certificate is renewed at half of its day.
    _renewal: Renewal,
    pub(crate) points: Arc<Points>,
    pub(crate) cloud: LocalSite,
    server: Server,
}

impl VaultSide {
    /// Everything of the vault's side that is there before a service is: the process server ships to its store, and reads
    /// its site on the way back.
    ///
    /// # Errors
    /// Those of the parts.
    pub(crate) async fn open(dir: &Path) -> Result<Self> {
        let (dir, clock) = (dir.join("vault"), Arc::new(SystemClock));
        let points = Arc::new(Points::directory("points".into(), dir.join("points"), clock.clone())?);
        let cloud = LocalSite::open(CLOUD.into(), dir.join("cloud"), clock.clone())?;
        let authority = Authority::open(dir.join("authority"), clock)?;
        let limits = EnrolmentLimits::default();
        let enrolment = EnrolmentServer::listen(authority.clone(), free_address(5)?, limits).await?;

        // The program of the engine joins as the others do: its roles are found by the roster, too.
        let address = free_address(5)?;
        let roles =
            vec![ServedRole::new(RoleKind::Store, "points"), ServedRole::new(RoleKind::Source, CLOUD)];
        let engine = Service::new(ServiceKind::Engine, CLOUD)?;
        let token = mint(&authority, &enrolment, &engine, &roles).await?;
        let stated = Stated { address: Some(address.to_string()), roles };
        let credentials = Credentials::at(dir.join("credentials")).states(stated).join(&token).await?;
        let renewal = credentials.keep(Keeping::default(), &TokioSpawner::current()?)?;
        let server = Server::builder(credentials.server_tls())
            .store(points.clone())
            .source(Arc::new(cloud.clone()))
            .witness(points.clone())
            .allow(Client::kind(ServiceKind::ProcessServer), Machines::All)
            // A server that starts asks how it stands: it names no machine, and is told of its own alone.
            .allow(Client::kind(ServiceKind::Agent), Machines::Only(BTreeSet::new()))
            .listen(address)
            .await?;
        Ok(Self { dir, authority, enrolment, credentials, _renewal: renewal, points, cloud, server })
    }

    /// Makes a program a service of this vault.
    ///
    /// # Errors
    /// Those of joining.
    pub(crate) async fn enrol(&self, program: &Program) -> Result<()> {
        let token = mint(&self.authority, &self.enrolment, &program.service, &program.roles).await?;
        program.join(&token).await
    }

    /// The vault over the three services: out by the agent, back by the master target, both ways by the process server.
    ///
    /// # Errors
    /// Those of the stubs and of the journal.
    pub(crate) async fn vault(
        &self,
        keeper: &PhysicalSite,
        process_server: &Program,
        master_target: &Program,
    ) -> Result<Vault> {
        let tls = self.credentials.client_tls(&process_server.service)?;
        let address = process_server.address.to_string();
        let moves = RemoteProcessServer::builder(address, PROCESSING.into(), tls).connect().await?;
        let (moves, cloud) = (Arc::new(moves), Arc::new(self.cloud.clone()));
        let landing = Arc::new(self.master_target(master_target)?);
        let journal = SqliteJournal::open(self.dir.join("journal.db")).await?;
        let deadlines = Deadlines { retry_after: Duration::from_secs(1), tries: 3, ..Deadlines::default() };
        Vault::builder()
            .out(Leg::out(Arc::new(keeper.clone()), moves.clone(), self.points.clone(), cloud.clone()))
            .back(Leg::back(cloud, moves, landing))
            .journal(Arc::new(journal))
            .engine_id(CLOUD.into())
            .deadlines(deadlines)
            .build()
            .await
    }

    /// The keeper of the server's site: it has the server's bytes from its agent, and its power from the stand-in.
    ///
    /// # Errors
    /// Those of the credentials and of its directory.
    pub(crate) fn keeper(&self, agent: &Program, power: &Arc<StandIn>) -> Result<PhysicalSite> {
        // What an agent can do is known without it: it may be dead when the vault is built.
        let capability = Capability {
            groups: false,
            fences: false,
            captures_off: false,
            freezes: true,
            quiesces_applications: false,
            drills: false,
            branches: false,
            ..Capability::default()
        };
        let tls = self.credentials.client_tls(&agent.service)?;
        let source = RemoteSource::builder(agent.address.to_string(), SITE.into(), tls)
            .patience(Duration::from_secs(1))
            .stall(Duration::from_secs(5))
            .lazy(capability)?;
        let server = PhysicalServer {
            name: SERVER.into(),
            agent: Arc::new(source),
            power: Some(Arc::clone(power) as _),
            shutdown: None,
        };
        let (agent, between) = (Duration::from_secs(1), Duration::from_millis(100));
        let patience = Patience { agent, between, ..Patience::default() };
        let keeper = PhysicalSite::builder(SITE.into(), self.dir.join("keeper"), Arc::new(SystemClock));
        keeper.server(server).patience(patience).open()
    }

    /// Serves the keeper's way back to the server, for the master target: as a service of its own, as on a host of its own. Its certificate is
    /// renewed as long as what comes second is held.
    ///
    /// # Errors
    /// Those of joining and of serving.
    pub(crate) async fn serve_way_back(
        &self,
        keeper: &PhysicalSite,
        agent: &Program,
    ) -> Result<(Server, Renewal)> {
        let (address, service) = (free_address(5)?, Service::new(ServiceKind::Keeper, SITE)?);
        let roles = vec![ServedRole::new(RoleKind::LandingSite, SITE)];
        let token = mint(&self.authority, &self.enrolment, &service, &roles).await?;
        let stated = Stated { address: Some(address.to_string()), roles };
        let credentials = Credentials::at(self.dir.join("keeper-credentials")).states(stated);
        let credentials = credentials.join(&token).await?;
        let capability = Capability {
            tracks: false,
            groups: false,
            drills: false,
            branches: false,
            ..Capability::default()
        };
        let tls = credentials.client_tls(&agent.service)?;
        let rescue = RemoteLandingSite::builder(agent.address.to_string(), SITE.into(), tls)
            .patience(Duration::from_secs(1))
            .stall(Duration::from_secs(5))
            .lazy(capability)?;
        let rescue: Arc<dyn LandingSite> = Arc::new(rescue);
        let returning = keeper.returning(Arc::new(BTreeMap::from([(SERVER.to_owned(), rescue)])));
        let renewal = credentials.keep(Keeping::default(), &TokioSpawner::current()?)?;
        let server = Server::builder(credentials.server_tls())
            .landing_site(Arc::new(returning))
            .allow(Client::kind(ServiceKind::MasterTarget), Machines::All)
            .listen(address)
            .await?;
        Ok((server, renewal))
    }

    /// The master target, which need not run yet: it is started for the way back.
    ///
    /// # Errors
    /// Those of the credentials.
    pub(crate) fn master_target(&self, program: &Program) -> Result<RemoteMasterTarget> {
        let capability = Capability {
            takes: Form::Plain,
            opens_while_booted: false,
            drills: false,
            branches: false,
            ..Capability::default()
        };
        let tls = self.credentials.client_tls(&program.service)?;
        RemoteMasterTarget::builder(program.address.to_string(), SITE.into(), tls)
            .patience(Duration::from_secs(1))
            .lazy(capability)
    }

    /// The image of a machine's disk at the vault's site.
    pub(crate) fn image(&self, machine: &str) -> Result<PathBuf> {
        image(&self.dir.join("cloud").join(machine))
    }

    pub(crate) async fn stop(self) {
        self.server.stop(Duration::from_secs(10)).await;
        self.enrolment.stop().await;
    }
}

async fn mint(
    authority: &Authority,
    enrolment: &EnrolmentServer,
    service: &Service,
    roles: &[ServedRole],
) -> Result<JoinToken> {
    let invitation = Invitation::new(service.clone(), enrolment.address().to_string());
    authority.mint(roles.iter().cloned().fold(invitation, Invitation::role)).await
}
