//! Trust in one certificate, known whole or by its digest.

use crate::pem::certificates;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use site_recovery::Error;
use std::sync::Arc;

pub(crate) fn verifier(pem: &[u8], provider: Arc<CryptoProvider>) -> site_recovery::Result<Arc<Pinned>> {
    let found = certificates("certificate", pem)?;
    let several = |found: Vec<_>| {
        let value = format!("{} certificates", found.len());
        Error::invalid("certificate", value, "one server is trusted by its own", "give that one alone")
    };
    let [certificate] = <[_; 1]>::try_from(found).map_err(several)?;
    Ok(Arc::new(Pinned { known: Known::Whole(certificate), provider }))
}

pub(crate) fn by_digest(sha256: [u8; 32], provider: Arc<CryptoProvider>) -> Arc<Pinned> {
    Arc::new(Pinned { known: Known::Digest(sha256), provider })
}

/// Accepts one certificate. That the peer holds its key is shown by its signature, as ever.
#[derive(Debug)]
pub(crate) struct Pinned {
    known: Known,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Known {
    Whole(CertificateDer<'static>),
    Digest([u8; 32]),
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
        let known = match &self.known {
            Known::Whole(certificate) => end_entity == certificate,
            Known::Digest(sha256) => digest(&SHA256, end_entity).as_ref() == sha256,
        };
        if known {
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
