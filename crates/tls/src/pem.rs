//! PEM, read whole: what cannot be used is named.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use site_recovery::{Error, Result};
use std::sync::Arc;

pub(crate) fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let found = found.map_err(|e| unusable(field, e))?;
    if found.is_empty() {
        return Err(Error::invalid(field, "without a certificate", "it is PEM", "give the certificate"));
    }
    Ok(found)
}

pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| unusable("key", e))
}

pub(crate) fn roots(field: &'static str, pem: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(field, pem)? {
        roots.add(certificate).map_err(|e| unusable(field, e))?;
    }
    Ok(Arc::new(roots))
}

pub(crate) fn unusable(field: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let rule = "a certificate, key or name that TLS can use, as PEM";
    Error::invalid(field, "not usable", rule, "give another one").caused_by(error)
}
