//! The certificates that an authority signs, and its own.

use super::digits::{hex, sha256, unguessable};
use super::revoked::Serial;
use super::service::{Service, ServiceKind};
use crate::fault::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use site_recovery::{Error, ErrorKind, Timestamp};
use std::fmt;
use std::time::Duration;

/// How far behind the clock of a peer may be: certificates are valid from so long before they are made.
const BEHIND: Duration = Duration::from_secs(10 * 60);
/// Of the authority's own certificate.
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A certificate with the key that signs others.
pub(super) struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A public key that has proven to be its sender's.
pub(super) struct Requested(rcgen::PublicKey);

/// A certificate that was signed.
pub(super) struct Signed {
    pub(super) certificate: rcgen::Certificate,
    pub(super) serial: Serial,
    pub(super) until: Timestamp,
}

impl Ca {
    /// A new authority: certificate and key as PEM.
    pub(super) fn make(now: Timestamp) -> Result<(String, String)> {
        let mut params = blank(now, now.after(YEARS))?;
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {}", &hex(&unguessable::<4>()?)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    pub(super) fn read(certificate: &str, key: &str) -> Result<Self> {
        let damaged = |_| Error::new(ErrorKind::Corrupt, "the authority's certificate or key is damaged");
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| damaged(()))?;
        let key = KeyPair::from_pem(key).map_err(|_| damaged(()))?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| damaged(()))?;
        Ok(Self { der, issuer })
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// What tokens name it by.
    pub(super) fn pin(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// A certificate that names `service`, for a key that has proven to be its holder's.
    pub(super) fn sign(
        &self,
        service: &Service,
        key: &impl PublicKeyData,
        now: Timestamp,
        life: Duration,
    ) -> Result<Signed> {
        // X.509 counts whole seconds.
        let until = Timestamp(now.after(life).0 / 1000 * 1000);
        let mut params = blank(now, until)?;
        let mut serial: [u8; 16] = unguessable()?;
        // Positive, and of the same length for all: what is printed is what openssl prints.
        serial[0] = serial[0] & 0x3f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let dns = service.dns_name().try_into().map_err(failed)?;
        let uri = service.uri().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::DnsName(dns), SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(Signed { certificate, serial: Serial::of(&serial), until })
    }
}

impl Requested {
    /// Reads a request (PKCS #10, DER). What else it asks for decides nothing.
    pub(super) fn read(der: &[u8]) -> Result<Self> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        let request = request.map_err(|e| {
            let rule = "a certificate request with a signature by its own key";
            Error::invalid("request", "not usable", rule, "send another one").caused_by(e)
        })?;
        let algorithm = request.public_key.algorithm();
        let strong = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !strong.contains(&algorithm) {
            let rule = "keys are ECDSA over P-256 or P-384, or Ed25519";
            return Err(Error::invalid("request", "of another kind of key", rule, "make another key"));
        }
        Ok(Self(request.public_key))
    }

    pub(super) fn key(&self) -> &rcgen::PublicKey {
        &self.0
    }

    /// Tells it from other keys.
    pub(super) fn digest(&self) -> String {
        hex(&sha256(&self.0.subject_public_key_info()))
    }
}

/// The authority as a service: what its own server is called.
pub(super) fn authority() -> Service {
    Service::new(ServiceKind::Authority, "site").expect("a label")
}

/// A request for `key`, that asks for nothing but to be signed.
pub(super) fn request(key: &KeyPair) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(failed)?.der().to_vec())
}

fn blank(now: Timestamp, until: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let at = |t: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(t.0 / 1000);
    (params.not_before, params.not_after) = (at(now.before(BEHIND)), at(until));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "site-recovery");
    Ok(params)
}

fn failed(error: rcgen::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "a certificate cannot be made").caused_by(error)
}

// By hand: it holds a key.
impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("pin", &hex(&self.pin())).finish_non_exhaustive()
    }
}
