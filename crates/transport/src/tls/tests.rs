//! Handshakes over sockets.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;

/// Two that trust each other; the server is called `localhost`.
fn pair() -> (ServerTls, ClientTls) {
    let mut params = CertificateParams::new(vec![]).expect("no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    let issue = |name: &str| {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &ca).expect("signed").pem(), key.serialize_pem())
    };
    let (pem, server, client) = (ca.pem(), issue("localhost"), issue("client"));
    let server = ServerTls::new(server.0.as_bytes(), server.1.as_bytes(), pem.as_bytes());
    let client = ClientTls::new(client.0.as_bytes(), client.1.as_bytes(), pem.as_bytes(), "localhost");
    (server.expect("usable"), client.expect("usable"))
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), server.expect("accepted").0)
}

#[tokio::test]
async fn both_planes_are_served_and_told_apart() {
    let (server, client) = pair();
    for plane in Plane::ALL {
        let (near, far) = connected().await;
        let (asked, accepted) = tokio::join!(client.connect(near, plane), server.accept(far));
        asked.expect("let in");
        assert_eq!(accepted.expect("let in").2, plane);
    }
}

#[tokio::test]
async fn c2_another_service_of_the_same_authority_is_not_taken_for_this_one() {
    let (server, client) = pair();
    let (near, far) = connected().await;
    server.serves.send_modify(|serves| {
        let mut odd = ServerConfig::clone(&serves.config);
        odd.alpn_protocols.clear();
        serves.config = Arc::new(odd);
    });
    let (asked, accepted) = tokio::join!(client.connect(near, Plane::Control), server.accept(far));
    assert!(matches!(asked.err(), Some(Fault::Protocol(_))));
    assert!(matches!(accepted.err(), Some(Fault::Protocol(_))));
}
