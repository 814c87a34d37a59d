//! A subscription of fakes, `tests/fake-arm` and `tests/fake-blob`, as settings name it.
#![allow(dead_code, reason = "each test uses a part")]

use fake_arm::{Account, Config, Network};
use serde_json::{Value, json};
use site_recovery_azure::Settings;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) const GROUP: &str = "rg";
pub(crate) const REGION: &str = "westeurope";
pub(crate) const ACCOUNT: &str = "replicas";
pub(crate) const CONTAINER: &str = "vault";
/// Of the application that signs in.
pub(crate) const SECRET: &str = "canary-secret";

/// Fields are dropped in their order.
pub(crate) struct Ground {
    pub(crate) manager: fake_arm::Fake,
    pub(crate) blobs: Arc<fake_blob::Fake>,
    subscription: String,
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let blobs = Arc::new(fake_blob::Fake::start(fake_blob::Config::account(ACCOUNT)));
        let mut config = Config { secret: Some(SECRET.into()), ..Config::default() };
        config.networks.push(Network {
            group: GROUP.into(),
            name: "isolated".into(),
            location: REGION.into(),
            prefix: (Ipv4Addr::new(10, 9, 0, 0), 16),
            subnets: vec![("servers".into(), (Ipv4Addr::new(10, 9, 1, 0), 24))],
        });
        config.accounts.push(Account {
            id: account_id(&config.subscription),
            location: REGION.into(),
            endpoint: blobs.endpoint().join(ACCOUNT).expect("a path").to_string(),
            credential: None,
            authority: Some(blobs.ca_pem().to_owned()),
        });
        change(&mut config);
        let subscription = config.subscription.clone();
        let manager = fake_arm::Fake::start(config, Arc::clone(&blobs)).await.expect("a port");
        let ground = Self { manager, blobs, subscription, dir };
        ground.write("secret", SECRET);
        // Two servers, two authorities, one file.
        ground.write("trust.pem", &format!("{}\n{}", ground.manager.authority(), ground.blobs.ca_pem()));
        ground
    }

    /// A file of this test.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// What a user writes down.
    pub(crate) fn told(&self) -> Value {
        let url = self.manager.url();
        json!({
            "cloud": { "own": {
                "resource_manager": url, "blob_suffix": "blob.invalid", "authority": url,
                "management_scope": "https://management.azure.com/.default",
                "storage_scope": "https://storage.azure.com/.default",
            } },
            "sign_in": { "service_principal": {
                "tenant": "tenant", "client": "client", "secret": { "file": self.dir.path().join("secret") },
            } },
            "subscription": self.subscription,
            "group": GROUP,
            "region": REGION,
            "account": account_id(&self.subscription),
            "container": CONTAINER,
            "endpoint": self.blobs.endpoint().join(ACCOUNT).expect("a path"),
            "network": "vnet",
            "test_network": "isolated",
            "trust": { "ca": self.dir.path().join("trust.pem") },
            "limits": { "manager": { "pause_ms": 1, "poll_ms": 1 }, "storage": { "pause_ms": 1 }, "look_ms": 1 },
        })
    }

    pub(crate) fn settings(&self, change: impl FnOnce(&mut Value)) -> Settings {
        let mut told = self.told();
        change(&mut told);
        serde_json::from_value(told).expect("settings")
    }

    /// The names of what is there of a kind: `Microsoft.Compute/disks`.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let world = self.manager.world();
        world.into_iter().filter(|thing| thing.kind == kind).map(|thing| thing.name).collect()
    }

    /// What Resource Manager was asked so far: `GET /subscriptions/…`, without the query.
    pub(crate) fn asked(&self) -> Vec<String> {
        let call = |line: Value| {
            let request = &line["request"];
            let url = request["url"].as_str().expect("an address").to_owned();
            let path =
                url.split('?').next().expect("a path").trim_start_matches(&self.manager.url()).to_owned();
            format!("{} {path}", request["method"].as_str().expect("a method"))
        };
        self.manager.recording().into_iter().map(call).collect()
    }
}

pub(crate) fn account_id(subscription: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
    )
}
