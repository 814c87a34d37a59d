//! TLS 1.3 with certificates of both sides. There is no other way in, and no way to skip a check.

use crate::allow::Shown;
use crate::enrol::{Revoked, Serial, Service, valid};
use crate::fault::{Fault, Result};
use crate::message::ALPN;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use site_recovery::{Clock, Timestamp};
use site_recovery_tls::{Clients, Identity, Trust, server_name};
use std::fmt;
use std::sync::Arc;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Read from the socket at a time: rustls itself asks for 4 KiB.
const READ_AT_ONCE: usize = 64 * 1024;
/// Encrypted at a time.
const WRITE_AT_ONCE: usize = 64 * 1024;

pub(crate) type Secure = TlsStream<BufReader<TcpStream>>;

/// What is spoken on a connection. Both are served on one port: the handshake names it (ALPN), so that no other service of
/// the same authority is taken for this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    /// Frames: bytes of disks.
    Data,
    /// HTTP/2: calls.
    Control,
}

/// What a server shows, and whom it lets in: clients with a certificate of its authority. Of
/// [`Credentials`](crate::enrol::Credentials) it is always the newest certificate, and those that are revoked are not let in.
#[derive(Clone)]
pub struct ServerTls {
    serves: watch::Sender<Serves>,
    revoked: watch::Sender<Arc<Revoked>>,
}

/// What a client shows, and whom it trusts: the server of this name, with a certificate of its authority. Of
/// [`Credentials`](crate::enrol::Credentials) it is always the newest certificate, and a server whose own is revoked is not trusted.
#[derive(Clone)]
pub struct ClientTls {
    asks: watch::Sender<Asks>,
    name: ServerName<'static>,
}

/// Whose the certificate is, and until when it counts, where that is known.
pub(crate) type Own = Option<(Service, Timestamp, Arc<dyn Clock>)>;

/// As a server, by one certificate.
#[derive(Clone)]
pub(crate) struct Serves {
    config: Arc<ServerConfig>,
    own: Own,
    pub(crate) serial: Option<Serial>,
}

/// As a client, by one certificate.
#[derive(Clone)]
pub(crate) struct Asks {
    pub(crate) config: Arc<ClientConfig>,
    own: Own,
}

impl Plane {
    const ALL: [Self; 2] = [Self::Data, Self::Control];

    /// Its name in the handshake.
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Data => ALPN,
            Self::Control => b"h2",
        }
    }
}

impl Serves {
    pub(crate) fn new(mut config: ServerConfig, own: Own, serial: Option<Serial>) -> Self {
        config.alpn_protocols = Plane::ALL.map(|plane| plane.alpn().to_vec()).into();
        Self { config: Arc::new(config), own, serial }
    }
}

impl Asks {
    pub(crate) fn new(config: ClientConfig, own: Own) -> Self {
        Self { config: Arc::new(config), own }
    }
}

/// Why nobody would take the own certificate.
fn expired(own: &Own) -> Result<(), Fault> {
    match own {
        Some((service, until, clock)) => valid(service, *until, clock.now()).map_err(Fault::Unwelcome),
        None => Ok(()),
    }
}

impl ServerTls {
    /// Serves clients that show a certificate of `client_ca` with this one of its own. All are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn new(certificate: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Self> {
        let identity = Identity { certificate, key };
        let config = site_recovery_tls::server(&[&TLS13], identity, Clients::Of(client_ca))?;
        Ok(Self::live(watch::Sender::new(Serves::new(config, None, None)), watch::Sender::default()))
    }

    pub(crate) fn live(serves: watch::Sender<Serves>, revoked: watch::Sender<Arc<Revoked>>) -> Self {
        Self { serves, revoked }
    }

    /// The certificates that are revoked, as far as is known here: whoever serves a connection for long looks whether its
    /// client's is among them, whenever this changes. Without [`Credentials`](crate::enrol::Credentials) it never does.
    pub fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    /// The connection, who it is, and what it wants to speak.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<(Secure, Shown, Plane), Fault> {
        let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
        let serves = self.serves.borrow().clone();
        expired(&serves.own)?;
        let mut secure = TlsAcceptor::from(serves.config).accept(stream).await.map_err(Fault::Tls)?;
        secure.get_mut().1.set_buffer_limit(Some(WRITE_AT_ONCE));
        let session = secure.get_ref().1;
        let asked = Plane::ALL.into_iter().find(|plane| session.alpn_protocol() == Some(plane.alpn()));
        let plane = asked.ok_or_else(|| Fault::protocol("the client asks for another service"))?;
        let shown = session.peer_certificates().and_then(<[_]>::first).map(Shown::of);
        let shown = shown.ok_or_else(|| Fault::protocol("the client shows no certificate"))?;
        Ok((secure.into(), shown, plane))
    }
}

impl ClientTls {
    /// Trusts a server with a certificate of `ca` for `name`, a DNS name or an IP address, and shows it `certificate`. All
    /// but the name are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn new(certificate: &[u8], key: &[u8], ca: &[u8], name: &str) -> Result<Self> {
        let identity = Identity { certificate, key };
        let config = site_recovery_tls::client(&[&TLS13], Trust::Authority(ca), Some(identity))?;
        Self::live(watch::Sender::new(Asks::new(config, None)), name)
    }

    pub(crate) fn live(asks: watch::Sender<Asks>, name: &str) -> Result<Self> {
        Ok(Self { asks, name: server_name(name)? })
    }

    /// The connection, to speak `plane` on.
    pub(crate) async fn connect(&self, stream: TcpStream, plane: Plane) -> Result<Secure, Fault> {
        let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
        let asks = self.asks.borrow().clone();
        expired(&asks.own)?;
        let connector = TlsConnector::from(asks.config);
        let connector = connector.with_alpn(vec![plane.alpn().to_vec()]);
        let secure = connector.connect(self.name.clone(), stream).await;
        // What is not about certificates may pass: somebody hung up.
        let mut secure = secure.map_err(Fault::from)?;
        if secure.get_ref().1.alpn_protocol() != Some(plane.alpn()) {
            return Err(Fault::protocol("the server speaks another service"));
        }
        secure.get_mut().1.set_buffer_limit(Some(WRITE_AT_ONCE));
        Ok(secure.into())
    }
}

// By hand: a key belongs in no log.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Serves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serves").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
