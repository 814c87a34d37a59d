//! Requests as Azure's reference writes them.

use bytes::Bytes;
use fake_blob::{Account, Config, Fake};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use roxmltree::Document;
use std::time::Duration;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Site {
    pub(crate) fake: Fake,
    pub(crate) client: Client,
    token: String,
}

/// What came back, read to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    headers: reqwest::header::HeaderMap,
    pub(crate) body: Bytes,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Config::account("vault"))
    }

    pub(crate) fn with(config: Config) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fake = Fake::start(config);
        let authority = Certificate::from_pem(fake.ca_pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let token = fake.token(HOUR);
        Self { fake, client, token }
    }

    /// With the container `vault/disks`.
    pub(crate) async fn ready() -> Self {
        Self::ready_with(Config::account("vault")).await
    }

    pub(crate) async fn ready_with(config: Config) -> Self {
        let site = Self::with(config);
        assert_eq!(site.put("vault/disks?restype=container", &[], "").await.status, 201);
        site
    }

    /// A sink, with the container `vault/disks`.
    pub(crate) async fn sink() -> Self {
        Self::ready_with(Config::default().with(Account::new("vault").sink())).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.fake.endpoint())
    }

    pub(crate) fn bare(&self, method: &str, url: &str) -> RequestBuilder {
        self.client
            .request(Method::from_bytes(method.as_bytes()).unwrap(), url)
            .header("x-ms-version", "2026-04-06")
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> RequestBuilder {
        let request = self.bare(method, &self.url(path)).bearer_auth(&self.token);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    pub(crate) async fn put(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Got {
        let body = body.into();
        // Hyper tells no length of an empty body, and Azure wants one.
        let empty = body.as_bytes().is_some_and(<[u8]>::is_empty);
        let request = self.request("PUT", path, headers);
        Got::of(if empty { request.header("content-length", "0") } else { request }.body(body)).await
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        Got::of(self.request("GET", path, headers)).await
    }

    pub(crate) async fn head(&self, path: &str) -> Got {
        Got::of(self.request("HEAD", path, &[])).await
    }

    pub(crate) async fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        Got::of(self.request("DELETE", path, headers)).await
    }

    /// A page blob in `vault/disks`.
    pub(crate) async fn page_blob(&self, name: &str, size: u64) {
        let headers = [("x-ms-blob-type", "PageBlob"), ("x-ms-blob-content-length", &*size.to_string())];
        assert_eq!(self.put(&format!("vault/disks/{name}"), &headers, "").await.status, 201);
    }

    pub(crate) async fn write(&self, name: &str, at: u64, bytes: &[u8], headers: &[(&str, &str)]) -> Got {
        let range = format!("bytes={at}-{}", at + bytes.len() as u64 - 1);
        let all = [&[("x-ms-page-write", "update"), ("x-ms-range", &*range)], headers].concat();
        self.put(&format!("vault/disks/{name}?comp=page"), &all, bytes.to_vec()).await
    }

    pub(crate) async fn clear(&self, name: &str, at: u64, len: u64) -> Got {
        let range = format!("bytes={at}-{}", at + len - 1);
        let headers = [("x-ms-page-write", "clear"), ("Range", &*range)];
        self.put(&format!("vault/disks/{name}?comp=page"), &headers, "").await
    }

    /// Its name.
    pub(crate) async fn snapshot(&self, name: &str, headers: &[(&str, &str)]) -> String {
        let got = self.put(&format!("vault/disks/{name}?comp=snapshot"), headers, "").await;
        assert_eq!(got.status, 201, "{got:?}");
        got.header("x-ms-snapshot").unwrap().to_owned()
    }

    /// A block blob in `vault/disks`; its tag.
    pub(crate) async fn document(&self, name: &str, body: &'static str) -> String {
        let got = self.put(&format!("vault/disks/{name}"), &[("x-ms-blob-type", "BlockBlob")], body).await;
        assert_eq!(got.status, 201, "{got:?}");
        got.header("etag").unwrap().to_owned()
    }
}

impl Got {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        Self::tried(request).await.unwrap()
    }

    pub(crate) async fn tried(request: RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.bytes().await? })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The texts of all elements of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let document = Document::parse(self.text()).unwrap();
        let found = document.descendants().filter(|node| node.has_tag_name(name));
        found.map(|node| node.text().unwrap_or_default().to_owned()).collect()
    }

    /// `P` and `C` with first and last byte, in the order of the answer.
    pub(crate) fn ranges(&self) -> Vec<(char, u64, u64)> {
        assert_eq!(self.status, 200, "{self:?}");
        let document = Document::parse(self.text()).unwrap();
        let number = |node: roxmltree::Node<'_, '_>, name| {
            let child = node.children().find(|child| child.has_tag_name(name)).unwrap();
            child.text().unwrap().parse().unwrap()
        };
        let ranges = document.descendants().filter(|node| node.tag_name().name().ends_with("Range"));
        ranges
            .map(|node| {
                (node.tag_name().name().chars().next().unwrap(), number(node, "Start"), number(node, "End"))
            })
            .collect()
    }

    /// That it is an error of Azure's, in body and header.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.header("x-ms-error-code")), (status, Some(code)), "{self:?}");
        assert!(self.header("x-ms-request-id").is_some());
        if !self.body.is_empty() {
            assert_eq!(self.all("Code"), [code]);
        }
    }
}
