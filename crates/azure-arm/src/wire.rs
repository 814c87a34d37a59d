//! One exchange with Resource Manager: what is sent, what comes, and what it means that nothing came.

use crate::said::{Said, scrubbed};
use crate::{Error, Limits, Settings};
use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use serde_json::Value;
use site_recovery::Clock;
use site_recovery_https::{Lost, Unusable, builder, whole};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The way to Resource Manager, with whoever asks. No token stands in it: each request asks for one.
#[derive(Clone)]
pub(crate) struct Wire {
    client: reqwest::Client,
    pub(crate) base: Url,
    scope: String,
    credential: Arc<dyn TokenCredential>,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// A right answer, whole.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When Azure wants to be asked again.
    pub(crate) fn after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The body; null where there is none.
    pub(crate) fn json(&self, call: &str) -> Result<Value, Error> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        // The parser's own words may have some of the bytes.
        serde_json::from_slice(&self.body).map_err(|_| Error::unreadable(call, "it is no JSON"))
    }

    fn said(&self) -> Said {
        let body = serde_json::from_slice(&self.body).unwrap_or_default();
        let id = |name| self.header(name).map(str::to_owned);
        Said {
            request: id("x-ms-request-id"),
            correlation: id("x-ms-correlation-request-id"),
            ..Said::of(&body)
        }
    }
}

impl Wire {
    pub(crate) fn new(
        settings: &Settings,
        credential: Arc<dyn TokenCredential>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Unusable> {
        let limits = settings.limits;
        let builder = builder(&settings.trust)?
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            .pool_idle_timeout(IDLE);
        let client = builder.build().map_err(|e| {
            let rule = "this program can speak HTTPS so";
            Unusable::new(
                "trust",
                format!("not usable, {}", site_recovery_https::because(&e)),
                rule,
                "report it",
            )
        })?;
        let (base, scope) = (settings.resource_manager.clone(), settings.scope.clone());
        Ok(Self { client, base, scope, credential, limits, clock })
    }

    /// The address of a resource of Resource Manager.
    pub(crate) fn url(&self, path: &str, version: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(None);
        url.query_pairs_mut().append_pair("api-version", version);
        url
    }

    /// Whether a token may go there: to Resource Manager itself, or to one of its regions, as Azure's answers name them.
    pub(crate) fn trusts(&self, url: &Url) -> bool {
        let (Some(there), Some(here)) = (url.host_str(), self.base.host_str()) else { return false };
        let within = there.strip_suffix(here).is_some_and(|front| front.is_empty() || front.ends_with('.'));
        let plain = url.username().is_empty() && url.password().is_none();
        url.scheme() == "https"
            && within
            && plain
            && url.port_or_known_default() == self.base.port_or_known_default()
    }

    /// Asks once. An answer that is no success is an error.
    ///
    /// Cancel safety: the request may have been sent.
    pub(crate) async fn exchange(&self, method: Method, url: Url, body: Bytes) -> Result<Reply, Error> {
        let (call, change) = (call(&method, &url), method != Method::GET);
        if !self.trusts(&url) {
            return Err(Error::unreadable(call, "it leads to another server, which gets no token"));
        }
        let token = self.token(&call).await?;
        let mut request = self.client.request(method, url).header(AUTHORIZATION, token);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        } else if change {
            request = request.header("content-length", "0");
        }
        let span = self.limits.answer();
        let lost = |e: reqwest::Error| {
            let lost = Lost::of(&e, self.base.host_str().unwrap_or_default(), span);
            if matches!(lost, Lost::Stranger { .. }) {
                let said = Said { message: lost.to_string(), ..Said::default() };
                return Error::Denied { call: call.clone(), said: Box::new(said) };
            }
            let may_have_been_done = change && lost.may_have_come();
            Error::Lost { call: call.clone(), may_have_been_done, because: lost.to_string() }
        };
        let response = request.timeout(span).send().await.map_err(lost)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let Some(body) = whole(response, self.limits.answer_bytes).await.map_err(lost)? else {
            return Err(Error::unreadable(
                call,
                format!("it is longer than {} bytes", self.limits.answer_bytes),
            ));
        };
        let reply = Reply { status, headers, body: body.into() };
        match status {
            200..300 => Ok(reply),
            _ => Err(Error::refused(call, status, reply.after(), Box::new(reply.said()), change)),
        }
    }

    /// Reads: tried again where nobody answers, or Azure is in trouble or has too much to do, as often as the limits say.
    pub(crate) async fn read(&self, url: Url) -> Result<Reply, Error> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.exchange(Method::GET, url.clone(), Bytes::new()).await {
                Err(error) if error.may_pass() && tried < self.limits.tries => {
                    let pause = match error {
                        Error::Throttled { after: Some(after), .. } => after.min(LONGEST_PAUSE),
                        _ => self.limits.pause(tried),
                    };
                    tracing::debug!(%error, ?pause, "Resource Manager is asked again");
                    self.clock.sleep(pause).await;
                }
                end => return end,
            }
        }
    }

    async fn token(&self, call: &str) -> Result<HeaderValue, Error> {
        let span = self.limits.answer();
        let silent = |because| Error::Unsigned { call: call.to_owned(), because };
        let asked = tokio::time::timeout(span, self.credential.get_token(&[&self.scope], None)).await;
        let asked = asked.map_err(|_| silent(format!("no answer within {span:?}")))?;
        let token = asked.map_err(|e| match (Lost::behind(&e), e.kind()) {
            (Some(lost), _) if !matches!(lost, Lost::Stranger { .. }) => silent(scrubbed(&lost.to_string())),
            (None, ErrorKind::Io | ErrorKind::Connection) => silent(scrubbed(&e.to_string())),
            _ => {
                let message = format!("no token: {}", scrubbed(&e.to_string()));
                let said = Said { message, ..Said::default() };
                Error::Denied { call: call.to_owned(), said: Box::new(said) }
            }
        })?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.token.secret()));
        let mut bearer = bearer.map_err(|_| Error::unreadable("the sign-in", "the token is none"))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }
}

/// Connections that were idle for longer are not used again: a change that is sent while the server closes one is lost.
const IDLE: Duration = Duration::from_secs(15);

/// However long Azure wants to be left alone: a call that waits longer is better tried again as a whole.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// `PUT disks/web-1`, without what stands in the query.
pub(crate) fn call(method: &Method, url: &Url) -> String {
    let parts: Vec<&str> =
        url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let after = parts.iter().rposition(|part| part.starts_with("Microsoft.")).map_or(0, |at| at + 1);
    format!("{method} {}", parts[after..].join("/"))
}
