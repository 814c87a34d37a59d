//! One table from which a program opens both roles. What is wrong with it is told before anything is asked.

use crate::Profile;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, Result};
use site_recovery_azure_arm as arm;
use site_recovery_azure_blob as blob;
use site_recovery_azure_sign_in::{Cloud, SecretRef, SignIn, Trust};
use std::time::Duration;
use url::Url;

/// Where in Azure machines are protected to, and who asks. No secret stands in it: only where one is.
///
/// ```
/// let settings: site_recovery_azure::Settings = serde_json::from_str(r#"{
///     "sign_in": { "service_principal": {
///         "tenant": "contoso.example", "client": "1b2c…", "secret": { "file": "/run/secrets/azure" } } },
///     "subscription": "00000000-0000-0000-0000-000000000001",
///     "group": "recovered",
///     "region": "westeurope",
///     "account": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/vault/providers/Microsoft.Storage/storageAccounts/contosovault",
///     "container": "points",
///     "network": "production",
///     "test_network": "drills"
/// }"#)?;
/// settings.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The public one otherwise.
    #[serde(default = "Cloud::public")]
    pub cloud: Cloud,
    /// Who asks.
    pub sign_in: SignIn,
    /// The id of the subscription that machines are made in.
    pub subscription: String,
    /// The resource group of machines, disks, snapshots and network cards. It is there already.
    pub group: String,
    /// `westeurope`: where the group's machines are made. The networks have to be in it as well. Disks are imported where the account
    /// is in it too; from an account elsewhere they are uploaded through this process.
    pub region: String,
    /// The id of the storage account, `/subscriptions/…/storageAccounts/…`: Standard, general-purpose v2, without a hierarchical
    /// namespace.
    pub account: String,
    /// The container in it: of points, of documents, and of images in the making. Made where it is missing.
    pub container: String,
    /// Where the account has its blobs, if not at `https://<account>.<the cloud's suffix>`: a private name, or a server of its own.
    #[serde(default)]
    pub endpoint: Option<Url>,
    /// Who asks for blobs: whoever signs in, unless an account's key is named.
    #[serde(default)]
    pub storage: StorageAccess,
    /// The virtual network of machines whose settings name none: its id, or its name in the group.
    #[serde(default)]
    pub network: Option<String>,
    /// That of drills whose settings name none. Never the other one.
    #[serde(default)]
    pub test_network: Option<String>,
    /// Whom to take for Azure: whoever is vouched for by an authority that this system trusts, otherwise.
    #[serde(default = "system")]
    pub trust: Trust,
    /// Whose rules a machine is checked against.
    #[serde(default)]
    pub profile: Profile,
    /// How long Azure is waited for, and how much it is asked.
    #[serde(default)]
    pub limits: Limits,
}

/// Who asks for blobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StorageAccess {
    /// Whoever [signs in](Settings::sign_in), by tokens.
    #[default]
    SignIn,
    /// Whoever has a key of the account, and with it all of the account: such a key knows no roles, and cannot be taken back for
    /// one program alone. For accounts of which nothing else is left; Resource Manager is still asked by who signs in.
    AccountKey(SecretRef),
}

/// How long Azure is waited for, and how much it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Of Resource Manager.
    pub manager: arm::Limits,
    /// Of blobs, and of the bytes of disks.
    pub storage: blob::Limits,
    /// Between two looks at a copy or a disk in the making, in milliseconds. 1,000.
    pub look_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { manager: arm::Limits::default(), storage: blob::Limits::default(), look_ms: 1_000 }
    }
}

impl Limits {
    pub(crate) fn look(&self) -> Duration {
        Duration::from_millis(self.look_ms)
    }
}

fn system() -> Trust {
    Trust::System
}

impl Settings {
    /// Whether they could do, as far as they tell by themselves. Asks nothing, and reads no secret.
    ///
    /// # Errors
    /// `Invalid`, with the field, its value, the rule that it breaks and what to do.
    pub fn check(&self) -> Result<()> {
        let subscription = self.subscription.split('-').map(str::len).eq([8, 4, 4, 4, 12])
            && self.subscription.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        let id = "it is an id of 32 hexadecimal digits and hyphens";
        must(subscription, "subscription", &self.subscription, id, "ask `az account show --query id`")?;
        let group =
            "at most 90 letters, digits, hyphens, underscores, dots and parentheses, and no dot at its end";
        must(is_group(&self.group), "group", &self.group, group, "name it as Azure does")?;
        let region = !self.region.is_empty()
            && self.region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rule = "it is a region's short name, of small letters and digits";
        must(region, "region", &self.region, rule, "ask `az account list-locations --query '[].name'`")?;
        self.account_name()?;
        let container = (3..=63).contains(&self.container.len())
            && self.container.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !self.container.contains("--")
            && !self.container.starts_with('-')
            && !self.container.ends_with('-');
        let rule = "3 to 63 small letters, digits and single hyphens, none first or last";
        must(container, "container", &self.container, rule, "choose another name")?;
        for (field, network) in [("network", &self.network), ("test_network", &self.test_network)] {
            let Some(network) = network else { continue };
            let rule = "it is a network's id, or its name in the group";
            let right =
                if network.starts_with('/') { is_id(network, "virtualNetworks") } else { is_group(network) };
            must(right, field, network, rule, "ask `az network vnet list --query '[].id'`")?;
        }
        if let (Some(network), Some(test)) = (&self.network, &self.test_network) {
            let rule = "a drill cannot reach the production network";
            let apart = !self.network_id(network).eq_ignore_ascii_case(&self.network_id(test));
            must(apart, "test_network", test, rule, "name another network for drills")?;
        }
        if let Some(endpoint) = &self.endpoint {
            let plain = endpoint.scheme() == "https"
                && endpoint.host_str().is_some()
                && endpoint.username().is_empty()
                && endpoint.password().is_none()
                && endpoint.query().is_none()
                && endpoint.fragment().is_none();
            let rule = "it is an address by https, without a secret";
            must(plain, "endpoint", "another address", rule, "as https://account.z1.blob.storage.azure.net")?;
        }
        let scope = "https://storage.azure.com/.default";
        let rule = "tokens for blobs are asked for as in all clouds of Microsoft";
        let asked = self.cloud.storage_scope == scope;
        must(asked, "cloud.storage_scope", &self.cloud.storage_scope, rule, &format!("say {scope}"))?;
        let looks = (1..=600_000).contains(&self.limits.look_ms);
        must(looks, "limits.look_ms", self.limits.look_ms, "1 to 600,000", "choose a limit in between")
    }

    /// Whether blobs are asked for by whoever signs in.
    pub(crate) fn signs_blobs(&self) -> bool {
        self.storage == StorageAccess::SignIn
    }

    /// The id of a network that is named, or given by its id.
    pub(crate) fn network_id(&self, network: &str) -> String {
        network_id(&self.subscription, &self.group, network)
    }

    /// The name of the account, of its id.
    pub(crate) fn account_name(&self) -> Result<&str> {
        let name = self.account.rsplit('/').next().unwrap_or_default();
        let right = is_id(&self.account, "storageAccounts")
            && (3..=24).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rule = "it is the id of a storage account, /subscriptions/…/storageAccounts/…";
        must(right, "account", &self.account, rule, "ask `az storage account show --query id`")?;
        Ok(name)
    }

    /// The address of the container.
    pub(crate) fn address(&self) -> Result<String> {
        let base = match &self.endpoint {
            Some(endpoint) => endpoint.as_str().trim_end_matches('/').to_owned(),
            None => format!("https://{}.{}", self.account_name()?, self.cloud.blob_suffix),
        };
        Ok(format!("{base}/{}", self.container))
    }
}

/// The id of a network that is named, or given by its id.
pub(crate) fn network_id(subscription: &str, group: &str, network: &str) -> String {
    if network.starts_with('/') {
        return network.to_owned();
    }
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/{network}"
    )
}

fn must(right: bool, field: &'static str, value: impl ToString, rule: &str, remedy: &str) -> Result<()> {
    if right { Ok(()) } else { Err(Error::invalid(field, value.to_string(), rule, remedy)) }
}

fn is_group(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.()".contains(c);
    !name.is_empty() && name.len() <= 90 && name.chars().all(plain) && !name.ends_with('.')
}

/// `/subscriptions/<id>/resourceGroups/<name>/providers/<provider>/<kind>/<name>`.
fn is_id(id: &str, kind: &str) -> bool {
    let parts: Vec<&str> = id.split('/').collect();
    let ["", subscriptions, subscription, groups, group, providers, provider, what, name] = parts[..] else {
        return false;
    };
    let words = [
        (subscriptions, "subscriptions"),
        (groups, "resourceGroups"),
        (providers, "providers"),
        (what, kind),
    ];
    words.iter().all(|(found, word)| found.eq_ignore_ascii_case(word))
        && [subscription, group, provider, name].iter().all(|part| is_group(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use site_recovery::ErrorKind;

    fn told() -> Value {
        json!({
            "sign_in": { "managed_identity": {} },
            "subscription": "00000000-0000-0000-0000-00000000000a",
            "group": "recovered",
            "region": "westeurope",
            "account": "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/v/providers/Microsoft.Storage/storageAccounts/contosovault",
            "container": "points",
        })
    }

    fn with(field: &str, value: Value) -> serde_json::Result<Settings> {
        let mut told = told();
        told[field] = value;
        serde_json::from_value(told)
    }

    #[test]
    fn what_is_left_out_is_what_most_want() {
        let settings: Settings = serde_json::from_value(told()).expect("settings");
        settings.check().expect("right");
        assert_eq!(settings.cloud, Cloud::public());
        assert_eq!(
            (settings.trust.clone(), settings.storage.clone()),
            (Trust::System, StorageAccess::SignIn)
        );
        assert_eq!((settings.profile, settings.limits), (Profile::Current, Limits::default()));
        assert_eq!(settings.address().expect("right"), "https://contosovault.blob.core.windows.net/points");
        let told = serde_json::to_value(&settings).expect("JSON");
        assert_eq!(serde_json::from_value::<Settings>(told).expect("settings"), settings);
        let elsewhere =
            with("endpoint", json!("https://contosovault.z1.blob.storage.azure.net/")).expect("settings");
        elsewhere.check().expect("right");
        assert_eq!(
            elsewhere.address().expect("right"),
            "https://contosovault.z1.blob.storage.azure.net/points"
        );
    }

    #[test]
    fn c1_what_is_wrong_is_told_with_field_value_rule_and_remedy() {
        for (field, value) in [
            ("subscription", json!("mine")),
            ("group", json!("a/b")),
            ("group", json!("")),
            ("region", json!("West Europe")),
            ("account", json!("contosovault")),
            (
                "account",
                json!("/subscriptions/s/resourceGroups/v/providers/Microsoft.Storage/storageAccounts/Upper"),
            ),
            (
                "account",
                json!("/subscriptions/s/resourceGroups/v/providers/Microsoft.Compute/disks/contosovault"),
            ),
            ("container", json!("Points")),
            ("container", json!("a--b")),
            (
                "network",
                json!(
                    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/a"
                ),
            ),
            ("network", json!("a?b")),
            ("endpoint", json!("http://vault.example")),
            ("endpoint", json!("https://vault.example/?sig=hunter2")),
            ("limits", json!({ "look_ms": 0 })),
        ] {
            let error = with(field, value.clone()).expect("readable").check().expect_err(field);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.fact("field").expect("a field").starts_with(field), "{error}");
            assert!(
                error.message().contains(": ") && error.message().contains("; "),
                "rule and remedy: {error}"
            );
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn drills_have_a_network_of_their_own_however_it_is_written() {
        let mut settings = with("network", json!("prod")).expect("settings");
        settings.test_network = Some("drills".into());
        settings.check().expect("right");
        settings.test_network = Some(settings.network_id("PROD"));
        assert_eq!(settings.check().expect_err("the same").fact("field"), Some("test_network"));
    }

    #[test]
    fn what_nobody_knows_is_refused_and_a_key_stands_elsewhere() {
        for (field, value) in [
            ("regoin", json!("westeurope")),
            ("storage", json!({ "account_key": "c2VjcmV0" })),
            ("storage", json!({ "key": { "env": "KEY" } })),
            ("limits", json!({ "manager": { "retries": 3 } })),
        ] {
            assert!(with(field, value.clone()).is_err(), "{field} {value}");
        }
        let settings = with("storage", json!({ "account_key": { "env": "KEY" } })).expect("settings");
        assert_eq!(settings.storage, StorageAccess::AccountKey(SecretRef::Env("KEY".into())));
    }
}
