//! TLS for both sides: certificates and keys as PEM. It is required or off, never tried.

use crate::address::Stream;
use crate::fault::Fault;
use crate::fault::Result;
use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConfig, ServerConfig};
use site_recovery_tls::{Clients, Identity, Trust, server_name};
use std::fmt;
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A server's certificate, and whom it lets in.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    mutual: bool,
}

impl ServerTls {
    /// Serves clients that show a certificate of `client_ca`. All are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn mutual(certificate: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Self> {
        Self::with(certificate, key, Clients::Of(client_ca))
    }

    /// Serves any client: whoever connects may read. On loopback alone.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn anyone(certificate: &[u8], key: &[u8]) -> Result<Self> {
        Self::with(certificate, key, Clients::Anyone)
    }

    fn with(certificate: &[u8], key: &[u8], clients: Clients<'_>) -> Result<Self> {
        let config = site_recovery_tls::server(ALL_VERSIONS, Identity { certificate, key }, clients)?;
        Ok(Self { config: Arc::new(config), mutual: matches!(clients, Clients::Of(_)) })
    }

    pub(crate) fn is_mutual(&self) -> bool {
        self.mutual
    }

    pub(crate) async fn accept(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, Fault> {
        let secure = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await;
        Ok(Box::new(secure.map_err(Fault::Tls)?))
    }
}

/// Whom a client trusts, and what it shows.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    trust: Trusted,
}

/// As PEM, since what is shown comes later.
#[derive(Clone)]
enum Trusted {
    Authority(Vec<u8>),
    Certificate(Vec<u8>),
}

impl ClientTls {
    /// Trusts servers with a certificate of this authority (PEM) for `name`, a DNS name or an IP address.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn ca(ca: &[u8], name: &str) -> Result<Self> {
        Self::new(Trusted::Authority(ca.to_vec()), name)
    }

    /// Trusts the one server that holds the key of this very certificate (PEM), whatever name and dates it bears.
    ///
    /// # Errors
    /// `Invalid` where it is not one certificate.
    pub fn pinned(certificate: &[u8]) -> Result<Self> {
        Self::new(Trusted::Certificate(certificate.to_vec()), "pinned.invalid")
    }

    /// Shows this certificate to a server that asks for one. Both are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn identity(mut self, certificate: &[u8], key: &[u8]) -> Result<Self> {
        self.config = Arc::new(self.trust.config(Some(Identity { certificate, key }))?);
        Ok(self)
    }

    fn new(trust: Trusted, name: &str) -> Result<Self> {
        Ok(Self { config: Arc::new(trust.config(None)?), name: server_name(name)?, trust })
    }

    pub(crate) async fn connect(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, Fault> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(Box::new(connector.connect(self.name.clone(), stream).await.map_err(Fault::Tls)?))
    }
}

impl Trusted {
    fn config(&self, identity: Option<Identity<'_>>) -> Result<ClientConfig> {
        let trust = match self {
            Self::Authority(pem) => Trust::Authority(pem),
            Self::Certificate(pem) => Trust::Certificate(pem),
        };
        site_recovery_tls::client(ALL_VERSIONS, trust, identity)
    }
}

// By hand: a key belongs in no log.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("mutual", &self.mutual).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}
