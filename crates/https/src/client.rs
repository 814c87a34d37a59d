//! Requests to one server.

use crate::{Limits, Lost, Settings, Trust, Unusable, because};
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use reqwest::{ClientBuilder, Method, RequestBuilder, Response, Url};
use std::time::Duration;

/// Connections that were idle for longer are not used again: a change that is sent while the server closes one is lost.
const IDLE: Duration = Duration::from_secs(15);

/// The way to one server. Cheap to clone; all clones share its connections.
#[derive(Debug, Clone)]
pub struct Https {
    client: reqwest::Client,
    base: Url,
    /// Host and port, for people.
    server: String,
    limits: Limits,
}

impl Https {
    /// To the server of these settings, whose address may have the path of that `service`. Asks nothing yet.
    ///
    /// # Errors
    /// For settings that break a rule.
    pub fn new(settings: &Settings, service: &str) -> Result<Self, Unusable> {
        let (base, limits) = (settings.address(service)?, settings.limits);
        let builder = builder(&settings.trust)?
            .tls_info(true)
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            .pool_idle_timeout(IDLE);
        let client = builder.build().map_err(|e| {
            let rule = "this program can speak HTTPS so";
            Unusable::new("trust", format!("not usable, {}", because(&e)), rule, "report it")
        })?;
        let server = base.host_str().unwrap_or_default().to_owned();
        let server = base.port().map_or_else(|| server.clone(), |port| format!("{server}:{port}"));
        Ok(Self { client, base, server, limits })
    }

    /// The server's address, without a path that matters.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The address of a path on this very server; none where it leads to another, whatever the path says.
    pub fn to(&self, path: &str) -> Option<Url> {
        to(&self.base, path)
    }

    /// Host and port, for people.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How long to wait, and how much to take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A request that is not sent yet. Its caller sees to it that the address is this server's.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request, once. The answer has to be whole within `span`.
    ///
    /// # Errors
    /// Where no answer begins.
    ///
    /// # Cancel safety
    /// The request may have been sent.
    pub async fn send(&self, request: RequestBuilder, span: Duration) -> Result<Response, Lost> {
        request.timeout(span).send().await.map_err(|e| self.lost(&e, span))
    }

    /// The body of an answer that had `span`; nothing where it is longer than [`Limits::answer_bytes`].
    ///
    /// # Errors
    /// Where it breaks off.
    pub async fn whole(&self, response: Response, span: Duration) -> Result<Option<Vec<u8>>, Lost> {
        whole(response, self.limits.answer_bytes).await.map_err(|e| self.lost(&e, span))
    }

    /// What an error of a request with this limit means.
    pub fn lost(&self, error: &reqwest::Error, span: Duration) -> Lost {
        Lost::of(error, &self.server, span)
    }
}

/// The address of a path on the server of another address; none where it leads to another server, whatever the path says.
pub fn to(server: &Url, path: &str) -> Option<Url> {
    server.join(path).ok().filter(|url| url.origin() == server.origin())
}

/// A client of servers that are trusted so, over HTTPS alone, by TLS 1.2 or 1.3.
///
/// # Errors
/// Where the trust is none.
pub fn builder(trust: &Trust) -> Result<ClientBuilder, Unusable> {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(trust.config()?).https_only(true);
    // An answer that leads elsewhere would lead the password there.
    Ok(builder.no_proxy().redirect(Policy::none()))
}

/// The certificate of the server that gave this answer, in its binary form. It was trusted before anything was sent.
pub fn certificate(response: &Response) -> Option<&[u8]> {
    response.extensions().get::<TlsInfo>()?.peer_certificate()
}

/// The body of an answer; nothing where it has more than `most` bytes.
///
/// # Errors
/// Where it breaks off.
pub async fn whole(mut response: Response, most: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut all = vec![];
    while let Some(part) = response.chunk().await? {
        if all.len() + part.len() > most {
            return Ok(None);
        }
        all.extend_from_slice(&part);
    }
    Ok(Some(all))
}
