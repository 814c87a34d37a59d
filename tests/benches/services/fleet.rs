//! An agent, a process server and a store on hosts of their own, and an engine that asks them, in this process.

use crate::Outcome;
use crate::child::STORE;
use crate::group::Group;
use crate::hosts::{Disk, Ground, Host, Process};
use crate::programs;
use site_recovery::SystemClock;
use site_recovery_transport::enrol::{
    Authority, Credentials, EnrolmentLimits, EnrolmentServer, Invitation, JoinToken, RoleKind, ServedRole,
    Service, ServiceKind, Stated,
};
use site_recovery_transport::{RemoteProcessServer, RemoteSource, RemoteStore};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const SITE: &str = "hall-1";
const SERVER: &str = "web-1";
const SHIPPER: &str = "ps-1";
const ENGINE: &str = "dr";
const PORT: u16 = 7443;
const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// Where the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// A process of its own, on a third host.
    Apart,
    /// Beside the process server, in its process.
    Beside,
}

/// What the process server does to records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Records {
    /// zstd, and AES-256-GCM with a key.
    CompressedAndSealed,
    AsTheyAre,
}

/// A process of ours, and the group that counts its processor time.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) group: Group,
}

/// All that runs. What is above ends before what it stands on.
pub(crate) struct Fleet {
    pub(crate) source: Arc<RemoteSource>,
    pub(crate) shipper: RemoteProcessServer,
    pub(crate) points: Arc<RemoteStore>,
    pub(crate) agent: Running,
    pub(crate) ps: Running,
    pub(crate) store: Option<Running>,
    enrolment: EnrolmentServer,
    _hosts: Vec<Host>,
}

/// Who may join, and what with.
struct Office {
    authority: Authority,
    address: String,
    dir: PathBuf,
}

impl Office {
    async fn token(&self, service: &Service, roles: &[ServedRole]) -> Outcome<PathBuf> {
        let invitation = Invitation::new(service.clone(), self.address.clone());
        let token = self.authority.mint(roles.iter().cloned().fold(invitation, Invitation::role)).await?;
        let file = self.dir.join(format!("token-{}-{}", service.kind(), service.name()));
        own(&file, &token.to_text())?;
        Ok(file)
    }
}

impl Fleet {
    /// Starts all of them for one disk.
    pub(crate) async fn start(ground: &Ground, disk: &Disk, store: Store, records: Records) -> Outcome<Self> {
        let [agent, ps] = programs::ours()?;
        let dir = ground.dir().join("fleet");
        fs::create_dir(&dir)?;
        let authority = Authority::open(dir.join("authority"), Arc::new(SystemClock))?;
        let here = SocketAddr::new(ground.ip().into(), 0);
        let enrolment = EnrolmentServer::listen(authority.clone(), here, EnrolmentLimits::default()).await?;
        let office = Office { authority, address: enrolment.address().to_string(), dir: dir.clone() };

        let engine = Service::new(ServiceKind::Engine, ENGINE)?;
        let token: JoinToken = fs::read_to_string(office.token(&engine, &[]).await?)?.trim().parse()?;
        let credentials = Credentials::at(dir.join("engine")).states(Stated::default()).join(&token).await?;

        let [web, side, far] = ["web", "ps", "dr"].map(|name| ground.host(name));
        let key = dir.join("key");
        own(&key, KEY)?;
        let sealed = records == Records::CompressedAndSealed;
        let key = sealed.then_some(&*key);

        let service = Service::new(ServiceKind::Agent, SERVER)?;
        let role = ServedRole::new(RoleKind::Source, format!("{SITE}/{SERVER}").as_str());
        let text = format!(
            "{}\n[server]\nsite = \"{SITE}\"\nname = \"{SERVER}\"\nonly = [{:?}]\n",
            table(&dir, &web),
            disk.device()
        );
        let agent = joined(&office, &web, &agent, &text, &service, &[role]).await?;
        let agent_tls = credentials.client_tls(&service)?;
        let source = RemoteSource::builder(address(&web), SITE.into(), agent_tls).connect().await?;

        let (beside, at) = match store {
            Store::Beside => (true, &side),
            Store::Apart => (false, &far),
        };
        let apart = if beside { None } else { Some(far_store(&office, &far, key).await?) };
        let service = Service::new(ServiceKind::ProcessServer, SHIPPER)?;
        let mut roles = vec![ServedRole::new(RoleKind::ProcessServer, SHIPPER)];
        let mut text = format!("{}\n[process_server]\nname = \"{SHIPPER}\"\n", table(&dir, &side));
        if !sealed {
            text += "compress = \"not\"\n";
        }
        if let Some(key) = key {
            text += &format!("\n[[key]]\nfile = {key:?}\n");
        }
        if beside {
            text += &format!("\n[[store]]\nname = \"{STORE}\"\ndirectory = {:?}\n", dir.join("points"));
            roles.push(ServedRole::new(RoleKind::Store, STORE));
        }
        let ps = joined(&office, &side, &ps, &text, &service, &roles).await?;
        let ps_tls = credentials.client_tls(&service)?;
        let shipper =
            RemoteProcessServer::builder(address(&side), SHIPPER.into(), ps_tls.clone()).connect().await?;
        let store_tls = match beside {
            true => ps_tls,
            false => credentials.client_tls(&Service::new(ServiceKind::PointStore, STORE)?)?,
        };
        let points = RemoteStore::builder(address(at), STORE.into(), store_tls).connect().await?;
        let _hosts = vec![web, side, far];
        let (source, points) = (Arc::new(source), Arc::new(points));
        Ok(Self { source, shipper, points, agent, ps, store: apart, enrolment, _hosts })
    }

    /// Ends them.
    pub(crate) async fn stop(self) {
        let Self { agent, ps, store, enrolment, .. } = self;
        for running in [Some(agent), Some(ps), store].into_iter().flatten() {
            let Running { process, group } = running;
            process.kill();
            drop(group);
        }
        enrolment.stop().await;
    }
}

fn address(host: &Host) -> String {
    SocketAddr::new(host.ip().into(), PORT).to_string()
}

fn table(dir: &Path, host: &Host) -> String {
    let (state, address) = (dir.join(host.name()), address(host));
    format!(
        "[service]\nstate = {state:?}\nlisten = \"{address}\"\naddress = \"{address}\"\nsite = \"{SITE}\"\n"
    )
}

/// A program of ours that has joined, and runs.
async fn joined(
    office: &Office,
    host: &Host,
    program: &Path,
    settings: &str,
    service: &Service,
    roles: &[ServedRole],
) -> Outcome<Running> {
    let config = office.dir.join(format!("{}.toml", host.name()));
    fs::write(&config, settings)?;
    let token = office.token(service, roles).await?;
    let words = |command: &[&Path]| -> Vec<PathBuf> {
        [Path::new("--config"), &config].iter().chain(command).map(|word| word.to_path_buf()).collect()
    };
    let program_text = program.to_str().ok_or("the target directory has a name in UTF-8")?;
    host.try_run(program_text, &words(&[Path::new("join"), Path::new("--token-file"), &token]))?;
    run(host, host.command(program, &words(&[Path::new("run")])))
}

/// This program again, as a store.
async fn far_store(office: &Office, host: &Host, key: Option<&Path>) -> Outcome<Running> {
    let service = Service::new(ServiceKind::PointStore, STORE)?;
    let token = office.token(&service, &[ServedRole::new(RoleKind::Store, STORE)]).await?;
    let (address, state) = (address(host), office.dir.join(host.name()));
    let words: [&Path; 6] = [
        Path::new("--child"),
        Path::new("store"),
        Path::new(&address),
        &token,
        &state,
        key.unwrap_or(Path::new("-")),
    ];
    run(host, host.command(std::env::current_exe()?, &words))
}

fn run(host: &Host, command: Command) -> Outcome<Running> {
    let group = Group::new()?;
    let mut process = host.start(group.command(&command), "service");
    process.says(" serving ");
    Ok(Running { process, group })
}

/// A file that its owner alone can read.
fn own(file: &Path, text: &str) -> Outcome<()> {
    fs::write(file, text)?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}
