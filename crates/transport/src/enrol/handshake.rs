//! TLS 1.3 by the library's clock, against what is revoked at that moment, or against a pin.

use super::digits::sha256;
use super::revoked::Revoked;
use crate::allow::Shown;
use crate::fault::Result;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use site_recovery::{Clock, Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

type Verified<T> = std::result::Result<T, rustls::Error>;
pub(super) type Revocations = watch::Sender<Arc<Revoked>>;

/// The protocol of strangers, who show no certificate.
pub(super) const JOIN: &[u8] = b"site-recovery-join";
/// The protocol of those who do.
pub(super) const MEMBER: &[u8] = b"site-recovery-member";

/// A certificate, its authority's, and its key.
pub(super) struct Shows {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) ca: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Shows {
    /// With the authority's: who joins looks for its pin in there.
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.ca.clone()]
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        roots(&self.ca).map(Arc::new).map_err(unusable)
    }

    /// A server for clients of the same authority, without those whose certificates are revoked.
    pub(super) fn server(&self, clock: &Arc<dyn Clock>, revoked: &Revocations) -> Result<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider()).build();
        let verifier = Unrevoked { inner: verifier.map_err(unusable)?, revoked: revoked.clone() };
        self.serve(clock, Arc::new(verifier))
    }

    /// A server for whoever comes.
    pub(super) fn open_server(&self, clock: &Arc<dyn Clock>) -> Result<ServerConfig> {
        self.serve(clock, WebPkiClientVerifier::no_client_auth())
    }

    fn serve(&self, clock: &Arc<dyn Clock>, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig> {
        let builder = ServerConfig::builder_with_details(provider(), by(clock));
        let builder = builder.with_protocol_versions(&[&TLS13]).map_err(unusable)?;
        let builder = builder.with_client_cert_verifier(verifier);
        let config = builder.with_single_cert(self.chain(), self.key.clone_key());
        let mut config = config.map_err(unusable)?;
        // No session goes on by a certificate that was looked at long ago.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// A client of servers of the same authority, without those whose certificates are revoked.
    pub(super) fn client(&self, clock: &Arc<dyn Clock>, revoked: &Revocations) -> Result<ClientConfig> {
        let inner = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider()).build();
        let inner: Arc<dyn ServerCertVerifier> = inner.map_err(unusable)?;
        let builder = ClientConfig::builder_with_details(provider(), by(clock));
        let builder = builder.with_protocol_versions(&[&TLS13]).map_err(unusable)?.dangerous();
        let builder =
            builder.with_custom_certificate_verifier(Arc::new(Unrevoked { inner, revoked: revoked.clone() }));
        let config = builder.with_client_auth_cert(self.chain(), self.key.clone_key());
        let mut config = config.map_err(unusable)?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// A client without a certificate, of the one authority with this digest.
pub(super) fn pinned(pin: [u8; 32], clock: &Arc<dyn Clock>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_details(provider(), by(clock));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(unusable)?.dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Pinned { pin, provider: provider() }));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![JOIN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Named here, since a program may link several and then has no default one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Verified<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    Ok(roots)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Corrupt, "a certificate or its key cannot be used: join anew").caused_by(error)
}

fn by(clock: &Arc<dyn Clock>) -> Arc<dyn TimeProvider> {
    Arc::new(ByClock(Arc::clone(clock)))
}

#[derive(Debug)]
struct ByClock(Arc<dyn Clock>);

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().0)))
    }
}

/// Looks at what is revoked once all else is in order.
#[derive(Debug)]
struct Unrevoked<V: ?Sized> {
    revoked: Revocations,
    inner: Arc<V>,
}

impl<V: ?Sized> Unrevoked<V> {
    fn check(&self, certificate: &CertificateDer<'_>) -> Verified<()> {
        match Shown::of(certificate).serial() {
            Some(serial) if !self.revoked.borrow().contains(serial) => Ok(()),
            Some(_) => Err(CertificateError::Revoked.into()),
            None => Err(CertificateError::BadEncoding.into()),
        }
    }
}

impl ClientCertVerifier for Unrevoked<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Verified<ClientCertVerified> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.check(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Unrevoked<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Verified<ServerCertVerified> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        self.check(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trusts the one authority with this digest, which the server sends along, and then all is checked as ever: signatures,
/// dates, name.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Verified<ServerCertVerified> {
        let ca = of_pin(intermediates, self.pin).ok_or(CertificateError::UnknownIssuer)?;
        let roots = Arc::new(roots(&ca.clone().into_owned())?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|_| CertificateError::UnknownIssuer)?;
        verifier.verify_server_cert(end_entity, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate with this digest.
pub(super) fn of_pin<'a, 'c>(
    certificates: &'a [CertificateDer<'c>],
    pin: [u8; 32],
) -> Option<&'a CertificateDer<'c>> {
    certificates.iter().find(|certificate| sha256(certificate) == pin)
}
