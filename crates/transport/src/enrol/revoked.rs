//! Certificates that count no more, although they have not expired.

use super::service::Service;
use crate::fault::Result;
use serde::{Deserialize, Serialize};
use site_recovery::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A certificate's serial number, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

impl Serial {
    /// Of a certificate's bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(super::digits::hex(bytes))
    }
}

impl FromStr for Serial {
    type Err = Error;

    /// Colons between digits are fine, and so are capitals, as of `openssl x509 -noout -serial`.
    fn from_str(text: &str) -> Result<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if !(1..=64).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let shown: String = text.chars().take(80).collect();
            let rule = "it is 1 to 64 hexadecimal digits";
            return Err(Error::invalid("serial", format!("{shown:?}"), rule, "take the certificate's own"));
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Serial {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The certificates that were revoked, and whose they were. What is in it never leaves it: a list that lacks some adds
/// none, and takes none away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revoked(BTreeMap<Serial, Service>);

impl Revoked {
    /// Whether this one was.
    pub fn contains(&self, serial: &Serial) -> bool {
        self.0.contains_key(serial)
    }

    /// All, by serial number.
    pub fn iter(&self) -> impl Iterator<Item = (&Serial, &Service)> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one; false where it is there already.
    pub(super) fn add(&mut self, serial: Serial, service: Service) -> bool {
        self.0.insert(serial, service).is_none()
    }
}
