//! A fake, a client of it, and the few requests that most tests make.

use fake_arm::{Account, Config, Fake};
use fake_blob::Image;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const PLACE: &str = "westeurope";

pub(crate) struct Site {
    pub(crate) fake: Fake,
    pub(crate) blobs: Arc<fake_blob::Fake>,
    pub(crate) client: Client,
    pub(crate) subscription: String,
}

pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Said {
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["error"]["code"].as_str().unwrap_or_default())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }
}

pub(crate) fn account(subscription: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/store"
    )
}

pub(crate) fn client(authority: &str) -> Client {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder().tls_backend_preconfigured(config).https_only(true).no_proxy().build().unwrap()
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::beside(config, Arc::new(fake_blob::Fake::start(fake_blob::Config::account("store")))).await
    }

    pub(crate) async fn beside(mut config: Config, blobs: Arc<fake_blob::Fake>) -> Self {
        let subscription = config.subscription.clone();
        config.accounts.push(Account {
            id: account(&subscription),
            location: PLACE.into(),
            endpoint: format!("{}store", blobs.endpoint()),
            credential: None,
            authority: None,
        });
        let fake = Fake::start(config, blobs.clone()).await.unwrap();
        let client = client(fake.authority());
        let site = Self { fake, blobs, client, subscription };
        site.container().await;
        site
    }

    /// Makes the container `vhds`, by a request: the fake has no other way.
    async fn container(&self) {
        let token = self.blobs.token(std::time::Duration::from_secs(3600));
        let url = format!("{}store/vhds?restype=container", self.blobs.endpoint());
        let request =
            client(self.blobs.ca_pem()).put(url).bearer_auth(token).header("x-ms-version", "2021-12-02");
        let status = request.header("content-length", 0).send().await.unwrap().status();
        assert!(status.is_success(), "{status}");
    }

    /// Puts a page blob and gives the body that imports it.
    pub(crate) fn import_of(&self, blob: &str, vhd: Image) -> Value {
        assert!(self.blobs.put_image("store", "vhds", blob, vhd));
        json!({
            "location": PLACE,
            "properties": {
                "osType": "Linux", "hyperVGeneration": "V2",
                "creationData": {
                    "createOption": "Import",
                    "sourceUri": format!("{}store/vhds/{blob}", self.blobs.endpoint()),
                    "storageAccountId": account(&self.subscription),
                },
            },
        })
    }

    pub(crate) fn id(&self, path: &str) -> String {
        let provider = if path.starts_with("networkInterfaces") || path.starts_with("virtualNetworks") {
            "Microsoft.Network"
        } else {
            "Microsoft.Compute"
        };
        format!("/subscriptions/{}/resourceGroups/rg/providers/{provider}/{path}", self.subscription)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let id = if path.starts_with('/') { path.to_owned() } else { self.id(path) };
        let version = match () {
            () if id.contains("/skus") => "2021-07-01",
            () if id.contains("Microsoft.Network") => "2024-05-01",
            () if id.contains("/disks") || id.contains("/snapshots") => "2024-03-02",
            () => "2024-07-01",
        };
        let sign = if id.contains('?') { '&' } else { '?' };
        format!("{}{id}{sign}api-version={version}", self.fake.url())
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Said, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url).bearer_auth("t");
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Ok(Said { status, headers, body })
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        self.send("GET", &self.url(path), None).await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Said {
        self.send("PUT", &self.url(path), Some(body)).await.unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Said {
        self.send("PATCH", &self.url(path), Some(body)).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Said {
        self.send("POST", &self.url(path), Some(body)).await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Said {
        self.send("DELETE", &self.url(path), None).await.unwrap()
    }

    /// Follows an operation to its end, by `Azure-AsyncOperation`.
    pub(crate) async fn end(&self, said: Said) -> Value {
        assert!(said.status.is_success(), "{} {}", said.status, said.body);
        let url = said.header("azure-asyncoperation").to_owned();
        for _ in 0..10 {
            let now = self.send("GET", &url, None).await.unwrap().ok();
            if now["status"] != "InProgress" {
                return now;
            }
        }
        panic!("the operation does not end");
    }

    /// Follows an operation to its good end.
    pub(crate) async fn done(&self, said: Said) -> Value {
        let end = self.end(said).await;
        assert_eq!(end["status"], "Succeeded", "{end}");
        end
    }

    pub(crate) async fn empty_disk(&self, name: &str, os: bool) {
        let mut body = json!({
            "location": PLACE,
            "properties": { "creationData": { "createOption": "Empty" }, "diskSizeGB": 1 },
        });
        if os {
            body["properties"]["osType"] = "Linux".into();
            body["properties"]["hyperVGeneration"] = "V2".into();
        }
        self.done(self.put(&format!("disks/{name}"), &body).await).await;
    }

    pub(crate) fn nic_body(&self, address: Option<&str>) -> Value {
        let subnet = self.id("virtualNetworks/vnet/subnets/servers");
        let mut properties = json!({ "subnet": { "id": subnet }, "privateIPAllocationMethod": "Dynamic" });
        if let Some(address) = address {
            properties["privateIPAllocationMethod"] = "Static".into();
            properties["privateIPAddress"] = address.into();
        }
        json!({
            "location": PLACE,
            "properties": { "ipConfigurations": [{ "name": "one", "properties": properties }] },
        })
    }

    pub(crate) async fn nic(&self, name: &str) {
        self.done(self.put(&format!("networkInterfaces/{name}"), &self.nic_body(None)).await).await;
    }

    pub(crate) fn machine_body(&self, disks: &[&str], nic: &str) -> Value {
        let id = |name: &str| json!({ "id": self.id(&format!("disks/{name}")) });
        let data = disks[1..].iter().enumerate();
        let data =
            data.map(|(lun, disk)| json!({ "lun": lun, "createOption": "Attach", "managedDisk": id(disk) }));
        json!({
            "location": PLACE,
            "properties": {
                "hardwareProfile": { "vmSize": "Standard_D2s_v5" },
                "storageProfile": {
                    "osDisk": { "osType": "Linux", "createOption": "Attach", "managedDisk": id(disks[0]) },
                    "dataDisks": data.collect::<Vec<_>>(),
                },
                "networkProfile": { "networkInterfaces": [{ "id": self.id(&format!("networkInterfaces/{nic}")) }] },
            },
        })
    }

    /// A machine `m` that runs with the disks `os` and `data`, and the interface `n`.
    pub(crate) async fn machine(&self) {
        self.empty_disk("os", true).await;
        self.empty_disk("data", false).await;
        self.nic("n").await;
        let body = self.machine_body(&["os", "data"], "n");
        self.done(self.put("virtualMachines/m", &body).await).await;
    }

    pub(crate) async fn act(&self, verb: &str) {
        self.done(self.post(&format!("virtualMachines/m/{verb}"), &Value::Null).await).await;
    }

    pub(crate) async fn snapshot(&self, name: &str, disk: &str) -> Said {
        let body = json!({
            "location": PLACE,
            "properties": {
                "incremental": true,
                "creationData": { "createOption": "Copy", "sourceResourceId": self.id(&format!("disks/{disk}")) },
            },
        });
        self.put(&format!("snapshots/{name}"), &body).await
    }

    pub(crate) async fn access(&self, path: &str, access: &str) -> Said {
        let body = json!({ "access": access, "durationInSeconds": 3600 });
        self.post(&format!("{path}/beginGetAccess"), &body).await
    }

    /// Begins access and gives the signed URL.
    pub(crate) async fn sas(&self, path: &str, access: &str) -> String {
        let end = self.done(self.access(path, access).await).await;
        end["properties"]["output"]["accessSAS"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn end_access(&self, path: &str) -> Value {
        self.end(self.post(&format!("{path}/endGetAccess"), &Value::Null).await).await
    }
}
