//! Certificates of a test.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part")]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for this host, its key, and its SHA-256.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) sha256: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self) -> Issued {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate.der());
        let sha256 = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), sha256 }
    }
}
