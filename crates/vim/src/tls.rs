//! Trust in a server: by an authority, or by the SHA-256 of its certificate. There is no way around it.

use crate::{Error, Trust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use site_recovery_tls::rustls;
use std::sync::Arc;

pub(crate) fn client(trust: &Trust) -> Result<ClientConfig, Error> {
    match trust {
        Trust::Ca(path) => {
            let unusable = |why: String| Error::Invalid {
                field: "trust.ca",
                value: format!("{}, {why}", path.display()),
                rule: "it is a file with certificates of authorities, as PEM",
                remedy: "give the authority that signed the server's certificate",
            };
            let pem = std::fs::read(path).map_err(|e| unusable(e.kind().to_string()))?;
            let trust = site_recovery_tls::Trust::Authority(&pem);
            site_recovery_tls::client(&[&TLS13, &TLS12], trust, None).map_err(|e| unusable(e.to_string()))
        }
        Trust::Sha256(pin) => pinned(pin),
    }
}

/// A client that trusts this certificate and no other.
fn pinned(pin: &str) -> Result<ClientConfig, Error> {
    let digits: String = pin.chars().filter(|c| *c != ':').collect();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
    let digest: Option<Vec<u8>> = (0..32).map(|n| byte(n * 2)).collect();
    let hexadecimal = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(digest) = digest.filter(|_| hexadecimal) else {
        let rule = "the SHA-256 of the certificate in its binary form, as 64 hexadecimal digits";
        let remedy = "ask `openssl x509 -fingerprint -sha256`";
        return Err(Error::invalid("trust.sha256", format!("{pin:?}"), rule, remedy));
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]).expect("the provider speaks both");
    let verifier = Arc::new(Pinned { digest, provider });
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Accepts one certificate. That the peer holds its key is shown by its signature, as ever.
#[derive(Debug)]
struct Pinned {
    digest: Vec<u8>,
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
        let found = ::ring::digest::digest(&::ring::digest::SHA256, end_entity);
        match found.as_ref() == self.digest {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::CertificateError::ApplicationVerificationFailure.into()),
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
