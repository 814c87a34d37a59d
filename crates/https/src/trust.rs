//! Whom to take for the server.

use crate::Unusable;
use serde::{Deserialize, Serialize};
use site_recovery_tls::rustls::ClientConfig;
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use std::path::PathBuf;

/// Whom to take for the server. With an authority its name is checked; with the digest of its certificate it is that very one,
/// as hosts need that have signed their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Trust {
    /// A file with certificates of authorities, PEM.
    Ca(PathBuf),
    /// The SHA-256 of its certificate: 64 hexadecimal digits, with colons or without.
    Sha256(String),
    /// Whoever is vouched for by one of the authorities that this system trusts, as the services of the public clouds are.
    System,
}

impl Trust {
    /// A client that trusts so, and shows no certificate of its own.
    pub(crate) fn config(&self) -> Result<ClientConfig, Unusable> {
        let versions = &[&TLS13, &TLS12];
        match self {
            Self::Ca(path) => {
                let unusable = |why: String| Unusable {
                    field: "trust.ca",
                    value: format!("{}, {why}", path.display()),
                    rule: "it is a file with certificates of authorities, as PEM",
                    remedy: "give the authority that signed the server's certificate",
                };
                let pem = std::fs::read(path).map_err(|e| unusable(e.kind().to_string()))?;
                let trusted = site_recovery_tls::Trust::Authority(&pem);
                site_recovery_tls::client(versions, trusted, None).map_err(|e| unusable(e.to_string()))
            }
            Self::System => site_recovery_tls::client(versions, site_recovery_tls::Trust::System, None)
                .map_err(|e| {
                    let rule = "this system trusts some authorities";
                    let remedy =
                        "install its package of certificates (ca-certificates), or name one as trust.ca";
                    Unusable::new("trust.system", e, rule, remedy)
                }),
            Self::Sha256(pin) => {
                let unusable = |value| Unusable {
                    field: "trust.sha256",
                    value,
                    rule: "the SHA-256 of the certificate in its binary form, as 64 hexadecimal digits",
                    remedy: "ask `openssl x509 -fingerprint -sha256`",
                };
                let digest = digest(pin).ok_or_else(|| unusable(format!("{pin:?}")))?;
                let trusted = site_recovery_tls::Trust::Sha256(digest);
                site_recovery_tls::client(versions, trusted, None).map_err(|e| unusable(e.to_string()))
            }
        }
    }
}

fn digest(pin: &str) -> Option<[u8; 32]> {
    let digits: String = pin.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    let all: Option<Vec<u8>> = (0..32).map(|n| byte(n * 2)).collect();
    all?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_64_digits_with_colons_or_without() {
        let bytes: [u8; 32] = std::array::from_fn(|n| n as u8 * 7);
        let hex = bytes.map(|b| format!("{b:02x}"));
        assert_eq!(
            (digest(&hex.concat()), digest(&hex.join(":").to_uppercase())),
            (Some(bytes), Some(bytes))
        );
        for bad in ["", "abc", &"g".repeat(64), &"ab".repeat(33), &"+a".repeat(32), &"é".repeat(32)] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
