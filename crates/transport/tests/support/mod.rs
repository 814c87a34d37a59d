//! Certificates, and a store behind a server.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs; a test that cannot go on fails"
)]

pub mod odd;
pub mod shipping;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use site_recovery::*;
use site_recovery_transport::*;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Long beyond what anything here takes, and short enough for a test that fails.
pub const SOON: Duration = Duration::from_secs(30);

/// An authority of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, name: &str) -> Identity {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    pub fn issue_uri(&self, uri: &str) -> Identity {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
        self.sign(params)
    }

    pub fn issue_expired(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Both sides of one authority; the server is called `localhost`.
#[derive(Clone)]
pub struct Tls {
    pub server: ServerTls,
    pub client: ClientTls,
}

impl Tls {
    pub fn new() -> Self {
        let ca = Authority::new();
        let (server, client) = (ca.issue("localhost"), ca.issue("process-server"));
        Self { server: server_tls(&server, &ca), client: client_tls(&client, &ca, "localhost") }
    }
}

pub fn server_tls(identity: &Identity, ca: &Authority) -> ServerTls {
    ServerTls::new(identity.certificate.as_bytes(), identity.key.as_bytes(), ca.pem().as_bytes()).unwrap()
}

pub fn client_tls(identity: &Identity, ca: &Authority, name: &str) -> ClientTls {
    ClientTls::new(identity.certificate.as_bytes(), identity.key.as_bytes(), ca.pem().as_bytes(), name)
        .unwrap()
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn points(path: &Path) -> Arc<site_recovery_points::Points> {
    let points = site_recovery_points::Points::directory("store".into(), path, Arc::new(SystemClock));
    Arc::new(points.unwrap())
}

pub async fn serve(tls: &Tls, store: Arc<dyn RecoveryPointStore>) -> Server {
    Server::builder(tls.server.clone()).store(store).listen(loopback()).await.unwrap()
}

pub fn remote(tls: &Tls, address: SocketAddr) -> RemoteBuilder<RemoteStore> {
    RemoteStore::builder(address.to_string(), "store".into(), tls.client.clone())
}
