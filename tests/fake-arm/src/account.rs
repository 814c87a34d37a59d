//! Reads page blobs that are imported, as Azure's own disk service would.

use crate::answer::{Ruled, refuse};
use crate::config::{Account, Credential};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fake_blob::Image;
use reqwest::{Client, Method, Response, Url};
use ring::hmac;
use std::collections::BTreeMap;
use std::sync::Arc;

const VERSION: &str = "2021-12-02";
const PIECE: u64 = 4 << 20;
/// Parts of a list of ranges; a list of more is endless.
const PARTS: usize = 10_000;

pub(crate) struct Reader {
    accounts: Vec<(Account, Client)>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Reader {
    pub(crate) fn new(accounts: &[Account]) -> Result<Self, Failure> {
        let client = |account: &Account| {
            let mut roots = rustls::RootCertStore::empty();
            if let Some(pem) = &account.authority {
                use rustls::pki_types::pem::PemObject as _;
                for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate?)?;
                }
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            let client = Client::builder().tls_backend_preconfigured(config).no_proxy().build()?;
            Ok::<_, Failure>((account.clone(), client))
        };
        Ok(Self { accounts: accounts.iter().map(client).collect::<Result<_, _>>()? })
    }

    /// The disk within the page blob; refused where it is no fixed VHD.
    pub(crate) async fn disk(&self, blobs: &fake_blob::Fake, uri: &str) -> Ruled<Image> {
        let bad = |message: String| refuse(400, "BadRequest", message);
        let own = Url::parse(uri).ok().and_then(|url| blobs.image_at(&url));
        let vhd = match own {
            Some(image) => image,
            None => self.read(uri).await?,
        };
        fake_blob::vhd::disk(&vhd)
            .map_err(|why| bad(format!("Only blobs formatted as VHDs can be imported. ({why:?})")))
    }

    async fn read(&self, uri: &str) -> Ruled<Image> {
        let bad = |message: String| refuse(400, "BadRequest", message);
        let found = self.accounts.iter().find(|(account, _)| uri.starts_with(&account.endpoint));
        let (account, client) = found.ok_or_else(|| bad("The source blob is in no known account.".into()))?;
        let unread = |why: Failure| bad(format!("The source blob cannot be read: {why}"));
        let blob = Blob { account, client, uri };
        let vhd = blob.whole().await.map_err(unread)?;
        vhd.ok_or_else(|| bad("The source blob is not a page blob.".into()))
    }
}

struct Blob<'a> {
    account: &'a Account,
    client: &'a Client,
    uri: &'a str,
}

impl Blob<'_> {
    async fn whole(&self) -> Result<Option<Image>, Failure> {
        let head = self.ask(Method::HEAD, "", None).await?;
        let header = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
        if header("x-ms-blob-type") != Some("PageBlob") {
            return Ok(None);
        }
        let size: u64 = header("content-length").ok_or("no length")?.parse()?;
        let mut image = Image::new(size);
        for (first, last) in self.ranges().await? {
            let mut at = first;
            while at <= last {
                let end = last.min(at + PIECE - 1);
                let bytes = self.ask(Method::GET, "", Some((at, end))).await?.bytes().await?;
                if bytes.len() as u64 != end - at + 1 {
                    return Err(format!("{} bytes of {at}-{end}", bytes.len()).into());
                }
                image.write(at, &bytes);
                at = end + 1;
            }
        }
        Ok(Some(image))
    }

    /// First and last byte of what is written, all parts of the list.
    async fn ranges(&self) -> Result<Vec<(u64, u64)>, Failure> {
        let (mut ranges, mut query) = (vec![], "comp=pagelist".to_owned());
        for _ in 0..PARTS {
            let text = self.ask(Method::GET, &query, None).await?.text().await?;
            let xml = roxmltree::Document::parse(text.trim_start_matches('\u{feff}'))?;
            let text = |node: roxmltree::Node<'_, '_>, name: &str| {
                let found = node.descendants().find(|inner| inner.has_tag_name(name));
                found.and_then(|inner| inner.text()).unwrap_or_default().to_owned()
            };
            for range in xml.descendants().filter(|node| node.has_tag_name("PageRange")) {
                ranges.push((text(range, "Start").parse()?, text(range, "End").parse()?));
            }
            let marker = text(xml.root(), "NextMarker");
            if marker.is_empty() {
                return Ok(ranges);
            }
            query = format!("comp=pagelist&marker={marker}");
        }
        Err("the list of ranges does not end".into())
    }

    async fn ask(&self, method: Method, query: &str, range: Option<(u64, u64)>) -> Result<Response, Failure> {
        let mut url = Url::parse(self.uri.split('?').next().unwrap_or(self.uri))?;
        let sas = match &self.account.credential {
            Some(Credential::Sas(sas)) => sas.as_str(),
            Some(Credential::Key { .. }) | None => "",
        };
        let both = [query, sas].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&");
        url.set_query(Some(&both).filter(|both| !both.is_empty()).map(String::as_str));
        let mut headers = BTreeMap::from([("x-ms-version", VERSION.to_owned())]);
        if let Some((first, last)) = range {
            headers.insert("x-ms-range", format!("bytes={first}-{last}"));
        }
        let mut request = self.client.request(method.clone(), url.clone());
        if let Some(Credential::Key { name, key }) = &self.account.credential {
            headers.insert("x-ms-date", crate::clock::http_now());
            let signature = sign(&method, &url, name, key, &headers)?;
            request = request.header("authorization", format!("SharedKey {name}:{signature}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // Errors of the client tell the address, which may be signed.
        let answer = request.send().await.map_err(|e| e.without_url())?;
        if !answer.status().is_success() {
            return Err(format!("{} to {method}", answer.status()).into());
        }
        Ok(answer)
    }
}

/// As Microsoft's page on shared keys has it, for requests without a body.
fn sign(
    method: &Method,
    url: &Url,
    name: &str,
    key: &str,
    headers: &BTreeMap<&str, String>,
) -> Result<String, Failure> {
    let mut text = format!("{method}\n\n\n\n\n\n\n\n\n\n\n\n");
    for (name, value) in headers {
        text += &format!("{name}:{value}\n");
    }
    text += &format!("/{name}{}", url.path());
    let mut query: Vec<_> = url.query_pairs().collect();
    query.sort();
    for (name, value) in query {
        text += &format!("\n{}:{value}", name.to_lowercase());
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key)?);
    Ok(STANDARD.encode(hmac::sign(&key, text.as_bytes())))
}
