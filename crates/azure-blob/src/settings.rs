//! Which container, who asks, and how much is asked at once.

use azure_core::credentials::TokenCredential;
use serde::{Deserialize, Serialize};
use site_recovery_https::{Secret, Trust, Unusable};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The longest pause before another try, whatever the service asks for.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A container of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://<account>.blob.core.windows.net/<container>`, or `https://<server>/<account>/<container>` where the account is no
    /// part of the server's name.
    pub container: String,
    /// Whom to take for the service.
    pub trust: Trust,
    /// How long to wait, and how much to ask.
    #[serde(default)]
    pub limits: Limits,
}

/// Who asks. A secret is shown to nobody.
#[derive(Clone)]
pub enum Who {
    /// By tokens.
    Signed(Arc<dyn TokenCredential>),
    /// By what somebody has signed: the query of an address, without its question mark.
    Sas(Secret),
    /// By a key of the account, which may do all. Only where it was asked for: it cannot be taken back alone.
    Key {
        /// The account.
        account: String,
        /// One of its keys, in Base64.
        key: Secret,
    },
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(_) => f.write_str("Signed"),
            Self::Sas(_) => f.write_str("Sas"),
            Self::Key { account, .. } => {
                f.debug_struct("Key").field("account", account).finish_non_exhaustive()
            }
        }
    }
}

/// How long the service is waited for, and how much it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// For a connection with its handshake, in milliseconds. 10,000.
    pub connect_ms: u64,
    /// For an answer, whole, in milliseconds. 60,000.
    pub answer_ms: u64,
    /// How often a request is tried that may be tried again. 6.
    pub tries: u32,
    /// The pause before the second try, in milliseconds; twice as long before each further one. 250.
    pub pause_ms: u64,
    /// Requests a second for one blob. 500.
    pub blob_requests: u64,
    /// Bytes a second for one blob. 60 MiB.
    pub blob_bytes: u64,
    /// Requests a second for all blobs. 20,000.
    pub account_requests: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            answer_ms: 60_000,
            tries: 6,
            pause_ms: 250,
            blob_requests: 500,
            blob_bytes: 60 << 20,
            account_requests: 20_000,
        }
    }
}

impl Limits {
    /// Before another try, counted from one.
    pub(crate) fn pause(&self, tried: u32, asked: Option<Duration>) -> Duration {
        let own = Duration::from_millis(self.pause_ms.saturating_mul(1 << tried.saturating_sub(1).min(10)));
        asked.unwrap_or(own).min(LONGEST_PAUSE)
    }

    pub(crate) fn check(&self) -> Result<(), Unusable> {
        let within = |field, value: u64, least: u64, most: u64, rule| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(Unusable::new(field, value, rule, "choose a limit in between")),
        };
        within("limits.connect_ms", self.connect_ms, 1, 600_000, "1 to 600,000")?;
        within("limits.answer_ms", self.answer_ms, 1, 3_600_000, "1 to 3,600,000")?;
        within("limits.tries", self.tries.into(), 1, 20, "1 to 20")?;
        within("limits.pause_ms", self.pause_ms, 1, 60_000, "1 to 60,000")?;
        within("limits.blob_requests", self.blob_requests, 1, 1_000_000, "1 to 1,000,000")?;
        within("limits.blob_bytes", self.blob_bytes, 65_536, 1 << 40, "64 KiB to 1 TiB")?;
        within("limits.account_requests", self.account_requests, 1, 1_000_000, "1 to 1,000,000")
    }
}

/// The address of a container, after it was looked at.
pub(crate) fn address(container: &str) -> Result<Url, Unusable> {
    let remedy = "as https://account.blob.core.windows.net/container";
    // What is no address may still have a signature in it.
    let shown = |why: &str| {
        Unusable::new("container", why, "it is the address of a container, without a secret", remedy)
    };
    let mut url = Url::parse(container).map_err(|_| shown("no address"))?;
    if url.scheme() != "https" || url.host_str().is_none() {
        return Err(shown("not spoken to by https"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(shown("an address with more than a path"));
    }
    let path = url.path().trim_matches('/').to_owned();
    if path.is_empty() || path.split('/').count() > 2 || path.split('/').any(str::is_empty) {
        return Err(shown("an address without a container, or with more"));
    }
    url.set_path(&path);
    Ok(url)
}

/// The account that the address of a container names.
pub(crate) fn account(container: &Url) -> String {
    match container.path().trim_matches('/').split_once('/') {
        Some((account, _)) => account.to_owned(),
        None => container.host_str().unwrap_or_default().split('.').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_addresses_that_would_not_do_are_refused_with_a_remedy_and_without_secrets() {
        let url = address("https://acct.blob.core.windows.net/points/").expect("right");
        assert_eq!(
            (url.as_str(), account(&url).as_str()),
            ("https://acct.blob.core.windows.net/points", "acct")
        );
        let url = address("https://127.0.0.1:10000/acct/points").expect("right");
        assert_eq!((url.as_str(), account(&url).as_str()), ("https://127.0.0.1:10000/acct/points", "acct"));
        for bad in [
            "http://acct.blob.core.windows.net/points",
            "https://acct.blob.core.windows.net/points?sv=1&sig=hunter2",
            "https://acct.blob.core.windows.net",
            "https://a/b/c/d",
            "https://a/b//c",
            "https://u:hunter2@a/b",
            "points?sig=hunter2",
        ] {
            let error = address(bad).expect_err(bad).to_string();
            assert!(error.starts_with("container is") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn limits_are_bounded_and_pauses_too() {
        assert!(Limits::default().check().is_ok());
        for bad in [
            Limits { tries: 0, ..Limits::default() },
            Limits { blob_requests: 0, ..Limits::default() },
            Limits { blob_bytes: 1, ..Limits::default() },
            Limits { account_requests: u64::MAX, ..Limits::default() },
        ] {
            assert!(bad.check().expect_err("out of bounds").field.starts_with("limits."));
        }
        let limits = Limits::default();
        let pauses = [1, 2, 3, 40].map(|tried| limits.pause(tried, None).as_millis());
        assert_eq!(pauses, [250, 500, 1000, 60_000]);
        assert_eq!(limits.pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(limits.pause(1, Some(Duration::from_secs(7_000))), LONGEST_PAUSE);
    }
}
