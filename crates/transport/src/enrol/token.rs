//! What lets a service join: a secret that works once, and whom to show it to.

use super::digits::{hex, sha256, unguessable, unhex};
use super::roster::{ServedRole, address_rule};
use super::service::Service;
use crate::fault::Result;
use site_recovery::{Error, ErrorKind};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const MARK: &str = "srj1";

/// Lets one service join, once, for a short time. It says where the authority is and which one it is, so that nothing is
/// trusted on first use. It is a secret: hand it over as one, and to that service alone.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub(super) id: String,
    pub(super) secret: [u8; 32],
    /// SHA-256 of the authority's certificate.
    pub(super) pin: [u8; 32],
    pub(super) address: String,
}

/// For whom a token is minted, and what that service may state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub(super) service: Service,
    pub(super) address: String,
    pub(super) roles: Vec<ServedRole>,
    pub(super) valid: Duration,
}

impl Invitation {
    /// For this service, to join within an hour at the authority's `address` (host and port, as that service reaches it).
    /// It may serve no roles.
    pub fn new(service: Service, address: impl Into<String>) -> Self {
        Self { service, address: address.into(), roles: vec![], valid: Duration::from_secs(60 * 60) }
    }

    /// One more role that the service may say it serves. Each belongs to one service at a time.
    #[must_use]
    pub fn role(mut self, role: ServedRole) -> Self {
        self.roles.push(role);
        self
    }

    /// How long the token can be used: a minute to a week.
    #[must_use]
    pub fn valid(mut self, span: Duration) -> Self {
        self.valid = span;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        use super::service::ServiceKind;
        if self.service.kind() == ServiceKind::Authority {
            let rule = "an authority certifies itself";
            return Err(Error::invalid("service", &self.service, rule, "name another kind"));
        }
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(7 * 24 * 60 * 60));
        if !(least..=most).contains(&self.valid) {
            let value = format!("{:?}", self.valid);
            return Err(Error::invalid("valid", value, "it is a minute to a week", "choose another span"));
        }
        address_rule(&self.address)?;
        ServedRole::check_all(&self.roles)
    }
}

impl JoinToken {
    pub(super) fn mint(pin: [u8; 32], address: String) -> Result<Self> {
        Ok(Self { id: hex(&unguessable::<8>()?), secret: unguessable()?, pin, address })
    }

    /// The token whole, with its secret. It has no spaces.
    pub fn to_text(&self) -> String {
        format!("{MARK}.{}.{}.{}.{}", self.id, hex(&self.secret), hex(&self.pin), self.address)
    }

    /// Names the token, and is no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the authority is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the authority keeps of the secret.
    pub(super) fn digest(secret: &[u8]) -> String {
        hex(&sha256(secret))
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    /// `Invalid` where it is none, and never with what it said.
    fn from_str(text: &str) -> Result<Self> {
        let broken = || {
            let rule = "a token is handed over whole, as the authority printed it";
            Error::invalid("token", "not readable", rule, "copy it again, or have a new one minted")
        };
        let mut parts = text.trim().splitn(5, '.');
        let mut next = || parts.next().ok_or_else(broken);
        let mark = next()?;
        if mark != MARK && mark.len() < 8 && mark.starts_with("srj") {
            let said = "the token is of another version than srj1, which this service reads: bring the older side up to date";
            return Err(Error::new(ErrorKind::Unsupported, said));
        }
        let id = next()?;
        let (secret, pin) = (unhex(next()?).ok_or_else(broken)?, unhex(next()?).ok_or_else(broken)?);
        let address = next()?;
        if mark != MARK || unhex::<8>(id).is_none() || address_rule(address).is_err() {
            return Err(broken());
        }
        Ok(Self { id: id.to_ascii_lowercase(), secret, pin, address: address.to_owned() })
    }
}

// By hand: it is a secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_reads_back_and_nothing_near_it_does() {
        for address in ["dr.example.net:7444", "[::1]:7444", "10.0.0.1:1"] {
            let token = JoinToken::mint([7; 32], address.to_owned()).expect("minted");
            let text = token.to_text();
            assert_eq!(format!(" {text}\n").parse::<JoinToken>().expect("its text"), token);
            for end in 0..text.len() - 6 {
                if let Ok(shorter) = text[..end].parse::<JoinToken>() {
                    panic!("{end} of {} bytes are {shorter:?}", text.len());
                }
            }
            assert_eq!(
                text.replacen("srj1", "srj2", 1).parse::<JoinToken>().expect_err("newer").kind(),
                ErrorKind::Unsupported
            );
        }
    }

    #[test]
    fn c1_neither_debug_nor_errors_tell_the_secret() {
        let token = JoinToken::mint([7; 32], "h:1".to_owned()).expect("minted");
        let secret = hex(&token.secret);
        assert!(!format!("{token:?}").contains(&secret));
        for text in [secret.clone(), token.to_text().replace("h:1", ""), token.to_text().replacen('.', "", 1)]
        {
            let error = text.parse::<JoinToken>().expect_err("broken");
            assert!(!format!("{error} {error:?}").contains(&secret[..16]), "{error}");
        }
    }
}
