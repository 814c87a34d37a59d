//! TLS for both sides: certificates and keys as PEM. It is required or off, never tried.

use crate::address::Stream;
use crate::fault::Fault;
use crate::fault::Result;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use site_recovery::Error;
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
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots("client_ca", client_ca)?, provider());
        let verifier = verifier.build().map_err(|e| unusable("client_ca", e))?;
        let builder =
            versions(ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions())?;
        let config = builder.with_client_cert_verifier(verifier);
        let config = config.with_single_cert(certificates("certificate", certificate)?, private_key(key)?);
        Ok(Self { config: Arc::new(config.map_err(|e| unusable("certificate", e))?), mutual: true })
    }

    /// Serves any client: whoever connects may read. On loopback alone.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn anyone(certificate: &[u8], key: &[u8]) -> Result<Self> {
        let builder =
            versions(ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions())?;
        let config = builder.with_no_client_auth();
        let config = config.with_single_cert(certificates("certificate", certificate)?, private_key(key)?);
        Ok(Self { config: Arc::new(config.map_err(|e| unusable("certificate", e))?), mutual: false })
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
    trust: Trust,
    name: ServerName<'static>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
enum Trust {
    Ca(Vec<u8>),
    Pinned(Vec<u8>),
}

impl ClientTls {
    /// Trusts servers with a certificate of this authority (PEM) for `name`, a DNS name or an IP address.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn ca(ca: &[u8], name: &str) -> Result<Self> {
        roots("ca", ca)?;
        Ok(Self { trust: Trust::Ca(ca.to_vec()), name: server_name(name)?, identity: None })
    }

    /// Trusts the one server that holds the key of this very certificate (PEM), whatever name and dates it bears.
    ///
    /// # Errors
    /// `Invalid` where it is not one certificate.
    pub fn pinned(certificate: &[u8]) -> Result<Self> {
        certificates("certificate", certificate)?;
        let name = server_name("pinned.invalid")?;
        Ok(Self { trust: Trust::Pinned(certificate.to_vec()), name, identity: None })
    }

    /// Shows this certificate to a server that asks for one. Both are PEM.
    ///
    /// # Errors
    /// `Invalid`, naming what cannot be used.
    pub fn identity(mut self, certificate: &[u8], key: &[u8]) -> Result<Self> {
        self.identity = Some((certificate.to_vec(), key.to_vec()));
        self.config()?;
        Ok(self)
    }

    fn config(&self) -> Result<ClientConfig> {
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::Ca(ca) => WebPkiServerVerifier::builder_with_provider(roots("ca", ca)?, provider())
                .build()
                .map_err(|e| unusable("ca", e))?,
            Trust::Pinned(pem) => {
                let certificate = certificates("certificate", pem)?.swap_remove(0);
                Arc::new(Pinned { certificate, provider: provider() })
            }
        };
        let builder =
            versions(ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates("certificate", certificate)?, private_key(key)?)
                .map_err(|e| unusable("identity", e)),
        }
    }

    pub(crate) async fn connect(&self, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, Fault> {
        let config = self.config().map_err(|e| Fault::Tls(std::io::Error::other(e)))?;
        let secure = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await;
        Ok(Box::new(secure.map_err(Fault::Tls)?))
    }
}

/// Accepts one certificate. That the peer holds its key is shown by its signature, as ever.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Named here, since a program may link several and then has no default one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions<T>(builder: Result<T, rustls::Error>) -> Result<T> {
    builder.map_err(|e| unusable("tls", e))
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

fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|e| unusable("name", e))
}

fn unusable(field: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let rule = "a certificate, key or name that TLS can use, as PEM";
    Error::invalid(field, "not usable", rule, "give another one").caused_by(error)
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
