//! Peers that break the rules, on both sides.

use crate::odd_source::{OddSource, instance};
use crate::support::odd::ByHand;
use crate::support::*;
use crate::wire::control_client::ControlClient;
use crate::wire::control_server::{Control, ControlServer};
use crate::wire::{Answer, Call, Hello, Welcome, answer};
use hyper_util::rt::TokioIo;
use site_recovery::*;
use site_recovery_transport::{Limits, RemoteSource, Server};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

async fn served(hand: &ByHand) -> Server {
    let limits = Limits { handshake: Duration::from_millis(800), ..Limits::default() };
    let server = Server::builder(hand.tls.server.clone()).source(Arc::new(OddSource::default()));
    server.limits(limits).listen(loopback()).await.unwrap()
}

async fn is_well(hand: &ByHand, server: SocketAddr) {
    let far = RemoteSource::builder(server.to_string(), "hall".into(), hand.tls.client.clone());
    let far = far.connect().await.unwrap();
    assert_eq!(far.power(&instance()).await.unwrap(), Power::Unknown);
}

/// A client that speaks gRPC and says what it likes.
async fn client(hand: &ByHand, server: SocketAddr) -> ControlClient<Channel> {
    let mut stream = Some(TokioIo::new(hand.client_of(server, b"h2").await.0));
    let once = tower::service_fn(move |_| std::future::ready(stream.take().ok_or(std::fmt::Error)));
    ControlClient::new(Endpoint::from_static("http://there").connect_with_connector(once).await.unwrap())
}

fn hello(oldest: u32, newest: u32) -> Hello {
    let (role, kind, client) = ("hall".into(), "source".into(), "by hand".into());
    Hello { oldest, newest, role, kind, client, connection: 1 }
}

fn call(id: u64, body: &str) -> Call {
    Call { id, given_up: vec![], body: body.as_bytes().to_vec() }
}

const POWER: &str =
    r#"{"Source":{"Power":{"instance":{"machine":"web","site":"hall","name":"web-1","generation":0}}}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_cuts_its_peer_off_and_harms_nobody() {
    let hand = ByHand::new();
    let server = served(&hand).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let cases: [(&str, Vec<u8>); 6] = [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("noise", (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("a frame that is too long", [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]].concat()),
        ("headers of no stream", [&preface[..], &[0, 0, 1, 1, 4, 0, 0, 0, 0, 0]].concat()),
        ("the beginning of a preface", preface[..10].to_vec()),
        ("nothing", vec![]),
    ];
    for (what, bytes) in cases {
        let mut peer = hand.client_of(server.address(), b"h2").await;
        let _ = peer.say(&bytes).await;
        let ends = async {
            let mut rest = vec![];
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut peer.0, &mut rest).await;
        };
        tokio::time::timeout(SOON, ends).await.unwrap_or_else(|_| panic!("{what} is put up with"));
    }
    is_well(&hand, server.address()).await;
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_the_rules_of_calls_is_cut_off() {
    let hand = ByHand::new();
    let server = served(&hand).await;
    for (what, greets, body) in [
        ("a call before a greeting", false, POWER.to_owned()),
        ("a call that is none", true, r#"{"Explode":{}}"#.to_owned()),
        ("no JSON", true, "\u{fffd}".to_owned()),
        ("deep JSON", true, "[".repeat(100_000)),
    ] {
        let mut peer = client(&hand, server.address()).await;
        if greets {
            peer.greet(hello(1, 1)).await.unwrap();
        }
        peer.r#do(call(1, &body)).await.expect_err(what);
        peer.r#do(call(2, POWER)).await.expect_err(what);
    }
    let mut peer = client(&hand, server.address()).await;
    peer.greet(hello(1, 1)).await.unwrap();
    peer.greet(hello(1, 1)).await.expect_err("a second greeting");
    is_well(&hand, server.address()).await;
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_a_role_is_the_answer_to_its_call_alone() {
    let hand = ByHand::new();
    let server = served(&hand).await;
    let far = RemoteSource::builder(server.address().to_string(), "hall".into(), hand.tls.client.clone());
    let far = far.connect().await.unwrap();
    let error = far.discover().await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the role panicked over this call"));
    assert_eq!(far.power(&instance()).await.unwrap(), Power::Unknown);
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_is_told_apart() {
    let hand = ByHand::new();
    let server = served(&hand).await;
    let connect = async |name: &str| {
        let address = server.address().to_string();
        let far = RemoteSource::builder(address, name.into(), hand.tls.client.clone());
        far.connect().await.map(|_| ()).unwrap_err().kind()
    };
    assert_eq!(connect("cellar").await, ErrorKind::NotFound);
    let address = server.address().to_string();
    let tls = hand.tls.client.clone();
    let target = site_recovery_transport::RemoteTarget::builder(address, "hall".into(), tls).connect().await;
    let error = target.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("not as a target"), "{error}");
    server.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o9_an_older_client_is_served_and_a_newer_one_refused_with_both_versions_named() {
    let hand = ByHand::new();
    let server = served(&hand).await;
    // One of the future that still speaks the version of today.
    let mut peer = client(&hand, server.address()).await;
    let welcome = peer.greet(hello(1, 9)).await.unwrap().into_inner();
    assert_eq!(welcome.version, 1);
    let answer = peer.r#do(call(1, POWER)).await.unwrap().into_inner();
    assert_eq!(answer.outcome, Some(answer::Outcome::Done(br#""Unknown""#.to_vec())));
    let mut peer = client(&hand, server.address()).await;
    let status = peer.greet(hello(7, 9)).await.unwrap_err();
    let told = String::from_utf8_lossy(status.details()).into_owned();
    assert!(told.contains("1 to 1") && told.contains("7 to 9"), "{told}");
    is_well(&hand, server.address()).await;
    server.stop(SOON).await;
}

/// A server of a version that nobody knows yet.
struct OfTheFuture;

#[tonic::async_trait]
impl Control for OfTheFuture {
    async fn greet(&self, _: Request<Hello>) -> std::result::Result<Response<Welcome>, Status> {
        let capability = serde_json::to_vec(&Capability::default()).unwrap();
        Ok(Response::new(Welcome { version: 7, capability, now: 0 }))
    }
    async fn r#do(&self, _: Request<Call>) -> std::result::Result<Response<Answer>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o9_a_server_that_speaks_an_unknown_version_is_unsupported_with_both_named() {
    let hand = ByHand::new();
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        let peer = hand.server_of(&listener, b"h2").await;
        let http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let service = hyper_util::service::TowerToHyperService::new(ControlServer::new(OfTheFuture));
        let _ = http.serve_connection(TokioIo::new(peer.0), service).await;
    };
    let connecting = async {
        let far = RemoteSource::builder(address.to_string(), "hall".into(), hand.tls.client.clone());
        far.connect().await.map(|_| ()).unwrap_err()
    };
    let (error, ()) = tokio::join!(connecting, serving);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("1 to 1") && error.message().contains("7 to 7"), "{error}");
}
