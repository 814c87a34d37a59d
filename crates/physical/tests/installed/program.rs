//! The agent's program in a rescue system: what it restored is this very service, with a certificate that counts.

use crate::scene::{SIZE, STATE, Scene, is_marked, landed, start, turn, with_agent};
use crate::support::*;
use site_recovery::*;
use site_recovery_transport::RemoteLandingSite;
use site_recovery_transport::enrol::{
    Authority, Credentials, EnrolmentLimits, EnrolmentServer, Invitation, JoinToken, RoleKind, ServedRole,
    Service, ServiceKind, Stated,
};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const AGENT: &str = env!("CARGO_BIN_EXE_site-recovery-agent");

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn role(kind: RoleKind) -> ServedRole {
    ServedRole::new(kind, "hall-1/web-1")
}

async fn token(authority: &Authority, server: &EnrolmentServer, kind: ServiceKind, name: &str) -> JoinToken {
    let invitation = Invitation::new(Service::new(kind, name).unwrap(), server.address().to_string());
    let invitation = match kind {
        ServiceKind::Agent => invitation.role(role(RoleKind::Source)).role(role(RoleKind::LandingSite)),
        _ => invitation,
    };
    authority.mint(invitation).await.unwrap()
}

fn settings(scene: &Scene) -> String {
    let dir = scene.dir.path();
    format!(
        "[service]\nstate = {:?}\nlisten = \"127.0.0.1:0\"\naddress = \"web-1:1\"\n\n\
         [server]\nsite = \"hall-1\"\nname = \"web-1\"\n\n\
         [receive]\nname = \"web-1\"\nfirmware = \"Bios\"\nslots = [{{ id = \"root\", path = {disk:?} }}]\n\
         leave = {{ run = [\"/usr/bin/touch\", {:?}] }}\n\n\
         [receive.installed]\ndevice = {disk:?}\n",
        dir.join("rescue"),
        dir.join("left"),
        disk = scene.disk.path,
    )
}

fn join(config: &Path, token: &JoinToken) {
    let mut command = Command::new(AGENT);
    command.args(["--config", config.to_str().unwrap(), "--receive", "join"]).stdin(Stdio::piped());
    let mut joining = command.stdout(Stdio::null()).spawn().unwrap();
    joining.stdin.take().unwrap().write_all(token.to_text().as_bytes()).unwrap();
    assert!(joining.wait().unwrap().success());
}

/// Starts it, and says where it listens.
fn receive(config: &Path) -> (Running, String) {
    let mut command = Command::new(AGENT);
    command.args(["--config", config.to_str().unwrap(), "--receive", "run"]).env("NO_COLOR", "1");
    let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map_while(std::io::Result::ok);
    let serving = lines.find(|line| line.contains(" serving ")).expect("it serves");
    let address = serving.split_once("address=").unwrap().1.split_whitespace().next().unwrap().to_owned();
    // What it says later has to go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    (running, address)
}

/// What it says where it does not even begin to serve.
fn refused(config: &Path) -> String {
    let mut command = Command::new(AGENT);
    let ran = command.args(["--config", config.to_str().unwrap(), "--receive", "run"]).output().unwrap();
    assert!(!ran.status.success());
    String::from_utf8(ran.stderr).unwrap()
}

#[tokio::test]
async fn s2_a_server_whose_own_system_runs_is_not_served_as_a_rescue_system() {
    let Some(_alone) = turn().await else { return };
    let scene = Scene::new(with_agent);
    let config = scene.dir.path().join("agent.toml");
    fs::write(&config, settings(&scene)).unwrap();
    let mounted = scene.look();
    let said = refused(&config);
    assert!(said.contains("root") && said.contains("in use"), "its disk is mounted: {said}");
    drop(mounted);
    // The kernel is done with it some time after that.
    let since = SystemClock.now();
    while !scene.is_free() {
        assert!(SystemClock.now().since(since).as_secs() < 20, "it is not mounted any more");
        std::thread::yield_now();
    }
    let agent = site_recovery_register::lock_file(&scene.dir.path().join("rescue/agent/running")).unwrap();
    agent.lock().unwrap();
    let said = refused(&config);
    assert!(said.contains("another agent runs"), "{said}");
    drop(agent);
    let said = refused(&config);
    assert!(!said.contains("in use") && !said.contains("another agent runs"), "it did not join yet: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_the_restored_agent_has_the_certificate_of_its_rescue_system_and_renews_it() {
    let Some(_alone) = turn().await else { return };
    let scene = Scene::new(with_agent);
    let authority = Authority::open(scene.dir.path().join("authority"), Arc::new(SystemClock)).unwrap();
    let port = "127.0.0.1:0".parse().unwrap();
    let server = EnrolmentServer::listen(authority.clone(), port, EnrolmentLimits::default()).await.unwrap();
    let engine = Credentials::at(scene.dir.path().join("engine"));
    let engine = engine.join(&token(&authority, &server, ServiceKind::Engine, "engine").await).await.unwrap();
    let config = scene.dir.path().join("agent.toml");
    fs::write(&config, settings(&scene)).unwrap();

    // Of another service: it says so ahead, the mark is told all the same, and the agent keeps what it has.
    let past = Credentials::at(scene.dir.path().join("past"));
    past.join(&token(&authority, &server, ServiceKind::Agent, "web-1").await).await.unwrap();
    let state = |name: &str| format!("{STATE}/credentials/{name}");
    let identity = fs::read(scene.dir.path().join("past/identity.json")).unwrap();
    let mounted = scene.look();
    fs::write(mounted.0.join(state("identity.json")), &identity).unwrap();
    fs::set_permissions(mounted.0.join(state("identity.json")), fs::Permissions::from_mode(0o600)).unwrap();
    drop(mounted);
    let odd = Service::new(ServiceKind::Agent, "web-2").unwrap();
    authority.revoke(&Service::new(ServiceKind::Agent, "web-1").unwrap()).await.unwrap();
    let invitation = Invitation::new(odd.clone(), server.address().to_string());
    join(&config, &authority.mint(invitation.role(role(RoleKind::LandingSite))).await.unwrap());
    let (rescue, address) = receive(&config);
    let site = RemoteLandingSite::builder(address, "hall-1".into(), engine.client_tls(&odd).unwrap());
    let site = site.connect().await.unwrap();
    let web = machine("m-web", "hall-1", "web-1", &[("root", SIZE)]);
    let survey = site.survey(&web, &Settings::default()).await.unwrap();
    let told = survey.findings.iter().find(|finding| finding.code == "landing.installed").unwrap();
    assert!(told.severity == Severity::Warning && told.cause.contains("agent/web-2"), "{told:?}");
    landed(&site).await;
    let error = start(&site).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let mounted = scene.look();
    is_marked(&mounted.0);
    assert_eq!(fs::read(mounted.0.join(state("identity.json"))).unwrap(), identity);
    drop((mounted, rescue));
    authority.revoke(&odd).await.unwrap();

    // Of the agent's own, by a token for both roles.
    join(&config, &token(&authority, &server, ServiceKind::Agent, "web-1").await);
    let (_rescue, address) = receive(&config);
    let agent = Service::new(ServiceKind::Agent, "web-1").unwrap();
    let site = RemoteLandingSite::builder(address, "hall-1".into(), engine.client_tls(&agent).unwrap());
    let site = site.connect().await.unwrap();
    let survey = site.survey(&web, &Settings::default()).await.unwrap();
    assert!(survey.findings.iter().all(|finding| finding.code != "landing.installed"), "{survey:?}");
    fs::remove_file(scene.dir.path().join("left")).unwrap();
    let error = start(&site).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(scene.dir.path().join("left").exists() && scene.is_free());
    let mounted = scene.look();
    is_marked(&mounted.0);
    // As the restored agent opens it, and says what it serves now.
    let stated = Stated { address: Some("web-1:1".into()), roles: vec![role(RoleKind::Source)] };
    let restored = Credentials::at(mounted.0.join(STATE).join("credentials")).states(stated.clone());
    let restored = restored.open().await.unwrap();
    assert_eq!(restored.service(), agent);
    restored.renew().await.unwrap();
    let roster = authority.roster().await.unwrap();
    let entry = roster.iter().find(|entry| entry.service == agent).unwrap();
    assert_eq!((&entry.address, &entry.roles), (stated.address.as_ref().unwrap(), &stated.roles));
    server.stop().await;
}
