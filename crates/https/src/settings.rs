//! Which server, and how long to wait.

use crate::{SecretRef, Trust, Unusable};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A server, and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://vcenter.example`, with a port where it is not 443. The path of the service may follow, as clients of VMware's
    /// servers are told theirs: `/sdk`.
    pub url: String,
    /// Whom to take for the server.
    pub trust: Trust,
    /// `dr@vsphere.local`; without a colon where it is sent with each login by HTTP's own means.
    pub user: String,
    /// Where the password stands.
    pub password: SecretRef,
    /// How long to wait, and how much to take.
    #[serde(default)]
    pub limits: Limits,
}

/// What a server is given in time, and what is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// For a connection with its handshake, in milliseconds. 10,000.
    pub connect_ms: u64,
    /// For an answer, in milliseconds. 60,000; a wait for changes has its own time beside it.
    pub answer_ms: u64,
    /// The most bytes of an answer. 16 MiB.
    pub answer_bytes: usize,
    /// How often a read is tried while nobody is there, a connection breaks or HTTP 503 comes. 4.
    pub tries: u32,
    /// The pause before the second try, in milliseconds; twice as long before each further one. 250.
    pub pause_ms: u64,
    /// The most objects of one page, and the most identifiers of one request. 100.
    pub page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            answer_ms: 60_000,
            answer_bytes: 16 << 20,
            tries: 4,
            pause_ms: 250,
            page: 100,
        }
    }
}

impl Limits {
    /// How long an answer may take.
    pub fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }

    /// Before another try, counted from one.
    pub fn pause(&self, tried: u32) -> Duration {
        Duration::from_millis(self.pause_ms.saturating_mul(1 << tried.saturating_sub(1).min(10)))
    }

    fn check(&self) -> Result<(), Unusable> {
        let within = |field, value: u64, least: u64, most: u64, rule| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(Unusable::new(field, value, rule, "choose a limit in between")),
        };
        within("limits.connect_ms", self.connect_ms, 1, 600_000, "1 to 600,000")?;
        within("limits.answer_ms", self.answer_ms, 1, 3_600_000, "1 to 3,600,000")?;
        within("limits.answer_bytes", self.answer_bytes as u64, 4096, 1 << 30, "4 KiB to 1 GiB")?;
        within("limits.tries", self.tries.into(), 1, 20, "1 to 20")?;
        within("limits.pause_ms", self.pause_ms, 1, 60_000, "1 to 60,000")?;
        within("limits.page", self.page.into(), 1, 10_000, "1 to 10,000")
    }
}

impl Settings {
    /// The server's address, after everything was looked at. It has no path, or that of the `service`.
    ///
    /// # Errors
    /// Naming the field that breaks a rule.
    pub fn address(&self, service: &str) -> Result<Url, Unusable> {
        let remedy = "as https://vcenter.example";
        let url = address(&self.url, remedy)?;
        let plain = url.path() == "/" || url.path() == service;
        if !plain || url.query().is_some() || url.fragment().is_some() {
            let rule = "the address of a server has no path but that of its service";
            return Err(Unusable::new("url", &self.url, rule, remedy));
        }
        if self.user.is_empty() || self.user.contains(char::is_control) {
            return Err(Unusable::new("user", format!("{:?}", self.user), "it is a name", "name who asks"));
        }
        self.limits.check()?;
        Ok(url)
    }
}

/// An address that a password may be sent to: by HTTPS, and with none in it.
///
/// # Errors
/// Naming the field `url`, and never with what may be a password.
pub fn address(url: &str, remedy: &'static str) -> Result<Url, Unusable> {
    let parsed = Url::parse(url).map_err(|_| {
        // What is no address may still have a password in it.
        let shown = if url.contains('@') { "none" } else { url };
        Unusable::new("url", shown, "it is the address of a server", remedy)
    })?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let rule = "no secret stands in an address";
        return Err(Unusable::new("url", "one with a user in it", rule, "give user and password apart"));
    }
    if parsed.scheme() != "https" || parsed.host_str().is_none() {
        return Err(Unusable::new("url", url, "a server is spoken to by https", remedy));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        let json = serde_json::json!({
            "url": url, "user": "dr", "trust": { "sha256": "00" }, "password": { "file": "/etc/p" }
        });
        serde_json::from_value(json).expect("they are settings")
    }

    #[test]
    fn c1_addresses_that_would_not_do_are_refused_with_a_remedy_and_without_secrets() {
        assert_eq!(settings("https://a:8989").address("/sdk").expect("right").as_str(), "https://a:8989/");
        assert!(
            settings("https://a/sdk").address("/sdk").is_ok()
                && settings("https://a/sdk").address("/").is_err()
        );
        for bad in [
            "http://a",
            "http://u:hunter2@a",
            "https://a/ui",
            "https://a/?x",
            "a",
            "https://u:hunter2@a",
            "https://u:hunter2@[a",
        ] {
            let error = settings(bad).address("/sdk").expect_err(bad).to_string();
            assert!(error.starts_with("url is") && !error.contains("hunter2"), "{error}");
        }
        let mut other = settings("https://a");
        other.limits.tries = 0;
        assert!(other.address("/sdk").expect_err("no tries").to_string().contains("limits.tries is 0"));
        other = settings("https://a");
        other.limits.page = 0;
        assert!(other.address("/sdk").expect_err("no page").to_string().contains("limits.page is 0"));
        for bad in ["", "a\n"] {
            other = settings("https://a");
            other.user = bad.into();
            assert!(other.address("/sdk").expect_err(bad).to_string().starts_with("user is"));
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let limits = Limits::default();
        let pauses = [1, 2, 3, 40].map(|tried| limits.pause(tried).as_millis());
        assert_eq!(pauses, [250, 500, 1000, 256_000]);
    }
}
