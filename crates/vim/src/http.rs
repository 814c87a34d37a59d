//! One exchange by HTTPS: what was sent, what came, and what it means that nothing came.

use crate::{Error, Limits, Settings};
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use site_recovery_tls::rustls;
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

const ACTION: HeaderName = HeaderName::from_static("soapaction");
const SESSION: &str = "vmware_soap_session";
/// Connections that were idle for longer are not used again: a change that is sent while the server closes one is lost.
const IDLE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    base: Url,
    /// Host and port, for people.
    server: String,
    limits: Limits,
}

/// A SOAP answer, which may be a fault.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// The session that it opens.
    pub(crate) cookie: Option<HeaderValue>,
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let (base, limits) = (settings.address()?, settings.limits);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.trust.client(&[&TLS13, &TLS12])?)
            .https_only(true)
            .no_proxy()
            // An answer that leads elsewhere would lead the password there.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|e| Error::garbage(format!("no HTTPS can be spoken: {}", last(&e))))?;
        let server = base.host_str().unwrap_or_default().to_owned();
        let server = base.port().map_or_else(|| server.clone(), |port| format!("{server}:{port}"));
        Ok(Self { client, base, server, limits })
    }

    /// Posts a message to the service. Its answer has to come within the limit and `longer`.
    pub(crate) async fn post(
        &self,
        body: Bytes,
        action: &str,
        cookie: Option<&HeaderValue>,
        longer: Duration,
    ) -> Result<Answer, Error> {
        let url = self.base.join("/sdk").expect("a path that is right");
        let mut request = self.client.post(url).body(body);
        request = request.header(CONTENT_TYPE, "text/xml; charset=utf-8").header(ACTION, action);
        let span = self.limits.answer().saturating_add(longer);
        let mut response = self.send(request, cookie, span).await?;
        let status = response.status();
        // A fault comes with 500.
        if status != StatusCode::OK && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(self.status(status));
        }
        let cookie = session(response.headers());
        let mut all = vec![];
        while let Some(part) = response.chunk().await.map_err(|e| self.lost(&e, span))? {
            if all.len() + part.len() > self.limits.answer_bytes {
                let most = self.limits.answer_bytes;
                return Err(Error::garbage(format!("it is longer than {most} bytes")));
            }
            all.extend_from_slice(&part);
        }
        let text = String::from_utf8(all).map_err(|_| Error::garbage("it is not in UTF-8"))?;
        Ok(Answer { status, text, cookie })
    }

    /// Sends a request for something of this server, below an absolute path.
    pub(crate) async fn ask(
        &self,
        cookie: Option<&HeaderValue>,
        path: &str,
        make: impl FnOnce(&reqwest::Client, Url) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let url = self.base.join(path).ok().filter(|url| url.origin() == self.base.origin());
        let url = url.ok_or_else(|| {
            Error::invalid("path", format!("{path:?}"), "it is a path of this server", "name a file")
        })?;
        self.send(make(&self.client, url), cookie, self.limits.answer()).await
    }

    async fn send(
        &self,
        mut request: RequestBuilder,
        cookie: Option<&HeaderValue>,
        span: Duration,
    ) -> Result<Response, Error> {
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        request.timeout(span).send().await.map_err(|e| self.lost(&e, span))
    }

    pub(crate) fn status(&self, status: StatusCode) -> Error {
        Error::Status { server: self.server.clone(), status: status.as_u16() }
    }

    /// How long a transfer without an end of its own may take.
    pub(crate) fn span(&self) -> Duration {
        self.limits.answer()
    }

    /// What it means that an answer did not come, or not whole.
    pub(crate) fn lost(&self, error: &reqwest::Error, span: Duration) -> Error {
        let (server, because) = (self.server.clone(), last(error));
        if is_stranger(error) {
            Error::Stranger { server, because }
        } else if error.is_connect() {
            Error::Absent { server, because }
        } else if error.is_timeout() {
            Error::Silent { server, span }
        } else {
            Error::Broken { server, because }
        }
    }
}

/// The cookie as it is sent back: it stands for the password while the session lasts.
fn session(headers: &HeaderMap) -> Option<HeaderValue> {
    let named =
        |value: &&str| value.split_once('=').is_some_and(|(name, id)| name == SESSION && !id.is_empty());
    let all = headers.get_all(SET_COOKIE).iter().filter_map(|v| v.to_str().ok());
    let found = all.filter_map(|set| set.split(';').next()).map(str::trim).find(named)?;
    let mut value = HeaderValue::from_str(found).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |e: &&(dyn StdError + 'static)| (*e).source())
}

fn is_stranger(error: &reqwest::Error) -> bool {
    chain(error).any(|cause| {
        // An `io::Error` is not the source of what it is made of.
        let mut cause = cause;
        while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            cause = inner;
        }
        matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    })
}

/// The cause at the bottom, which names no address.
fn last(error: &reqwest::Error) -> String {
    match chain(error).last() {
        Some(cause) => cause.to_string(),
        None if error.is_timeout() => "it takes too long".into(),
        None => "no more is known".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_the_cookie_is_found_among_others_and_not_shown() {
        let mut headers = HeaderMap::new();
        for set in ["other=1; Path=/", "vmware_soap_session=\"52d8-a\"; Path=/; HttpOnly; Secure;"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(set));
        }
        let cookie = session(&headers).expect("it is there");
        assert_eq!(cookie, "vmware_soap_session=\"52d8-a\"");
        assert!(!format!("{cookie:?}").contains("52d8"));
        headers.clear();
        headers.append(SET_COOKIE, HeaderValue::from_static("vmware_soap_session=; Path=/"));
        assert_eq!(session(&headers), None);
    }
}
