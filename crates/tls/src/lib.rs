//! Certificates and keys as PEM, made into TLS of either side: what the parts that cross a network share.
//!
//! - [`server`] shows a certificate, and lets clients of an [authority](Clients::Of) in, or [anyone](Clients::Anyone).
//! - [`client`] trusts servers of an [authority](Trust::Authority), of those that the [system](Trust::System) trusts, or the [one](Trust::Certificate) with this very
//!   certificate, known whole or [by its digest](Trust::Sha256), and shows a certificate of its own where it has one.
//!
//! Both give a configuration of [`rustls`], which is re-exported, by its `ring` provider, for its caller to name application
//! protocols in. No check can be switched off, and no session is resumed: it would go on by a certificate that was looked at
//! long ago.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use site_recovery_tls::rustls::version::TLS13;
//! use site_recovery_tls::{Clients, Identity, server};
//!
//! let (certificate, key) = (std::fs::read("server.pem")?, std::fs::read("server.key")?);
//! let identity = Identity { certificate: &certificate, key: &key };
//! let config = server(&[&TLS13], identity, Clients::Of(&std::fs::read("ca.pem")?))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//! `Invalid`, with the fact `field`: `versions`, `certificate`, `key`, `client_ca`, `ca`, `name`. Never with a key's bytes.
#![forbid(unsafe_code)]

mod pem;
mod pinned;

use pem::{certificates, private_key, roots, unusable};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use rustls_platform_verifier::Verifier;
use site_recovery::{Error, Result};
use std::fmt;
use std::sync::Arc;

pub use rustls;

/// A certificate, with those between it and its authority, and its key. Both are PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate, and then its issuers, if there are any between.
    pub certificate: &'a [u8],
    /// The key of the first.
    pub key: &'a [u8],
}

/// Whom a server lets in.
#[derive(Debug, Clone, Copy)]
pub enum Clients<'a> {
    /// Those that show a certificate of one of these authorities (PEM).
    Of(&'a [u8]),
    /// Whoever comes.
    Anyone,
}

/// Whom a client trusts.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Servers with a certificate of one of these authorities (PEM) for the name that is asked for.
    Authority(&'a [u8]),
    /// The one server that holds the key of this very certificate (PEM), whatever name and dates it bears.
    Certificate(&'a [u8]),
    /// The one server that holds the key of the certificate with this SHA-256 (of its binary form), whatever it bears.
    Sha256([u8; 32]),
    /// Servers with a certificate, for the name that is asked for, of one of the authorities that this system trusts.
    System,
}

/// A server that speaks these versions.
///
/// # Errors
/// `Invalid`, naming what cannot be used: `versions`, `certificate`, `key`, `client_ca`.
pub fn server(
    versions: &[&'static SupportedProtocolVersion],
    identity: Identity<'_>,
    clients: Clients<'_>,
) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(no_version)?;
    let builder = match clients {
        Clients::Anyone => builder.with_no_client_auth(),
        Clients::Of(authorities) => {
            let roots = roots("client_ca", authorities)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| unusable("client_ca", e))?)
        }
    };
    let chain = certificates("certificate", identity.certificate)?;
    let config = builder.with_single_cert(chain, private_key(identity.key)?);
    let mut config = config.map_err(|e| unusable("certificate", e))?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// A client that speaks these versions, and shows `identity` to a server that asks for one.
///
/// # Errors
/// `Invalid`, naming what cannot be used: `versions`, `ca`, `certificate` (the one that is trusted, or its own), `key`.
pub fn client(
    versions: &[&'static SupportedProtocolVersion],
    trust: Trust<'_>,
    identity: Option<Identity<'_>>,
) -> Result<ClientConfig> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Authority(authorities) => {
            let roots = roots("ca", authorities)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
            verifier.map_err(|e| unusable("ca", e))?
        }
        Trust::Certificate(pem) => pinned::verifier(pem, provider())?,
        Trust::Sha256(digest) => pinned::by_digest(digest, provider()),
        Trust::System => Arc::new(Verifier::new(provider()).map_err(|e| unusable("ca", e))?),
    };
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(no_version)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { certificate, key }) => {
            builder.with_client_auth_cert(certificates("certificate", certificate)?, private_key(key)?)
        }
    };
    let mut config = config.map_err(|e| unusable("certificate", e))?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The name that a server's certificate has to bear: a DNS name or an IP address.
///
/// # Errors
/// `Invalid`, naming `name`, where it is neither.
pub fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|e| unusable("name", e))
}

fn no_version(error: rustls::Error) -> Error {
    let rule = "at least one is named, and the provider speaks it";
    Error::invalid("versions", "not usable", rule, "name TLS13").caused_by(error)
}

/// Named here, since a program may link several and then has no default one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

// By hand: a key belongs in no log.
impl fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
