//! A server, and the other side of its network, in network name spaces: what is asked, and what the server's own stack has
//! meanwhile.

use crate::records::*;
use crate::support::is_here;
use async_trait::async_trait;
use site_recovery::state::Phase;
use site_recovery::*;
use site_recovery_physical::guard::{Ask, AskingNetwork, Guard, Leave, Mark};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) fn ip(arguments: &[&str]) -> String {
    let ran = Command::new("ip").args(arguments).output().unwrap();
    assert!(ran.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// Two name spaces with a cable between them; gone when this is dropped.
pub(crate) struct Lan {
    pub(crate) server: String,
    pub(crate) other: String,
    pub(crate) guard: String,
}

impl Lan {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let name = |what: &str| format!("sr-{what}-{id}");
        let lan = Self { server: name("server"), other: name("other"), guard: name("guard") };
        let (server, other) = (lan.server.as_str(), lan.other.as_str());
        ip(&["netns", "add", server]);
        ip(&["netns", "add", other]);
        let cable =
            ["link", "add", "eno1", "netns", server, "type", "veth", "peer", "name", "far", "netns", other];
        ip(&cable);
        ip(&["-n", other, "link", "set", "lo", "up"]);
        ip(&["-n", other, "link", "set", "far", "up"]);
        ip(&["-n", other, "address", "add", "10.91.0.1/24", "dev", "far"]);
        lan
    }

    /// Addresses of the server's own stack.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let told: serde_json::Value =
            serde_json::from_str(&ip(&["-n", &self.server, "-j", "address"])).unwrap();
        let infos = told.as_array().unwrap().iter().filter(|l| l["ifname"] == "eno1");
        let infos = infos.flat_map(|link| link["addr_info"].as_array().unwrap().clone());
        infos.map(|info| info["local"].as_str().unwrap().to_owned()).collect()
    }

    fn network(&self) -> AskingNetwork {
        AskingNetwork {
            adapter: "eno1".into(),
            address: "10.91.0.250/24".into(),
            gateway: Some("10.91.0.1".into()),
            namespace: self.guard.clone(),
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in [&self.guard, &self.server, &self.other] {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

/// Runs something on a thread that is in a name space.
pub(crate) fn within<T: Send + 'static>(
    space: &str,
    f: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = std::fs::File::open(format!("/run/netns/{space}")).unwrap();
    std::thread::spawn(move || {
        let network = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(network)).unwrap();
        f()
    })
}

/// Answers one question after the other over the cable with these bytes, and tells who asked: a fake of the wire.
struct FakeWire {
    asked: Arc<Mutex<Vec<SocketAddr>>>,
    port: u16,
}

impl FakeWire {
    fn in_space(space: &str, answer: Vec<u8>) -> Self {
        let listener = within(space, || TcpListener::bind("10.91.0.1:0").unwrap()).join().unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(vec![]));
        std::thread::spawn({
            let asked = Arc::clone(&asked);
            move || {
                for stream in listener.incoming().map_while(std::result::Result::ok).take(64) {
                    let (mut stream, mut question) = (stream, [0; 4096]);
                    asked.lock().unwrap().push(stream.peer_addr().unwrap());
                    let _ = stream.read(&mut question).and_then(|_| stream.write_all(&answer));
                }
            }
        });
        Self { asked, port }
    }

    fn ask(&self) -> Arc<dyn Ask> {
        Arc::new(OverTheCable { port: self.port })
    }
}

#[derive(Debug)]
struct OverTheCable {
    port: u16,
}

#[async_trait]
impl Ask for OverTheCable {
    async fn ask(&self, mark: &Mark) -> Result<Option<PhaseRecord>> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let away = |e: std::io::Error| Error::new(ErrorKind::Unavailable, "nobody is there").caused_by(e);
        let mut stream = tokio::net::TcpStream::connect(("10.91.0.1", self.port)).await.map_err(away)?;
        stream.write_all(&serde_json::to_vec(mark).unwrap()).await.map_err(away)?;
        let mut answer = vec![];
        stream.read_to_end(&mut answer).await.map_err(away)?;
        serde_json::from_slice(&answer)
            .map_err(|e| Error::new(ErrorKind::Corrupt, "the answer makes no sense").caused_by(e))
    }
}

/// What a server does when it starts: it asks, and sets up its network where it may.
fn start(lan: &Lan, ask: Arc<dyn Ask>) -> (Option<Leave>, Vec<String>) {
    let (network, server) = (lan.network(), lan.server.clone());
    let offers = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/eno1/accept_ra").unwrap();
    let before = within(&lan.server, offers).join().unwrap();
    let meanwhile = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&meanwhile);
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_owned();
    let leave = within(&lan.server, move || {
        let asking = network.set_up().unwrap();
        let leave = asking.inside(move || async move {
            let guard = Guard::new(mark(&original()), ask, path, Arc::new(SystemClock));
            let guard = guard.asking(Duration::from_millis(20), Duration::from_millis(500));
            guard.until_it_may(Some(4)).await
        });
        seen.lock().unwrap().push(ip(&["-j", "address", "show", "dev", "eno1"]));
        assert_eq!(offers().trim(), "0", "a router that answers the question gives its own stack no address");
        drop(asking);
        leave.unwrap()
    });
    let leave = leave.join().unwrap();
    let told: serde_json::Value = serde_json::from_str(&meanwhile.lock().unwrap()[0]).unwrap();
    assert_eq!(told[0]["addr_info"], serde_json::json!([]), "its own stack, while it asked");
    assert_eq!(within(&lan.server, offers).join().unwrap(), before, "as it was");
    if leave.is_some() {
        // As whatever sets up the network would.
        ip(&["-n", &server, "address", "add", "10.91.0.7/24", "dev", "eno1"]);
        ip(&["-n", &server, "link", "set", "eno1", "up"]);
    }
    assert!(!std::path::Path::new(&format!("/run/netns/{}", lan.guard)).exists(), "nothing is left of it");
    (leave, lan.addresses())
}

fn answer(active: &Instance) -> Vec<u8> {
    serde_json::to_vec(&Some(record(item(active, Phase::Protected, false)))).unwrap()
}

#[test]
fn s2_a_stale_server_gets_no_address_and_a_current_one_does() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let lan = Lan::new();
    let wire = FakeWire::in_space(&lan.other, answer(&recovered()));
    assert_eq!(start(&lan, wire.ask()), (None, vec![]));
    assert_eq!(wire.asked.lock().unwrap().len(), 4, "it was asked, and asked again");
    let from = wire.asked.lock().unwrap()[0].ip().to_string();
    assert_eq!(from, "10.91.0.250", "by the address that it never serves on");

    let lan = Lan::new();
    let wire = FakeWire::in_space(&lan.other, answer(&original()));
    let (leave, addresses) = start(&lan, wire.ask());
    assert_eq!(leave, Some(Leave::Given));
    assert!(addresses.contains(&"10.91.0.7".to_owned()), "{addresses:?}");
}

#[test]
fn s2_no_answer_and_a_garbled_one_keep_it_off() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let lan = Lan::new();
    let nobody = Arc::new(OverTheCable { port: 1 });
    assert_eq!(start(&lan, nobody), (None, vec![]));
    let mut torn = answer(&original());
    torn.truncate(torn.len() / 2);
    for garbage in [torn, b"\x16\x03\x01".to_vec(), b"true".to_vec(), vec![]] {
        let wire = FakeWire::in_space(&lan.other, garbage);
        assert_eq!(start(&lan, wire.ask()), (None, vec![]));
        assert!(!wire.asked.lock().unwrap().is_empty());
    }
    // And one that says nothing, which is no garbage: nothing was ever failed over.
    let wire = FakeWire::in_space(&lan.other, b"null".to_vec());
    assert_eq!(start(&lan, wire.ask()).0, Some(Leave::Given));
}

#[test]
fn a_guard_that_comes_too_late_says_so_and_one_that_was_killed_is_gone_over() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let lan = Lan::new();
    // What a killed one left.
    let network = lan.network();
    within(&lan.server, move || std::mem::forget(network.set_up().unwrap())).join().unwrap();
    let network = lan.network();
    within(&lan.server, move || {
        let offers = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/eno1/accept_ra").unwrap();
        assert_eq!(offers().trim(), "0");
        drop(network.set_up().unwrap());
        assert_ne!(offers().trim(), "0", "as all adapters have it, and not as the killed one left it");
    })
    .join()
    .unwrap();
    let wire = FakeWire::in_space(&lan.other, answer(&original()));
    assert_eq!(start(&lan, wire.ask()).0, Some(Leave::Given));
    let network = lan.network();
    let error = within(&lan.server, move || network.set_up().map(drop).unwrap_err()).join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let odd = AskingNetwork { adapter: "eno1; reboot".into(), ..lan.network() };
    assert_eq!(odd.set_up().map(drop).unwrap_err().fact("field"), Some("adapter"));
}

#[test]
fn a_network_stands_by_what_is_above_its_adapter_too_and_is_then_left_alone() {
    if !is_here("ip", "the boot guard on a network") {
        return;
    }
    let stands = |lan: &Lan| {
        let network = lan.network();
        within(&lan.server, move || network.stands()).join().unwrap()
    };
    let lan = Lan::new();
    let on = |arguments: &[&str]| ip(&[&["-n", &lan.server], arguments].concat());
    assert!(!stands(&lan).unwrap());
    on(&["link", "set", "eno1", "up"]);
    assert!(!stands(&lan).unwrap(), "up, with what the kernel gave it");
    on(&["link", "add", "link", "eno1", "name", "above", "type", "macvlan"]);
    assert!(!stands(&lan).unwrap(), "a network above it that is not set up");
    on(&["address", "add", "10.92.0.7/24", "dev", "above"]);
    assert!(stands(&lan).unwrap(), "a network above it");
    on(&["link", "delete", "above"]);
    on(&["link", "add", "br0", "type", "bridge"]);
    on(&["link", "set", "eno1", "master", "br0"]);
    assert!(stands(&lan).unwrap(), "the guests of a bridge");
    let network = lan.network();
    let error = within(&lan.server, move || network.set_up().map(drop).unwrap_err()).join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let told: serde_json::Value = serde_json::from_str(&on(&["-j", "link", "show", "dev", "eno1"])).unwrap();
    let flags = told[0]["flags"].as_array().unwrap();
    assert!(flags.iter().any(|flag| flag == "UP"), "it was not taken down: {told}");
    on(&["link", "set", "eno1", "name", "eno8"]);
    let error = stands(&lan).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("eno1 is not there"), "{error}");
}
