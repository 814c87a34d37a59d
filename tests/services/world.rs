//! Hosts, the services on them, and a vault that reaches them.

use crate::hosts::{Ground, Host};
use crate::switch::Switch;
use site_recovery::*;
use site_recovery_journal::SqliteJournal;
use site_recovery_local::LocalSite;
use site_recovery_physical::site::{Patience, PhysicalSite, Server as PhysicalServer};
use site_recovery_points::Points;
use site_recovery_transport::enrol::{
    Authority, Credentials, EnrolmentLimits, EnrolmentServer, Invitation, RoleKind, ServedRole, Service,
    ServiceKind, Stated,
};
use site_recovery_transport::{
    Client, ClientTls, Machines, RemoteLandingSite, RemoteMasterTarget, RemoteProcessServer, RemoteSource,
    Server,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub const SITE: &str = "hall-1";
pub const SERVER: &str = "web-1";
pub const CLOUD: &str = "dr";
pub const PORT: u16 = 7443;
/// Where the keeper serves the way back, beside the vault.
const KEEPER_PORT: u16 = 7444;
/// Long beyond what anything here takes.
pub const SOON: Duration = Duration::from_secs(60);

/// The vault's side: who enrols, what is kept, and where machines are recovered.
pub struct Vaulted {
    pub dir: PathBuf,
    pub authority: Authority,
    enrolment: EnrolmentServer,
    credentials: Credentials,
    /// Of the engine that stubs speak for, where it is another one.
    other: Option<Credentials>,
    pub points: Arc<Points>,
    pub cloud: LocalSite,
    /// Where all of it is served.
    address: SocketAddr,
    server: Option<Server>,
}

impl Vaulted {
    /// Everything of the vault that is there before a service is.
    pub async fn new(ground: &Ground) -> Self {
        let (dir, clock) = (ground.dir().join("vault"), Arc::new(SystemClock));
        fs::create_dir(&dir).unwrap();
        let authority = Authority::open(dir.join("authority"), clock.clone()).unwrap();
        let here = SocketAddr::new(ground.ip().into(), 0);
        let enrolment =
            EnrolmentServer::listen(authority.clone(), here, EnrolmentLimits::default()).await.unwrap();
        let points = Arc::new(Points::directory("points".into(), dir.join("points"), clock.clone()).unwrap());
        let cloud = LocalSite::open(CLOUD.into(), dir.join("cloud"), clock).unwrap();

        let address = SocketAddr::new(ground.ip().into(), PORT);
        let roles =
            vec![ServedRole::new(RoleKind::Store, "points"), ServedRole::new(RoleKind::Source, CLOUD)];
        let engine = Service::new(ServiceKind::Engine, CLOUD).unwrap();
        let invitation = Invitation::new(engine, enrolment.address().to_string());
        let token = authority.mint(roles.iter().cloned().fold(invitation, Invitation::role)).await.unwrap();
        let stated = Stated { address: Some(address.to_string()), roles };
        let credentials = Credentials::at(dir.join("credentials")).states(stated).join(&token).await.unwrap();
        let server = Some(serve(&credentials, &points, &cloud, address).await);
        Self { dir, authority, enrolment, credentials, other: None, points, cloud, address, server }
    }

    /// A token for a service, in a file that its owner alone can read.
    pub async fn token(&self, service: &Service, roles: &[ServedRole]) -> PathBuf {
        let invitation = Invitation::new(service.clone(), self.enrolment.address().to_string());
        let invitation = roles.iter().cloned().fold(invitation, Invitation::role);
        let token = self.authority.mint(invitation).await.unwrap();
        let file = self.dir.join(format!("token-{}-{}", service.kind(), service.name()));
        fs::write(&file, token.to_text()).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// From here on stubs speak for another engine.
    pub async fn speak_for(&mut self, engine: &str) {
        let service = Service::new(ServiceKind::Engine, engine).unwrap();
        let invitation = Invitation::new(service, self.enrolment.address().to_string());
        let token = self.authority.mint(invitation).await.unwrap();
        let joined = Credentials::at(self.dir.join(engine)).join(&token).await.unwrap();
        // Where the others are, it reads as they do.
        joined.refresh_roster().await.unwrap();
        self.other = Some(joined);
    }

    pub fn tls(&self, kind: ServiceKind, name: &str) -> ClientTls {
        let speaks = self.other.as_ref().unwrap_or(&self.credentials);
        speaks.client_tls(&Service::new(kind, name).unwrap()).unwrap()
    }

    /// The server's agent, whether it runs now or not.
    pub fn agent(&self, host: &Host) -> RemoteSource {
        let address = SocketAddr::new(host.ip().into(), PORT).to_string();
        let builder = RemoteSource::builder(address, SITE.into(), self.tls(ServiceKind::Agent, SERVER));
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
        builder.patience(Duration::from_secs(2)).stall(Duration::from_secs(5)).lazy(capability).unwrap()
    }

    pub async fn process_server(&self, host: &Host, name: &str) -> RemoteProcessServer {
        self.process_server_at(SocketAddr::new(host.ip().into(), PORT), name).await
    }

    /// By another way than straight.
    pub async fn process_server_at(&self, address: SocketAddr, name: &str) -> RemoteProcessServer {
        let address = address.to_string();
        let tls = self.tls(ServiceKind::ProcessServer, name);
        let builder = RemoteProcessServer::builder(address, name.into(), tls);
        builder.patience(Duration::from_secs(2)).stall(Duration::from_secs(10)).connect().await.unwrap()
    }

    /// A master target that lands on bare disks, whether it runs now or not.
    pub fn master_target(&self, host: &Host) -> RemoteMasterTarget {
        self.master_target_that(host, false)
    }

    /// One that lands in a directory, where branches can be put under disks.
    pub fn directory_target(&self, host: &Host) -> RemoteMasterTarget {
        self.master_target_that(host, true)
    }

    fn master_target_that(&self, host: &Host, branches: bool) -> RemoteMasterTarget {
        let address = SocketAddr::new(host.ip().into(), PORT).to_string();
        let tls = self.tls(ServiceKind::MasterTarget, "mt");
        let capability = Capability {
            takes: Form::Plain,
            opens_while_booted: false,
            drills: false,
            branches,
            ..Capability::default()
        };
        let builder = RemoteMasterTarget::builder(address, SITE.into(), tls);
        builder.patience(Duration::from_secs(1)).lazy(capability).unwrap()
    }

    /// The keeper of the site, with one server.
    pub fn keeper(&self, host: &Host, switch: &Arc<Switch>) -> PhysicalSite {
        self.keeper_that_waits(Duration::from_secs(2), host, switch)
    }

    /// One that waits so long for an agent that may be gone.
    pub fn keeper_that_waits(&self, agent: Duration, host: &Host, switch: &Arc<Switch>) -> PhysicalSite {
        let state = self.dir.join("keeper");
        let server = PhysicalServer {
            name: SERVER.into(),
            agent: Arc::new(self.agent(host)),
            power: Some(Arc::clone(switch) as _),
            shutdown: None,
        };
        let patience = Patience { agent, between: Duration::from_millis(100), off: SOON, on: SOON };
        let builder = PhysicalSite::builder(SITE.into(), state, Arc::new(SystemClock));
        builder.server(server).patience(patience).open().unwrap()
    }

    /// Serves the way back to the keeper's server, under a name of its own.
    pub async fn keeper_serves(&self, ground: &Ground, keeper: &PhysicalSite, host: &Host) -> Server {
        let at = SocketAddr::new(ground.ip().into(), KEEPER_PORT);
        let role = ServedRole::new(RoleKind::LandingSite, SITE);
        let service = Service::new(ServiceKind::Keeper, SITE).unwrap();
        let invitation = Invitation::new(service, self.enrolment.address().to_string()).role(role.clone());
        let token = self.authority.mint(invitation).await.unwrap();
        let stated = Stated { address: Some(at.to_string()), roles: vec![role] };
        let credentials = Credentials::at(self.dir.join("keeper-credentials")).states(stated);
        let credentials = credentials.join(&token).await.unwrap();

        let agent = Service::new(ServiceKind::Agent, SERVER).unwrap();
        let address = SocketAddr::new(host.ip().into(), PORT).to_string();
        let rescue =
            RemoteLandingSite::builder(address, SITE.into(), credentials.client_tls(&agent).unwrap())
                .patience(Duration::from_secs(2))
                .stall(Duration::from_secs(5))
                .lazy(Capability {
                    tracks: false,
                    groups: false,
                    drills: false,
                    branches: false,
                    ..Capability::default()
                })
                .unwrap();
        let rescue: Arc<dyn LandingSite> = Arc::new(rescue);
        let returning = keeper.returning(Arc::new(BTreeMap::from([(SERVER.to_owned(), rescue)])));
        Server::builder(credentials.server_tls())
            .landing_site(Arc::new(returning))
            .allow(Client::kind(ServiceKind::MasterTarget), Machines::All)
            .listen(at)
            .await
            .unwrap()
    }

    pub async fn vault(
        &self,
        keeper: &PhysicalSite,
        process_server: Arc<dyn ProcessServer>,
        master_target: Arc<dyn MasterTarget>,
    ) -> Vault {
        self.builder(keeper, process_server, master_target).await.build().await.unwrap()
    }

    /// A vault over these roles, on the journal of the one before.
    pub async fn builder(
        &self,
        keeper: &PhysicalSite,
        process_server: Arc<dyn ProcessServer>,
        master_target: Arc<dyn MasterTarget>,
    ) -> VaultBuilder {
        let journal = SqliteJournal::open(self.dir.join("journal.db")).await.unwrap();
        let deadlines = Deadlines {
            retry_after: Duration::from_secs(1),
            prerequisites: Duration::from_secs(20),
            tries: 3,
            ..Deadlines::default()
        };
        Vault::builder()
            .out(Leg::out(
                Arc::new(keeper.clone()),
                Arc::clone(&process_server),
                self.points.clone(),
                Arc::new(self.cloud.clone()),
            ))
            .back(Leg::back(Arc::new(self.cloud.clone()), process_server, master_target))
            .journal(Arc::new(journal))
            .engine_id(CLOUD.into())
            .deadlines(deadlines)
    }

    /// Ends what the vault's side serves, the store among it, for those who reach it by the network.
    pub async fn serve_no_more(&mut self) {
        self.server.take().unwrap().stop(SOON).await;
    }

    pub async fn serve_again(&mut self) {
        self.server = Some(serve(&self.credentials, &self.points, &self.cloud, self.address).await);
    }

    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop(SOON).await;
        }
        self.enrolment.stop().await;
    }
}

/// The vault's side for everybody else.
async fn serve(
    credentials: &Credentials,
    points: &Arc<Points>,
    cloud: &LocalSite,
    address: SocketAddr,
) -> Server {
    Server::builder(credentials.server_tls())
        .store(points.clone())
        .source(Arc::new(cloud.clone()))
        .witness(points.clone())
        .allow(Client::kind(ServiceKind::ProcessServer), Machines::All)
        .allow(Client::kind(ServiceKind::Agent), Machines::Only(BTreeSet::new()))
        .listen(address)
        .await
        .unwrap()
}
