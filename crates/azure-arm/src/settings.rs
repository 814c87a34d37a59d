//! Which Resource Manager, and how long to wait.

use crate::said::scrubbed;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use site_recovery_https::{Trust, Unusable};
use std::time::Duration;

/// Which Resource Manager is asked, and of which subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `https://management.azure.com`. Tokens go to this server and to those below its name, and nowhere else.
    pub resource_manager: Url,
    /// What tokens are asked for: `https://management.azure.com/.default`.
    pub scope: String,
    /// The subscription's id.
    pub subscription: String,
    /// Whom to take for the server.
    pub trust: Trust,
    /// How long to wait, and how much to take.
    pub limits: Limits,
}

/// What Azure is given in time, and what is taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// For a connection with its handshake, in milliseconds. 10,000.
    pub connect_ms: u64,
    /// For an answer, in milliseconds. 30,000.
    pub answer_ms: u64,
    /// The most bytes of an answer. 16 MiB.
    pub answer_bytes: usize,
    /// How often a read is tried while nobody is there or Azure is in trouble. 4. Changes are sent once.
    pub tries: u32,
    /// The pause before the second try, in milliseconds; twice as long before each further one. 250.
    pub pause_ms: u64,
    /// The longest wait for the end of an operation, in milliseconds. 3,600,000.
    pub longest_ms: u64,
    /// How often an operation is asked after where Azure does not say, in milliseconds. 5,000.
    pub poll_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            answer_ms: 30_000,
            answer_bytes: 16 << 20,
            tries: 4,
            pause_ms: 250,
            longest_ms: 3_600_000,
            poll_ms: 5_000,
        }
    }
}

impl Limits {
    pub(crate) fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms)
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// Before another try, counted from one.
    pub(crate) fn pause(&self, tried: u32) -> Duration {
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
        within("limits.longest_ms", self.longest_ms, 1, 86_400_000, "1 to 86,400,000, a day")?;
        within("limits.poll_ms", self.poll_ms, 1, 600_000, "1 to 600,000")
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Unusable> {
        let url = &self.resource_manager;
        if !url.username().is_empty() || url.password().is_some() {
            let rule = "no secret stands in an address";
            let remedy = "say in the sign-in who asks";
            return Err(Unusable::new("resource_manager", "one with a user in it", rule, remedy));
        }
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "https" || url.host_str().is_none() || !plain {
            let rule = "Resource Manager is spoken to by https, and has no path";
            let remedy = "as https://management.azure.com";
            return Err(Unusable::new("resource_manager", scrubbed(url.as_str()), rule, remedy));
        }
        part("subscription", &self.subscription)?;
        self.limits.check()
    }
}

/// A name that is one part of an address.
pub(crate) fn part<'a>(field: &'static str, name: &'a str) -> Result<&'a str, Unusable> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.()".contains(c);
    if name.is_empty() || name.len() > 90 || !name.chars().all(plain) || name.ends_with('.') {
        let rule = "at most 90 of A-Z, a-z, 0-9, -, _, ., ( and ), and no dot at its end";
        return Err(Unusable::new(field, format!("{:?}", scrubbed(name)), rule, "name it as Azure does"));
    }
    Ok(name)
}

/// The id of a resource: `/subscriptions/…`.
pub(crate) fn id<'a>(field: &'static str, id: &'a str) -> Result<&'a str, Unusable> {
    let parts: Vec<&str> = id.split('/').collect();
    let right = matches!(parts[..], ["", subscriptions, _, _, ..] if subscriptions.eq_ignore_ascii_case("subscriptions"))
        && parts[1..].iter().all(|name| part(field, name).is_ok());
    match right {
        true => Ok(id),
        false => {
            let rule = "the id of a resource begins with /subscriptions/, and has no query";
            Err(Unusable::new(field, format!("{:?}", scrubbed(id)), rule, "give the id as Azure tells it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings {
            resource_manager: url.parse().expect("an address"),
            scope: "s".into(),
            subscription: "00000000-0000-0000-0000-000000000001".into(),
            trust: Trust::Sha256("ab".repeat(32)),
            limits: Limits::default(),
        }
    }

    #[test]
    fn c1_addresses_that_would_not_do_are_refused_without_their_secrets() {
        assert_eq!(settings("https://management.azure.com").check(), Ok(()));
        for bad in ["http://a", "https://a/x", "https://a/?sig=hunter2", "https://u:hunter2@a", "file:///a"] {
            let error = settings(bad).check().expect_err(bad).to_string();
            assert!(error.starts_with("resource_manager is") && !error.contains("hunter2"), "{error}");
        }
        let mut other = settings("https://a");
        other.subscription = "a/b".into();
        assert!(other.check().expect_err("two parts").to_string().starts_with("subscription is"));
        other = settings("https://a");
        other.limits.tries = 0;
        assert!(other.check().expect_err("no tries").to_string().contains("limits.tries is 0"));
    }

    #[test]
    fn names_and_ids_cannot_lead_elsewhere() {
        for right in ["web-1", "RG_(a).b", "00000000-0000-0000-0000-000000000001"] {
            assert_eq!(part("name", right), Ok(right));
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "ä", "a.", &"a".repeat(91)] {
            assert!(part("name", bad).is_err(), "{bad}");
        }
        let right =
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/a";
        assert_eq!(id("subnet", right), Ok(right));
        for bad in [
            "",
            "/",
            "/subscriptions/s",
            "subscriptions/s/x",
            "/a/b/c",
            "/subscriptions/s/../x",
            "/subscriptions/s/x?y",
        ] {
            assert!(id("subnet", bad).is_err(), "{bad}");
        }
    }
}
