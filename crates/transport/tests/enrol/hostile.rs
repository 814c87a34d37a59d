//! Strangers at the authority's port: they are cut off, and harm nobody.

use crate::support::SOON;
use crate::world::*;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use site_recovery::*;
use site_recovery_transport::enrol::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn limits() -> EnrolmentLimits {
    EnrolmentLimits {
        strangers: 4,
        members: 4,
        handshake: Duration::from_millis(500),
        connection: Duration::from_secs(3),
    }
}

async fn is_well(world: &World, name: &str) {
    let credentials = world.joined(&agent(name)).await;
    credentials.renew().await.unwrap();
    credentials.refresh_revoked().await.unwrap();
}

/// Whether the other side hangs up, in time.
async fn cut_off(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut bytes = vec![0; 4096];
    let ends = async { while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(SOON, ends).await.expect("it is cut off");
}

/// TLS by rustls itself, in a way that our own service cannot be told to.
fn config(
    world: &World,
    alpn: &[u8],
    version: &'static rustls::SupportedProtocolVersion,
) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(world.authority.certificate().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn knock(
    world: &World,
    config: rustls::ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.server.address()).await?;
    let name = ServerName::try_from("site.authority.site-recovery.internal").unwrap();
    let mut secure = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    secure.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    secure.flush().await?;
    // In TLS 1.3 a client hears only now that its certificate was wanted.
    let mut first = [0; 9];
    secure.read_exact(&mut first).await?;
    Ok(secure)
}

#[tokio::test]
async fn c2_an_older_tls_no_certificate_and_other_services_are_refused() {
    let world = World::now().await;
    let (tls13, tls12) = (&rustls::version::TLS13, &rustls::version::TLS12);
    knock(&world, config(&world, b"site-recovery-join", tls13)).await.expect("strangers may ask to join");
    for (alpn, version, why) in [
        (&b"site-recovery-join"[..], tls12, "ProtocolVersion"),
        (b"site-recovery-member", tls12, "ProtocolVersion"),
        (b"site-recovery-member", tls13, "CertificateRequired"),
        (b"h2", tls13, "NoApplicationProtocol"),
    ] {
        let error = knock(&world, config(&world, alpn, version)).await.expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
    is_well(&world, "web-1").await;
    world.server.stop().await;
}

#[tokio::test]
async fn c2_garbage_is_cut_off_and_harms_nobody() {
    let world = World::with(Arc::new(SystemClock), limits()).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0xff; 70_000], b"\x16\x03\x01\xff\xff"] {
        let mut stream = TcpStream::connect(world.server.address()).await.unwrap();
        let _ = stream.write_all(garbage).await;
        cut_off(&mut stream).await;
    }
    // Behind a handshake, too: no HTTP/2, frames without end, a connection that says nothing more.
    for garbage in [&[0xff; 4096][..], b"\0\0\x10\x01\x04\0\0\0\x01", b""] {
        let config = config(&world, b"site-recovery-join", &rustls::version::TLS13);
        let mut secure = knock(&world, config).await.unwrap();
        let _ = secure.write_all(garbage).await;
        cut_off(&mut secure).await;
    }
    is_well(&world, "web-1").await;
    world.server.stop().await;
}

#[tokio::test]
async fn c2_strangers_who_never_get_on_with_it_keep_nobody_out() {
    let world = World::with(Arc::new(SystemClock), limits()).await;
    let mut idle = vec![];
    for n in 0..20 {
        idle.push(TcpStream::connect(world.server.address()).await.unwrap());
        if n % 10 == 9 {
            is_well(&world, &format!("web-{n}")).await;
        }
    }
    for stream in &mut idle {
        cut_off(stream).await;
    }
    world.server.stop().await;
}

#[test]
fn limits_out_of_bounds_are_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fine = limits();
    for (field, limits) in [
        ("strangers", EnrolmentLimits { strangers: 0, ..fine }),
        ("members", EnrolmentLimits { members: 4097, ..fine }),
        ("handshake", EnrolmentLimits { handshake: Duration::ZERO, ..fine }),
        ("connection", EnrolmentLimits { connection: Duration::MAX, ..fine }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path().join("a"), Arc::new(SystemClock)).unwrap();
        let listens = EnrolmentServer::listen(authority, "127.0.0.1:0".parse().unwrap(), limits);
        assert_eq!(runtime.block_on(listens).unwrap_err().fact("field"), Some(field));
    }
}
