//! A storage account, and how a child is told of it.

use crate::Outcome;
use site_recovery_azure_blob::{Container, Limits, Secret, Settings, Trust, Who};
use std::path::{Path, PathBuf};

/// An account of a fake or an emulator, whose key opens nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// `https://127.0.0.1:1000/name`
    pub(crate) endpoint: String,
    pub(crate) name: String,
    /// Base64.
    pub(crate) key: String,
    /// The authority of its server, a file.
    pub(crate) authority: PathBuf,
}

/// As fast as the other side goes.
pub(crate) fn unpaced() -> Limits {
    Limits { blob_requests: 1_000_000, blob_bytes: 1 << 40, account_requests: 1_000_000, ..Limits::default() }
}

impl Account {
    /// The same behind another port.
    pub(crate) fn behind(&self, port: u16) -> Self {
        Self { endpoint: format!("https://127.0.0.1:{port}/{}", self.name), ..self.clone() }
    }

    pub(crate) fn words(&self) -> Outcome<Vec<String>> {
        let authority = self.authority.to_str().ok_or("a path in UTF-8")?;
        Ok([&self.endpoint, &self.name, &self.key, authority].map(|word| word.to_owned()).to_vec())
    }

    /// By those words, with what follows them.
    pub(crate) fn of(words: &[String]) -> Outcome<(Self, &[String])> {
        let [endpoint, name, key, authority, rest @ ..] = words else {
            return Err("a child is told of an account".into());
        };
        let (endpoint, name, key) = (endpoint.clone(), name.clone(), key.clone());
        Ok((Self { endpoint, name, key, authority: Path::new(authority).into() }, rest))
    }

    pub(crate) fn container(&self, name: &str, limits: Limits) -> Outcome<Container> {
        let container = format!("{}/{name}", self.endpoint);
        let settings = Settings { container, trust: Trust::Ca(self.authority.clone()), limits };
        let who = Who::Key { account: self.name.clone(), key: Secret::new(self.key.clone()) };
        Ok(Container::new(&settings, who)?)
    }
}
