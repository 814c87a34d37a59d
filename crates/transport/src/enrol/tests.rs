//! What our own service never says, said to the authority's port.

use super::words::wire::enrolment_client::EnrolmentClient;
use super::words::{error, wire};
use super::*;
use site_recovery::{Clock, ErrorKind, SystemClock};
use std::sync::Arc;

async fn world() -> (tempfile::TempDir, Authority, EnrolmentServer) {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::open(dir.path().join("a"), Arc::new(SystemClock)).expect("made");
    let server = EnrolmentServer::listen(
        authority.clone(),
        "127.0.0.1:0".parse().expect("an address"),
        EnrolmentLimits::default(),
    );
    let server = server.await.expect("it listens");
    (dir, authority, server)
}

async fn asked(
    server: &EnrolmentServer,
    token: &JoinToken,
    request: wire::JoinRequest,
) -> site_recovery::Error {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = handshake::pinned(token.pin, &clock).expect("usable");
    let channel = link::dial(&server.address().to_string(), Arc::new(config)).await.expect("reached");
    error(&EnrolmentClient::new(channel).join(request).await.expect_err("refused"))
}

#[tokio::test]
async fn o9_both_versions_are_named_where_there_is_no_common_one() {
    let (_dir, authority, server) = world().await;
    let service = Service::new(ServiceKind::Agent, "web-1").expect("a label");
    let invitation = Invitation::new(service, server.address().to_string());
    let token = authority.mint(invitation).await.expect("minted");
    let request = |oldest, newest| wire::JoinRequest {
        oldest,
        newest,
        token: token.id.clone(),
        secret: token.secret.to_vec(),
        request: certify::request(&rcgen::KeyPair::generate().expect("a key")).expect("a request"),
        states: None,
    };
    let refused = asked(&server, &token, request(2, 3)).await;
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.message().contains("1 to 1") && refused.message().contains("2 to 3"), "{refused}");
    // What it does not know of a statement is named, and what is too long is not read.
    let roles = vec![wire::ServedRole { kind: "oracle".into(), name: "x".into() }];
    let states = Some(wire::Statement { address: "a:1".into(), roles });
    let refused = asked(&server, &token, wire::JoinRequest { states, ..request(1, 2) }).await;
    assert!(refused.kind() == ErrorKind::Invalid && refused.message().contains("oracle"), "{refused}");
    let long = wire::JoinRequest { request: vec![0; words::LONGEST_ASKED], ..request(1, 1) };
    let refused = asked(&server, &token, long).await;
    assert!(!refused.message().is_empty(), "{refused}");
    // None of this has spent it.
    let dir = tempfile::tempdir().expect("a directory");
    Credentials::at(dir.path().join("c")).join(&token).await.expect("still good");
    server.stop().await;
}

#[test]
fn c1_a_request_with_a_secret_is_not_printed() {
    let secret = vec![0xAB; 32];
    let request = wire::JoinRequest { secret, token: "id".into(), ..Default::default() };
    let printed = format!("{request:?}");
    assert!(printed.contains("id") && !printed.contains("171"), "{printed}");
}
