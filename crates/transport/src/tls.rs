//! TLS 1.3 with certificates of both sides. There is no other way in, and no way to skip a check.

use crate::allow::Shown;
use crate::fault::{Fault, Result};
use crate::message::ALPN;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use site_recovery::Error;
use std::fmt;
use std::sync::Arc;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Read from the socket at a time: rustls itself asks for 4 KiB.
const READ_AT_ONCE: usize = 64 * 1024;
/// Encrypted at a time.
const WRITE_AT_ONCE: usize = 64 * 1024;

pub(crate) type Secure = TlsStream<BufReader<TcpStream>>;

/// What a server shows, and whom it lets in: clients with a certificate of its authority.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

/// What a client shows, and whom it trusts: the server of this name, with a certificate of its authority.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ServerTls {
    /// Serves clients that show a certificate of `client_ca` with this one of its own. All are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn new(certificate: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Self> {
        let roots = roots("client_ca", client_ca)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|e| unusable("client_ca", e))?;
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let builder = builder.map_err(|e| unusable("tls", e))?.with_client_cert_verifier(verifier);
        let config = builder.with_single_cert(certificates("certificate", certificate)?, private_key(key)?);
        let mut config = config.map_err(|e| unusable("certificate", e))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session that is resumed would be let in by a certificate that was looked at long ago.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self(Arc::new(config)))
    }

    /// The connection, and who it is.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<(Secure, Shown), Fault> {
        let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
        let mut secure = TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await.map_err(Fault::Tls)?;
        secure.get_mut().1.set_buffer_limit(Some(WRITE_AT_ONCE));
        let session = secure.get_ref().1;
        if session.alpn_protocol() != Some(ALPN) {
            return Err(Fault::protocol("the client asks for another service"));
        }
        let shown = session.peer_certificates().and_then(<[_]>::first).map(Shown::of);
        let shown = shown.ok_or_else(|| Fault::protocol("the client shows no certificate"))?;
        Ok((secure.into(), shown))
    }
}

impl ClientTls {
    /// Trusts a server with a certificate of `ca` for `name`, a DNS name or an IP address, and shows it `certificate`. All
    /// but the name are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn new(certificate: &[u8], key: &[u8], ca: &[u8], name: &str) -> Result<Self> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots("ca", ca)?, provider()).build();
        let verifier = verifier.map_err(|e| unusable("ca", e))?;
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let builder = builder.map_err(|e| unusable("tls", e))?.with_webpki_verifier(verifier);
        let config =
            builder.with_client_auth_cert(certificates("certificate", certificate)?, private_key(key)?);
        let mut config = config.map_err(|e| unusable("certificate", e))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(name.to_owned()).map_err(|e| unusable("name", e))?;
        Ok(Self { config: Arc::new(config), name })
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> Result<Secure, Fault> {
        let stream = BufReader::with_capacity(READ_AT_ONCE, stream);
        let secure = TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await;
        // What is not about certificates may pass: somebody hung up.
        let mut secure = secure.map_err(Fault::from)?;
        secure.get_mut().1.set_buffer_limit(Some(WRITE_AT_ONCE));
        Ok(secure.into())
    }
}

/// Named here, since a program may link several and then has no default one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|e| unusable(field, e))?;
    if found.is_empty() {
        return Err(Error::invalid(field, "without a certificate", "it is PEM", "give the certificate"));
    }
    Ok(found)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| unusable("key", e))
}

fn roots(field: &'static str, pem: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(field, pem)? {
        roots.add(certificate).map_err(|e| unusable(field, e))?;
    }
    Ok(Arc::new(roots))
}

fn unusable(field: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let rule = "a certificate, key or name that TLS can use, as PEM";
    Error::invalid(field, "not usable", rule, "give another one").caused_by(error)
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
