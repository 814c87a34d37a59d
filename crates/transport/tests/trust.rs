//! Who is let in: both sides show a certificate of the authority that the other one names, or nothing is said.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use site_recovery_transport::*;
use std::time::Duration;
use support::*;

/// What comes of a call between these two.
async fn outcome(server: ServerTls, client: ClientTls) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls { server, client };
    let server = serve(&tls, points(dir.path())).await;
    let patience = Duration::from_secs(20);
    let far =
        remote(&tls, server.address()).patience(patience).lazy(points(dir.path()).capability()).unwrap();
    let error = tokio::time::timeout(SOON, far.machines()).await.expect("in time").expect_err("not let in");
    server.stop(SOON).await;
    error
}

fn denied(error: &Error, why: &str) {
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!error.is_temporary() && error.message().contains(why), "{error}");
}

#[tokio::test]
async fn c2_a_server_of_another_authority_of_the_same_name_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server_tls(&theirs.issue("localhost"), &ours);
    denied(&outcome(server, client_tls(&ours.issue("ps"), &ours, "localhost")).await, "BadSignature");
}

#[tokio::test]
async fn c2_a_client_of_another_authority_of_the_same_name_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server_tls(&ours.issue("localhost"), &ours);
    denied(&outcome(server, client_tls(&theirs.issue("ps"), &ours, "localhost")).await, "DecryptError");
}

#[tokio::test]
async fn c2_a_server_of_another_name_is_refused() {
    let ca = Authority::new();
    let server = server_tls(&ca.issue("elsewhere"), &ca);
    denied(&outcome(server, client_tls(&ca.issue("ps"), &ca, "localhost")).await, "not valid for name");
}

#[tokio::test]
async fn c2_what_has_expired_is_refused_on_both_sides() {
    let ca = Authority::new();
    let server = server_tls(&ca.issue_expired("localhost"), &ca);
    denied(&outcome(server, client_tls(&ca.issue("ps"), &ca, "localhost")).await, "expired");
    let server = server_tls(&ca.issue("localhost"), &ca);
    denied(&outcome(server, client_tls(&ca.issue_expired("ps"), &ca, "localhost")).await, "xpired");
}

/// Talks TLS by rustls itself, in a way that our own client cannot be told to.
async fn knock(server: &Server, config: rustls::ClientConfig) -> std::io::Result<usize> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stream = tokio::net::TcpStream::connect(server.address()).await?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut secure = connector.connect("localhost".try_into().unwrap(), stream).await?;
    secure.write_all(&[0; 16]).await?;
    secure.read(&mut [0; 16]).await
}

#[tokio::test]
async fn c2_without_a_certificate_or_with_an_older_tls_nobody_is_let_in() {
    use rustls::pki_types::pem::PemObject;
    let ca = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    let pem = ca.pem();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let config = |version| {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"site-recovery-transport".to_vec()];
        config
    };
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls { server: server_tls(&ca.issue("localhost"), &ca), client: Tls::new().client };
    let server = serve(&tls, points(dir.path())).await;
    let error = knock(&server, config(&rustls::version::TLS13)).await.expect_err("not let in");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    let error = knock(&server, config(&rustls::version::TLS12)).await.expect_err("not let in");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    server.stop(SOON).await;
}

#[test]
fn what_is_no_certificate_is_named() {
    let ca = Authority::new();
    let id = ca.issue("x");
    let (certificate, key, ca) = (id.certificate.as_bytes(), id.key.as_bytes(), ca.pem());
    let field = |error: Error| error.fact("field").unwrap().to_owned();
    assert_eq!(field(ServerTls::new(b"", key, ca.as_bytes()).unwrap_err()), "certificate");
    assert_eq!(field(ServerTls::new(certificate, b"no", ca.as_bytes()).unwrap_err()), "key");
    assert_eq!(field(ServerTls::new(certificate, key, b"").unwrap_err()), "client_ca");
    assert_eq!(field(ClientTls::new(certificate, key, b"", "x").unwrap_err()), "ca");
    assert_eq!(field(ClientTls::new(certificate, key, ca.as_bytes(), "not a name").unwrap_err()), "name");
}

#[test]
fn c1_no_key_is_in_what_is_printed() {
    let ca = Authority::new();
    let id = ca.issue("x");
    let secret = id.key.lines().nth(1).unwrap().to_owned();
    let printed = format!("{:?} {:?}", server_tls(&id, &ca), client_tls(&id, &ca, "x"));
    assert!(!printed.contains(&secret) && printed.len() < 200, "{printed}");
}
