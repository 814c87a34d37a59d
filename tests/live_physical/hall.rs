//! The vault's side of a physical site: who enrols, what is kept, and where machines are recovered.

use crate::drive::{Installed, as_the_guest_sees};
use crate::hardware::Hardware;
use site_recovery::{Capability, Deadlines, LandingSite, Leg, SystemClock, Vault};
use site_recovery_journal::SqliteJournal;
use site_recovery_master_target::MasterTarget;
use site_recovery_physical::site::{Patience, PhysicalSite, Server as PhysicalServer};
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer;
use site_recovery_qemu::{Accelerator, Choice, QemuSite};
use site_recovery_transport::enrol::{
    Authority, Credentials, EnrolmentLimits, EnrolmentServer, Invitation, RoleKind, ServedRole, Service,
    ServiceKind, Stated,
};
use site_recovery_transport::{ClientTls, Pulse, RemoteLandingSite, RemoteSource};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub const SITE: &str = "hall-1";
pub const SERVER: &str = "web-1";
pub const CLOUD: &str = "dr";
/// Longer than a guest takes to boot under emulation on a busy machine.
pub const BOOT: Duration = Duration::from_secs(240);

pub struct Hall {
    pub dir: PathBuf,
    authority: Authority,
    enrolment: EnrolmentServer,
    credentials: Credentials,
    pub points: Arc<Points>,
    pub process_server: Arc<ProcessServer>,
    pub cloud: QemuSite,
    pub hardware: Arc<Hardware>,
}

impl Hall {
    pub async fn new(dir: &Path) -> Self {
        let clock = Arc::new(SystemClock);
        let authority = Authority::open(dir.join("authority"), clock.clone()).unwrap();
        let here = "127.0.0.1:0".parse().unwrap();
        let limits = EnrolmentLimits::default();
        let enrolment = EnrolmentServer::listen(authority.clone(), here, limits).await.unwrap();
        let engine = Service::new(ServiceKind::Engine, CLOUD).unwrap();
        let token = authority.mint(Invitation::new(engine, enrolment.address().to_string())).await.unwrap();
        let stated = Stated { address: None, roles: vec![] };
        let credentials = Credentials::at(dir.join("credentials")).states(stated).join(&token).await.unwrap();
        let points = Arc::new(Points::directory("points".into(), dir.join("points"), clock).unwrap());
        let process_server = ProcessServer::builder("process-server")
            .spool(dir.join("spool"))
            .spool_limit(1 << 30)
            .build()
            .await
            .unwrap();
        let cloud = QemuSite::builder(CLOUD.into(), dir.join(CLOUD))
            .accelerator(Choice::Fixed(Accelerator::Tcg))
            .patience(Duration::from_secs(60))
            .open()
            .await
            .unwrap();
        let hardware = Hardware::new(&dir.join("hardware"));
        let (dir, process_server) = (dir.to_owned(), Arc::new(process_server));
        Self { dir, authority, enrolment, credentials, points, process_server, cloud, hardware }
    }

    /// Plugs in a drive with the agent and a token for it.
    pub async fn install(&self, rescue: bool) {
        let kind = if rescue { RoleKind::LandingSite } else { RoleKind::Source };
        let role = ServedRole::new(kind, format!("{SITE}/{SERVER}").as_str());
        let service = Service::new(ServiceKind::Agent, SERVER).unwrap();
        let at = as_the_guest_sees(self.enrolment.address());
        let token = self.authority.mint(Invitation::new(service, at).role(role)).await.unwrap();
        let token = token.to_text();
        let installed = Installed { site: SITE, name: SERVER, port: self.hardware.port, token: &token };
        let drive = self.hardware.drive(rescue);
        // Cargo may be asked for the agent.
        tokio::task::block_in_place(|| match rescue {
            true => installed.write_rescue(&drive),
            false => installed.write(&drive),
        });
    }

    fn tls(&self) -> ClientTls {
        self.credentials.client_tls(&Service::new(ServiceKind::Agent, SERVER).unwrap()).unwrap()
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.hardware.port)
    }

    /// The server's agent, whether it runs now or not.
    pub fn agent(&self) -> RemoteSource {
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
        let builder = RemoteSource::builder(self.address(), SITE.into(), self.tls());
        builder.patience(Duration::from_secs(3)).stall(Duration::from_secs(20)).lazy(capability).unwrap()
    }

    /// How many bytes the agent has read for tracking since it was started.
    pub async fn scanned(&self) -> u64 {
        self.agent().heard().await.unwrap().signs.figures["scanned_bytes"] as u64
    }

    /// The bare disks of the server, while its rescue system runs.
    pub fn landing(&self) -> RemoteLandingSite {
        let capability = Capability {
            tracks: false,
            groups: false,
            drills: false,
            branches: false,
            ..Capability::default()
        };
        let builder = RemoteLandingSite::builder(self.address(), SITE.into(), self.tls());
        builder.patience(Duration::from_secs(3)).stall(Duration::from_secs(20)).lazy(capability).unwrap()
    }

    pub fn keeper(&self) -> PhysicalSite {
        let server = PhysicalServer {
            name: SERVER.into(),
            agent: Arc::new(self.agent()),
            power: Some(Arc::clone(&self.hardware) as _),
            shutdown: None,
        };
        let patience = Patience { on: BOOT, ..Patience::default() };
        let state = self.dir.join("keeper");
        let builder = PhysicalSite::builder(SITE.into(), state, Arc::new(SystemClock));
        builder.patience(patience).server(server).open().unwrap()
    }

    /// Out to QEMU, and back to the server's bare disks.
    pub async fn vault(&self, keeper: &PhysicalSite) -> Vault {
        let rescue: Arc<dyn LandingSite> = Arc::new(self.landing());
        let rescues = Arc::new(BTreeMap::from([(SERVER.to_owned(), rescue)]));
        let returning = Arc::new(keeper.returning(rescues));
        let (clock, retention) = (Arc::new(SystemClock), self.dir.join("retention"));
        let master_target = MasterTarget::open("mt", returning, retention, clock).await.unwrap();
        let journal = SqliteJournal::open(self.dir.join("journal.db")).await.unwrap();
        let cloud = || Arc::new(self.cloud.clone());
        let deadlines = Deadlines { retry_after: Duration::from_secs(1), tries: 3, ..Deadlines::default() };
        Vault::builder()
            .out(Leg::out(
                Arc::new(keeper.clone()),
                self.process_server.clone(),
                self.points.clone(),
                cloud(),
            ))
            .back(Leg::back(cloud(), self.process_server.clone(), Arc::new(master_target)))
            .journal(Arc::new(journal))
            .engine_id(CLOUD.into())
            .deadlines(deadlines)
            .build()
            .await
            .unwrap()
    }

    pub async fn stop(self) {
        self.hardware.cut();
        self.enrolment.stop().await;
    }
}
