//! The program on a server without a network, and the other side as it is: an authority, and a store that is a witness.

use crate::elsewhere::{enrolled, hardware};
use crate::namespaces::{Lan, ip, within};
use crate::records::{item, original, record, recovered};
use crate::support::{is_here, op_of};
use site_recovery::state::Phase;
use site_recovery::*;
use site_recovery_testkit::world::{MemoryReplica, World};
use site_recovery_transport::enrol::{
    Authority, Credentials, EnrolmentLimits, EnrolmentServer, Invitation, RoleKind, ServedRole, Service,
    ServiceKind, Stated,
};
use site_recovery_transport::{Client, Machines, Server};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

const AGENT: &str = env!("CARGO_BIN_EXE_site-recovery-agent");
/// Beyond what anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// Authority and store, on a thread in a name space, under a name that nobody resolves.
struct OtherSide {
    store: Arc<MemoryReplica>,
    /// Ends the authority, and then the store.
    end: Vec<tokio::sync::oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl OtherSide {
    /// The server has joined as its agent, and is enrolled.
    fn of(lan: &Lan, dir: &Path) -> Self {
        let (store, dir) = (Arc::new(MemoryReplica::new("points", World::new(1).clock())), dir.to_owned());
        let ((no_authority, authority), (no_store, stored)) =
            (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel());
        let ((ready, is_ready), (done, ended)) = (mpsc::channel(), mpsc::channel());
        let served = Arc::clone(&store);
        within(&lan.other, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (enrolment, server) = serve(&dir, served).await;
                ready.send(()).unwrap();
                let _ = authority.await;
                enrolment.stop().await;
                done.send(()).unwrap();
                let _ = stored.await;
                server.stop(Duration::from_secs(1)).await;
                done.send(()).unwrap();
            });
        });
        is_ready.recv_timeout(SOON).expect("the other side is there");
        Self { store, end: vec![no_store, no_authority], ended }
    }

    async fn records(&self, active: &Instance, revision: u64) {
        let mut item = item(active, Phase::Protected, false);
        item.instances = vec![original(), recovered()];
        item.revision = revision;
        let op = op_of("engine", 3, &format!("remember {revision}"));
        self.store.remember(&op, &"m-web".into(), &record(item)).await.unwrap();
    }

    /// The authority first, and then the store.
    fn end_one(&mut self) {
        self.end.pop().unwrap().send(()).unwrap();
        self.ended.recv_timeout(SOON).expect("it ends");
    }
}

async fn serve(dir: &Path, store: Arc<MemoryReplica>) -> (EnrolmentServer, Server) {
    let authority = Authority::open(dir.join("authority"), Arc::new(SystemClock)).unwrap();
    let at = "10.91.0.1:7444".parse().unwrap();
    let enrolment = EnrolmentServer::listen(authority.clone(), at, EnrolmentLimits::default()).await.unwrap();
    let join = async |at: PathBuf, kind, name: &str, role: ServedRole, address: &str| {
        let invitation = Invitation::new(Service::new(kind, name).unwrap(), "10.91.0.1:7444");
        let token = authority.mint(invitation.role(role.clone())).await.unwrap();
        let stated = Stated { address: Some(address.into()), roles: vec![role] };
        Credentials::at(at).states(stated).join(&token).await.unwrap()
    };
    let role = ServedRole::new(RoleKind::Store, "points");
    let address = "dr.example.test:7443";
    let credentials = join(dir.join("store"), ServiceKind::PointStore, "dr", role, address).await;
    let server = Server::builder(credentials.server_tls())
        .store(store.clone())
        .witness(store)
        .allow(Client::kind(ServiceKind::Agent), Machines::Only(BTreeSet::new()))
        .listen("10.91.0.1:7443".parse().unwrap())
        .await
        .unwrap();
    let role = ServedRole::new(RoleKind::Source, "hall-1/web-1");
    join(dir.join("state/credentials"), ServiceKind::Agent, "web-1", role, "web-1:1").await;
    // As by a token that names the host.
    replace(&dir.join("state/credentials/identity.json"), "10.91.0.1:7444", "DR.example.test:7444");
    enrolled(&dir.join("state/agent"), &hardware(None, &["naa.1"])).await;
    (enrolment, server)
}

fn replace(file: &Path, piece: &str, other: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(piece), "{piece} in {text}");
    std::fs::write(file, text.replace(piece, other)).unwrap();
}

/// The file of settings, with this of the guard's table.
fn settings(dir: &Path, guard: &str) -> PathBuf {
    let file = dir.join("agent.toml");
    let text = format!(
        "[service]\nstate = {:?}\nlisten = \"127.0.0.1:0\"\naddress = \"web-1:1\"\n\n\
         [server]\nsite = \"hall-1\"\nname = \"web-1\"\n\n{guard}",
        dir.join("state")
    );
    // Whole, or not: it may be read at any time.
    std::fs::write(dir.join("draft"), text).unwrap();
    std::fs::rename(dir.join("draft"), &file).unwrap();
    file
}

fn guarded(lan: &Lan, adapter: &str) -> String {
    format!(
        "[guard]\nwitnesses = [\"points\"]\nevery_seconds = 1\nhosts = {{ \"dr.example.test\" = \"10.91.0.1\" }}\n\
         network = {{ adapter = {adapter:?}, address = \"10.91.0.250/24\", namespace = {:?} }}\n",
        lan.guard
    )
}

fn on(lan: &Lan, config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lan.server, AGENT, "--config", config.to_str().unwrap()]).args(arguments);
    command
}

/// Whether it ended well, and what it said.
fn runs(lan: &Lan, config: &Path, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = on(lan, config, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.success(), said)
}

#[tokio::test]
async fn s2_the_program_asks_by_pinned_hosts_where_there_is_no_network_and_no_resolver() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let (lan, dir) = (Lan::new(), tempfile::tempdir().unwrap());
    let mut side = OtherSide::of(&lan, dir.path());
    let config = settings(dir.path(), &guarded(&lan, "eno1"));
    let once = || runs(&lan, &config, &["guard", "--once"]);
    let (ran, said) = once();
    assert!(ran && said.contains("takes part: it is the one that counts"), "nothing is recorded yet: {said}");
    side.records(&recovered(), 7).await;
    let (ran, said) = once();
    assert!(!ran && said.contains("web-1-recovered at cloud has write authority"), "{said}");
    side.records(&original(), 9).await;
    assert!(once().0);
    assert!(lan.addresses().is_empty(), "its own stack was never touched: {:?}", lan.addresses());

    // Since it died, the store has moved: the roster on its disk is an old one.
    let roster = dir.path().join("state/credentials/roster.json");
    replace(&roster, "dr.example.test:7443", "dr.example.test:9");
    assert!(once().0, "it is asked for the roster of now");
    replace(&roster, "dr.example.test:7443", "dr.example.test:7443");
    side.end_one();
    let (ran, said) = once();
    assert!(ran, "without the authority, what it told last counts: {said}");
    side.end_one();
    let (ran, said) = once();
    assert!(!ran && said.contains("the witness points at dr.example.test:7443 does not tell"), "{said}");
}

#[tokio::test]
async fn s2_a_check_tells_what_each_witness_answers_and_changes_nothing() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let (lan, dir) = (Lan::new(), tempfile::tempdir().unwrap());
    let mut side = OtherSide::of(&lan, dir.path());
    // A server that is well.
    ip(&["-n", &lan.server, "address", "add", "10.91.0.7/24", "dev", "eno1"]);
    ip(&["-n", &lan.server, "link", "set", "eno1", "up"]);
    let whole = guarded(&lan, "eno1");
    let config = settings(dir.path(), &whole);
    let check = || runs(&lan, &config, &["guard", "--check"]);
    let says = |(ran, said): (bool, String), well: bool, parts: &[&str]| {
        assert_eq!(ran, well, "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
    };
    says(check(), true, &["witness points at dr.example.test:7443: nothing is recorded", "it takes part"]);
    side.records(&recovered(), 7).await;
    says(check(), false, &["web-1-recovered at cloud has write authority", "it would be kept off"]);
    side.records(&original(), 9).await;
    says(
        check(),
        true,
        &["network: eno1 is there", "authority at DR.example.test:7444: it tells", "takes part"],
    );
    assert!(!dir.path().join("state/guard").exists(), "nothing is noted, and nothing remembered");

    // What would keep it off at its next start.
    settings(dir.path(), &whole.replace("\"points\"", "\"points\", \"hall-1\""));
    says(check(), false, &["witness hall-1: no answer", "the master target hall-1", "every witness has to"]);
    settings(dir.path(), &whole.replace("dr.example", "other.example"));
    says(check(), false, &["dr.example.test:7443 is a name", "pin it in guard.hosts"]);
    settings(dir.path(), &guarded(&lan, "eno9"));
    says(check(), false, &["network: the adapter eno9 is not there"]);

    // A guard that is started anew asks through the network that stands, and leaves it alone.
    settings(dir.path(), &whole);
    says(runs(&lan, &config, &["guard"]), true, &["through the network that stands", "takes part"]);
    assert_eq!(lan.addresses().iter().filter(|a| *a == "10.91.0.7").count(), 1, "{:?}", lan.addresses());

    // A name by which no witness would tell of it.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("name = \"web-1\"", "name = \"web-2\"")).unwrap();
    for arguments in [&["check"][..], &["guard", "--check"], &["run"]] {
        says(
            runs(&lan, &config, arguments),
            false,
            &["server.name is \"web-2\"", "agent/web-1", "agent/web-2"],
        );
    }
    side.end_one();
    side.end_one();
}

/// A guard that is at it; ends with its owner.
struct Running(Child, Receiver<String>);

impl Running {
    fn start(lan: &Lan, config: &Path) -> Self {
        let mut command = on(lan, config, &["guard"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, told) = mpsc::channel();
        let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines = |from: Box<dyn std::io::Read + Send>, tell: mpsc::Sender<String>| {
            std::thread::spawn(move || {
                BufReader::new(from).lines().map_while(std::io::Result::ok).try_for_each(|l| tell.send(l))
            });
        };
        lines(Box::new(out), tell.clone());
        lines(Box::new(errors), tell);
        Self(child, told)
    }

    /// Until it says this.
    fn says(&self, part: &str) {
        let mut all = vec![];
        while !all.last().is_some_and(|line: &String| line.contains(part)) {
            all.push(self.1.recv_timeout(SOON).unwrap_or_else(|e| panic!("{part}: {e}: {all:#?}")));
        }
    }

    fn ends_well(mut self) {
        self.says("this server takes part: ");
        // Its output ends with it.
        while self.1.recv_timeout(SOON).is_ok() {}
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn s2_what_is_in_the_way_is_tried_again_in_one_process() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let (lan, dir) = (Lan::new(), tempfile::tempdir().unwrap());
    let mut side = OtherSide::of(&lan, dir.path());
    let (ran, said) = runs(&lan, &settings(dir.path(), ""), &["guard"]);
    assert!(ran && said.contains("no table [guard]"), "{said}");

    let config = settings(dir.path(), "[guard]\nwitnesses = [\"points\"]\n");
    let guard = Running::start(&lan, &config);
    guard.says("guard.network is absent");
    settings(dir.path(), "[guard]\nwitnesses = [");
    guard.says("agent.toml, line ");
    settings(dir.path(), &guarded(&lan, "eno9"));
    guard.says("the adapter eno9 is not there, or not yet");
    side.records(&recovered(), 7).await;
    ip(&["-n", &lan.server, "link", "set", "eno1", "name", "eno9"]);
    guard.says("stays off the network: web-1-recovered at cloud has write authority");
    assert!(lan.addresses().is_empty());
    side.records(&original(), 9).await;
    guard.ends_well();

    // A person answers for it, and whatever is wrong is no obstacle.
    settings(dir.path(), &guarded(&lan, "eno7"));
    let guard = Running::start(&lan, &config);
    guard.says("--lift NAME --reason TEXT");
    let (ran, said) = runs(&lan, &config, &["guard", "--lift", "anna", "--reason", "the adapter burnt"]);
    assert!(ran, "{said}");
    guard.ends_well();
    side.end_one();
    side.end_one();
}
